package kube

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

const keyed = `
apiVersion: v1
kind: ConfigMap
metadata: {name: keyed, namespace: NS, labels: {kept: "1"DROPPED}}
data: {stays: hereKEYS}
`

// Who owns a key is in managedFields alone. Where these are cleared, or our entry
// is taken out of them, in the moment in which git drops keys, what was applied
// before says which keys were ours.
func TestKeysThatLeaveGitWhileManagedFieldsAreClearedGo(t *testing.T) {
	t.Parallel()
	for name, clear := range map[string]func(w *world){
		"cleared": func(w *world) {
			w.patch(cms, "keyed", "kubectl-edit", types.MergePatchType, `{"metadata":{"managedFields":[{}]}}`)
		},
		"our entry taken out": func(w *world) {
			live := w.get(cms, "keyed")
			others := slices.DeleteFunc(live.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool { return strings.HasPrefix(e.Manager, "holdfast:") })
			text, err := json.Marshal(others)
			if err != nil {
				t.Fatal(err)
			}
			w.patch(cms, "keyed", "kubectl-edit", types.MergePatchType, `{"metadata":{"managedFields":`+string(text)+`}}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.run(w.items(strings.NewReplacer("DROPPED", `, dropped: "1"`, "KEYS", ", goes: away").Replace(keyed)))
			w.patch(cms, "keyed", "somebody", types.MergePatchType, `{"data":{"theirs":"stays"}}`)
			items := w.items(strings.NewReplacer("DROPPED", "", "KEYS", "").Replace(keyed))
			clear(w)
			if name != "cleared" {
				// Nothing in the answer to an apply tells of this; the watch does.
				w.eventually("the watch has told", func() bool { return !w.target.cluster.Index.Look(items[0].ID).Live.OwnsPartOf })
			}
			if got := w.run(items, func(s *reconciler.Scope) { s.Partial = true }); got.errors() != "" {
				t.Fatal(got.errors())
			}
			live := w.get(cms, "keyed")
			if w.value(cms, "keyed", "data", "goes") != "" || live.GetLabels()["dropped"] != "" {
				t.Errorf("what left git is there: %v, labels %v", live.Object["data"], live.GetLabels())
			}
			if w.value(cms, "keyed", "data", "theirs") != "stays" || w.value(cms, "keyed", "data", "stays") != "here" || live.GetLabels()["kept"] != "1" {
				t.Errorf("what is theirs or wanted went: %v", live.Object["data"])
			}
			if kubelive.HasEntry(live, placeholderManager) || !kubelive.ProvenOurs(live, w.target.owner(w.name)) {
				t.Errorf("owners: %+v", live.GetManagedFields())
			}
			w.eventually("it is clean", func() bool { return w.run(items).kinds() == "unchanged 1" })
		})
	}
}

// What has taken the name of a hook that ran is not ours to delete.
func TestAHookThatWasReplacedIsNotCleanedUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hook := `
apiVersion: v1
kind: ConfigMap
metadata: {name: hook, namespace: NS, annotations: {holdfast.dev/hook: after, holdfast.dev/hook-delete: succeeded}}
data: {by: us}
`
	items := w.items(hook)
	a := &application{t: w.target, done: func(reconciler.Outcome) {}}
	out := w.run(items, revision("r1"))
	if out.errors() != "" || w.exists(cms, "hook") {
		t.Fatalf("want it run and deleted: %s; there %v", out.errors(), w.exists(cms, "hook"))
	}
	var err error
	if a.w, err = w.target.writer(w.name); err != nil {
		t.Fatal(err)
	}
	r, err := w.target.cluster.Mapper.Resource(kubelive.GroupKind(items[0].ID))
	if err != nil {
		t.Fatal(err)
	}
	op := reconciler.Operation{Object: items[0].ID, Item: items[0], Digest: "d", Kind: reconciler.OpHook}
	n := note{resource: r, plain: "d"}
	if err := a.startHook(context.Background(), op, &n); err != nil {
		t.Fatal(err)
	}
	if err := w.objects.Resource(cms).Namespace(w.namespace).Delete(context.Background(), "hook", deleteNow); err != nil {
		t.Fatal(err)
	}
	w.foreign("hook", map[string]any{"by": "others"})
	if err := a.waitHook(context.Background(), op, n); err == nil || !strings.Contains(err.Error(), "replaced by another") {
		t.Errorf("the hook's end: %v", err)
	}
	a.dropHook(context.Background(), op, n)
	if !w.exists(cms, "hook") || w.value(cms, "hook", "data", "by") != "others" {
		t.Error("another's object of the hook's name was deleted")
	}
	// Nor is it cleared for the next run.
	live := w.get(cms, "hook")
	if err := a.clearHook(context.Background(), op, n, live); err == nil || !w.exists(cms, "hook") {
		t.Errorf("cleared: %v", err)
	}
	n.ran = live.GetUID()
	if a.dropHook(context.Background(), op, n); !w.exists(cms, "hook") {
		t.Error("an object that is not proven ours was deleted")
	}
}
