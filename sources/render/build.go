package render

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

// maxOutputBytes bounds what one build may give back.
const maxOutputBytes = 256 << 20

// build runs kustomize in a child.
func (r *Renderer) build(ctx context.Context, rec *recorder, s *scanner, dir string, o manifest.Options) ([]sources.Item, error) {
	c := &conversation{
		rec: rec, o: o, program: "kustomize", blamed: s.folders[dir].file,
		job: job{Dirs: []string{dir}, File: s.folders[dir].file},
	}
	c.failed = func(text string) error { return better(explain(text, c.blamed, rec), rec, o) }
	c.item = func(payload []byte) error { return c.kustomized(dir, payload) }
	if err := r.converse(ctx, c); err != nil {
		return nil, err
	}
	return c.items, nil
}

// converse runs a child that does one job, when it is its turn.
func (r *Renderer) converse(ctx context.Context, c *conversation) error {
	select {
	case r.builds <- struct{}{}:
		defer func() { <-r.builds }()
	case <-ctx.Done():
		return fmt.Errorf("wait to build %s: %w", c.blamed, ctx.Err())
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.o.Timeout, errTimeout)
	defer cancel()
	err := r.runChild(ctx, c)
	switch {
	case err == nil:
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), errTimeout):
		return sources.Problems{{
			File:    c.blamed,
			Message: c.program + " took longer than " + r.o.Timeout.String() + " and was stopped",
			Hint:    "fewer objects in one environment build faster; lists without transformers need no kustomize",
		}}
	case ctx.Err() != nil:
		return fmt.Errorf("build %s: %w", c.blamed, context.Cause(ctx))
	default:
		return err
	}
	manifest.SortProblems(c.problems)
	return c.problems.Err()
}

var errTimeout = errors.New("the build took too long")

// runChild starts a child, talks to it and waits for its end.
func (r *Renderer) runChild(ctx context.Context, c *conversation) error {
	// The child dies with the thread that started it (see childAttributes), so
	// the thread must be ours for as long.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	cmd := exec.CommandContext(ctx, r.executable())
	cmd.Args = []string{"holdfast-render"}
	cmd.Dir = "/"
	cmd.Env = []string{
		childVariable + "=" + strconv.FormatInt(r.o.MemoryBytes, 10),
		"GOMAXPROCS=1", "GOTRACEBACK=single",
	}
	cmd.SysProcAttr = childAttributes()
	cmd.WaitDelay = 5 * time.Second
	var stderr headBuffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start a child to render: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start a child to render: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a child to render: %w", err)
	}
	talked := c.talk(newPipe(stdout, stdin))
	if talked != nil {
		// Whatever went wrong, nothing that the child still says counts. One that
		// is ending by itself gets to say with which status.
		stdin.Close()
		if !errors.Is(talked, io.EOF) && !errors.Is(talked, io.ErrUnexpectedEOF) {
			stop()
		}
	}
	waited := cmd.Wait()
	if talked == nil || errors.As(talked, new(sources.Problems)) {
		return talked
	}
	var exit *exec.ExitError
	if errors.As(waited, &exit) && outOfMemory(exit, stderr.String()) {
		return sources.Problems{{
			File:    c.blamed,
			Message: fmt.Sprintf("%s took more than %d MiB of memory and was stopped", c.program, r.o.MemoryBytes>>20),
			Hint:    "split the environment",
		}}
	}
	if waited != nil && (errors.Is(talked, io.EOF) || errors.Is(talked, io.ErrUnexpectedEOF)) {
		return c.crashed(waited, stderr.String())
	}
	return fmt.Errorf("build %s: %w", c.blamed, talked)
}

// outOfMemory says whether a child ended because of its memory bound.
func outOfMemory(exit *exec.ExitError, stderr string) bool {
	return exit.ExitCode() == exitMemory ||
		strings.Contains(stderr, "out of memory") || strings.Contains(stderr, "cannot allocate memory")
}

// crashed is the problem of a child that ended without a word. Its last words
// are only a hint: a library may put input into a panic.
func (c *conversation) crashed(waited error, stderr string) error {
	message := c.program + " crashed on this input: " + waited.Error()
	for line := range strings.Lines(stderr) {
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			message = c.program + " crashed on this input: " + strings.TrimSpace(line)
			break
		}
	}
	return sources.Problems{{File: c.blamed, Message: message}}
}

