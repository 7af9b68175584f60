package render_test

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/treetest"
	"github.com/holdfast-gitops/holdfast/sources/environment"
	"github.com/holdfast-gitops/holdfast/sources/render"
)

// peak reports the largest resident memory of this process and of its largest
// child so far, in MiB.
func peak(b *testing.B) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			if kib, err := strconv.Atoi(strings.Fields(text)[0]); err == nil {
				b.ReportMetric(float64(kib)/1024, "peak-MiB")
			}
		}
	}
}

// BenchmarkOverrides changes the image of every Deployment, by the spec and by an
// overlay.
func BenchmarkOverrides(b *testing.B) {
	for _, objects := range []int{1000, 5000} {
		tree := mixed(objects, true)
		req := render.Request{
			Tree: tree, Path: "env", Images: []environment.Image{{Name: "registry.example.com/app", NewTag: "2"}},
		}
		b.Run(fmt.Sprintf("spec/%d", objects), func(b *testing.B) {
			for b.Loop() {
				benchRender(b, newRenderer(render.Options{}), req)
			}
			peak(b)
		})
		b.Run(fmt.Sprintf("overlay/%d", objects), func(b *testing.B) {
			if objects > 1000 && os.Getenv("HOLDFAST_LONG") == "" {
				b.Skip("takes a minute")
			}
			over := tree.With("over/kustomization.yaml", "resources: [../env]\nimages: [{name: registry.example.com/app, newTag: \"2\"}]\n")
			for b.Loop() {
				benchRender(b, newRenderer(render.Options{}), render.Request{Tree: over, Path: "over"})
			}
			peak(b)
		})
	}
}

// BenchmarkHelm renders a chart with many templates.
func BenchmarkHelm(b *testing.B) {
	for _, objects := range []int{100, 1000} {
		files := map[string]string{"web/Chart.yaml": chartYAML, "web/values.yaml": "size: 1\n"}
		for i := range objects {
			files[fmt.Sprintf("web/templates/t%d.yaml", i)] = fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}-%d}\ndata: {size: {{ .Values.size | quote }}}\n", i)
		}
		tree := treetest.New(files)
		b.Run(fmt.Sprint(objects), func(b *testing.B) {
			for b.Loop() {
				benchRender(b, newRenderer(render.Options{}), render.Request{Tree: tree, Path: "web"})
			}
			peak(b)
		})
	}
}

// BenchmarkHundredEnvironments has a commit that changes one of 100 environments.
func BenchmarkHundredEnvironments(b *testing.B) {
	files := map[string]string{}
	for i := range 100 {
		var body bytes.Buffer
		for j := range 25 {
			body.WriteString(named(fmt.Sprintf("c%d", j)) + "---\n")
		}
		files[fmt.Sprintf("env%d/a.yaml", i)] = body.String()
	}
	tree := treetest.New(files)
	r := newRenderer(render.Options{})
	all := func(b *testing.B, tree *treetest.Tree) (rendered int) {
		for i := range 100 {
			out, err := r.Render(b.Context(), render.Request{Tree: tree, Path: fmt.Sprintf("env%d", i)})
			if err != nil {
				b.Fatal(err)
			}
			if !out.Cached {
				rendered++
			}
		}
		return rendered
	}
	all(b, tree)
	for i := 0; b.Loop(); i++ {
		if n := all(b, tree.With("env7/a.yaml", named(fmt.Sprintf("x%d", i)))); n != 1 {
			b.Fatalf("%d environments were rendered", n)
		}
	}
	runtime.GC()
	peak(b)
}
