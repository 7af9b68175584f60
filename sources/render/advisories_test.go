package render_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-gitops/holdfast/internal/testkit/treetest"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
	"github.com/holdfast-gitops/holdfast/sources/localdir"
	"github.com/holdfast-gitops/holdfast/sources/render"
)

// These are the ways in which other tools were made to read, run or tell what
// they should not, tried on a real directory.

const chartYAML = "{apiVersion: v2, name: web, version: 0.1.0}\n"

// directory is a tree of a real folder, with a secret beside it.
func directory(t *testing.T, files map[string]string, arrange func(dir string)) sources.Tree {
	t.Helper()
	parent := t.TempDir()
	dir := filepath.Join(parent, "repo")
	if err := os.WriteFile(filepath.Join(parent, "outside.yaml"), []byte("password: hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if arrange != nil {
		arrange(dir)
	}
	d, err := localdir.Open(localdir.Options{Name: "t", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	snap, err := d.Fetch(t.Context())
	if err != nil {
		t.Skipf("the directory is refused as a whole: %v", err)
	}
	t.Cleanup(snap.Close)
	return snap.Tree
}

func link(t *testing.T, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}

// TestNothingOutsideIsRead tries links and paths that lead out.
func TestNothingOutsideIsRead(t *testing.T) {
	leak := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {all: {{ toJson .Values | quote }}, file: {{ .Files.Get \"link.yaml\" | quote }}, other: {{ .Files.Get \"../outside.yaml\" | quote }}}\n"
	chart := map[string]string{"web/Chart.yaml": chartYAML, "web/templates/x.yaml": leak}
	for name, c := range map[string]struct {
		files   map[string]string
		arrange func(dir string)
		req     render.Request
	}{
		"values file that is a link": {chart, func(dir string) { link(t, "../outside.yaml", dir+"/v.yaml") },
			render.Request{Path: "web", Helm: &environment.Helm{ValuesFiles: []string{"v.yaml"}}}},
		"values file by an absolute link": {chart, func(dir string) { link(t, filepath.Dir(dir)+"/outside.yaml", dir+"/v.yaml") },
			render.Request{Path: "web", Helm: &environment.Helm{ValuesFiles: []string{"v.yaml"}}}},
		"values file above": {chart, nil,
			render.Request{Path: "web", Helm: &environment.Helm{ValuesFiles: []string{"web/../../outside.yaml"}}}},
		"chart's own values": {chart, func(dir string) { link(t, "../../outside.yaml", dir+"/web/values.yaml") }, render.Request{Path: "web"}},
		"chart's file":       {chart, func(dir string) { link(t, "../../outside.yaml", dir+"/web/link.yaml") }, render.Request{Path: "web"}},
		"subchart":           {chart, func(dir string) { _ = os.Mkdir(dir+"/web/charts", 0o700); link(t, "../../..", dir+"/web/charts/up") }, render.Request{Path: "web"}},
		"kustomization's resource": {map[string]string{"web/kustomization.yaml": "resources: [x.yaml]\n"},
			func(dir string) { link(t, "../../outside.yaml", dir+"/web/x.yaml") }, render.Request{Path: "web"}},
		"generator's file": {map[string]string{"web/kustomization.yaml": "configMapGenerator: [{name: a, files: [x.yaml]}]\n"},
			func(dir string) { link(t, "../../outside.yaml", dir+"/web/x.yaml") }, render.Request{Path: "web"}},
		"base that is a link": {map[string]string{"web/kustomization.yaml": "resources: [base]\n"},
			func(dir string) { link(t, "/etc", dir+"/web/base") }, render.Request{Path: "web"}},
		"patch that is a link": {map[string]string{"web/a.yaml": configMap},
			func(dir string) { link(t, "../outside.yaml", dir+"/p.yaml") },
			render.Request{Path: "web", Patches: []environment.Patch{{Path: "p.yaml", Target: &environment.PatchTarget{Kind: "ConfigMap"}}}}},
		"plain manifest": {map[string]string{"web/a.yaml": configMap},
			func(dir string) { link(t, "../../outside.yaml", dir+"/web/x.yaml") }, render.Request{Path: "web"}},
		"path that is a link": {map[string]string{"a.yaml": configMap},
			func(dir string) { link(t, "..", dir+"/web") }, render.Request{Path: "web"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.req.Tree = directory(t, c.files, c.arrange)
			out, err := newRenderer(render.Options{}).Render(t.Context(), c.req)
			for _, i := range out.Items {
				if strings.Contains(string(i.Body), "hunter2") {
					t.Errorf("read: %s", i.Body)
				}
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("told: %v", err)
			}
			if err == nil {
				t.Errorf("rendered %d items and says nothing of what leads out", len(out.Items))
			}
		})
	}
}

// TestSpecialFilesDoNotBlock has a pipe that nobody writes to.
func TestSpecialFilesDoNotBlock(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"plain":     {"web/a.yaml": configMap},
		"kustomize": {"web/kustomization.yaml": "namePrefix: x-\nresources: [a.yaml, pipe.yaml]\n", "web/a.yaml": configMap},
		"helm":      {"web/Chart.yaml": chartYAML, "web/templates/a.yaml": configMap},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree := directory(t, files, func(dir string) {
				if err := unix.Mkfifo(dir+"/web/pipe.yaml", 0o600); err != nil {
					t.Fatal(err)
				}
			})
			done := make(chan error, 1)
			go func() {
				_, err := newRenderer(render.Options{}).Render(t.Context(), render.Request{Tree: tree, Path: "web"})
				done <- err
			}()
			select {
			case <-done:
			case <-time.After(30 * time.Second):
				t.Error("waits for the pipe")
			}
		})
	}
}

// TestLargeFilesAreRefusedUnread has megabytes where a manifest, a values file and
// a chart's file should be. A directory with far more is refused as a whole.
func TestLargeFilesAreRefusedUnread(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "large.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "large.yaml"), 100<<20); err != nil {
		t.Fatal(err)
	}
	d, err := localdir.Open(localdir.Options{Name: "t", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if snap, err := d.Fetch(t.Context()); err == nil {
		defer snap.Close()
		if _, err := newRenderer(render.Options{}).Render(t.Context(), render.Request{Tree: snap.Tree, Path: "."}); err == nil {
			t.Error("100 MB were read as a manifest")
		}
	}
	for name, c := range map[string]struct {
		files map[string]string
		large string
		req   render.Request
	}{
		"manifest": {map[string]string{"web/a.yaml": configMap}, "web/large.yaml", render.Request{}},
		"resource": {map[string]string{"web/kustomization.yaml": "resources: [large.yaml]\n"}, "web/large.yaml", render.Request{}},
		"values": {map[string]string{"web/Chart.yaml": chartYAML, "web/templates/a.yaml": configMap}, "v.yaml",
			render.Request{Helm: &environment.Helm{ValuesFiles: []string{"v.yaml"}}}},
		"chart": {map[string]string{"web/Chart.yaml": chartYAML, "web/templates/a.yaml": configMap}, "web/large.bin", render.Request{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.files[c.large] = strings.Repeat("a", 5<<20)
			c.req.Tree = treetest.New(c.files)
			c.req.Path = "web"
			_, err := newRenderer(render.Options{}).Render(t.Context(), c.req)
			if err == nil || !strings.Contains(err.Error(), c.large+": is 5242880 bytes, and at most 4194304 are read") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestBombsAreBounded has texts that grow when they are read.
func TestBombsAreBounded(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'l'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 9), ","))
	}
	deep := "a: " + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "\n"
	web := func(more map[string]string) map[string]string {
		files := map[string]string{"web/Chart.yaml": chartYAML, "web/templates/a.yaml": configMap}
		for name, text := range more {
			files[name] = text
		}
		return files
	}
	values := render.Request{Path: "web", Helm: &environment.Helm{ValuesFiles: []string{"v.yaml"}}}
	for name, c := range map[string]struct {
		files map[string]string
		req   render.Request
	}{
		"aliases in values":    {web(map[string]string{"v.yaml": bomb}), values},
		"depth of values":      {web(map[string]string{"v.yaml": deep}), values},
		"aliases in the chart": {web(map[string]string{"web/values.yaml": bomb}), render.Request{Path: "web"}},
		"depth of the chart":   {web(map[string]string{"web/values.yaml": deep}), render.Request{Path: "web"}},
		"output without end":   {web(map[string]string{"web/templates/b.yaml": "{{ range until 1000000000 }}aaaaaaaaaaaaaaaa{{ end }}"}), render.Request{Path: "web"}},
		"growing string":       {web(map[string]string{"web/templates/b.yaml": `{{ $s := "x" }}{{ range until 60 }}{{ $s = printf "%s%s" $s $s }}{{ end }}{{ $s }}`}), render.Request{Path: "web"}},
		"loop without end":     {web(map[string]string{"web/templates/b.yaml": "{{ range $i := untilStep 0 1 0 }}{{ end }}{{ define \"x\" }}{{ include \"x\" . }}{{ include \"x\" . }}{{ end }}{{ include \"x\" . }}"}), render.Request{Path: "web"}},
		"aliases in the patch": {map[string]string{"web/a.yaml": configMap}, render.Request{Path: "web", Patches: []environment.Patch{{Target: &environment.PatchTarget{Kind: "ConfigMap"}, Patch: bomb}}}},
		"aliases in rendered":  {web(map[string]string{"web/templates/b.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n" + bomb}), render.Request{Path: "web"}},
		"copying patch":        {map[string]string{"web/a.yaml": configMap}, render.Request{Path: "web", Patches: []environment.Patch{{Target: &environment.PatchTarget{Kind: "ConfigMap"}, Patch: copying()}}}},
	} {
		t.Run(name, func(t *testing.T) {
			c.req.Tree = treetest.New(c.files)
			r := newRenderer(render.Options{MemoryBytes: 160 << 20, Timeout: 20 * time.Second})
			_, err := r.Render(t.Context(), c.req)
			if !errors.As(err, new(sources.Problems)) {
				t.Errorf("error %v", err)
			}
			if err != nil && len(err.Error()) > 4000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

// copying is a list of patch operations of which each doubles the object.
func copying() string {
	ops := []string{`{"op": "add", "path": "/data", "value": {"a": ["xxxxxxxxxxxxxxxx"]}}`}
	for range 40 {
		ops = append(ops, `{"op": "copy", "from": "/data", "path": "/data/a/-"}`)
	}
	return "[" + strings.Join(ops, ",") + "]"
}
