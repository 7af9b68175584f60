package kube

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

const guarded = `
apiVersion: v1
kind: ConfigMap
metadata: {name: guarded, namespace: NS, finalizers: [example.com/ours], labels: {app: x}}
data: {color: blue}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: pods, namespace: NS}
spec:
  replicas: 0
  selector: {matchLabels: {a: b}}
  template:
    metadata: {labels: {a: b}}
    spec:
      initContainers: [{name: one, image: i}, {name: two, image: i}]
      containers: [{name: c, image: i}]
`

// What a digest over owned fields does not tell, or tells wrongly, each by itself:
// found where it is drift, left where it is none.
func TestWhatOwnedFieldsDoNotTell(t *testing.T) {
	t.Parallel()
	const merge = types.MergePatchType
	for _, c := range []struct {
		name   string
		change func(*world)
		object string
		// path is what is to be found; none where it is no drift.
		path, manager string
	}{
		{"initContainers reordered", func(w *world) {
			w.patch(deploys, "pods", "hand", types.JSONPatchType, `[{"op":"move","from":"/spec/template/spec/initContainers/0","path":"/spec/template/spec/initContainers/1"}]`)
		}, "pods", ".spec.template.spec.initContainers", drift.Unknown},
		{"our finalizer removed", func(w *world) {
			w.patch(cms, "guarded", "hand", merge, `{"metadata":{"finalizers":null}}`)
		}, "guarded", ".metadata.finalizers", drift.Unknown},
		{"a finalizer of others", func(w *world) {
			w.patch(cms, "guarded", "hand", merge, `{"metadata":{"finalizers":["example.com/ours","example.com/theirs"]}}`)
		}, "guarded", "", ""},
		{"an owner of others", func(w *world) {
			w.patch(cms, "guarded", "hand", merge, `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"kube-root-ca.crt","uid":"`+w.accountUID()+`"}]}}`)
		}, "guarded", "", ""},
		{"an apply under our name with the same fields", func(w *world) {
			w.applyAsUs("guarded", func(o map[string]any) { o["data"] = map[string]any{"color": "red"} })
		}, "guarded", ".data.color", ""},
		{"an apply under our name that drops a field", func(w *world) {
			w.applyAsUs("guarded", func(o map[string]any) { delete(o, "data") })
		}, "guarded", ".data", drift.Unknown},
		{"managedFields written back by hand", func(w *world) {
			before := w.get(cms, "guarded").GetManagedFields()
			w.patch(cms, "guarded", "hand", merge, `{"data":{"color":"red"}}`)
			text, err := json.Marshal(before)
			if err != nil {
				w.t.Fatal(err)
			}
			w.patch(cms, "guarded", "hand", merge, `{"metadata":{"managedFields":`+string(text)+`}}`)
		}, "guarded", ".data.color", ""},
		{"changed, back, and changed again", func(w *world) {
			for _, n := range []string{"5", "0", "7"} {
				w.patch(deploys, "pods", "hand", merge, `{"spec":{"replicas":`+n+`}}`)
			}
		}, "pods", ".spec.replicas", "hand"},
		{"the scale subresource", func(w *world) {
			_, err := w.objects.Resource(deploys).Namespace(w.namespace).Patch(context.Background(), "pods", merge, []byte(`{"spec":{"replicas":3}}`), metav1.PatchOptions{FieldManager: "hand"}, "scale")
			if err != nil {
				w.t.Fatal(err)
			}
		}, "pods", ".spec.replicas", "hand"},
		{"the status subresource", func(w *world) {
			_, err := w.objects.Resource(deploys).Namespace(w.namespace).Patch(context.Background(), "pods", merge, []byte(`{"status":{"collisionCount":3}}`), metav1.PatchOptions{FieldManager: "hand"}, "status")
			if err != nil {
				w.t.Fatal(err)
			}
		}, "pods", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			items := w.items(guarded)
			if got := w.run(items); got.errors() != "" {
				t.Fatal(got.errors())
			}
			t.Cleanup(func() { w.patch(cms, "guarded", "end", merge, `{"metadata":{"finalizers":null}}`) })
			// The Deployment's controller writes an annotation once, soon after.
			w.eventually("the controller has done its part", func() bool {
				return w.get(deploys, "pods").GetAnnotations()["deployment.kubernetes.io/revision"] != ""
			})
			c.change(w)
			if c.path != "" {
				got := w.correct(items, c.object)
				if got.Err != nil || !slices.ContainsFunc(got.Changes, func(ch drift.Change) bool {
					return strings.HasPrefix(ch.Path, c.path) && (c.manager == "" || ch.Manager == c.manager)
				}) {
					t.Errorf("class %q, error %v, changes %+v; want %s by %s", got.Class, got.Err, got.Changes, c.path, c.manager)
				}
			}
			before := apartFromStatus(w.get(resourceFor(c.object), c.object))
			w.eventually("it is clean", func() bool { return w.run(items).kinds() == "unchanged 2" })
			if got := w.run(items, func(s *reconciler.Scope) { s.Verify = true }); got.kinds() != "unchanged 2" {
				t.Errorf("verified: %s; %s", got.kinds(), got.errors())
			}
			if after := apartFromStatus(w.get(resourceFor(c.object), c.object)); c.path == "" && !reflect.DeepEqual(before, after) {
				t.Errorf("what is no drift was written over: %v, was %v", after, before)
			}
		})
	}
}

