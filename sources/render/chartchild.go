package render

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"log/slog"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
	"helm.sh/helm/v4/pkg/ignore"
)

// chartJob is what a child is told of a chart.
type chartJob struct {
	// Dir is the chart's folder, or with Archive the file of one.
	Dir         string       `json:"dir"`
	Archive     bool         `json:"archive,omitempty"`
	Release     string       `json:"release"`
	Namespace   string       `json:"namespace"`
	Values      []chartLayer `json:"values,omitempty"`
	SkipCRDs    bool         `json:"skipCRDs,omitempty"`
	SkipSchema  bool         `json:"skipSchema,omitempty"`
	KubeVersion string       `json:"kubeVersion"`
	APIVersions []string     `json:"apiVersions,omitempty"`
}

// chartLayer is one file of values.
type chartLayer struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// rendered is what one template gave.
type rendered struct {
	Template string `json:"template"`
	Text     string `json:"text"`
	// CRD says that it is no template, but a file of the folder crds.
	CRD bool `json:"crd,omitempty"`
}

// chartFailure is what went wrong with a chart.
type chartFailure struct {
	Kind failureKind `json:"kind,omitempty"`
	// File is a path whose first step is the chart's name.
	File    string `json:"file,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

type failureKind string

const (
	failureTemplate failureKind = "template"
	failureSchema   failureKind = "schema"
)

// Error is the failure as the parent reads it.
func (f chartFailure) Error() string {
	data, err := json.Marshal(f)
	if err != nil {
		return f.Message
	}
	return string(data)
}

// chartsJob renders a chart, twice: what differs the second time would differ
// for ever, and drift.
func chartsJob(p *pipe, j job) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = chartFailure{Message: fmt.Sprintf("helm panicked: %v", r)}
		}
	}()
	// Warnings of a library are not for anyone here.
	log.SetOutput(discard{})
	slog.SetDefault(slog.New(slog.DiscardHandler))
	c := &chartBuild{job: *j.Chart}
	if c.files, err = chartFiles(&childFS{pipe: p}, *j.Chart); err != nil {
		return err
	}
	now := time.Now()
	first, err := c.render(now)
	if err != nil {
		return err
	}
	// Another year, month, day, hour, minute and second.
	second, err := c.render(now.Add((400*24+5)*time.Hour + 7*time.Minute + 13*time.Second))
	if err != nil {
		return err
	}
	if err := unstable(first, second); err != nil {
		return err
	}
	for _, r := range first {
		payload, err := json.Marshal(r)
		if err != nil {
			return chartFailure{File: r.Template, Message: "cannot be encoded"}
		}
		if err := p.queue(frameItem, payload); err != nil {
			return chartFailure{File: r.Template, Message: "gives more than one object may be: " + err.Error()}
		}
	}
	return nil
}

type discard struct{}

// Write drops what it gets.
func (discard) Write(p []byte) (int, error) { return len(p), nil }

// unstable names a template that gave two results.
func unstable(first, second []rendered) error {
	other := map[string]string{}
	for _, r := range second {
		other[r.Template] = r.Text
	}
	for _, r := range first {
		text, there := other[r.Template]
		if there && (text == r.Text || sameDocuments(text, r.Text)) {
			continue
		}
		return chartFailure{
			File: r.Template, Message: "gives something else each time it is rendered, and would drift for ever",
			Hint: "it uses the time or chance, such as now, randAlphaNum or genCA: set what it makes in the values",
		}
	}
	return nil
}

// chartFiles reads a chart as Helm reads it from a disk.
func chartFiles(files *childFS, j chartJob) ([]*archive.BufferedFile, error) {
	if j.Archive {
		data, err := files.ReadFile(inRoot(j.Dir))
		if err != nil {
			return nil, err
		}
		out, err := archive.LoadArchiveFiles(bytes.NewReader(data))
		if err != nil {
			return nil, chartFailure{Message: "the chart's archive cannot be read: " + err.Error()}
		}
		return out, nil
	}
	w := &chartWalk{files: files, root: j.Dir, rules: ignore.Empty()}
	text, err := files.ReadFile(inRoot(path.Join(j.Dir, ignore.HelmIgnore)))
	if err == nil {
		if w.rules, err = ignore.Parse(bytes.NewReader(text)); err != nil {
			return nil, chartFailure{Message: ignore.HelmIgnore + " cannot be read: " + err.Error()}
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	w.rules.AddDefaults()
	return w.found, w.folder("")
}

type chartWalk struct {
	files *childFS
	root  string
	rules *ignore.Rules
	found []*archive.BufferedFile
}

func (w *chartWalk) folder(dir string) error {
	names, err := w.files.ReadDir(inRoot(path.Join(w.root, dir)))
	if err != nil {
		return err
	}
	for _, name := range names {
		rel := path.Join(dir, name)
		full := inRoot(path.Join(w.root, rel))
		isDir := w.files.IsDir(full)
		if w.rules.Ignore(rel, ignoredInfo{name, isDir}) {
			continue
		}
		if isDir {
			if err := w.folder(rel); err != nil {
				return err
			}
			continue
		}
		data, err := w.files.ReadFile(full)
		if err != nil {
			return chartFailure{File: "chart/" + rel, Message: "cannot be read: it leads to nothing in the repository"}
		}
		w.found = append(w.found, &archive.BufferedFile{Name: rel, Data: bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))})
	}
	return nil
}

// ignoredInfo is what rules for ignoring ask of a file.
type ignoredInfo struct {
	name string
	dir  bool
}

func (i ignoredInfo) Name() string       { return i.name }
func (i ignoredInfo) IsDir() bool        { return i.dir }
func (i ignoredInfo) Size() int64        { return 0 }
func (i ignoredInfo) ModTime() time.Time { return time.Time{} }
func (i ignoredInfo) Sys() any           { return nil }
func (i ignoredInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir
	}
	return 0
}

// chartBuild renders the same files again and again.
type chartBuild struct {
	job   chartJob
	files []*archive.BufferedFile
}

// render is one rendering, from the files on: Helm and templates change what
// they are given.
func (b *chartBuild) render(now time.Time) ([]rendered, error) {
	c, err := b.load()
	if err != nil {
		return nil, err
	}
	values, err := b.values(c)
	if err != nil {
		return nil, err
	}
	e := engine.Engine{CustomTemplateFuncs: clock(now)}
	texts, err := e.RenderWithContext(context.Background(), c, values)
	if err != nil {
		return nil, chartFailure{Kind: failureTemplate, Message: err.Error()}
	}
	var out []rendered
	if !b.job.SkipCRDs {
		for _, crd := range c.CRDObjects() {
			out = append(out, rendered{crd.Filename, string(crd.File.Data), true})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		text := texts[name]
		if strings.HasSuffix(name, "NOTES.txt") || strings.TrimSpace(text) == "" {
			continue
		}
		out = append(out, rendered{Template: name, Text: separated(text)})
	}
	return out, nil
}

func (b *chartBuild) load() (*chart.Chart, error) {
	files := make([]*archive.BufferedFile, len(b.files))
	for i, f := range b.files {
		copied := *f
		files[i] = &copied
	}
	c, err := loader.LoadFiles(files)
	if err != nil {
		return nil, chartFailure{Message: "is not a chart that can be loaded: " + err.Error()}
	}
	if c.Metadata.Type == "library" {
		return nil, chartFailure{Message: "is a library, which gives nothing by itself", Hint: "name a chart that uses it"}
	}
	if want := c.Metadata.KubeVersion; want != "" && !chartutil.IsCompatibleRange(want, b.job.KubeVersion) {
		return nil, chartFailure{Message: fmt.Sprintf("wants kubeVersion %s, and the cluster has %s", want, b.job.KubeVersion)}
	}
	var missing []string
	for _, d := range c.Metadata.Dependencies {
		if !slices.ContainsFunc(c.Dependencies(), func(s *chart.Chart) bool { return s.Name() == d.Name }) {
			missing = append(missing, d.Name)
		}
	}
	if len(missing) > 0 {
		return nil, chartFailure{
			Message: "depends on " + strings.Join(missing, ", ") + ", which is not in its folder charts",
			Hint:    "run helm dependency build and commit the folder",
		}
	}
	return c, nil
}

// values merges the layers and what templates see beside them.
func (b *chartBuild) values(c *chart.Chart) (common.Values, error) {
	values := map[string]any{}
	for _, layer := range b.job.Values {
		next, err := loader.LoadValues(strings.NewReader(layer.Text))
		if err != nil {
			return nil, chartFailure{Message: layer.Name + " is not a mapping of values"}
		}
		values = loader.MergeMaps(values, next)
	}
	if err := chartutil.ProcessDependencies(c, values); err != nil {
		return nil, chartFailure{Message: "its dependencies cannot be worked out: " + err.Error()}
	}
	kube, err := common.ParseKubeVersion(b.job.KubeVersion)
	if err != nil {
		return nil, chartFailure{Message: fmt.Sprintf("kubeVersion %q is not a version", b.job.KubeVersion)}
	}
	caps := common.DefaultCapabilities.Copy()
	caps.KubeVersion = *kube
	if len(b.job.APIVersions) > 0 {
		caps.APIVersions = b.job.APIVersions
	}
	if !b.job.SkipSchema {
		if err := closedSchemas(c, c.Name()); err != nil {
			return nil, err
		}
	}
	release := common.ReleaseOptions{Name: b.job.Release, Namespace: b.job.Namespace, Revision: 1, IsInstall: true}
	out, err := util.ToRenderValuesWithSchemaValidation(c, values, release, caps, b.job.SkipSchema)
	if err != nil {
		return nil, chartFailure{Kind: failureSchema, Message: err.Error()}
	}
	return out, nil
}

var (
	// separator is what Helm takes for one. It is laxer than kubectl.
	separator = regexp.MustCompile(`(?:^|\s*\n)---\s*`)
	lax       = regexp.MustCompile(`(?m)^---[ \t]*[^\s#]`)
)

// separated is a text whose documents are separated as kubectl knows it.
func separated(text string) string {
	if !lax.MatchString(text) {
		return text
	}
	return separator.ReplaceAllString(text, "\n---\n")
}