func (r *Renderer) executable() string {
	if r.o.Executable != "" {
		return r.o.Executable
	}
	return ownExecutable()
}

// conversation is the parent's side of one build.
type conversation struct {
	rec *recorder
	o   manifest.Options
	job job
	// program names what the child runs, and blamed the file that it is about.
	program, blamed string
	// overlay are files that only the child sees. They come before those of the
	// snapshot.
	overlay map[string][]byte
	// item takes one thing that the child made, failed makes an error of what it
	// says went wrong.
	item   func(payload []byte) error
	failed func(text string) error

	output   int
	items    []sources.Item
	problems sources.Problems
}

// talk gives the child its job and answers until it is done.
func (c *conversation) talk(p *pipe) error {
	j, err := json.Marshal(c.job)
	if err != nil {
		return err
	}
	if err := p.send(frameJob, j); err != nil {
		return err
	}
	for {
		kind, payload, err := p.receive()
		if err != nil {
			return err
		}
		switch kind {
		case frameStat, frameRead, frameList:
			answer, content, err := c.answer(kind, string(payload))
			if err != nil {
				return err
			}
			if err := p.send(answer, content); err != nil {
				return err
			}
		case frameItem:
			if c.output += len(payload); c.output > maxOutputBytes {
				return sources.Problems{{File: c.blamed, Message: fmt.Sprintf("%s gave more than %d MiB", c.program, maxOutputBytes>>20)}}
			}
			if err := c.item(payload); err != nil {
				return err
			}
		case frameDone:
			return nil
		case frameFailed:
			return c.failed(string(payload))
		default:
			return fmt.Errorf("the child sent a frame %q that does not exist", kind)
		}
	}
}

// answer looks up what the child asks for, in the snapshot and nowhere else. A
// tree that cannot be read ends the build: kustomize, which takes an error for an
// absent file, must not go on without it.
func (c *conversation) answer(kind byte, name string) (byte, []byte, error) {
	if !fs.ValidPath(name) {
		return frameAbsent, nil, nil
	}
	if answer, content, ok := c.overlaid(kind, name); ok {
		return answer, content, nil
	}
	answer, content, err := c.look(kind, name)
	if errors.Is(err, fs.ErrNotExist) {
		return frameAbsent, nil, nil
	}
	if problem := new(sources.Problem); errors.As(err, problem) {
		return 0, nil, sources.Problems{*problem}
	}
	return answer, content, err
}

func (c *conversation) look(kind byte, name string) (byte, []byte, error) {
	switch kind {
	case frameRead:
		data, err := c.rec.plain(name)
		return frameContent, data, err
	case frameList:
		names, err := c.rec.list(name)
		return frameContent, []byte(strings.Join(names, "\x00")), err
	}
	switch found, err := c.rec.stat(name); {
	case err != nil:
		return 0, nil, err
	case found == file:
		return frameFile, nil, nil
	case found == folder:
		return frameFolder, nil, nil
	}
	return frameAbsent, nil, nil
}

// overlaid answers for the files that only the child sees.
func (c *conversation) overlaid(kind byte, name string) (answer byte, content []byte, ok bool) {
	if data, there := c.overlay[name]; there {
		if kind == frameRead {
			return frameContent, data, true
		}
		return frameFile, nil, kind == frameStat
	}
	for file := range c.overlay {
		if path.Dir(file) == name && kind == frameStat {
			return frameFolder, nil, true
		}
	}
	// What is not there is nobody's input.
	return frameAbsent, nil, c.overlay != nil && strings.HasPrefix(name, overlayDir+"/")
}

// kustomized takes an object that kustomize made.
func (c *conversation) kustomized(dir string, payload []byte) error {
	var b built
	if err := json.Unmarshal(payload, &b); err != nil {
		return fmt.Errorf("decode an item: %w", err)
	}
	origin := sources.Origin{File: c.blamed, Layer: LayerKustomize}
	if from := path.Join(dir, b.Origin); b.Origin != "" && fs.ValidPath(from) {
		origin.File = from
	}
	items, problems := manifest.Object(origin, b.Object, c.o)
	c.items = append(c.items, items...)
	c.problems = append(c.problems, problems...)
	return nil
}

// headBuffer keeps the first bytes written to it.
type headBuffer struct{ bytes.Buffer }

const maxStderr = 64 << 10

// Write keeps what still fits and takes the rest as written.
func (b *headBuffer) Write(p []byte) (int, error) {
	if room := maxStderr - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