// apartFromStatus is an object without what the cluster's controllers write to it.
func apartFromStatus(u *unstructured.Unstructured) map[string]any {
	u = u.DeepCopy()
	u.SetResourceVersion("")
	u.SetManagedFields(slices.DeleteFunc(u.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool { return e.Subresource == "status" }))
	delete(u.Object, "status")
	return u.Object
}

// The answers that a write bound to a lost object gets: the version alone would make
// it anew, and a wrong UID reads like an immutable field. Neither is what happens.
func TestACorrectionOfAnObjectThatWasReplacedTouchesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(strings.Split(shop, "---")[0])
	w.run(items)
	w.patch(cms, "settings", "hand", types.MergePatchType, `{"data":{"color":"red"}}`)
	scope := reconciler.Scope{Environment: w.name, Partial: true, Recreate: "allowed"}
	var ops []reconciler.Operation
	w.eventually("it is seen", func() bool {
		var err error
		ops, err = w.target.Compare(context.Background(), items, scope)
		return err == nil && len(ops) == 1 && ops[0].Kind == reconciler.OpCorrect
	})
	if err := w.objects.Resource(cms).Namespace(w.namespace).Delete(context.Background(), "settings", deleteNow); err != nil {
		t.Fatal(err)
	}
	w.foreign("settings", map[string]any{"by": "others"})
	var out reconciler.Outcome
	if err := w.target.Apply(context.Background(), reconciler.Plan{Environment: w.name, Operations: ops}, func(o reconciler.Outcome) { out = o }); err != nil {
		t.Fatal(err)
	}
	if out.Err == nil || !strings.Contains(out.Err.Error(), "exists and is not ours") {
		t.Errorf("error %v", out.Err)
	}
	if w.value(cms, "settings", "data", "by") != "others" || w.value(cms, "settings", "data", "color") != "" {
		t.Errorf("the stranger was written: %v", w.get(cms, "settings").Object["data"])
	}
}

// accountUID is that of something in the namespace that stays.
func (w *world) accountUID() string {
	w.t.Helper()
	return string(w.get(cms, "kube-root-ca.crt").GetUID())
}

// resourceFor is the resource of an object of guarded.
func resourceFor(name string) schema.GroupVersionResource {
	if name == "pods" {
		return deploys
	}
	return cms
}

// applyAsUs applies a ConfigMap under the environment's own manager, as somebody who
// copied all that we sent.
func (w *world) applyAsUs(name string, change func(map[string]any)) {
	w.t.Helper()
	live := w.get(cms, name)
	object := map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "data": live.Object["data"],
		"metadata": map[string]any{
			"name": name, "labels": live.GetLabels(), "annotations": live.GetAnnotations(), "finalizers": live.GetFinalizers(),
		},
	}
	change(object)
	text, err := json.Marshal(object)
	if err != nil {
		w.t.Fatal(err)
	}
	w.patch(cms, name, w.target.owner(w.name).Manager, types.ApplyPatchType, string(text))
}
