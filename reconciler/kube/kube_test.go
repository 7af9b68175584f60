package kube

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

const shop = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: NS, labels: {app: shop}, annotations: {note: hello}}
data: {color: blue, size: "7"}
---
apiVersion: v1
kind: Secret
metadata: {name: token, namespace: NS}
stringData: {token: s3cret-sentinel}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: NS}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: admin, port: 81}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: NS}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: web:1
        command: [serve, --fast]
        env: [{name: A, value: "1"}, {name: B, value: "2"}]
        resources: {limits: {cpu: 1000m, memory: 1Gi}}
        ports: [{containerPort: 8080}]
`

func TestApplyThenNothingCostsNoRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	first := w.run(items)
	if first.kinds() != "create 4" || first.errors() != "" {
		t.Fatalf("first run: %s; errors %s", first.kinds(), first.errors())
	}
	live := w.get(cms, "settings")
	owner := kubelive.NewOwner(w.name, w.namespace)
	if live.GetLabels()[kubelive.LabelEnvironment] != w.name || live.GetLabels()[kubelive.LabelPartOf] != owner.ID {
		t.Errorf("labels %v do not say who owns it", live.GetLabels())
	}
	parent := w.get(cms, kubelive.ParentName(w.name))
	if got := parent.GetAnnotations()[kubelive.AnnotationKinds]; got != "ConfigMap,Deployment.apps,Secret,Service" {
		t.Errorf("the parent names the kinds %q", got)
	}
	before := w.sent.Load()
	if again := w.run(items); again.kinds() != "unchanged 4" {
		t.Errorf("second run: %s", again.kinds())
	}
	if sent := w.sent.Load() - before; sent != 0 {
		t.Errorf("a run without changes sent %d requests, want none", sent)
	}
}

func TestForeignChangesAreCorrectedAndExplained(t *testing.T) {
	t.Parallel()
	const edit = types.MergePatchType
	for _, c := range []struct {
		name    string
		change  func(*world)
		object  string
		class   drift.Class
		path    string
		values  string
		manager string
	}{
		{"a ConfigMap value", func(w *world) {
			w.patch(cms, "settings", "kubectl-edit", edit, `{"data":{"color":"red"}}`)
		}, "settings", drift.Changed, ".data.color", `"blue" <- "red"`, "kubectl-edit"},
		{"a removed ConfigMap key", func(w *world) {
			w.patch(cms, "settings", "kubectl-edit", edit, `{"data":{"color":null}}`)
		}, "settings", drift.Changed, ".data.color", `"blue" <- (absent)`, drift.Unknown},
		{"replicas", func(w *world) {
			w.patch(deploys, "web", "kubectl-scale", edit, `{"spec":{"replicas":5}}`)
		}, "web", drift.Changed, ".spec.replicas", `2 <- 5`, "kubectl-scale"},
		{"an image", func(w *world) {
			w.patch(deploys, "web", "kubectl-set", types.StrategicMergePatchType, `{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"web:2"}]}}}}`)
		}, "web", drift.Changed, ".spec.template.spec.containers[name=web].image", `"web:1" <- "web:2"`, "kubectl-set"},
		{"an apply under another name", func(w *world) {
			w.patch(cms, "settings", "flux", types.ApplyPatchType, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings"},"data":{"size":"9"}}`)
		}, "settings", drift.Changed, ".data.size", `"7" <- "9"`, "flux"},
		{"our label removed", func(w *world) {
			w.patch(cms, "settings", "kubectl-label", edit, `{"metadata":{"labels":{"holdfast.dev/environment":null}}}`)
		}, "settings", drift.Changed, `.metadata.labels["holdfast.dev/environment"]`, "", drift.Unknown},
		{"our label changed", func(w *world) {
			w.patch(cms, "settings", "kubectl-label", edit, `{"metadata":{"labels":{"holdfast.dev/environment":"other"}}}`)
		}, "settings", drift.Changed, `.metadata.labels["holdfast.dev/environment"]`, "", "kubectl-label"},
		{"the object deleted", func(w *world) {
			if err := w.objects.Resource(cms).Namespace(w.namespace).Delete(context.Background(), "settings", metav1.DeleteOptions{}); err != nil {
				w.t.Fatal(err)
			}
		}, "settings", drift.Missing, "", `"present" <- (absent)`, drift.Unknown},
		{"env reordered", func(w *world) {
			w.patch(deploys, "web", "kubectl-edit", types.JSONPatchType, `[{"op":"replace","path":"/spec/template/spec/containers/0/env","value":[{"name":"B","value":"2"},{"name":"A","value":"1"}]}]`)
		}, "web", drift.Changed, ".spec.template.spec.containers[name=web].env", `["name=A","name=B"] <- ["name=B","name=A"]`, drift.Unknown},
		{"changed and back", func(w *world) {
			w.patch(deploys, "web", "kubectl-scale", edit, `{"spec":{"replicas":5}}`)
			w.patch(deploys, "web", "kubectl-scale", edit, `{"spec":{"replicas":2}}`)
		}, "web", drift.NotOwned, "", "", ""},
		{"managedFields cleared", func(w *world) {
			w.patch(cms, "settings", "kubectl-edit", types.JSONPatchType, `[{"op":"replace","path":"/metadata/managedFields","value":[{}]},{"op":"replace","path":"/data/color","value":"red"}]`)
		}, "settings", drift.Changed, ".data.color", `"blue" <- "red"`, drift.Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			items := w.items(shop)
			w.run(items)
			c.change(w)
			got := w.correct(items, c.object)
			if got.Err != nil || got.Class != c.class {
				t.Fatalf("class %q, error %v; want %q; changes %+v", got.Class, got.Err, c.class, got.Changes)
			}
			w.expectChange(got.Changes, c.path, c.values, c.manager)
			w.expectClean(items)
		})
	}
}

