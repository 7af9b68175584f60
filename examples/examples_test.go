// Package examples has no code: these tests hold the examples to what they say.
// Every environment in them validates and renders, as the daemon would do it.
package examples_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
	"github.com/holdfast-gitops/holdfast/sources/localdir"
	"github.com/holdfast-gitops/holdfast/sources/render"
)

func TestMain(m *testing.M) {
	if render.IsChild() { // kustomize builds run in a child made of this binary
		os.Exit(render.ChildMain())
	}
	os.Exit(m.Run())
}

// repositories are the folders of this one that stand for a repository.
func repositories(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("*/environments")
	if err != nil || len(found) == 0 {
		t.Fatalf("find the sample repositories: %v, found %v", err, found)
	}
	for i, f := range found {
		found[i] = filepath.Dir(f)
	}
	return found
}

func open(t *testing.T, dir string) *sources.Snapshot {
	t.Helper()
	d, err := localdir.Open(localdir.Options{Name: "examples", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	snap, err := d.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(snap.Close)
	return snap
}

func TestEveryEnvironmentValidatesAndRenders(t *testing.T) {
	renderer := render.New(render.Options{})
	for _, dir := range repositories(t) {
		tree := open(t, dir).Tree
		repo, err := environment.Read(tree, "environments")
		if err != nil {
			t.Fatalf("%s: %v", dir, err)
		}
		for _, b := range repo.Broken {
			t.Errorf("%s: %v", dir, b)
		}
		for _, spec := range repo.Specs {
			t.Run(dir+"/"+spec.Name, func(t *testing.T) {
				out, err := renderer.Render(t.Context(), render.Request{
					Tree: tree, Path: spec.Path, DefaultNamespace: spec.Namespace,
					CreateNamespace: spec.CreateNamespace, Scopes: render.BuiltinScopes,
				})
				if err != nil {
					t.Fatal(err)
				}
				checkPlaces(t, spec, out.Items)
			})
		}
	}
}

// checkPlaces sees that an environment keeps to its own namespace, so that the
// samples can be applied beside each other.
func checkPlaces(t *testing.T, spec environment.Spec, items []sources.Item) {
	t.Helper()
	for _, i := range items {
		if i.ID.Namespace != spec.Namespace && i.ID != (sources.ID{Kind: "Namespace", Name: spec.Namespace}) {
			t.Errorf("%s is outside namespace %s", i.ID, spec.Namespace)
		}
		if i.ID.Kind == "Secret" && !i.Sensitive {
			t.Errorf("%s is not taken for sensitive", i.ID)
		}
	}
}

func TestShopRendersWhatItsReadmePromises(t *testing.T) {
	tree := open(t, "shop").Tree
	want := map[string]int{"overlays/dev": 5, "overlays/staging": 5, "overlays/prod": 5, "plain": 4}
	renderer := render.New(render.Options{})
	for path, objects := range want {
		out, err := renderer.Render(t.Context(), render.Request{Tree: tree, Path: path})
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if len(out.Items) != objects {
			t.Errorf("%s renders %d objects, want %d", path, len(out.Items), objects)
		}
	}
	out, err := renderer.Render(t.Context(), render.Request{Tree: tree, Path: "overlays/prod"})
	if err != nil {
		t.Fatal(err)
	}
	web := slices.IndexFunc(out.Items, func(i sources.Item) bool { return i.ID.Kind == "Deployment" })
	if web < 0 || !strings.Contains(string(out.Items[web].Body), `"replicas":3`) {
		t.Errorf("prod does not run three of the Deployment: %v", out.Items)
	}
}
