package render_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/treetest"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
	"github.com/holdfast-gitops/holdfast/sources/render"
	"github.com/holdfast-gitops/holdfast/sources/substitute"
)

func named(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\n"
}

func mustRender(t *testing.T, r *render.Renderer, req render.Request) render.Result {
	t.Helper()
	result, err := r.Render(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestUnchangedInputsAreNotRenderedAgain(t *testing.T) {
	trees := map[string]*treetest.Tree{
		"plain":     treetest.New(map[string]string{"env/a.yaml": named("a"), "other": "x"}),
		"listed":    treetest.New(map[string]string{"env/kustomization.yaml": "resources: [../base]\n", "base/kustomization.yaml": "resources: [a.yaml]\n", "base/a.yaml": named("a"), "other": "x"}),
		"kustomize": treetest.New(map[string]string{"env/kustomization.yaml": "namePrefix: p-\nresources: [../base]\n", "base/kustomization.yaml": "resources: [a.yaml]\n", "base/a.yaml": named("a"), "other": "x"}),
	}
	for name, tree := range trees {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRenderer(render.Options{})
			req := render.Request{Tree: tree, Path: "env", DefaultNamespace: "web"}
			first := mustRender(t, r, req)
			tree.Reads()
			req.Tree = tree.With("other", "changed")
			again := mustRender(t, r, req)
			if !again.Cached || first.Cached || tree.Reads() > 0 {
				t.Errorf("cached %v, then %v", first.Cached, again.Cached)
			}
			if &again.Items[0].Body[0] != &first.Items[0].Body[0] {
				t.Error("the items are not those of the first render")
			}
			changed := "env/a.yaml"
			if name != "plain" {
				changed = "base/a.yaml"
			}
			req.Tree = tree.With(changed, named("b"))
			if got := mustRender(t, r, req); got.Cached || !strings.HasSuffix(got.Items[0].ID.Name, "b") {
				t.Errorf("cached %v, items %v", got.Cached, got.Items)
			}
		})
	}
}

// TestWhatIsMissingIsAnInput adds files that an earlier render looked for.
func TestWhatIsMissingIsAnInput(t *testing.T) {
	r := newRenderer(render.Options{})
	tree := treetest.New(map[string]string{"env/a.yaml": named("a"), "env/b.yaml": named("b")})
	req := render.Request{Tree: tree, Path: "env"}
	if got := mustRender(t, r, req); len(got.Items) != 2 {
		t.Fatal(got.Items)
	}
	req.Tree = tree.With("env/kustomization.yaml", "resources: [a.yaml]\n")
	if got := mustRender(t, r, req); got.Cached || len(got.Items) != 1 {
		t.Errorf("cached %v, items %v", got.Cached, got.Items)
	}
	req.Tree = treetest.New(map[string]string{"env/a.yaml": named("a"), "env/kustomization.yaml": "resources: [a.yaml]\n", "env/kustomization.yml": "resources: [a.yaml]\n"})
	if _, err := r.Render(t.Context(), req); err == nil || !strings.Contains(err.Error(), "several kustomization files") {
		t.Errorf("error %v", err)
	}
	req.Tree = treetest.New(map[string]string{"elsewhere/a.yaml": named("a")})
	if got, err := r.Render(t.Context(), req); err == nil || got.Items != nil {
		t.Errorf("items %v, error %v", got.Items, err)
	}
}

func TestOtherRequestIsRenderedAgain(t *testing.T) {
	r := newRenderer(render.Options{})
	req := render.Request{Tree: treetest.New(map[string]string{"env/a.yaml": named("a")}), Path: "env"}
	mustRender(t, r, req)
	req.DefaultNamespace = "web"
	if got := mustRender(t, r, req); got.Cached || got.Items[0].ID.Namespace != "web" {
		t.Errorf("cached %v, items %v", got.Cached, got.Items)
	}
	req.CreateNamespace = true
	if got := mustRender(t, r, req); got.Cached || len(got.Items) != 2 {
		t.Errorf("cached %v, items %v", got.Cached, got.Items)
	}
}

// scopes is what a cluster is known to serve.
type scopes map[string]bool

