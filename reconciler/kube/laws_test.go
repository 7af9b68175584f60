package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// leaf is a value that a manifest sets, as a JSON pointer.
type leaf struct {
	pointer string
	value   any
}

// leavesOf are the texts, numbers and truth values of a manifest, but for what
// identifies the object.
func leavesOf(value any, at string) (out []leaf) {
	switch v := value.(type) {
	case map[string]any:
		for k, e := range v {
			here := at + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(k)
			if !slices.Contains([]string{"/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"}, here) {
				out = append(out, leavesOf(e, here)...)
			}
		}
	case []any:
		for i, e := range v {
			out = append(out, leavesOf(e, fmt.Sprintf("%s/%d", at, i))...)
		}
	case nil:
	default:
		out = append(out, leaf{at, v})
	}
	slices.SortFunc(out, func(a, b leaf) int { return strings.Compare(a.pointer, b.pointer) })
	return out
}

// elementKey is the key of an element of a keyed list.
var elementKey = regexp.MustCompile(`/\d+/(name|containerPort|protocol)$`)

// others are values that a field may be changed to, the likeliest first.
func others(v any) []any {
	switch t := v.(type) {
	case bool:
		return []any{!t}
	case json.Number:
		n, _ := t.Int64()
		return []any{n + 1, n + 10}
	case string:
		swap := map[string]string{
			"TCP": "UDP", "Always": "IfNotPresent", "ClusterIP": "NodePort", "Ingress": "Egress", "Prefix": "Exact",
			"RollingUpdate": "OnDelete", "Forbid": "Replace", "get": "list", "Retain": "Delete",
		}
		if o, ok := swap[t]; ok {
			return []any{o}
		}
		return []any{t + "x", t + "9", "9" + t, "2", "*/7 * * * *"}
	}
	return nil
}

// The laws of detection, for the built-in kinds: applied is clean; each field that
// git sets, changed by another hand, is found and put back, and only fields in it,
// around it or moved by it are named; afterwards all is clean. What the server does
// not let anybody change, or changes back by itself, is passed over.
func TestLawsOfDetectionForBuiltInKinds(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("testdata", "kinds.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range bytes.Split(text, []byte("\n---\n")) {
		kind := regexp.MustCompile(`(?m)^kind: (.*)$`).FindSubmatch(doc)
		t.Run(string(kind[1]), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.lawsOf(w.items(string(doc)))
		})
	}
}

func (w *world) lawsOf(items []sources.Item) {
	w.t.Helper()
	id := items[0].ID
	if got := w.run(items); got.errors() != "" || got.kinds() != "create 1" {
		w.t.Fatalf("%s; %s", got.kinds(), got.errors())
	}
	if id.Namespace == "" {
		w.t.Cleanup(func() { w.delete(id) })
	}
	for _, verify := range []bool{false, true} {
		if got := w.run(items, func(s *reconciler.Scope) { s.Verify = verify }); got.kinds() != "unchanged 1" {
			w.t.Errorf("straight after the apply, verify %v: %s", verify, got.kinds())
		}
	}
	var object map[string]any
	if err := decode(items[0].Body, &object); err != nil {
		w.t.Fatal(err)
	}
	all := leavesOf(object, "")
	if id.Kind != "Service" {
		// What is changed by its key is, to the server, another element beside ours,
		// and stays as an addition of theirs.
		all = slices.DeleteFunc(all, func(l leaf) bool { return elementKey.MatchString(l.pointer) })
	}
	if os.Getenv("HOLDFAST_LONG") == "" && len(all) > 4 {
		all = []leaf{all[0], all[len(all)/3], all[2*len(all)/3], all[len(all)-1]}
	}
	changed := 0
	for _, l := range all {
		if w.changeByHand(id, l) {
			changed++
			w.expectFound(items, l)
		}
	}
	if changed == 0 {
		w.t.Errorf("none of %d fields could be changed", len(all))
	}
}

// changeByHand changes a field as somebody else. It is false when the server does
// not take that, or keeps the value.
func (w *world) changeByHand(id sources.ID, l leaf) bool {
	w.t.Helper()
	r, err := w.target.cluster.Mapper.Resource(kubelive.GroupKind(id))
	if err != nil {
		w.t.Fatal(err)
	}
	api := w.target.cluster.API(r, id)
	before, err := api.Get(context.Background(), id.Name, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, v := range others(l.value) {
		patch, _ := json.Marshal([]map[string]any{{"op": "replace", "path": l.pointer, "value": v}})
		after, err := api.Patch(context.Background(), id.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: "hand"})
		if err == nil && !sameBut(before, after) {
			return true
		}
	}
	return false
}

// sameBut compares two states but for what every write moves.
func sameBut(a, b *unstructured.Unstructured) bool {
	text := func(u *unstructured.Unstructured) string {
		c := u.DeepCopy()
		c.SetManagedFields(nil)
		c.SetResourceVersion("")
		c.SetGeneration(0)
		delete(c.Object, "status")
		return string(mustJSON(c))
	}
	return text(a) == text(b)
}

func (w *world) expectFound(items []sources.Item, l leaf) {
	w.t.Helper()
	var got reconciler.Outcome
	w.eventually("found: "+l.pointer, func() bool {
		out := w.run(items, func(s *reconciler.Scope) { s.Partial = true })
		o, ok := out.done[items[0].ID.String()]
		got = o
		return ok && (!o.Noop || o.Err != nil)
	})
	if got.Err != nil || got.Class != drift.Changed {
		w.t.Errorf("%s: class %q, error %v, changes %+v", l.pointer, got.Class, got.Err, got.Changes)
		return
	}
	for _, c := range got.Changes {
		if c.Manager != "hand" && c.Manager != drift.Unknown {
			w.t.Errorf("%s: %s is said to be by %s", l.pointer, c.Path, c.Manager)
		}
	}
	first := strings.Split(l.pointer, "/")[1]
	if !slices.ContainsFunc(got.Changes, func(c drift.Change) bool { return strings.HasPrefix(c.Path, "."+first) }) {
		w.t.Errorf("%s: found %+v", l.pointer, got.Changes)
	}
	if again := w.run(items, func(s *reconciler.Scope) { s.Verify = true }); again.kinds() != "unchanged 1" {
		w.t.Errorf("%s: after the correction: %s; %s", l.pointer, again.kinds(), again.errors())
	}
}

func (w *world) delete(id sources.ID) {
	r, err := w.target.cluster.Mapper.Resource(kubelive.GroupKind(id))
	if err == nil {
		_ = w.target.cluster.API(r, id).Delete(context.Background(), id.Name, metav1.DeleteOptions{})
	}
}
