package kubelive

import (
	"context"
	"fmt"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-gitops/holdfast/internal/testkit/kube"
	"github.com/holdfast-gitops/holdfast/sources"
)

var configMaps = Resource{GVR: schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, Kind: "ConfigMap", Namespaced: true}

// deaf is a cluster without watches: whatever happens, no event tells of it.
type deaf struct {
	*testing.T
	cluster   *Cluster
	owner     Owner
	namespace string

	mu    sync.Mutex
	hints map[string]int
}

func newDeaf(t *testing.T) *deaf {
	d := &deaf{T: t, namespace: kube.Namespace(t), hints: map[string]int{}}
	d.owner = NewOwner("verify-"+d.namespace, "holdfast-system")
	var err error
	d.cluster, err = Open(Options{
		Config: kube.Config(t), Namespaces: []string{d.namespace}, Failed: func(err error) { t.Error(err) },
		Changed: func(h Hint) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.hints[h.Object.Name]++
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *deaf) id(name string) sources.ID {
	return sources.ID{Kind: "ConfigMap", Namespace: d.namespace, Name: name}
}

// apply applies an object under our own manager name.
func (d *deaf) apply(name, value string) *unstructured.Unstructured {
	d.Helper()
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "data": map[string]any{"k": value},
		"metadata": map[string]any{
			"name": name, "namespace": d.namespace,
			"labels": map[string]any{LabelEnvironment: d.owner.Environment, LabelPartOf: d.owner.ID},
		},
	}}
	out, err := d.cluster.API(configMaps, d.id(name)).Apply(d.Context(), name, u, metav1.ApplyOptions{FieldManager: d.owner.Manager, Force: true})
	if err != nil {
		d.Fatal(err)
	}
	return out
}

// ours applies as the driver does: the answer is the baseline.
func (d *deaf) ours(name string) {
	d.Helper()
	d.cluster.Index.BeginWrite(d.id(name))
	d.cluster.Index.Wrote(d.id(name), BaselineOf(d.apply(name, "a"), d.owner))
}

func (d *deaf) verify() (Verified, int) {
	d.Helper()
	waits := 0
	sum, err := d.cluster.Verify(d.Context(), []Watched{{Resource: configMaps, Namespace: d.namespace}}, func(context.Context) error { waits++; return nil })
	if err != nil {
		d.Fatal(err)
	}
	return sum, waits
}

func TestVerificationFindsWhatNoWatchTold(t *testing.T) {
	d := newDeaf(t)
	for _, name := range []string{"clean", "edited", "impostor", "deleted", "noop"} {
		d.ours(name)
	}
	for i := range verifyPage {
		d.ours(fmt.Sprintf("more-%d", i))
	}
	api := d.cluster.Objects.Resource(configMaps.GVR).Namespace(d.namespace)
	edited, err := api.Get(t.Context(), "edited", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	edited.Object["data"] = map[string]any{"k": "b"}
	if _, err := api.Update(t.Context(), edited, metav1.UpdateOptions{FieldManager: "somebody"}); err != nil {
		t.Fatal(err)
	}
	d.apply("impostor", "b") // a server-side apply under our own manager name
	if err := api.Delete(t.Context(), "deleted", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	sum, waits := d.verify()
	if sum.Objects != verifyPage+4 || sum.Doubted != 2 || sum.Requests != 2 || waits != 2 {
		t.Errorf("%+v, waited %d times", sum, waits)
	}
	for name, want := range map[string]Verdict{"clean": Clean, "edited": Suspect, "impostor": Suspect, "deleted": Gone, "more-1": Clean} {
		d.mu.Lock()
		hinted := d.hints[name] > 0
		d.mu.Unlock()
		if got := d.cluster.Index.Look(d.id(name)).Verdict; got != want || hinted != (want != Clean) {
			t.Errorf("%s: verdict %d, want %d; hinted %v", name, got, want, hinted)
		}
	}
	// What was looked at and put back is believed again.
	d.ours("impostor")
	if got := d.cluster.Index.Look(d.id("impostor")).Verdict; got != Clean {
		t.Errorf("after it was put back: %d", got)
	}
}

func TestVerificationBelievesALaterWriteOfOurs(t *testing.T) {
	d := newDeaf(t)
	d.ours("a")
	old, err := d.cluster.Get(t.Context(), configMaps, d.id("a"))
	if err != nil {
		t.Fatal(err)
	}
	d.cluster.Index.BeginWrite(d.id("a"))
	if d.cluster.Index.verify(d.id("a"), old) {
		t.Error("doubted while it is being written")
	}
	d.cluster.Index.Wrote(d.id("a"), BaselineOf(d.apply("a", "b"), d.owner))
	if d.cluster.Index.verify(d.id("a"), old) {
		t.Error("doubted for a state that is older than our own write")
	}
}

func TestVerificationConcludesNothingFromABrokenList(t *testing.T) {
	d := newDeaf(t)
	d.ours("a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.cluster.Verify(ctx, []Watched{{Resource: configMaps, Namespace: d.namespace}}, func(ctx context.Context) error { return ctx.Err() }); err == nil {
		t.Error("no error")
	}
	if got := d.cluster.Index.Look(d.id("a")).Verdict; got != Clean {
		t.Errorf("verdict %d", got)
	}
}
