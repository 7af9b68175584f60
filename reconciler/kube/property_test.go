package kube

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/reconciler"
)

// TestAnyDesiredSetAfterAnyEdits: whatever is desired, whatever others did to it
// and beside it, after a run live is as desired, a second run sends no request,
// and what is not ours stays as it was.
func TestAnyDesiredSetAfterAnyEdits(t *testing.T) {
	t.Parallel()
	rounds := 12
	if os.Getenv("HOLDFAST_LONG") != "" {
		rounds = 300
	}
	w := newWorld(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	w.foreign("outside", map[string]any{"by": "others"})
	want := map[string]map[string]string{"first": {"k": "v"}}
	for round := range rounds {
		want = mutate(r, want)
		items := w.items(manifests(want))
		edits := w.meddle(r, want)
		w.eventually(fmt.Sprintf("round %d, after %v, is as desired", round, edits), func() bool {
			// Verified: the watch may still have to tell of what was just edited.
			out := w.run(items, func(s *reconciler.Scope) { s.Verify = true })
			return out.errors() == "" && out.kinds() == fmt.Sprintf("unchanged %d", len(items))
		})
		w.eventually("the watch has told all", func() bool {
			return w.run(items).kinds() == fmt.Sprintf("unchanged %d", len(items))
		})
		sent := w.sent.Load()
		w.run(items)
		if more := w.sent.Load() - sent; more != 0 {
			t.Errorf("round %d: a run in which nothing changed sent %d requests", round, more)
		}
		w.compareLive(round, want)
	}
}

// manifests are the ConfigMaps of a desired set.
func manifests(want map[string]map[string]string) string {
	var b strings.Builder
	for name, data := range want {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: NS, labels: {set: random}}\ndata:\n  always: here\n", name)
		for k, v := range data {
			fmt.Fprintf(&b, "  %s: %q\n", k, v)
		}
	}
	return b.String()
}

// mutate adds, removes and changes at random. Something is always left.
func mutate(r *rand.Rand, want map[string]map[string]string) map[string]map[string]string {
	out := map[string]map[string]string{}
	for name, data := range want {
		if len(want) > 3 && r.IntN(4) == 0 {
			continue
		}
		copied := map[string]string{}
		for k, v := range data {
			if r.IntN(4) != 0 {
				copied[k] = v
			}
		}
		copied[fmt.Sprintf("k%d", r.IntN(4))] = fmt.Sprint(r.IntN(1000))
		out[name] = copied
	}
	for range r.IntN(3) {
		out[fmt.Sprintf("cm-%d", r.IntN(8))] = map[string]string{"k": fmt.Sprint(r.IntN(1000))}
	}
	if len(out) == 0 {
		out["first"] = map[string]string{"k": "v"}
	}
	return out
}

// meddle does what others do to objects that are wanted, and says what.
func (w *world) meddle(r *rand.Rand, want map[string]map[string]string) (done []string) {
	api := w.objects.Resource(cms).Namespace(w.namespace)
	for name := range want {
		if !w.exists(cms, name) {
			continue
		}
		what, patch := "", ""
		switch r.IntN(7) {
		case 0:
			what, patch = "change", `{"data":{"always":"meddled"}}`
		case 1:
			what, patch = "remove a key", `{"data":{"always":null}}`
		case 2:
			what, patch = "add a key", `{"data":{"theirs":"stays"}}`
		case 3:
			what, patch = "remove our label", `{"metadata":{"labels":{"holdfast.dev/environment":null}}}`
		case 4:
			what, patch = "clear managedFields", `{"metadata":{"managedFields":[{}]}}`
		case 5:
			what = "delete"
			if err := api.Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
				w.t.Fatal(err)
			}
		default:
			continue
		}
		if patch != "" {
			w.patch(cms, name, "kubectl-edit", types.MergePatchType, patch)
		}
		done = append(done, what+" "+name)
	}
	return done
}

func (w *world) foreign(name string, data map[string]any) {
	w.t.Helper()
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": name}, "data": data,
	}}
	if _, err := w.objects.Resource(cms).Namespace(w.namespace).Create(context.Background(), object, metav1.CreateOptions{FieldManager: "others"}); err != nil {
		w.t.Fatal(err)
	}
}

// compareLive checks what is there against what is wanted.
func (w *world) compareLive(round int, want map[string]map[string]string) {
	w.t.Helper()
	list, err := w.objects.Resource(cms).Namespace(w.namespace).List(context.Background(), metav1.ListOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	seen, outside := 0, false
	for i := range list.Items {
		o := &list.Items[i]
		data, _, _ := unstructured.NestedStringMap(o.Object, "data")
		outside = outside || o.GetName() == "outside" && data["by"] == "others"
		wanted, ours := want[o.GetName()]
		if o.GetLabels()["set"] == "random" && !ours {
			w.t.Errorf("round %d: %s left git and is there", round, o.GetName())
		}
		if !ours {
			continue
		}
		seen++
		for k, v := range wanted {
			if data[k] != v {
				w.t.Errorf("round %d: %s.%s is %q, want %q", round, o.GetName(), k, data[k], v)
			}
		}
		for k := range data {
			if _, ok := wanted[k]; !ok && k != "always" && k != "theirs" {
				w.t.Errorf("round %d: %s.%s left git and is there", round, o.GetName(), k)
			}
		}
		if data["always"] != "here" {
			w.t.Errorf("round %d: %s.always is %q", round, o.GetName(), data["always"])
		}
	}
	if seen != len(want) || !outside {
		w.t.Errorf("round %d: %d of %d are there; what is not ours: %v", round, seen, len(want), outside)
	}
}
