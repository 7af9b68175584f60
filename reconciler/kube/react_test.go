package kube

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
)

// reacting restarts a world whose objects are there, as one that reacts soon to what
// changes, so that the first lists hold all that the test made before.
func (w *world) reacting(items []sources.Item) {
	w.t.Helper()
	w.verification = Verification{Interval: time.Hour, RequestsPerMinute: 60_000, after: 200 * time.Millisecond}
	w.restart()
	w.run(items)
}

// listed waits until the changes of some kinds would be noticed.
func (w *world) listed(kinds ...schema.GroupKind) {
	w.t.Helper()
	r := w.target.reactions
	w.eventually("definitions and admission are watched", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return !slices.ContainsFunc(kinds, func(k schema.GroupKind) bool { return r.watched[k] == 0 })
	})
}

// told counts what the target told that holds a text.
func (w *world) told(text string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.failures {
		if strings.Contains(f, text) {
			n++
		}
	}
	return n
}

// TestChangedDefinitionHasItsKindVerified: a definition that prunes a field takes
// it out of what is read, and no watch tells of it. Without the right to watch
// admission this is said once for each kind, and the rest goes on.
func TestChangedDefinitionHasItsKindVerified(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(widgets + "---" + strings.NewReplacer("widgets", "gadgets", "Widget", "Gadget").Replace(widgets) + "---" + shop)
	w.run(items)
	t.Cleanup(func() {
		for _, name := range []string{"widgets.", "gadgets."} {
			_ = w.objects.Resource(crds).Delete(context.Background(), name+w.namespace+".example.com", deleteNow)
		}
	})
	var mu sync.Mutex
	var sent []string
	refused := 0
	watch := func(r *http.Request) error {
		if strings.Contains(r.URL.Path, "/mutating") {
			mu.Lock()
			defer mu.Unlock()
			refused++
			return apierrors.NewForbidden(schema.GroupResource{Group: "admissionregistration.k8s.io", Resource: "mutatings"}, "", nil)
		}
		// Verifications, and what concerns these kinds; other tests have objects, too.
		if q := r.URL.Query(); q.Get("watch") == "" && (q.Get("limit") == "100" || strings.Contains(r.URL.Path, w.namespace+".example.com")) {
			mu.Lock()
			defer mu.Unlock()
			sent = append(sent, r.Method+" "+r.URL.Path)
		}
		return nil
	}
	w.allow.Store(&watch)
	w.reacting(items)
	w.listed(definitionKind)
	for _, kind := range mutatingKinds {
		w.eventually("a right that lacks is said", func() bool { return w.told("changes of kind "+kind.String()) == 1 })
	}
	w.eventually("quiet", func() bool {
		before := w.sent.Load()
		return strings.HasPrefix(w.run(items).kinds(), "unchanged 8") && w.sent.Load() == before
	})
	for len(w.hints) > 0 {
		<-w.hints
	}
	mu.Lock()
	sent = nil
	mu.Unlock()
	edit := func(name, patch string) {
		t.Helper()
		if _, err := w.objects.Resource(crds).Patch(t.Context(), name+"."+w.namespace+".example.com", mergePatch, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// An annotation is no change of the definition.
	edit("widgets", `{"metadata":{"annotations":{"note":"x"}}}`)
	edit("gadgets", `{"spec":{"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"object","properties":{"other":{"type":"integer"}}}}}}}]}}`)
	w.eventually("what the definition changed is hinted at", func() bool {
		select {
		case h := <-w.hints:
			return h.Object.Kind == "Gadget"
		default:
			return false
		}
	})
	if _, found := w.target.Verified(); found != 1 {
		t.Errorf("%d found", found)
	}
	mu.Lock()
	defer mu.Unlock()
	if got := slices.Compact(slices.Sorted(slices.Values(sent))); len(got) != 1 || !strings.HasSuffix(got[0], "example.com/v1/gadgets") {
		t.Errorf("sent: %v", sent)
	}
	if refused != len(mutatingKinds) {
		t.Errorf("%d requests without the right", refused)
	}
	for _, kind := range mutatingKinds {
		if n := w.told("changes of kind " + kind.String()); n != 1 {
			t.Errorf("%s: said %d times", kind, n)
		}
	}
}

const annotator = `
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: note-NS}
spec:
  failurePolicy: Fail
  reinvocationPolicy: IfNeeded
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NS}}
    resourceRules: [{apiGroups: [networking.k8s.io], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [networkpolicies]}]
  matchConditions: [{name: noted, expression: "has(object.metadata.annotations) && 'note' in object.metadata.annotations"}]
  mutations:
  - patchType: JSONPatch
    jsonPatch: {expression: "[JSONPatch{op: 'replace', path: '/metadata/annotations/note', value: 'rewritten'}]"}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: note-NS}
spec: {policyName: note-NS}
`

// TestNewAdmissionIsNoticedAndNotFought: a policy that begins to rewrite an owned
// annotation has all kinds verified; what it does with another's write, which
// moves neither a generation nor an owner, is seen, said once, and left. Without a
// verification, and without environments, nothing is watched.
func TestNewAdmissionIsNoticedAndNotFought(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: NS, annotations: {note: hello}}\nspec: {podSelector: {}}\n")
	w.run(items)
	w.target.react(t.Context()) // without a verification there is nothing to do: it returns
	w.reacting(items)
	policies := schema.GroupVersionResource{Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"}
	w.listed(append([]schema.GroupKind{definitionKind}, mutatingKinds...)...)
	var mu sync.Mutex
	lists := 0
	count := func(r *http.Request) error {
		if q := r.URL.Query(); q.Get("limit") == "100" && strings.HasSuffix(r.URL.Path, "/networkpolicies") {
			mu.Lock()
			defer mu.Unlock()
			lists++
		}
		return nil
	}
	w.allow.Store(&count)
	for i, text := range strings.Split(annotator, "---") {
		r := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: []string{"mutatingadmissionpolicies", "mutatingadmissionpolicybindings"}[i]}
		w.make(r, "", text)
		defer func() { _ = w.objects.Resource(r).Delete(t.Context(), "note-"+w.namespace, deleteNow) }()
	}
	w.eventually("the kinds are verified", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return lists > 0
	})
	n := 0
	w.eventually("the policy is in force", func() bool {
		n++
		w.patch(policies, "web", "somebody", mergePatch, `{"metadata":{"annotations":{"try":"`+strings.Repeat("x", n)+`"}}}`)
		return w.value(policies, "web", "metadata", "annotations", "note") == "rewritten"
	})
	generation := w.get(policies, "web").GetGeneration()
	got := w.correct(items, "web")
	if got.Err != nil || !got.Persists || got.Class != drift.Changed || generation != 1 {
		t.Fatalf("persists %v, class %q, error %v, generation %d, changes %+v", got.Persists, got.Class, got.Err, generation, got.Changes)
	}
	w.expectChange(got.Changes, ".metadata.annotations.note", `"hello" <- "rewritten"`, drift.Unknown)
	version := w.get(policies, "web").GetResourceVersion()
	for len(w.hints) > 0 {
		<-w.hints
	}
	w.target.verifyOnce(t.Context())
	for range 3 {
		if again := w.run(items); len(again.errors()) > 0 || again.kinds() != "unchanged 1" {
			t.Errorf("and again: %s; %s", again.kinds(), again.errors())
		}
	}
	if w.get(policies, "web").GetResourceVersion() != version || len(w.hints) > 0 {
		t.Error("it is written or hinted at for ever")
	}
	// With the last environment the watches end.
	if err := w.target.Forget(t.Context(), w.name); err != nil {
		t.Fatal(err)
	}
	w.eventually("nothing is watched", func() bool {
		w.target.reactions.mu.Lock()
		defer w.target.reactions.mu.Unlock()
		return len(w.target.reactions.watched) == 0
	})
}
