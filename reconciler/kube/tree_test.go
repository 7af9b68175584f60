package kube

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// TestATreeIsReadForWhoLooks: a Deployment with its ReplicaSets and their pods, by
// owner, in few requests, and with no value of theirs.
func TestATreeIsReadForWhoLooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	text := strings.ReplaceAll(ailing, "name: c, ", "name: c, env: [{name: PASSWORD, value: planted-sentinel}], ")
	id := sources.ID{Group: "apps", Kind: "Deployment", Namespace: w.namespace, Name: "web"}
	forget := func() {
		w.target.trees.mu.Lock()
		defer w.target.trees.mu.Unlock()
		clear(w.target.trees.kept)
	}
	read := func() reconciler.Tree {
		t.Helper()
		forget()
		tree, err := w.target.Tree(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	// pods are those below the only ReplicaSet, with n pods that stand so.
	has := func(tree reconciler.Tree, n int, h reconciler.Health) bool {
		if len(tree.Parts) != 1 || tree.Parts[0].Object.Kind != "ReplicaSet" || len(tree.Parts[0].Parts) != n {
			return false
		}
		for _, p := range tree.Parts[0].Parts {
			if p.Object.Kind != "Pod" || p.Health != h || p.Created.IsZero() {
				return false
			}
		}
		return true
	}
	// A stranger with the same labels belongs to nobody.
	stranger := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "stranger", "labels": map[string]any{"a": "other"}},
		"spec": map[string]any{"containers": []any{map[string]any{"name": "c", "image": "good:1"}}},
	}}
	if _, err := w.objects.Resource(pods).Namespace(w.namespace).Create(t.Context(), stranger, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.run(w.items(strings.ReplaceAll(text, "IMAGE", "good:1")))
	w.eventually("two pods are ready", func() bool {
		tree := read()
		return tree.Health == reconciler.HealthReady && has(tree, 2, reconciler.HealthReady) && tree.Parts[0].Parts[0].Where != ""
	})
	w.eventually("all is ready", func() bool { ok, _ := w.target.Ready(w.name); return ok })
	// What the target asks for on its own, as why something is not ready yet, may
	// fall into a look, but not into each.
	var tree reconciler.Tree
	least := int64(math.MaxInt64)
	for range 5 {
		before := w.sent.Load()
		tree = read()
		least = min(least, int64(w.sent.Load()-before))
	}
	if least != 3 {
		t.Errorf("a look took %d requests at least, want 3", least)
	}
	for range 10 {
		if again, err := w.target.Tree(t.Context(), id); err != nil || !again.AsOf.Equal(tree.AsOf) {
			t.Errorf("looking again reads again: %v", err)
		}
	}
	if out, err := json.Marshal(tree); err != nil || strings.Contains(string(out), "sentinel") || strings.Contains(string(out), "stranger") {
		t.Errorf("the tree is %s, %v", out, err)
	}

	w.run(w.items(strings.ReplaceAll(text, "IMAGE", "bad:broken")))
	w.eventually("the pod that cannot start is named, and comes first", func() bool {
		tree := read()
		for _, set := range tree.Parts {
			for _, p := range set.Parts {
				if p.Health == reconciler.HealthFailed && strings.HasPrefix(p.Why, "ImagePullBackOff: ") {
					return set.Parts[0].Health == reconciler.HealthFailed
				}
			}
		}
		return false
	})

	// Where ReplicaSets may not be read, the pods are there all the same.
	refuse := func(r *http.Request) error {
		if strings.Contains(r.URL.Path, "/replicasets") {
			return errors.New("not today")
		}
		return nil
	}
	w.allow.Store(&refuse)
	tree = read()
	w.allow.Store(nil)
	if len(tree.Problems) != 1 || !strings.Contains(tree.Problems[0], "list replicasets in "+w.namespace) || len(tree.Parts) < 2 || tree.Parts[0].Object.Kind != "Pod" {
		t.Errorf("without ReplicaSets: %+v", tree)
	}
	missing := id
	missing.Name = "none"
	if tree, err := w.target.Tree(t.Context(), missing); err != nil || tree.Why != "is not there" || len(tree.Parts) != 0 {
		t.Errorf("of what is not there: %+v, %v", tree, err)
	}
}

func TestPodsSayHowTheyWork(t *testing.T) {
	t.Parallel()
	crashing := `"containerStatuses":[{"name":"a","restartCount":4,"ready":false,"state":{"waiting":{"reason":"CrashLoopBackOff"}}},{"name":"b","restartCount":2,"ready":true}],"initContainerStatuses":[{"name":"i","restartCount":1}]`
	for name, tt := range map[string]struct {
		status   string
		health   reconciler.Health
		restarts int
		why      string
	}{
		"new":      {`{}`, reconciler.HealthProgressing, 0, "is pending"},
		"ready":    {`{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}`, reconciler.HealthReady, 0, ""},
		"ended":    {`{"phase":"Succeeded"}`, reconciler.HealthReady, 0, "has ended"},
		"crashing": {`{"phase":"Running",` + crashing + `}`, reconciler.HealthFailed, 7, "CrashLoopBackOff: "},
		"starting": {`{"phase":"Running","containerStatuses":[{"name":"a","ready":false,"state":{"running":{}}}]}`, reconciler.HealthProgressing, 0, "container a is running"},
	} {
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON([]byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"status":` + tt.status + `}`)); err != nil {
			t.Fatal(err)
		}
		var got reconciler.Part
		if podPart(u, &got); got.Health != tt.health || got.Restarts != tt.restarts || !strings.HasPrefix(got.Why, tt.why) || got.Why != "" && tt.why == "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
