package kube

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

func TestStateOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := context.Background()
	if s, err := w.target.State(ctx, w.name); err != nil || len(s.Holds) != 0 {
		t.Fatalf("state that was never written: %+v, %v", s, err)
	}
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	_, err := w.target.SaveState(ctx, w.name, func(s *reconciler.State) error {
		s.Holds = append(s.Holds, reconciler.Hold{ID: "hold-1", Reason: "why", Until: until})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.restart()
	s, err := w.target.State(ctx, w.name)
	if err != nil || len(s.Holds) != 1 || !s.Holds[0].Until.Equal(until) {
		t.Errorf("after a restart: %+v, %v", s, err)
	}
	names, err := w.target.Environments(ctx)
	if err != nil || len(names) != 1 || names[0] != w.name {
		t.Errorf("environments %v, %v", names, err)
	}
	if err := w.target.Forget(ctx, w.name); err != nil {
		t.Fatal(err)
	}
	if s, err := w.target.State(ctx, w.name); err != nil || len(s.Holds) != 0 {
		t.Errorf("after it was forgotten: %+v, %v", s, err)
	}
}

func TestStateChangesAreNotLostToEachOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.neighbour()
	var all sync.WaitGroup
	for i := range 10 {
		target := w.target
		if i%2 == 1 {
			target = other
		}
		all.Go(func() {
			_, err := target.SaveState(context.Background(), w.name, func(s *reconciler.State) error {
				s.Earlier = append(s.Earlier, sources.Revision{ID: string(rune('a' + i))})
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	w.restart()
	if s, err := w.target.State(context.Background(), w.name); err != nil || len(s.Earlier) != 10 {
		t.Errorf("%d of 10 changes are there, error %v", len(s.Earlier), err)
	}
}

func TestStateOfOthersIsNoticed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(context.Background())
	changed := make(chan string, 100)
	done := make(chan error, 1)
	go func() { done <- w.target.WatchState(ctx, func(name string) { changed <- name }) }()
	other := w.neighbour()
	if _, err := other.SaveState(ctx, w.name, func(s *reconciler.State) error { s.Returned = "x"; return nil }); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case <-changed:
		case <-time.After(30 * time.Second):
			t.Fatal("nobody told")
		}
		if s, err := w.target.State(ctx, w.name); err == nil && s.Returned == "x" {
			break
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAnAnnotationOfTheParentHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run(w.items(shop))
	annotate := func(until string) {
		t.Helper()
		patch := `{"metadata":{"annotations":{"holdfast.dev/hold-until":"` + until + `"}}}`
		w.patch(cms, "holdfast-"+w.name, "kubectl-annotate", types.MergePatchType, patch)
	}
	for until, held := range map[string]int{
		time.Now().Add(time.Hour).UTC().Format(time.RFC3339):  1,
		time.Now().Add(-time.Hour).UTC().Format(time.RFC3339): 0,
		"tomorrow": 1, "": 0,
	} {
		annotate(until)
		if s, err := w.target.State(context.Background(), w.name); err != nil || len(s.Holds) != held {
			t.Errorf("%q: %d holds, error %v; want %d", until, len(s.Holds), err, held)
		}
	}
}

func TestStateThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.target.SaveState(context.Background(), w.name, func(s *reconciler.State) error { s.Returned = "x"; return nil }); err != nil {
		t.Fatal(err)
	}
	w.restart()
	w.patch(cms, "holdfast-"+w.name+".state", "somebody", types.MergePatchType, `{"data":{"state.json":"{broken"}}`)
	if s, err := w.target.State(context.Background(), w.name); err == nil {
		t.Errorf("broken state was read as %+v", s)
	}
}

func TestAnObjectMovesToAnotherEnvironmentInPlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	w.run(items)
	before := w.get(deploys, "web")
	moved := w.items(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: NS}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "web:1"}]}
`)
	old, name := w.name, w.name+"-b"
	w.name = name
	out := w.run(moved)
	if out.kinds() != "conflict 1" {
		t.Fatalf("without leave: %s", out.kinds())
	}
	out = w.run(moved, func(s *reconciler.Scope) {
		s.MayTake = func(id sources.ID, from string) bool { return from == old && id.Name == "web" }
	})
	if out.kinds() != "adopt 1" || out.errors() != "" {
		t.Fatalf("with leave: %s %s", out.kinds(), out.errors())
	}
	after := w.get(deploys, "web")
	if after.GetUID() != before.GetUID() || after.GetLabels()["holdfast.dev/environment"] != name {
		t.Errorf("labels %v", after.GetLabels())
	}
	for _, e := range after.GetManagedFields() {
		if e.Operation == metav1.ManagedFieldsOperationApply && e.Manager != kubelive.NewOwner(name, w.namespace).Manager {
			t.Errorf("manager %s still owns fields", e.Manager)
		}
	}
	containers, _, _ := unstructured.NestedSlice(after.Object, "spec", "template", "spec", "containers")
	if c := containers[0].(map[string]any); c["env"] != nil {
		t.Errorf("env, which the new environment does not set, stays: %v", c["env"])
	}
	w.name = old
	rest := items[:0:0]
	for _, i := range items {
		if i.ID.Name != "web" || i.ID.Kind != "Deployment" {
			rest = append(rest, i)
		}
	}
	w.eventually("the old environment has nothing left to do", func() bool {
		out := w.run(rest)
		return out.kinds() == "unchanged 3"
	})
	if _, err := w.objects.Resource(deploys).Namespace(w.namespace).Get(context.Background(), "web", metav1.GetOptions{}); err != nil {
		t.Errorf("the object went: %v", err)
	}
}

// neighbour is another process's target on the same world.
func (w *world) neighbour() *Target {
	w.t.Helper()
	target, err := Open(Options{
		Name: "test", Config: w.config, StateNamespace: w.namespace, Installation: "test", Version: "test",
		Baselines: filepath.Join(w.t.TempDir(), "baselines"), Key: make([]byte, 32),
		Failed: func(err error) { w.t.Log(err) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return target
}

func TestAnObjectThatNobodyOwnsIsNotTakenUnasked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	account := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": map[string]any{"name": "bare"}}}
	accounts := cms
	accounts.Resource = "serviceaccounts"
	if _, err := w.objects.Resource(accounts).Namespace(w.namespace).Create(context.Background(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	items := w.items("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: bare, namespace: NS}\n")
	if out := w.run(items); out.kinds() != "conflict 1" {
		t.Errorf("without adoptFrom: %s", out.kinds())
	}
	if out := w.run(items, func(s *reconciler.Scope) { s.AdoptFrom = []string{"*"} }); out.kinds() != "adopt 1" {
		t.Errorf("with adoptFrom *: %s", out.kinds())
	}
}
