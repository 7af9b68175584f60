package kube

import (
	"context"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// painter paints the ConfigMaps of one namespace, whatever anybody applies.
const painter = `
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: paint-NS}
spec:
  failurePolicy: Fail
  reinvocationPolicy: IfNeeded
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NS}}
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}]
  matchConditions: [{name: painted, expression: "has(object.data) && 'color' in object.data"}]
  mutations:
  - patchType: JSONPatch
    jsonPatch: {expression: "[JSONPatch{op: 'replace', path: '/data/color', value: 'painted'}]"}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: paint-NS}
spec: {policyName: paint-NS}
`

// The policy comes after the first apply, so that what it paints differs from
// what the server answered then.
func TestFieldThatAdmissionRewritesIsReportedOnceAndNotRepeated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	w.run(items)
	for i, text := range strings.Split(painter, "---") {
		r := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: []string{"mutatingadmissionpolicies", "mutatingadmissionpolicybindings"}[i]}
		w.make(r, "", text)
		t.Cleanup(func() { _ = w.objects.Resource(r).Delete(context.Background(), "paint-"+w.namespace, deleteNow) })
	}
	// Somebody's edit is painted, as soon as the policy is in force.
	n := 0
	w.eventually("the policy is in force", func() bool {
		n++
		w.patch(cms, "settings", "somebody", mergePatch, `{"metadata":{"annotations":{"try":"`+strings.Repeat("x", n)+`"}}}`)
		return w.value(cms, "settings", "data", "color") == "painted"
	})
	got := w.correct(items, "settings")
	if got.Err != nil || !got.Persists || got.Class != drift.Changed {
		t.Fatalf("persists %v, class %q, error %v, changes %+v", got.Persists, got.Class, got.Err, got.Changes)
	}
	w.expectChange(got.Changes, ".data.color", `"blue" <- "painted"`, drift.Unknown)
	version := w.get(cms, "settings").GetResourceVersion()
	for len(w.hints) > 0 {
		<-w.hints
	}
	for range 3 {
		if again := w.run(items); len(again.errors()) > 0 || again.kinds() != "unchanged 4" {
			t.Errorf("and again: %s; %s", again.kinds(), again.errors())
		}
	}
	if w.get(cms, "settings").GetResourceVersion() != version || len(w.hints) > 0 {
		t.Error("it is written or hinted at for ever")
	}
	// Applied with the policy in force, it is no drift at all.
	fresh := w.items(strings.ReplaceAll(shop, "name: settings", "name: settings2"))[:1]
	w.run(fresh, func(s *reconciler.Scope) { s.Partial = true })
	if again := w.run(fresh, func(s *reconciler.Scope) { s.Partial = true }); again.kinds() != "unchanged 1" {
		t.Errorf("applied through the policy: %s", again.kinds())
	}
}
