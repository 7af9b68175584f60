package kube_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/holdfast-gitops/holdfast/internal/testkit/kube"
)

var configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

func TestFaultsRecordCallsByVerbAndObject(t *testing.T) {
	t.Parallel()
	var f kube.Faults
	ns := kube.Namespace(t)
	client := dynamicClient(t, f.Wrap(kube.Config(t))).Resource(configMaps).Namespace(ns)
	ctx := t.Context()

	apply(t, client, "one")
	if _, err := client.Get(ctx, "one", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.List(ctx, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := client.Delete(ctx, "one", metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range f.Calls(kube.Match{}) {
		got = append(got, c.String())
	}
	want := []string{
		"apply configmaps/" + ns + "/one",
		"get configmaps/" + ns + "/one",
		"list configmaps/" + ns,
		"delete configmaps/" + ns + "/one (dry run)",
	}
	if len(got) != len(want) {
		t.Fatalf("calls = %q, want %q", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("call %d = %q, want %q", i, got[i], want[i])
		}
	}
	if n := f.Count(kube.Match{Verb: "write"}); n != 1 {
		t.Errorf("%d calls count as writes, want 1: a dry run writes nothing", n)
	}
}

func TestFaultsAnswerInTheServersForm(t *testing.T) {
	t.Parallel()
	var f kube.Faults
	client := dynamicClient(t, f.Wrap(kube.Config(t))).Resource(configMaps).Namespace("default")

	rule := f.Forbid("configmaps")
	if _, err := client.List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("list of a forbidden resource: error = %v, want forbidden", err)
	}
	rule.Remove()
	f.Respond(kube.Match{Verb: "list"}, http.StatusGone, "too old").Times(1)
	if _, err := client.List(t.Context(), metav1.ListOptions{}); !apierrors.IsResourceExpired(err) {
		t.Errorf("list: error = %v, want expired", err)
	}
	if _, err := client.List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("list after the fault: %v", err)
	}
}

func TestFaultsLoseTheAnswerAfterTheServerDidIt(t *testing.T) {
	t.Parallel()
	var f kube.Faults
	ns := kube.Namespace(t)
	cfg := kube.Config(t)
	faulty := dynamicClient(t, f.Wrap(cfg)).Resource(configMaps).Namespace(ns)
	clear := dynamicClient(t, cfg).Resource(configMaps).Namespace(ns)
	broken := errors.New("connection reset by the test")

	f.Lose(kube.Match{Verb: "apply", Name: "lost"}, broken).Times(1)
	if _, err := faulty.Apply(t.Context(), "lost", configMap("lost"), options); !errors.Is(err, broken) {
		t.Fatalf("apply: error = %v, want %v", err, broken)
	}
	if _, err := clear.Get(t.Context(), "lost", metav1.GetOptions{}); err != nil {
		t.Errorf("the server has not done what it was asked: %v", err)
	}
	f.Fail(kube.Match{Verb: "apply", Name: "unsent"}, broken)
	if _, err := faulty.Apply(t.Context(), "unsent", configMap("unsent"), options); !errors.Is(err, broken) {
		t.Fatalf("apply: error = %v, want %v", err, broken)
	}
	if _, err := clear.Get(t.Context(), "unsent", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a call that failed before it was sent: get = %v, want not found", err)
	}
}

func TestFaultsHangUntilTheClientGivesUp(t *testing.T) {
	t.Parallel()
	var f kube.Faults
	client := dynamicClient(t, f.Wrap(kube.Config(t))).Resource(configMaps).Namespace("default")
	f.Hang(kube.Match{Verb: "list"})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := client.List(ctx, metav1.ListOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("list: error = %v, want the client's deadline", err)
	}
}

func TestFaultsKillAClientAtTheNthWrite(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		kill func(f *kube.Faults, cancel func())
		want int
	}{
		"before": {func(f *kube.Faults, cancel func()) { f.CancelBefore(kube.Match{Verb: "write"}, 3, cancel) }, 2},
		"after":  {func(f *kube.Faults, cancel func()) { f.CancelAfter(kube.Match{Verb: "write"}, 3, cancel) }, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var f kube.Faults
			ns := kube.Namespace(t)
			cfg := kube.Config(t)
			client := dynamicClient(t, f.Wrap(cfg)).Resource(configMaps).Namespace(ns)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			test.kill(&f, cancel)
			failed := 0
			for _, name := range []string{"a", "b", "c", "d", "e"} {
				// A context of its own: the dead send nothing even so.
				if _, err := client.Apply(t.Context(), name, configMap(name), options); err != nil {
					failed++
				}
			}
			if ctx.Err() == nil {
				t.Error("the client's context was not cancelled")
			}
			if failed != 3 {
				t.Errorf("%d of 5 writes failed, want 3", failed)
			}
			list, err := dynamicClient(t, cfg).Resource(configMaps).Namespace(ns).List(t.Context(), metav1.ListOptions{LabelSelector: "test"})
			if err != nil {
				t.Fatal(err)
			}
			if len(list.Items) != test.want {
				t.Errorf("%d objects arrived, want %d", len(list.Items), test.want)
			}
		})
	}
}