func (w *world) expectChange(changes []drift.Change, path, values, manager string) {
	w.t.Helper()
	if manager == "" {
		return
	}
	for _, ch := range changes {
		said := ch.Desired.String() + " <- " + ch.Live.String()
		if ch.Path == path && (values == "" || said == values) && ch.Manager == manager {
			return
		}
	}
	w.t.Errorf("changes %+v\nlack %s: %s by %s", changes, path, values, manager)
}

// expectClean checks that nothing is left to do, by index and by dry run.
func (w *world) expectClean(items []sources.Item) {
	w.t.Helper()
	if got := w.run(items).kinds(); got != "unchanged 4" {
		w.t.Errorf("afterwards: %s", got)
	}
	if got := w.run(items, func(s *reconciler.Scope) { s.Verify = true }).kinds(); got != "unchanged 4" {
		w.t.Errorf("verified afterwards: %s", got)
	}
}

func TestForeignAdditionsAreLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	w.run(items)
	w.patch(cms, "settings", "flags", types.MergePatchType, `{"data":{"extra":"theirs"},"metadata":{"annotations":{"their":"note"}}}`)
	<-w.hints
	if got := w.run(items); got.kinds() != "unchanged 4" {
		t.Errorf("an addition by others: %s", got.kinds())
	}
	if got, _, _ := unstructured.NestedString(w.get(cms, "settings").Object, "data", "extra"); got != "theirs" {
		t.Error("the addition is gone")
	}
}

func TestReportModeExplainsAndWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	w.run(items)
	w.patch(cms, "settings", "kubectl-edit", types.MergePatchType, `{"data":{"color":"red"}}`)
	<-w.hints
	got := w.run(items, func(s *reconciler.Scope) { s.ReadOnly = true })
	if got.kinds() != "correct 1, unchanged 3" || len(got.done) != 0 {
		t.Fatalf("report: %s, %d done", got.kinds(), len(got.done))
	}
	for _, op := range got.plan.Operations {
		if op.Kind == reconciler.OpCorrect {
			w.expectChange(op.Changes, ".data.color", `"blue" <- "red"`, "kubectl-edit")
		}
	}
	if got, _, _ := unstructured.NestedString(w.get(cms, "settings").Object, "data", "color"); got != "red" {
		t.Error("report mode wrote")
	}
}

