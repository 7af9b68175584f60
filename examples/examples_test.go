// Package examples has no code: these tests hold the examples to what they say.
// Every environment in them validates and renders, as the daemon would do it.
package examples_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
	"github.com/holdfast-gitops/holdfast/sources/localdir"
	"github.com/holdfast-gitops/holdfast/sources/render"
	"github.com/holdfast-gitops/holdfast/sources/schema"
	"github.com/holdfast-gitops/holdfast/sources/sops"
)

func TestMain(m *testing.M) {
	if render.IsChild() { // kustomize builds run in a child made of this binary
		os.Exit(render.ChildMain())
	}
	os.Exit(m.Run())
}

// repositories are the folders of this one that stand for a repository. The
// monorepo is generated.
func repositories(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("*/environments")
	if err != nil || len(found) < 8 {
		t.Fatalf("find the sample repositories: %v, found %v", err, found)
	}
	for i, f := range found {
		found[i] = filepath.Dir(f)
	}
	return append(found, monorepo(t))
}

// monorepo generates the sample of that name.
func monorepo(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "monorepo")
	if err := os.CopyFS(dir, os.DirFS("monorepo")); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("monorepo/generate.sh", dir, "50").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// environments are the specs of a repository, with one of each template.
func environments(t *testing.T, tree sources.Tree) []environment.Spec {
	t.Helper()
	repo, err := environment.Read(tree, "environments")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range repo.Broken {
		t.Errorf("%v", b)
	}
	specs := repo.Specs
	for _, template := range repo.Templates {
		spec, err := template.For(template.Sample(), strings.Repeat("0", 40))
		if err != nil {
			t.Error(err)
		}
		specs = append(specs, spec)
	}
	return specs
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

// keys are those of the example with encrypted files.
func keys(t *testing.T) *sops.Keyring {
	t.Helper()
	k, err := sops.Open([]sops.Key{{Name: "throw-away", AgeFile: "sops/keys/throw-away.age"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestEveryEnvironmentValidatesAndRenders(t *testing.T) {
	renderer := render.New(render.Options{})
	for _, dir := range repositories(t) {
		tree := open(t, dir).Tree
		for _, spec := range environments(t, tree) {
			t.Run(filepath.Base(dir)+"/"+spec.Name, func(t *testing.T) {
				req := render.For(spec)
				req.Tree = tree
				if spec.Decryption != nil {
					req.Decrypter = keys(t)
				}
				out, err := renderer.Render(t.Context(), req)
				if err != nil {
					t.Fatal(err)
				}
				checkPlaces(t, spec, out.Items)
				set, err := schema.New(out.Items...)
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range set.Problems(tree, out.Items) {
					t.Error(p)
				}
			})
		}
	}
}

// TestEncryptedValuesArrive sees that the secrets of the example are what its
// files hold.
func TestEncryptedValuesArrive(t *testing.T) {
	tree := open(t, "sops").Tree
	out, err := render.New(render.Options{}).Render(t.Context(), render.Request{Tree: tree, Path: "app", Decrypter: keys(t)})
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, i := range out.Items {
		var secret struct{ Data map[string][]byte }
		if err := json.Unmarshal(i.Body, &secret); err != nil || !i.Sensitive {
			t.Errorf("%s: %v, sensitive %v", i.ID, err, i.Sensitive)
		}
		for _, v := range secret.Data {
			found = append(found, string(v))
		}
	}
	slices.Sort(found)
	if want := []string{"eu", "not-a-real-password", "not-a-real-token", "shop"}; !slices.Equal(found, want) {
		t.Errorf("values %q, want %q", found, want)
	}
}

// checkPlaces sees that an environment keeps to its own namespace, so that the
// samples can be applied beside each other.
func checkPlaces(t *testing.T, spec environment.Spec, items []sources.Item) {
	t.Helper()
	for _, i := range items {
		if namespaced, known := render.BuiltinScopes.Namespaced(i.ID.Group, i.ID.Kind); spec.Namespace == "" || known && !namespaced {
			continue
		}
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
