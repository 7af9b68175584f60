package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/kube"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// mixed is n objects of five kinds in ten namespaces, a file for each namespace
// and kind.
func mixed(n int) map[string]string {
	docs := map[string][]string{}
	for i := range 10 {
		docs["namespaces"] = append(docs["namespaces"], fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: mix-%d}\n", i))
	}
	for i := range n - 10 {
		ns := fmt.Sprintf("mix-%d", i%10)
		name := fmt.Sprintf("o%04d", i)
		head := "metadata: {name: " + name + ", namespace: " + ns + ", labels: {app: " + name + "}}\n"
		kind, text := "", ""
		switch k := i / 10 % 20; {
		case k < 10:
			kind, text = "configmaps", "apiVersion: v1\nkind: ConfigMap\n"+head+"data: {color: blue, text: \"some text of an ordinary length\"}\n"
		case k < 14:
			kind, text = "deployments", "apiVersion: apps/v1\nkind: Deployment\n"+head+"spec:\n  replicas: 0\n  selector: {matchLabels: {app: "+name+"}}\n  template:\n    metadata: {labels: {app: "+name+"}}\n    spec: {containers: [{name: main, image: \"example:1\", env: [{name: A, value: b}]}]}\n"
		case k < 17:
			kind, text = "services", "apiVersion: v1\nkind: Service\n"+head+"spec: {selector: {app: "+name+"}, ports: [{port: 80}]}\n"
		case k < 19:
			kind, text = "secrets", "apiVersion: v1\nkind: Secret\n"+head+"stringData: {password: not-a-real-one}\n"
		default:
			kind, text = "serviceaccounts", "apiVersion: v1\nkind: ServiceAccount\n"+head
		}
		docs[ns+"-"+kind] = append(docs[ns+"-"+kind], text)
	}
	files := map[string]string{}
	for name, list := range docs {
		files["app/"+name+".yaml"] = strings.Join(list, "---\n")
	}
	return files
}

// TestThousandObjects is the main job at the size of a real environment, on a
// server of its own, because the server's own count of requests is the measure.
func TestThousandObjects(t *testing.T) {
	server := kube.Own(t)
	objects, err := dynamic.NewForConfig(server.Config())
	if err != nil {
		t.Fatal(err)
	}
	s := newStage(t, server.Kubeconfig(), objects)
	n := 1000
	if os.Getenv("HOLDFAST_LONG") != "" {
		n = 10_000
	}
	files := mixed(n)
	files["environments/e.yaml"] = environmentSpec("mix", "app", "mix-0", "")
	s.repo.Commit(t, files)
	s.start()
	first := s.settled("mix", reconciler.Applied)
	if first.LastRun.Counts.Created != n || first.LastRun.Counts.Failed != 0 {
		t.Fatalf("first run: %+v, errors %v", first.LastRun.Counts, first.Errors)
	}

	s.resync("mix") // what the first applies set in motion in the controllers has an answer by now
	ours := func(r kube.Request) bool {
		switch r.Resource {
		case "configmaps", "deployments", "services", "secrets", "serviceaccounts", "namespaces":
			return r.Verb != "WATCH" && r.Verb != "CONNECT"
		}
		return false
	}
	s.until("a resync sends the server no request", func() error {
		before := kube.CountRequests(t, server.Config())
		got := s.resync("mix")
		after := kube.CountRequests(t, server.Config()).Since(before)
		if got.Result != reconciler.Unchanged || got.Counts.Unchanged != n {
			return fmt.Errorf("receipt %+v", got)
		}
		if n := after.Total(ours); n != 0 {
			return fmt.Errorf("%d requests: %s", n, after)
		}
		return nil
	})

	deployments := schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	live, err := objects.Resource(deployments).Namespace("mix-0").Get(context.Background(), "o0100", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	containers, _, _ := unstructured.NestedSlice(live.Object, "spec", "template", "spec", "containers")
	containers[0].(map[string]any)["image"] = "example:2"
	if err := unstructured.SetNestedSlice(live.Object, containers, "spec", "template", "spec", "containers"); err != nil {
		t.Fatal(err)
	}
	if _, err := objects.Resource(deployments).Namespace("mix-0").Update(context.Background(), live, metav1.UpdateOptions{FieldManager: "kubectl-edit"}); err != nil {
		t.Fatal(err)
	}
	s.expectDrift("mix", `changed Deployment/mix-0/o0100.spec.template.spec.containers[name=main].image: "example:1" -> "example:2" by kubectl-edit, corrected from app/mix-0-deployments.yaml:`)

	// An object that left git goes; one of the same name that is not ours stays.
	// In one namespace, so that the deletions stay within the budget.
	gone := files["app/mix-1-serviceaccounts.yaml"]
	s.repo.Commit(t, map[string]string{"app/mix-1-serviceaccounts.yaml": gitserver.Delete})
	got := s.resync("mix")
	if want := strings.Count(gone, "kind: ServiceAccount"); got.Result != reconciler.Applied || got.Counts.Deleted != want {
		t.Errorf("after %d objects left git: %+v", want, got)
	}
	foreign := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": map[string]any{"name": "o0191", "namespace": "mix-1"}}}
	accounts := cms
	accounts.Resource = "serviceaccounts"
	if _, err := objects.Resource(accounts).Namespace("mix-1").Create(context.Background(), foreign, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.repo.Commit(t, map[string]string{"app/mix-1-serviceaccounts.yaml": gone})
	if got = s.resync("mix"); got.Result != reconciler.Partial || !strings.Contains(got.Errors.Error(), "ServiceAccount/mix-1/o0191: exists and is not ours") {
		t.Errorf("a foreign object in the way: %+v", got)
	}
	s.repo.Commit(t, map[string]string{"app/mix-1-serviceaccounts.yaml": gitserver.Delete})
	s.resync("mix")
	if _, err := objects.Resource(accounts).Namespace("mix-1").Get(context.Background(), "o0191", metav1.GetOptions{}); err != nil {
		t.Errorf("the foreign object: %v", err)
	}
}