func TestPruneDeletesOnlyWhatIsProvenOurs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	w.run(items)
	copied := w.get(cms, "settings")
	copied.SetName("copied")
	copied.SetResourceVersion("")
	copied.SetUID("")
	copied.SetManagedFields(nil)
	if _, err := w.objects.Resource(cms).Namespace(w.namespace).Create(context.Background(), copied, metav1.CreateOptions{FieldManager: "kubectl"}); err != nil {
		t.Fatal(err)
	}
	w.patch(cms, "kube-root-ca.crt-like", "someone", types.ApplyPatchType, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"kube-root-ca.crt-like"}}`)
	rest := items[:0:0]
	for _, i := range items {
		if i.ID.Kind != "ConfigMap" {
			rest = append(rest, i)
		}
	}
	got := w.run(rest)
	if got.kinds() != "delete 1, unchanged 3" || got.errors() != "" {
		t.Errorf("%s; errors %s", got.kinds(), got.errors())
	}
	if w.exists(cms, "settings") || !w.exists(cms, "copied") || !w.exists(cms, "kube-root-ca.crt-like") {
		t.Error("want settings deleted, and the copy and the stranger kept")
	}
}

func TestForeignObjectOfTheSameNameIsAConflictUntilAdopted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.patch(cms, "settings", "kubectl", types.ApplyPatchType, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings"},"data":{"color":"green","theirs":"stays"}}`)
	items := w.items(shop)
	got := w.run(items)
	if got.kinds() != "conflict 1, create 3" || !strings.Contains(got.errors(), "ConfigMap/"+w.namespace+"/settings: exists and is not ours; it was written by kubectl") ||
		!strings.Contains(got.errors(), "test.yaml:2:") {
		t.Errorf("%s; errors %s", got.kinds(), got.errors())
	}
	if gone := w.run(items[:0:0]); strings.Contains(gone.kinds(), "4") || !w.exists(cms, "settings") {
		t.Errorf("leaving git: %s; the foreign object must stay", gone.kinds())
	}
	got = w.run(items, func(s *reconciler.Scope) { s.AdoptFrom = []string{"kubectl"} })
	if !strings.Contains(got.kinds(), "adopt 1") || got.errors() != "" {
		t.Errorf("adopting: %s; errors %s", got.kinds(), got.errors())
	}
	data, _, _ := unstructured.NestedStringMap(w.get(cms, "settings").Object, "data")
	if data["color"] != "blue" || data["theirs"] != "stays" {
		t.Errorf("adopted with %v", data)
	}
}

func TestCopyOfOurLabelsIsNotTakenOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	w.run(items[1:])
	owner := kubelive.NewOwner(w.name, w.namespace)
	w.patch(cms, "settings", "kubectl", types.ApplyPatchType, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings","labels":{"holdfast.dev/environment":"`+w.name+`","applyset.kubernetes.io/part-of":"`+owner.ID+`"}},"data":{"color":"theirs"}}`)
	got := w.run(items)
	if got.kinds() != "conflict 1, unchanged 3" || !strings.Contains(got.errors(), "was not applied by it: it is a copy") {
		t.Errorf("%s; errors %s", got.kinds(), got.errors())
	}
	if got, _, _ := unstructured.NestedString(w.get(cms, "settings").Object, "data", "color"); got != "theirs" {
		t.Error("the copy was taken over")
	}
}

func TestParentIsWrittenBeforeAnythingElseEvenAfterAFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	deny := func(r *http.Request) error {
		if r.Method == http.MethodPatch && strings.Contains(r.URL.Path, kubelive.ParentName(w.name)) {
			return errors.New("not now")
		}
		return nil
	}
	w.allow.Store(&deny)
	for range 2 {
		if _, err := w.try(context.Background(), items); err == nil || w.exists(cms, "settings") {
			t.Fatalf("applied without a parent: %v", err)
		}
	}
	w.allow.Store(nil)
	if got := w.run(items); got.errors() != "" || !w.exists(cms, kubelive.ParentName(w.name)) {
		t.Errorf("afterwards: %s", got.errors())
	}
}

func TestEnvironmentOfAnotherSourceIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	from := func(source string) func(*reconciler.Scope) {
		return func(s *reconciler.Scope) { s.Source = source }
	}
	w.run(items, from("shop"))
	w.restart()
	if _, err := w.try(context.Background(), items[1:], from("copy")); err == nil || !strings.Contains(err.Error(), `belongs to source "shop"`) {
		t.Errorf("got %v", err)
	}
	if !w.exists(cms, "settings") {
		t.Error("the other source's run deleted")
	}
}

func TestRemovedKindEndsItsWatchAndHoldsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items, others := w.items(widgets), w.items(shop)
	w.run(append(items, others...))
	crds := deploys
	crds.Group, crds.Resource = "apiextensions.k8s.io", "customresourcedefinitions"
	if err := w.objects.Resource(crds).Delete(context.Background(), items[0].ID.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(time.Minute)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := w.try(context.Background(), others)
		if err == nil && got.errors() == "" && strings.HasPrefix(got.kinds(), "unchanged 4") {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("after its kind was removed: %v, %s, errors %s", err, got.kinds(), got.errors())
		case <-tick.C:
		}
	}
}

func TestTwoEnvironmentsCannotHaveOneObject(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	w.run(items)
	first := w.name
	w.name += "-b"
	got := w.run(items, func(s *reconciler.Scope) { s.AdoptFrom = []string{"*"} })
	if got.kinds() != "conflict 4" || !strings.Contains(got.errors(), `belongs to environment "`+first+`"`) {
		t.Errorf("%s; errors %s", got.kinds(), got.errors())
	}
}

func TestRestartLooksOnlyAtWhatMoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	w.run(items)
	w.stop()
	w.patch(cms, "settings", "kubectl-edit", types.MergePatchType, `{"data":{"color":"red"}}`)
	w.start()
	got := w.run(items)
	if got.kinds() != "correct 1, unchanged 3" || got.errors() != "" {
		t.Fatalf("after the restart: %s; errors %s", got.kinds(), got.errors())
	}
	w.expectChange(got.done["ConfigMap/"+w.namespace+"/settings"].Changes, ".data.color", `"blue" <- "red"`, "kubectl-edit")
	w.expectClean(items)
}

func TestLostBaselinesCostALookAndChangeNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	w.run(items)
	version := w.get(deploys, "web").GetGeneration()
	w.stop()
	w.dir = t.TempDir()
	w.start()
	got := w.run(items)
	for _, o := range got.done {
		if !o.Noop {
			t.Errorf("%s was written: %+v", o.Operation.Object, o)
		}
	}
	if w.get(deploys, "web").GetGeneration() != version {
		t.Error("the Deployment was changed")
	}
	if got := w.run(items); got.kinds() != "unchanged 4" {
		t.Errorf("afterwards: %s", got.kinds())
	}
}

func TestMissingParentIsRebuiltBeforePruning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	w.run(items)
	w.stop()
	w.dir = t.TempDir()
	if err := w.objects.Resource(cms).Namespace(w.namespace).Delete(context.Background(), kubelive.ParentName(w.name), metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.start()
	got := w.run(items[:1]) // all kinds but the first left git
	if deleted := strings.Count(got.kinds(), "delete 3"); deleted != 1 || got.errors() != "" {
		t.Errorf("%s; errors %s", got.kinds(), got.errors())
	}
}

func TestUnreadableKindStopsPruningAndNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	w.run(items)
	w.stop()
	deny := func(r *http.Request) error {
		if strings.Contains(r.URL.Path, "/secrets") {
			return errors.New("secrets are not to be had")
		}
		return nil
	}
	w.allow.Store(&deny)
	w.start()
	rest := items[:0:0]
	for _, i := range items {
		if i.ID.Kind != "ConfigMap" {
			rest = append(rest, i)
		}
	}
	got := w.run(rest)
	if got.kinds() != "delete 1, unchanged 2, unknown 1" || len(got.plan.Active()) != 0 || !w.exists(cms, "settings") {
		t.Errorf("%s, active %v", got.kinds(), got.plan.Active())
	}
}

