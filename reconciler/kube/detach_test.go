package kube

import (
	"reflect"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

func TestDetachLeavesObjectsAndValues(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	w.run(items)
	before := w.get(deploys, "web")
	n, err := w.target.Detach(t.Context(), w.name)
	if err != nil || n != 4 {
		t.Fatalf("%d detached, %v", n, err)
	}
	after := w.get(deploys, "web")
	owner := kubelive.NewOwner(w.name, w.namespace)
	if after.GetLabels()[kubelive.LabelEnvironment]+after.GetLabels()[kubelive.LabelPartOf]+after.GetAnnotations()[kubelive.AnnotationApplied] != "" || kubelive.Ours(after, owner) {
		t.Errorf("still ours: %v %v", after.GetLabels(), managersOf(after))
	}
	if !reflect.DeepEqual(after.Object["spec"], before.Object["spec"]) || w.value(cms, "settings", "data", "color") != "blue" {
		t.Error("values changed")
	}
	if w.exists(cms, kubelive.ParentName(w.name)) {
		t.Error("the parent object stays")
	}
	// They belong to nobody: another apply owns what it applies and no more.
	got := w.run(items, func(s *reconciler.Scope) { s.AdoptFrom = []string{detachedManager} })
	if got.kinds() != "adopt 4" || got.errors() != "" || !reflect.DeepEqual(w.get(deploys, "web").Object["spec"], before.Object["spec"]) {
		t.Errorf("taken back: %s; %s", got.kinds(), got.errors())
	}
}

func TestDeleteStuckAtAFinalizerIsNamedAndHoldsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	w.run(items)
	w.patch(cms, "settings", "somebody", mergePatch, `{"metadata":{"finalizers":["example.com/slow"]}}`)
	t.Cleanup(func() {
		if w.exists(cms, "settings") {
			w.patch(cms, "settings", "somebody", mergePatch, `{"metadata":{"finalizers":null}}`)
		}
	})
	<-w.hints
	started := time.Now()
	got := w.run(items[1:])
	if got.kinds() != "delete 1, unchanged 3" || got.errors() != "" || time.Since(started) > 20*time.Second {
		t.Fatalf("%s; errors %s", got.kinds(), got.errors())
	}
	id := items[0].ID
	w.eventually("the watch tells", func() bool { return w.target.cluster.Index.Look(id).Live.Deleting })
	if got := w.run(items[1:]); got.kinds() != "unchanged 3" {
		t.Errorf("meanwhile: %s; %s", got.kinds(), got.errors())
	}
	live := w.get(cms, "settings")
	old := metav1.NewTime(time.Now().Add(-2 * stuckAfter))
	live.SetDeletionTimestamp(&old)
	if text := deletionText(live); !strings.Contains(text, "waits for finalizers example.com/slow") {
		t.Errorf("says %q", text)
	}
	// The same object in git again: it is made again when it is gone, not before.
	if got := w.run(items); !strings.Contains(got.kinds(), "unchanged 4") {
		t.Errorf("wanted again: %s; %s", got.kinds(), got.errors())
	}
	w.patch(cms, "settings", "somebody", mergePatch, `{"metadata":{"finalizers":null}}`)
	w.follow(items, "made again", func() bool {
		return w.exists(cms, "settings") && w.get(cms, "settings").GetDeletionTimestamp() == nil
	})
}
