package kube

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/sources"
)

// TestVerificationTrustsNoWatch: a pass over a target where all is well finds
// nothing and costs a request for each kind; what it finds, a correction puts back,
// though the index had called it clean.
func TestVerificationTrustsNoWatch(t *testing.T) {
	w := newWorld(t)
	w.verification = Verification{Interval: time.Hour, RequestsPerMinute: 60_000, after: time.Hour}
	w.restart()
	items := w.items("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: NS}\ndata: {k: v}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: NS}\nspec: {ports: [{port: 80}]}\n")
	w.run(items)
	sent := w.sent.Load()
	w.target.verifyOnce(t.Context())
	at, found := w.target.Verified()
	if cost := w.sent.Load() - sent; at.IsZero() || found != 0 || cost > int64(len(w.target.cluster.Watcher.Watched())) {
		t.Errorf("of a quiet target: at %s, %d found, %d requests", at, found, cost)
	}
	w.reports()
	// The index believes that an edit was our own write, as if its event were lost.
	id := sources.ID{Kind: "ConfigMap", Namespace: w.namespace, Name: "a"}
	api := w.objects.Resource(schemaOf("configmaps").WithVersion("v1")).Namespace(w.namespace)
	before := w.target.cluster.Index.Look(id).Base
	w.target.cluster.Index.BeginWrite(id)
	edited, err := api.Patch(t.Context(), "a", types.MergePatchType, []byte(`{"data":{"k":"edited"}}`), metav1.PatchOptions{FieldManager: "somebody"})
	if err != nil {
		t.Fatal(err)
	}
	lost := before
	lost.ResourceVersion = edited.GetResourceVersion()
	w.target.cluster.Index.Wrote(id, lost)
	if got := w.target.cluster.Index.Look(id).Verdict; got != kubelive.Clean {
		t.Fatalf("the index says %d before", got)
	}
	w.target.verifyOnce(t.Context())
	if _, found := w.target.Verified(); found != 1 {
		t.Errorf("%d found", found)
	}
	w.correct(items, "a")
	if got := w.value(schemaOf("configmaps").WithVersion("v1"), "a", "data", "k"); got != "v" {
		t.Errorf("it is %q", got)
	}
}

// reports holds what the target says of itself to what was sent and is watched.
func (w *world) reports() {
	w.t.Helper()
	r := w.target.Report()
	watched := map[string]bool{}
	for _, watch := range r.Watches {
		watched[watch.Of+" "+watch.Kind] = watch.Synced && !watch.Heard.IsZero() && watch.Problem == ""
	}
	if !watched["metadata configmaps"] || !watched["metadata services"] || len(r.Problems) > 0 {
		w.t.Errorf("watches %+v", r.Watches)
	}
	sum := int64(0)
	for verb, n := range r.Requests.Total {
		if verb != "watch" {
			sum += n
		}
	}
	if sum != w.sent.Load() || r.Requests.Total["patch"] == 0 || r.Requests.Total["watch"] == 0 || r.Requests.InFlight != 0 || r.Requests.Failed != 0 {
		w.t.Errorf("%d were sent: %+v", w.sent.Load(), r.Requests)
	}
	if r.Driver != "kubernetes" || r.Address == "" || !r.Ours || r.Verified.IsZero() {
		w.t.Errorf("%+v", r)
	}
}
