package daemon

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
	"github.com/holdfast-gitops/holdfast/sources/render"
)

// told is an engine that remembers what it was told.
type told struct {
	mu       sync.Mutex
	all      map[string]reconciler.Assignment
	removed  []string
	complete bool
}

func (e *told) Assign(_ context.Context, _ string, all []reconciler.Assignment, complete bool, _ reconciler.Trigger) {
	e.mu.Lock()
	defer e.mu.Unlock()
	next := map[string]reconciler.Assignment{}
	for _, a := range all {
		next[a.Spec.Name] = a
	}
	for name, a := range e.all {
		if _, still := next[name]; !still && complete {
			e.removed = append(e.removed, name)
		} else if !still {
			next[name] = a
		}
	}
	e.all, e.complete = next, complete
}

func (e *told) SourceState(string, error) {}

// state is one line for each environment, by name.
func (e *told) state() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(e.all)) {
		a := e.all[name]
		line := name + " " + a.Revision.Short()
		if a.Problem != nil {
			line = name + " problem: " + a.Problem.Error()
		}
		if len(a.Trouble) > 0 {
			line += " trouble: " + a.Trouble.Error()
		}
		if a.Problem == nil && a.Render != nil {
			items, err := a.Render(context.Background())
			for _, i := range items {
				line += fmt.Sprintf(" %s %s", i.ID, i.Body)
			}
			if err != nil {
				line += " render: " + err.Error()
			}
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// bench is a daemon's followers without an engine and targets.
type bench struct {
	*generation
	t    *testing.T
	told map[string]*told
}

func newBench(t *testing.T, all ...config.Source) *bench {
	t.Helper()
	b := &bench{t: t, told: map[string]*told{}, generation: &generation{
		config: config.Config{DataDir: t.TempDir(), Sources: all}, followers: map[string]*follower{},
	}}
	renderer := render.New(render.Options{})
	m := newMetrics(func() []reconciler.Status { return nil }, func() ledger.Stats { return ledger.Stats{} })
	for _, c := range all {
		c.Interval, c.Timeout, c.Environments = time.Hour, time.Minute, "environments"
		src, err := openSource(c, b.config.DataDir)
		if err != nil {
			t.Fatal(err)
		}
		f := b.follower(c, src, renderer, m, zerolog.Nop())
		f.assignment = func(l *lease, spec environment.Spec) reconciler.Assignment {
			return reconciler.Assignment{Spec: spec, Revision: l.snap.Revision, Render: func(ctx context.Context) ([]sources.Item, error) {
				return f.render(ctx, l, spec)
			}}
		}
		f.render = func(ctx context.Context, l *lease, spec environment.Spec) ([]sources.Item, error) {
			req := render.For(spec)
			req.Tree = l.snap.Tree
			out, err := renderer.Render(ctx, req)
			return out.Items, err
		}
		b.told[c.Name] = &told{}
		f.engine = b.told[c.Name]
		b.followers[c.Name] = f
		t.Cleanup(f.release)
	}
	return b
}

// after asks a source now and says what its environments are.
func (b *bench) after(source string) string {
	b.t.Helper()
	_ = b.refresh(b.t.Context(), source)
	return b.told[source].state()
}

func same(t *testing.T, want, got string) {
	t.Helper()
	if diff := cmp.Diff(strings.TrimSpace(want), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func configMap(name, value string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '" + name + "'}\ndata: {a: \"" + value + "\"}\n"
}

const head = "apiVersion: holdfast.dev/v1alpha1\nkind: Environment\nmetadata: {name: "

// at is a revision as state prints it.
func at(ref, commit string) string { return ref + "@" + commit[:7] }

func TestFilesComeFromAnotherSourceAndRef(t *testing.T) {
	server := gitserver.Start(t)
	specs, manifests := server.Repo(t, "specs"), server.Repo(t, "manifests")
	specs.Commit(t, map[string]string{
		"environments/head.yaml":   head + "head}\nspec: {source: {name: manifests}, path: app}\n",
		"environments/tagged.yaml": head + "tagged}\nspec: {source: {name: manifests, ref: v1}, path: app}\n",
		"environments/secret.yaml": head + "secret}\nspec: {source: {name: private}}\n",
		"environments/typo.yaml":   head + "typo}\nspec: {source: {name: manifest}}\n",
	})
	first := manifests.Commit(t, map[string]string{"app/cm.yaml": configMap("x", "one")})
	manifests.Tag(t, "v1", first, "")
	b := newBench(t,
		config.Source{Name: "specs", URL: specs.URL, Ref: "main"},
		config.Source{Name: "manifests", URL: manifests.URL, Ref: "main", SharedWith: []string{"specs"}},
		config.Source{Name: "private", URL: manifests.URL, Ref: "main"},
	)
	if err := b.refresh(t.Context(), "manifests"); err != nil {
		t.Fatal(err)
	}
	body := func(value string) string {
		return ` ConfigMap/x {"apiVersion":"v1","data":{"a":"` + value + `"},"kind":"ConfigMap","metadata":{"name":"x"}}`
	}
	refused := "\nsecret problem: source private: source \"private\" is not shared with source \"specs\" (write sharedWith: [specs] at it in the daemon's configuration)"
	unknown := "\ntypo problem: source manifest: there is no source \"manifest\" in the daemon's configuration (there are: manifests, private, specs)"
	same(t, "head "+at("main", first)+body("one")+refused+"\ntagged "+at("v1", first)+body("one")+unknown, b.after("specs"))

	second := manifests.Commit(t, map[string]string{"app/cm.yaml": configMap("x", "two")})
	if err := b.refresh(t.Context(), "manifests"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-b.followers["specs"].changed:
	default:
		t.Error("a change of the files' source does not make the specs' follower look")
	}
	after := "head " + at("main", second) + body("two") + refused + "\ntagged " + at("v1", first) + body("one") + unknown
	same(t, after, b.after("specs"))

	older, err := b.at(t.Context(), "specs", "head", first)
	if err != nil || older.Revision.ID != first || older.Spec.Name != "head" {
		t.Errorf("the files at an older revision: %+v, %v", older, err)
	} else if items, err := older.Render(t.Context()); err != nil || !strings.Contains(string(items[0].Body), `"one"`) {
		t.Errorf("rendered: %v, %v", items, err)
	}

	manifests.Tag(t, "v1", second, "")
	after = strings.Replace(after, "tagged "+at("v1", first)+body("one"), "tagged "+at("v1", second)+body("two"), 1)
	same(t, after, b.after("specs"))

	manifests.Git(t, "", "tag", "-d", "v1")
	got := b.after("specs")
	if !strings.Contains(got, "tagged "+at("v1", second)+" trouble: source manifests at v1: ") || !strings.Contains(got, body("two")+unknown) {
		t.Errorf("a ref that is gone: %s", got)
	}
}

func TestPreviewsFollowBranches(t *testing.T) {
	server := gitserver.Start(t)
	repo := server.Repo(t, "shop")
	base := repo.Commit(t, map[string]string{
		"environments/preview.yaml": head + "shop}\nspec:\n  path: app\n  preview: {branches: ['feature/*'], max: 2, lifetime: 30m}\n  namespace: shop-${branchSlug}\n",
		"app/cm.yaml":               configMap("${branchSlug}", "${commit}"),
	})
	b := newBench(t, config.Source{Name: "shop", URL: repo.URL, Ref: "main"})
	f, e := b.followers["shop"], b.told["shop"]
	f.now = func() time.Time { return time.Date(2026, 1, 1, 0, 10, 0, 0, time.UTC) }
	same(t, "", b.after("shop"))

	one := repo.CommitTo(t, "refs/heads/feature/one", base, map[string]string{"x": "1"})
	got := b.after("shop")
	name := "shop-feature-one-"
	if !strings.HasPrefix(got, name) || !strings.Contains(got, at("feature/one", one)) || !strings.Contains(got, `"a":"`+one+`"`) || !strings.Contains(got, `"namespace":"shop-feature-one-`) {
		t.Errorf("a new branch: %s", got)
	}
	requests := len(server.Requests())
	if again := b.after("shop"); again != got {
		t.Errorf("nothing moved, and %s became %s", got, again)
	}
	if more := len(server.Requests()) - requests; more != 1 {
		t.Errorf("nothing moved, and it took %d requests", more)
	}

	two := repo.CommitTo(t, "refs/heads/feature/one", one, map[string]string{"x": "2"})
	if got := b.after("shop"); !strings.Contains(got, at("feature/one", two)) || strings.Count(got, "\n") != 0 {
		t.Errorf("a push: %s", got)
	}
	repo.CommitTo(t, "refs/heads/feature/two", base, map[string]string{"x": "3"})
	repo.CommitTo(t, "refs/heads/feature/three", base, map[string]string{"x": "4"})
	if got := b.after("shop"); strings.Contains(got, "feature-one") || strings.Count(got, "\n") != 1 {
		t.Errorf("the newest two of three: %s", got)
	}
	repo.CommitTo(t, "refs/heads/feature/three", base, map[string]string{"app/out.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: out, namespace: prod}\n"})
	if got := b.after("shop"); !strings.Contains(got, "app/out.yaml:1: ConfigMap/prod/out: is outside of namespace shop-feature-three-") {
		t.Errorf("a branch that reaches for another namespace: %s", got)
	}
	e.removed = nil
	repo.DeleteRef(t, "refs/heads/feature/two")
	if got := b.after("shop"); !strings.Contains(got, "feature-one") || len(e.removed) != 1 || !strings.HasPrefix(e.removed[0], "shop-feature-two-") {
		t.Errorf("a deleted branch: %s, removed %v", got, e.removed)
	}
	f.now = func() time.Time { return time.Date(2026, 1, 1, 1, 0, 0, 0, time.UTC) }
	if got := b.after("shop"); got != "" {
		t.Errorf("after their lifetime: %s", got)
	}
}

func TestAListingThatFailsRemovesNoPreview(t *testing.T) {
	server := gitserver.Start(t)
	specs, app := server.Repo(t, "specs"), server.Repo(t, "app")
	specs.Commit(t, map[string]string{
		"environments/p.yaml": head + "p}\nspec: {source: {name: app}, namespace: p, preview: {branches: ['*'], lifetime: 1000000h}}\n",
	})
	commit := app.Commit(t, map[string]string{"cm.yaml": configMap("x", "1")})
	b := newBench(t,
		config.Source{Name: "specs", URL: specs.URL, Ref: "main"},
		config.Source{Name: "app", URL: app.URL, Ref: "main", SharedWith: []string{"*"}},
	)
	before := b.after("specs")
	if !strings.HasPrefix(before, "p-main "+at("main", commit)) {
		t.Fatalf("%s", before)
	}
	server.SetFault(func(w http.ResponseWriter, r *http.Request, git http.Handler) {
		if strings.Contains(r.URL.Path, "/app.git/") {
			gitserver.Status(http.StatusInternalServerError)(w, r, git)
			return
		}
		git.ServeHTTP(w, r)
	})
	specs.Commit(t, map[string]string{"unrelated": "x"})
	if got := b.after("specs"); got != before || b.told["specs"].complete || len(b.told["specs"].removed) > 0 {
		t.Errorf("%s\nbecame %s, complete %v, removed %v", before, got, b.told["specs"].complete, b.told["specs"].removed)
	}
	err := b.followers["specs"].standing
	if err == nil || !strings.Contains(err.Error(), "the branches for previews of p are not known") {
		t.Errorf("told: %v", err)
	}
}
