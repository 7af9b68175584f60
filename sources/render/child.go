package render

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"time"

	fluxkustomize "github.com/fluxcd/pkg/kustomize"
	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/resmap"
)

// childVariable marks a process as a child and carries its memory bound.
const childVariable = "HOLDFAST_RENDER_CHILD"

// job is what the parent asks for.
type job struct {
	// Dirs are folders with kustomizations, built one after the other.
	Dirs []string `json:"dirs,omitempty"`
	// File is the kustomization file of the only one, which is to say where its
	// objects come from.
	File string `json:"file,omitempty"`
	// Chart, when not nil, is rendered instead.
	Chart *chartJob `json:"chart,omitempty"`
}

// built is one object as kustomize made it.
type built struct {
	// Origin is the file it began in, relative to the job's folder, if known.
	Origin string          `json:"origin,omitempty"`
	Object json.RawMessage `json:"object"`
}

// exitMemory is the exit status of a child that ran out of the memory allowed.
const exitMemory = 77

// IsChild says whether this process was started to render. A main, and the
// TestMain of whatever renders in its tests, asks it before anything else.
func IsChild() bool { return os.Getenv(childVariable) != "" }

// ChildMain is the main of a process for which IsChild holds; it returns the
// exit status. It runs kustomize on input that nobody trusts, so before it looks
// at any it gives up everything: memory beyond a bound, inherited files and,
// where the system allows it, the system calls that open files, reach a network
// or start programs. Files come through the parent, which answers from the
// snapshot only.
func ChildMain() int {
	p := newPipe(os.Stdin, os.Stdout)
	// Libraries that print must not print into the conversation.
	os.Stdout = os.Stderr
	limit, err := parseLimit(os.Getenv(childVariable))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go watchMemory(limit)
	debug.SetMemoryLimit(limit * 9 / 10)
	confine(limit)
	http.DefaultTransport = noNetwork{}
	if err := serveJob(p); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func parseLimit(s string) (int64, error) {
	var limit int64
	if _, err := fmt.Sscan(s, &limit); err != nil || limit <= 0 {
		return 0, fmt.Errorf("%s must be a number of bytes", childVariable)
	}
	return limit, nil
}

// watchMemory ends the process when it has taken more than allowed. The system's
// own limit is the harder bound, but says nothing that a parent could tell.
func watchMemory(limit int64) {
	sample := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	for range time.Tick(5 * time.Millisecond) {
		metrics.Read(sample)
		if int64(sample[0].Value.Uint64()-sample[1].Value.Uint64()) > limit {
			os.Exit(exitMemory)
		}
	}
}

// noNetwork answers every request with an error.
type noNetwork struct{}

var errNetwork = errors.New("nothing is fetched: copy it into the repository")

func (noNetwork) RoundTrip(*http.Request) (*http.Response, error) { return nil, errNetwork }

// serveJob does one job.
func serveJob(p *pipe) error {
	kind, payload, err := p.receive()
	if err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	var j job
	if kind != frameJob {
		return errors.New("the first frame is no job")
	}
	if err := json.Unmarshal(payload, &j); err != nil {
		return fmt.Errorf("decode the job: %w", err)
	}
	do := buildJob
	if j.Chart != nil {
		do = chartsJob
	}
	if err := do(p, j); err != nil {
		return p.send(frameFailed, []byte(err.Error()))
	}
	return p.send(frameDone, nil)
}

func buildJob(p *pipe, j job) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("kustomize panicked: %v", r)
		}
	}()
	for _, dir := range j.Dirs {
		files := &childFS{pipe: p}
		if j.File != "" {
			files.traced, files.tracedContent = files.withOrigins(j)
		}
		built, err := fluxkustomize.Build(files, inRoot(dir))
		if err != nil {
			return err
		}
		if err := sendItems(p, built, files.traced != ""); err != nil {
			return err
		}
	}
	return nil
}

// withOrigins is the job's kustomization with a field added that makes kustomize
// note where objects come from, and "" where the file already decides on that or
// has a form that nothing can be appended to.
func (c *childFS) withOrigins(j job) (name string, content []byte) {
	data, err := c.ReadFile(inRoot(j.File))
	if err != nil {
		return "", nil
	}
	var doc yaml.Node
	if yaml.Unmarshal(data, &doc) != nil || len(doc.Content) != 1 {
		return "", nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode || root.Style&yaml.FlowStyle != 0 || root.Column != 1 || child(root, "buildMetadata") != nil {
		return "", nil
	}
	with := append(data[:len(data):len(data)], "\nbuildMetadata: [originAnnotations]\n"...)
	var check map[string]any
	if yaml.Unmarshal(with, &check) != nil || check["buildMetadata"] == nil {
		return "", nil
	}
	return inRoot(j.File), with
}

func sendItems(p *pipe, m resmap.ResMap, traced bool) error {
	origins := make([]string, m.Size())
	for i, r := range m.Resources() {
		// Without an origin, an item is told by its kustomization alone.
		if o, err := r.GetOrigin(); err == nil && o != nil && o.Repo == "" {
			origins[i] = o.Path
			if o.Path == "" {
				origins[i] = o.ConfiguredIn
			}
		}
	}
	if traced {
		if err := m.RemoveOriginAnnotations(); err != nil {
			return err
		}
	}
	for i, r := range m.Resources() {
		object, err := r.MarshalJSON()
		if err != nil {
			return fmt.Errorf("encode %s: %w", r.CurId(), err)
		}
		payload, err := json.Marshal(built{origins[i], object})
		if err != nil {
			return fmt.Errorf("encode %s: %w", r.CurId(), err)
		}
		if err := p.queue(frameItem, payload); err != nil {
			return err
		}
	}
	return nil
}

// childRoot is where the snapshot's root appears to be. Kustomize needs absolute
// paths; a name that no message contains by chance makes them easy to shorten.
const childRoot = "/.snapshot"

func inRoot(name string) string {
	if name == "." {
		return childRoot
	}
	return childRoot + "/" + name
}

// fromRoot is the path in the snapshot of an absolute one. Kustomize also asks
// for paths without a root.
func fromRoot(name string) (string, error) {
	if name == childRoot {
		return ".", nil
	}
	name = strings.TrimPrefix(name, childRoot+"/")
	if !fs.ValidPath(name) {
		return "", fmt.Errorf("%s is outside the repository: %w", name, fs.ErrNotExist)
	}
	return name, nil
}