const widgets = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.NS.example.com}
spec:
  group: NS.example.com
  names: {kind: Widget, plural: widgets}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}
---
apiVersion: NS.example.com/v1
kind: Widget
metadata: {name: a, namespace: NS}
spec: {size: 3}
`

func TestKindAndItsObjectsArriveInOneRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(widgets)
	got := w.run(items)
	if got.kinds() != "create 2" || got.errors() != "" {
		t.Fatalf("%s; errors %s", got.kinds(), got.errors())
	}
	if got := w.run(items); got.kinds() != "unchanged 2" {
		t.Errorf("second run: %s", got.kinds())
	}
	crds := deploys
	crds.Group, crds.Resource = "apiextensions.k8s.io", "customresourcedefinitions"
	t.Cleanup(func() {
		_ = w.objects.Resource(crds).Delete(context.Background(), "widgets."+w.namespace+".example.com", metav1.DeleteOptions{})
	})
}

func TestOneBadObjectDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop + `
---
apiVersion: v1
kind: ConfigMap
metadata: {name: lost, namespace: nowhere-to-be-found}
---
apiVersion: nobody.example.com/v1
kind: Nothing
metadata: {name: x, namespace: NS}
---
apiVersion: v1
kind: Service
metadata: {name: bad, namespace: NS}
spec: {ports: [{port: 700000}]}
`)
	got := w.run(items)
	for _, want := range []string{
		"test.yaml:37: ConfigMap/nowhere-to-be-found/lost:",
		"set createNamespace: true",
		"test.yaml:41: Nothing.nobody.example.com/" + w.namespace + "/x: the cluster does not serve kind Nothing.nobody.example.com in version v1",
		"test.yaml:45: Service/" + w.namespace + "/bad:",
	} {
		if !strings.Contains(got.errors(), want) {
			t.Errorf("errors lack %q:\n%s", want, got.errors())
		}
	}
	if !w.exists(deploys, "web") || !w.exists(cms, "settings") {
		t.Error("the good objects were not applied")
	}
}

func TestNothingIsDeletedWhileItsSuccessorFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	w.run(items)
	renamed := append(items[1:len(items):len(items)], w.items("apiVersion: v1\nkind: Service\nmetadata: {name: settings2, namespace: NS}\nspec: {ports: [{port: 700000}]}\n")...)
	got := w.run(renamed)
	if o := got.done["ConfigMap/"+w.namespace+"/settings"]; o.Deferred == "" || !w.exists(cms, "settings") {
		t.Errorf("outcome %+v; want the deletion deferred", o)
	}
	if got := w.run(items[1:]); got.kinds() != "delete 1, unchanged 3" || w.exists(cms, "settings") {
		t.Errorf("mended: %s", got.kinds())
	}
}

func TestRunCutAtAnyRequestConverges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old, next := w.items(shop), w.items(strings.ReplaceAll(shop, "blue", "green"))
	w.run(old)
	// A run of this size sends about a dozen requests; the exhaustive test cuts
	// at each of them and beyond.
	last, step := int64(12), int64(3)
	if os.Getenv("HOLDFAST_LONG") != "" {
		last, step = 25, 1
	}
	for n := int64(0); n < last; n += step {
		left := n
		cut := func(r *http.Request) error {
			if r.Method == http.MethodGet && r.URL.Query().Get("watch") != "" {
				return nil
			}
			if left--; left < 0 {
				return errors.New("killed")
			}
			return nil
		}
		guarded := guard(cut)
		w.allow.Store(&guarded)
		_, _ = w.try(context.Background(), next[1:]) // drops the ConfigMap, which is an error half of the time
		w.allow.Store(nil)
		w.restart()
		if got := w.run(next); got.errors() != "" {
			t.Fatalf("cut at %d, then: %s", n, got.errors())
		}
		w.expectClean(next)
		old, next = next, old
	}
}
