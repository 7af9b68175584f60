package codify_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/codify"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/localdir"
	"github.com/holdfast-gitops/holdfast/sources/render"
)

func TestMain(m *testing.M) {
	if render.IsChild() { // the rendering child is this very program
		os.Exit(render.ChildMain())
	}
	os.Exit(m.Run())
}

var web = sources.ID{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: "web"}

const deployment = `# The shop's front.
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 3   # enough for a sale
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: web
          image: "registry.example:5000/web:1.0"
          args: ["--level", "3"]
          env:
            - name: MODE
              value: fast
`

// stage is a directory with files that are rendered for real.
type stage struct {
	*testing.T
	dir   string
	roots []string
	envs  []string
}

func newStage(t *testing.T, files map[string]string, envs ...string) stage {
	t.Helper()
	s := stage{T: t, dir: t.TempDir(), envs: envs, roots: envs[:1]}
	for name, text := range files {
		at := filepath.Join(s.dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s stage) codify(id sources.ID, changes ...drift.Change) (codify.Patch, error) {
	s.Helper()
	src, err := localdir.Open(localdir.Options{Name: "shop", Dir: s.dir})
	if err != nil {
		s.Fatal(err)
	}
	snap, err := src.Fetch(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	defer snap.Close()
	renderer := render.New(render.Options{})
	return codify.Codify(s.Context(), codify.Request{
		Tree: snap.Tree, Roots: slices.Concat(s.roots, []string{"."}), Environment: s.envs[0], Object: id, Changes: changes,
		Render: func(ctx context.Context, tree sources.Tree) (map[string][]sources.Item, error) {
			out := map[string][]sources.Item{}
			for _, env := range s.envs {
				r, err := renderer.Render(ctx, render.Request{Tree: tree, Path: env})
				if err != nil {
					return nil, err
				}
				out[env] = r.Items
			}
			return out, nil
		},
	})
}

// apply lets git apply the patch, and returns a file.
func (s stage) apply(p codify.Patch, file string) string {
	s.Helper()
	c := exec.Command("git", "apply", "--unsafe-paths", "-")
	c.Dir, c.Stdin = s.dir, strings.NewReader(p.Diff)
	if out, err := c.CombinedOutput(); err != nil {
		s.Fatalf("git apply: %v %s\n%s", err, out, p.Diff)
	}
	text, err := os.ReadFile(filepath.Join(s.dir, file))
	if err != nil {
		s.Fatal(err)
	}
	return string(text)
}

func change(path string, live any) drift.Change {
	v := drift.NewValue(live, false)
	if live == nil {
		v = drift.Absent()
	}
	return drift.Change{Path: path, Live: v}
}

const image = ".spec.template.spec.containers[name=web].image"

func TestPlainFilesKeepEverythingElse(t *testing.T) {
	s := newStage(t, map[string]string{"prod/web.yaml": deployment, "prod/other.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {n: \"3\"}\n"}, "prod")
	p, err := s.codify(web, change(".spec.replicas", 5), change(image, "registry.example:5000/web:2.0"),
		change(".spec.template.spec.containers[name=web].env[name=MODE].value", "on"))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("replicas: 3 ", "replicas: 5 ", "web:1.0", "web:2.0", "value: fast", `value: "on"`).Replace(deployment)
	if got := s.apply(p, "prod/web.yaml"); got != want {
		t.Errorf("got\n%s", got)
	}
	if len(p.Files) != 1 || len(p.Fields) != 3 {
		t.Errorf("%+v", p)
	}
}

func TestAFieldThatIsGoneGoesFromTheFile(t *testing.T) {
	s := newStage(t, map[string]string{"prod/web.yaml": deployment}, "prod")
	p, err := s.codify(web, change(".spec.replicas", nil))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.apply(p, "prod/web.yaml"); got != strings.Replace(deployment, "  replicas: 3   # enough for a sale\n", "", 1) {
		t.Errorf("got\n%s", got)
	}
}

func TestKustomizeChangesWhereTheValueComesFrom(t *testing.T) {
	base := map[string]string{
		"base/web.yaml":           deployment,
		"base/kustomization.yaml": "resources: [web.yaml]\n",
		"dev/kustomization.yaml":  "resources: [../base]\n",
	}
	with := func(prod string) map[string]string {
		out := map[string]string{"prod/kustomization.yaml": prod}
		for k, v := range base {
			out[k] = v
		}
		return out
	}
	for name, tt := range map[string]struct{ prod, want string }{
		"an image that the overlay sets": {
			"resources: [../base]\nimages: # pinned\n  - name: registry.example:5000/web\n    newTag: \"1.5\"\n",
			"resources: [../base]\nimages: # pinned\n  - name: registry.example:5000/web\n    newTag: \"2.0\"\n",
		},
		"an image that only the base sets": {
			"resources: [../base]\n",
			"resources: [../base]\nimages:\n  - name: registry.example:5000/web\n    newTag: \"2.0\"\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, with(tt.prod), "prod", "dev")
			p, err := s.codify(web, change(image, "registry.example:5000/web:2.0"))
			if err != nil {
				t.Fatal(err)
			}
			if got := s.apply(p, "prod/kustomization.yaml"); got != tt.want {
				t.Errorf("got\n%s", got)
			}
		})
	}
	t.Run("a patch", func(t *testing.T) {
		s := newStage(t, with("resources: [../base]\npatches:\n  - patch: |\n      {}\n    target: {kind: Nothing}\n  - path: more.yaml\n"), "prod", "dev")
		more := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec: {replicas: 4}\n"
		if err := os.WriteFile(filepath.Join(s.dir, "prod/more.yaml"), []byte(more), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := s.codify(web, change(".spec.replicas", 6))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.apply(p, "prod/more.yaml"); !strings.Contains(got, "spec: {replicas: 6}") {
			t.Errorf("got\n%s", got)
		}
	})
	t.Run("replicas that only the base sets", func(t *testing.T) {
		s := newStage(t, with("resources: [../base]\n"), "prod", "dev")
		p, err := s.codify(web, change(".spec.replicas", 6))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.apply(p, "prod/kustomization.yaml"); !strings.Contains(got, "replicas:\n  - name: web\n    count: 6\n") {
			t.Errorf("got\n%s", got)
		}
	})
}

func TestItRefusesWhatItCannotProve(t *testing.T) {
	secret := sources.ID{Kind: "Secret", Namespace: "shop", Name: "s"}
	config := sources.ID{Kind: "ConfigMap", Namespace: "shop", Name: "a"}
	s := newStage(t, map[string]string{
		"prod/web.yaml":  deployment,
		"prod/more.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\nstringData: {a: planted}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\ndata: {x: &v same, y: *v}\n",
	}, "prod")
	for name, tt := range map[string]struct {
		id     sources.ID
		change drift.Change
		want   string
	}{
		"a secret":             {secret, change(".data.a", "eA=="), "secrets are never written"},
		"a sensitive value":    {web, drift.Change{Path: ".spec.replicas", Live: drift.NewValue(3, true)}, "sensitive"},
		"a value that was cut": {web, change(".spec.replicas", strings.Repeat("x", 5000)), "too large"},
		"a missing object":     {web, drift.Change{Live: drift.Absent()}, "the object is gone"},
		"an object of others":  {sources.ID{Kind: "ConfigMap", Name: "zz"}, change(".data.a", "1"), "do not render to this object"},
		"a shared anchor":      {config, change(".data.x", "other"), "no single place"},
		"a list":               {web, change(".spec.template.spec.containers[name=web].args", []string{"a"}), "no single place"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := s.codify(tt.id, tt.change)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q; patch:\n%s", err, tt.want, p.Diff)
			}
			if raw, _ := json.Marshal(p); strings.Contains(string(raw), "planted") {
				t.Error("the patch holds a secret")
			}
		})
	}
}

func TestAValueOfManyObjectsIsNotMoved(t *testing.T) {
	s := newStage(t, map[string]string{
		"prod/web.yaml":           deployment,
		"prod/more.yaml":          "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\n",
		"prod/kustomization.yaml": "resources: [web.yaml, more.yaml]\ncommonAnnotations: {team: blue}\n",
	}, "prod")
	p, err := s.codify(web, change(".metadata.annotations.team", "red"))
	if err == nil || !strings.Contains(err.Error(), "would also change") {
		t.Errorf("%v; patch:\n%s", err, p.Diff)
	}
}

func TestAPatchShowsNoSecretOfItsSurroundings(t *testing.T) {
	secret := "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\nstringData:\n  password: planted-secret\n"
	config := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\ndata: {color: blue}\n"
	id := sources.ID{Kind: "ConfigMap", Namespace: "shop", Name: "a"}
	s := newStage(t, map[string]string{"prod/all.yaml": secret + "---\n" + config + "---\n" + strings.ReplaceAll(secret, "name: s,", "name: t,")}, "prod")
	p, err := s.codify(id, change(".data.color", "red"))
	if err != nil || strings.Contains(p.Diff, "planted") {
		t.Fatalf("%v:\n%s", err, p.Diff)
	}
	if got := s.apply(p, "prod/all.yaml"); !strings.Contains(got, "{color: red}") {
		t.Errorf("got\n%s", got)
	}
	s = newStage(t, map[string]string{
		"prod/web.yaml":           deployment,
		"prod/kustomization.yaml": "resources: [web.yaml]\nimages:\n  - name: registry.example:5000/web\n    newTag: \"1.5\"\nsecretGenerator:\n  - name: s\n    literals: [password=planted-secret]\n",
	}, "prod")
	if p, err := s.codify(web, change(image, "registry.example:5000/web:2.0")); err == nil || !strings.Contains(err.Error(), "hold secrets") {
		t.Errorf("%v:\n%s", err, p.Diff)
	}
}