func TestFaultsLetOthersWriteInBetween(t *testing.T) {
	t.Parallel()
	var f kube.Faults
	ns := kube.Namespace(t)
	cfg := kube.Config(t)
	other := dynamicClient(t, cfg).Resource(configMaps).Namespace(ns)
	client := dynamicClient(t, f.Wrap(cfg)).Resource(configMaps).Namespace(ns)
	created, err := client.Apply(t.Context(), "x", configMap("x"), options)
	if err != nil {
		t.Fatal(err)
	}
	f.Before(kube.Match{Verb: "update"}, func(kube.Call) {
		if err := other.Delete(context.WithoutCancel(t.Context()), "x", metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	if _, err := client.Update(t.Context(), created, metav1.UpdateOptions{}); !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		t.Errorf("update of what was deleted just before: error = %v", err)
	}
}

func TestDroppedWatchEndsForTheClient(t *testing.T) {
	t.Parallel()
	var f kube.Faults
	ns := kube.Namespace(t)
	client := dynamicClient(t, f.Wrap(kube.Config(t))).Resource(configMaps).Namespace(ns)
	w, err := client.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if n := f.DropWatches(); n != 1 {
		t.Errorf("%d watches dropped, want 1", n)
	}
	for range w.ResultChan() { // Closed, or the test times out.
	}
	if n := f.DropWatches(); n != 0 {
		t.Errorf("%d watches open after the drop, want none", n)
	}
}

func TestFaultsFromManyGoroutines(t *testing.T) {
	t.Parallel()
	var f kube.Faults
	client := dynamicClient(t, f.Wrap(kube.Config(t))).Resource(configMaps).Namespace("default")
	f.Respond(kube.Match{Verb: "list"}, http.StatusServiceUnavailable, "busy").Times(3)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			// Some fail, which the count shows.
			_, _ = client.Get(t.Context(), "none", metav1.GetOptions{})
			f.Count(kube.Match{})
		})
	}
	wg.Wait()
	if n := f.Count(kube.Match{Verb: "get"}); n != 10 {
		t.Errorf("%d calls recorded, want 10", n)
	}
}

var options = metav1.ApplyOptions{FieldManager: "test", Force: true}

func dynamicClient(t *testing.T, cfg *rest.Config) dynamic.Interface {
	t.Helper()
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func apply(t *testing.T, client dynamic.ResourceInterface, name string) {
	t.Helper()
	if _, err := client.Apply(t.Context(), name, configMap(name), options); err != nil {
		t.Fatal(err)
	}
}

func configMap(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": name, "labels": map[string]any{"test": "yes"}},
		"data":     map[string]any{"name": name},
	}}
}