func (s scopes) Namespaced(group, kind string) (namespaced, known bool) {
	namespaced, known = s[kind]
	return namespaced, known
}

func TestNewlyKnownScopeIsRenderedAgain(t *testing.T) {
	r := newRenderer(render.Options{})
	thing := "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: t}\n"
	req := render.Request{
		Tree: treetest.New(map[string]string{"env/a.yaml": thing}), Path: "env",
		DefaultNamespace: "web", Scopes: scopes{},
	}
	if got := mustRender(t, r, req); got.Items[0].ID.Namespace != "" {
		t.Error(got.Items)
	}
	req.Scopes = scopes{"Thing": true}
	if got := mustRender(t, r, req); got.Cached || got.Items[0].ID.Namespace != "web" {
		t.Errorf("cached %v, items %v", got.Cached, got.Items)
	}
	if got := mustRender(t, r, req); !got.Cached {
		t.Error("rendered a third time")
	}
}

func TestCacheIsBounded(t *testing.T) {
	r := newRenderer(render.Options{CacheBytes: 5000, Manifest: manifest.Options{Cache: manifest.NewCache(1000)}})
	files := map[string]string{}
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		files[name+"/x.yaml"] = named(name)
	}
	tree := treetest.New(files)
	for name := range files {
		mustRender(t, r, render.Request{Tree: tree, Path: name[:1]})
	}
	cached := 0
	for name := range files {
		if mustRender(t, r, render.Request{Tree: tree, Path: name[:1]}).Cached {
			cached++
		}
	}
	if cached == len(files) {
		t.Error("more is remembered than allowed")
	}
}

// TestOneCommitParsesOneFile counts the files that are read after a change.
func TestOneCommitParsesOneFile(t *testing.T) {
	files := map[string]string{}
	for _, name := range []string{"a", "b", "c", "d"} {
		files["env/"+name+".yaml"] = named(name)
	}
	tree := treetest.New(files)
	r := newRenderer(render.Options{})
	mustRender(t, r, render.Request{Tree: tree, Path: "env"})
	next := tree.With("env/b.yaml", named("changed"))
	mustRender(t, r, render.Request{Tree: next, Path: "env"})
	// The other read is that of the absent ignore file.
	if n := next.Reads(); n != 2 {
		t.Errorf("%d files were read", n)
	}
}

func TestInputsHold(t *testing.T) {
	tree := treetest.New(map[string]string{"a/x": "1", "b": "2"})
	id, err := tree.ContentID("b")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		input render.Input
		want  bool
	}{
		{render.Input{Path: "b", Kind: render.InputContent, ID: id}, true},
		{render.Input{Path: "b", Kind: render.InputContent, ID: "other"}, false},
		{render.Input{Path: "c", Kind: render.InputContent, ID: id}, false},
		{render.Input{Path: "a", Kind: render.InputFolder}, true},
		{render.Input{Path: "b", Kind: render.InputFolder}, false},
		{render.Input{Path: "c", Kind: render.InputAbsent}, true},
		{render.Input{Path: "b", Kind: render.InputAbsent}, false},
		{render.Input{Path: "a", Kind: render.InputListing, ID: "other"}, false},
	} {
		if got, err := (render.Inputs{c.input}).Hold(tree); got != c.want || err != nil {
			t.Errorf("%+v holds %v, error %v", c.input, got, err)
		}
	}
}

// TestOneOfManyEnvironmentsIsRendered changes one environment of a hundred.
func TestOneOfManyEnvironmentsIsRendered(t *testing.T) {
	files := map[string]string{}
	for i := range 100 {
		files[fmt.Sprintf("env%d/a.yaml", i)] = named("a")
	}
	tree, r := treetest.New(files), newRenderer(render.Options{})
	for i := range 100 {
		mustRender(t, r, render.Request{Tree: tree, Path: fmt.Sprintf("env%d", i)})
	}
	tree = tree.With("env7/a.yaml", named("b"))
	for i := range 100 {
		if out := mustRender(t, r, render.Request{Tree: tree, Path: fmt.Sprintf("env%d", i)}); out.Cached != (i != 7) {
			t.Errorf("environment %d: cached %v", i, out.Cached)
		}
	}
}

