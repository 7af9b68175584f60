package kube_test

import (
	"context"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-gitops/holdfast/internal/testkit/kube"
)

func TestNamespaceIsUsableAndGoesWithItsTest(t *testing.T) {
	t.Parallel()
	client := dynamicClient(t, kube.Config(t))
	var name string
	t.Run("in use", func(t *testing.T) {
		name = kube.Namespace(t)
		if other := kube.Namespace(t); other == name {
			t.Errorf("two namespaces have the name %s", name)
		}
		apply(t, client.Resource(configMaps).Namespace(name), "x")
	})
	ns, err := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Get(t.Context(), name, metav1.GetOptions{})
	if err == nil && ns.GetDeletionTimestamp() == nil {
		t.Errorf("namespace %s outlives its test", name)
	} else if err != nil && !apierrors.IsNotFound(err) {
		t.Error(err)
	}
}

func TestOwnServerSurvivesKillStopAndFreeze(t *testing.T) {
	t.Parallel()
	server := kube.Own(t)
	cfg := server.Config()
	client := dynamicClient(t, cfg).Resource(configMaps).Namespace("default")
	apply(t, client, "kept")

	before := kube.CountRequests(t, cfg)
	for range 3 {
		apply(t, client, "kept")
	}
	since := kube.CountRequests(t, cfg).Since(before)
	want := kube.Request{Verb: "APPLY", Resource: "configmaps", Code: "200"}
	if since[want] != 3 {
		t.Errorf("%d of %q, want 3, in:\n%s", since[want], want, since)
	}
	// The control plane applies objects of its own, but no ConfigMaps.
	if n := since.Total(func(r kube.Request) bool { return r.Verb == "APPLY" && r.Resource == "configmaps" }); n != 3 {
		t.Errorf("%d applies in all, want 3, in:\n%s", n, since)
	}

	server.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := client.Get(ctx, "kept", metav1.GetOptions{}); err == nil {
		t.Error("a frozen server answered")
	}
	server.Thaw()
	if _, err := client.Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Errorf("after a thaw: %v", err)
	}

	server.Kill()
	if _, err := client.Get(t.Context(), "kept", metav1.GetOptions{}); err == nil {
		t.Error("a killed server answered")
	}
	server.Start()
	// The client of before, with its address and credentials.
	if _, err := client.Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	server.Stop()
	if _, err := client.Get(t.Context(), "kept", metav1.GetOptions{}); err == nil {
		t.Error("a stopped server answered")
	}
}
