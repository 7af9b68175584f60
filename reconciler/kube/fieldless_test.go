package kube

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// fieldless is a way to the server on which the managedFields of ConfigMaps are lost,
// as with a server that keeps none.
func fieldless(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if !strings.Contains(r.URL.Path, "/configmaps") {
			return next.RoundTrip(r)
		}
		r = r.Clone(r.Context())
		r.Header.Set("Accept", strings.ReplaceAll(r.Header.Get("Accept"), "application/vnd.kubernetes.protobuf", "application/json"))
		res, err := next.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		from, to := io.Pipe()
		body := res.Body
		go func() {
			lines := bufio.NewReader(body)
			for {
				line, err := lines.ReadBytes('\n') // an event of a watch, or the whole answer
				if len(bytes.TrimSpace(line)) > 0 {
					line = withoutFields(line)
				}
				if _, broken := to.Write(line); broken != nil || err != nil {
					_ = to.CloseWithError(err)
					_ = body.Close()
					return
				}
			}
		}()
		res.Body, res.ContentLength = from, -1
		res.Header.Del("Content-Length")
		return res, nil
	})
}

func withoutFields(line []byte) []byte {
	var v any
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return line
	}
	dropFields(v)
	out, err := json.Marshal(v)
	if err != nil {
		return line
	}
	return append(out, '\n')
}

func dropFields(v any) {
	switch t := v.(type) {
	case map[string]any:
		delete(t, "managedFields")
		for _, inner := range t {
			dropFields(inner)
		}
	case []any:
		for _, inner := range t {
			dropFields(inner)
		}
	}
}

// TestObjectsWithoutManagedFieldsAreComparedByWhatGitSets: they are read, what git sets
// is put back and told, with nobody named; what others add is none of it; and nothing
// is written over and over.
func TestObjectsWithoutManagedFieldsAreComparedByWhatGitSets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: plain, namespace: NS, labels: {app: x}}\ndata: {color: blue, size: \"7\"}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: NS}\nspec: {ports: [{port: 80}]}\n")
	w.config.Wrap(fieldless)
	w.restart()
	if got := w.run(items); got.errors() != "" {
		t.Fatal(got.errors())
	}
	quiet := func(when string) {
		t.Helper()
		w.eventually(when+" it is clean", func() bool { return w.run(items).kinds() == "unchanged 2" })
		version := w.get(cms, "plain").GetResourceVersion()
		if got := w.run(items, func(s *reconciler.Scope) { s.Verify = true }); got.kinds() != "unchanged 2" {
			t.Errorf("%s, verified: %s; %s", when, got.kinds(), got.errors())
		}
		if w.get(cms, "plain").GetResourceVersion() != version {
			t.Errorf("%s: it is written again", when)
		}
	}
	quiet("straight after the apply")
	w.patch(cms, "plain", "hand", mergePatch, `{"data":{"color":"red"}}`)
	out := w.correct(items, "plain")
	if out.Err != nil || out.Class != drift.Changed || out.Persists || len(out.Changes) != 1 {
		t.Fatalf("error %v, class %q, changes %+v", out.Err, out.Class, out.Changes)
	}
	w.expectChange(out.Changes, ".data.color", `"blue" <- "red"`, drift.Unknown)
	quiet("after the correction")

	w.patch(cms, "plain", "hand", mergePatch, `{"data":{"theirs":"stays"},"metadata":{"labels":{"theirs":"too"}}}`)
	quiet("with what others added")
	if w.value(cms, "plain", "data", "theirs") != "stays" {
		t.Error("what others added is gone")
	}
	w.restart()
	quiet("after a restart")

	w.patch(cms, "plain", "hand", mergePatch, `{"data":{"size":null},"metadata":{"labels":{"app":"y"}}}`)
	w.eventually("the change is found by a dry run, too", func() bool {
		got := w.run(items, func(s *reconciler.Scope) { s.ReadOnly = true })
		for _, op := range got.plan.Operations {
			if op.Object.Name == "plain" && op.Class == drift.Changed && len(op.Changes) == 2 {
				return true
			}
		}
		return false
	})
	// What git changed meanwhile comes with it.
	next := w.items("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: plain, namespace: NS, labels: {app: x}}\ndata: {color: green, size: \"7\"}\n")
	next = append(next, items[1])
	if got := w.run(next); got.errors() != "" || w.value(cms, "plain", "data", "color") != "green" || w.value(cms, "plain", "data", "size") != "7" {
		t.Errorf("git changed: %s; %v", got.errors(), w.get(cms, "plain").Object["data"])
	}
	w.staysUnproven(items[1:], "plain", "it has no managedFields")
	// Then it is nobody's.
	w.patch(cms, "plain", "hand", mergePatch, `{"metadata":{"labels":{"holdfast.dev/environment":null}}}`)
	w.eventually("it is let be", func() bool { return w.run(items[1:]).kinds() == "unchanged 1" })
	if !w.exists(cms, "plain") {
		t.Error("what was let be is gone")
	}
}

// staysUnproven expects an object that left git to stay, and the plan to say which,
// why and what to do.
func (w *world) staysUnproven(items []sources.Item, name, why string) {
	w.t.Helper()
	got := w.run(items)
	i := slices.IndexFunc(got.plan.Operations, func(op reconciler.Operation) bool { return op.Object.Name == name })
	if got.errors() != "" || len(got.plan.Active()) != 0 || i < 0 || !w.exists(cms, name) {
		w.t.Fatalf("%s; %s; plan %+v", got.kinds(), got.errors(), got.plan.Operations)
	}
	op := got.plan.Operations[i]
	if op.Kind != reconciler.OpDelete || !slices.Equal(op.HeldBy, []reconciler.GateKind{reconciler.GateUnproven}) ||
		!strings.Contains(op.Held, why) || !strings.Contains(op.Held, "delete it by hand") {
		w.t.Errorf("%s, held by %v: %q; want %q", op.Kind, op.HeldBy, op.Held, why)
	}
}

// TestWhatCannotBeProvenOursStaysAndIsTold: an object that we applied, and whose
// managedFields were taken while nobody looked, is not deleted when it has left git
// meanwhile. A copy that others made of one is none of ours, and nothing is said of it.
func TestWhatCannotBeProvenOursStaysAndIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: leaves, namespace: NS}\ndata: {color: blue}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: stays, namespace: NS}\n")
	if got := w.run(items); got.errors() != "" {
		t.Fatal(got.errors())
	}
	w.stop()
	live := w.get(cms, "leaves")
	body, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "data": live.Object["data"],
		"metadata": map[string]any{"name": "copy", "labels": live.GetLabels(), "annotations": live.GetAnnotations()},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.patch(cms, "copy", "kubectl", types.ApplyPatchType, string(body))
	w.patch(cms, "leaves", "hand", mergePatch, `{"metadata":{"managedFields":[{}]}}`)
	w.patch(cms, "leaves", "hand", types.ApplyPatchType, `{"apiVersion":"v1","kind":"ConfigMap","data":{"color":"red"}}`)
	w.restart()
	w.staysUnproven(items[1:], "leaves", "somebody took our entry")
	if got := w.run(items[1:]); got.kinds() != "delete 1, unchanged 1" {
		t.Errorf("%s; want nothing about the copy", got.kinds())
	}
	if err := w.objects.Resource(cms).Namespace(w.namespace).Delete(context.Background(), "leaves", deleteNow); err != nil {
		t.Fatal(err)
	}
	w.eventually("it is clean", func() bool { return w.run(items[1:]).kinds() == "unchanged 1" })
	if !w.exists(cms, "copy") {
		t.Error("the copy is gone")
	}
}