// TestWhatTheSpecAsksIsPartOfTheKey changes a request in every way that must
// render again.
func TestWhatTheSpecAsksIsPartOfTheKey(t *testing.T) {
	r := newRenderer(render.Options{})
	base := render.Request{Tree: treetest.New(map[string]string{
		"env/a.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {replicas: 1, template: {spec: {containers: [{name: c, image: app}]}}}\n",
	}), Path: "env"}
	mustRender(t, r, base)
	for name, change := range map[string]func(*render.Request){
		"labels":      func(req *render.Request) { req.Labels = map[string]string{"a": "b"} },
		"annotations": func(req *render.Request) { req.Annotations = map[string]string{"a": "b"} },
		"images":      func(req *render.Request) { req.Images = []environment.Image{{Name: "app", NewTag: "2"}} },
		"replicas":    func(req *render.Request) { req.Replicas = []environment.Replica{{Name: "a", Count: 2}} },
		"patches": func(req *render.Request) {
			req.Patches = []environment.Patch{{Target: &environment.PatchTarget{Kind: "Deployment"}, Patch: `[{"op": "add", "path": "/spec/paused", "value": true}]`}}
		},
		"parameters": func(req *render.Request) { req.Values = substitute.Values{"x": "y"} },
		"keys":       func(req *render.Request) { req.Decrypter = testKeys(t) },
		"kind":       func(req *render.Request) { req.Kind = environment.RenderPlain },
	} {
		t.Run(name, func(t *testing.T) {
			req := base
			change(&req)
			if mustRender(t, r, req).Cached {
				t.Error("the answer is that of another request")
			}
			if !mustRender(t, r, req).Cached {
				t.Error("is not remembered")
			}
		})
	}
}

// TestChartsAreRenderedForTheirCluster asks the cluster, and renders again when it
// was upgraded.
func TestChartsAreRenderedForTheirCluster(t *testing.T) {
	r, asked := newRenderer(render.Options{}), 0
	seen := render.Capabilities{KubeVersion: "v1.35.1", APIVersions: []string{"v1"}}
	req := render.Request{
		Tree: treetest.New(map[string]string{
			"web/Chart.yaml":       chartYAML,
			"web/templates/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {v: {{ .Capabilities.KubeVersion }}}\n",
			"plain/a.yaml":         named("a"),
		}),
		Path: "web", Capabilities: func(context.Context) (render.Capabilities, error) { asked++; return seen, nil },
	}
	for _, version := range []string{"v1.35.1", "v1.36.0"} {
		seen.KubeVersion = version
		out := mustRender(t, r, req)
		if out.Cached || !strings.Contains(string(out.Items[0].Body), version) {
			t.Errorf("cached %v: %s", out.Cached, out.Items[0].Body)
		}
	}
	if !mustRender(t, r, req).Cached {
		t.Error("rendered for the same cluster again")
	}
	asked = 0
	req.Path = "plain"
	mustRender(t, r, req)
	mustRender(t, r, req)
	if asked > 0 {
		t.Error("the cluster was asked for what no chart sees")
	}
}

// TestClusterThatDoesNotAnswerChangesNothing keeps what was rendered for it, and
// renders nothing new.
func TestClusterThatDoesNotAnswerChangesNothing(t *testing.T) {
	r := newRenderer(render.Options{})
	var away error
	tree := treetest.New(map[string]string{"web/Chart.yaml": chartYAML, "web/templates/a.yaml": named("a"), "other": "x"})
	req := render.Request{Tree: tree, Path: "web", Capabilities: func(context.Context) (render.Capabilities, error) {
		return render.Capabilities{KubeVersion: "v1.36.0"}, away
	}}
	mustRender(t, r, req)
	away = errors.New("no answer")
	req.Tree = tree.With("other", "y")
	if !mustRender(t, r, req).Cached {
		t.Error("is rendered again")
	}
	req.Tree = tree.With("web/templates/a.yaml", named("b"))
	if out, err := r.Render(t.Context(), req); err == nil || len(out.Items) > 0 || errors.As(err, new(sources.Problems)) {
		t.Errorf("%d items, error %v", len(out.Items), err)
	}
}
