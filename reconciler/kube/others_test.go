package kube

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/internal/testkit/kube"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// filled are objects into which controllers write what git leaves out, or has empty.
// The webhooks are for a group that nobody serves.
const filled = `
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: NS}
webhooks:
- name: one.example.com
  clientConfig: {service: {name: hook, namespace: NS, path: /one}}
  rules: [{apiGroups: [NS.example.com], apiVersions: ["*"], operations: [CREATE], resources: ["*"]}]
  failurePolicy: Ignore
  sideEffects: None
  admissionReviewVersions: [v1]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: NS}
webhooks:
- name: two.example.com
  clientConfig: {service: {name: hook, namespace: NS}}
  rules: [{apiGroups: [NS.example.com], apiVersions: ["*"], operations: [CREATE], resources: ["*"]}]
  failurePolicy: Ignore
  sideEffects: None
  admissionReviewVersions: [v1]
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: converted.NS.example.com}
spec:
  group: NS.example.com
  names: {kind: Converted, plural: converted}
  scope: Namespaced
  conversion:
    strategy: Webhook
    webhook: {conversionReviewVersions: [v1], clientConfig: {service: {name: hook, namespace: NS}}}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: part-NS, labels: {aggregate: NS}}
rules: [{apiGroups: [NS.example.com], resources: [converted], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: empty-NS}
aggregationRule: {clusterRoleSelectors: [{matchLabels: {aggregate: NS}}]}
rules: []
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: silent-NS}
aggregationRule: {clusterRoleSelectors: [{matchLabels: {aggregate: NS}}]}
`

// TestWhatControllersFillInIsNoDrift: certificates that are injected, and rules that
// are gathered from other roles, stay, and nobody fights over them.
func TestWhatControllersFillInIsNoDrift(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(filled)
	at := func(group, version, resource string) schema.GroupVersionResource {
		return schema.GroupVersionResource{Group: group, Version: version, Resource: resource}
	}
	const admission, rbac = "admissionregistration.k8s.io", "rbac.authorization.k8s.io"
	ca := base64.StdEncoding.EncodeToString(w.config.CAData)
	add := `[{"op":"add","path":"%s/clientConfig/caBundle","value":"BUNDLE"}]`
	rules := `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","rules":[{"apiGroups":["NS.example.com"],"resources":["converted"],"verbs":["get"]}]}`
	role := at(rbac, "v1", "clusterroles")
	fills := []struct {
		resource             schema.GroupVersionResource
		name, manager, patch string
		kind                 types.PatchType
		is                   func(map[string]any) bool
	}{
		{at(admission, "v1", "mutatingwebhookconfigurations"), "NS", "cainjector", fmt.Sprintf(add, "/webhooks/0"), types.JSONPatchType, hasBundle},
		{at(admission, "v1", "validatingwebhookconfigurations"), "NS", "cainjector", fmt.Sprintf(add, "/webhooks/0"), types.JSONPatchType, hasBundle},
		{crds, "converted.NS.example.com", "cainjector", fmt.Sprintf(add, "/spec/conversion/webhook"), types.JSONPatchType, hasBundle},
		{role, "empty-NS", "clusterrole-aggregation-controller", rules, types.ApplyPatchType, hasRules},
		{role, "silent-NS", "clusterrole-aggregation-controller", rules, types.ApplyPatchType, hasRules},
		{resource: role, name: "part-NS"},
	}
	named := func(s string) string { return strings.ReplaceAll(s, "NS", w.namespace) }
	t.Cleanup(func() {
		for _, f := range fills { // leftovers match no other test
			_ = w.objects.Resource(f.resource).Delete(context.Background(), named(f.name), deleteNow)
		}
	})
	if got := w.run(items); got.errors() != "" {
		t.Fatal(got.errors())
	}
	w.eventually("what was applied is clean", func() bool { return w.run(items).kinds() == "unchanged 6" })
	for _, f := range fills[:5] {
		w.patchCluster(f.resource, named(f.name), f.manager, f.kind, strings.ReplaceAll(named(f.patch), "BUNDLE", ca))
	}
	w.eventually("it is clean", func() bool { return w.run(items).kinds() == "unchanged 6" })
	versions := map[string]string{}
	for range 2 {
		for _, f := range fills[:5] {
			live := w.getCluster(f.resource, named(f.name))
			if !f.is(live.Object) {
				t.Errorf("what was filled into %s %s is gone: %v", f.resource.Resource, f.name, live.Object)
			}
			key := f.resource.Resource + f.name
			if v := versions[key]; v != "" && v != live.GetResourceVersion() && f.resource != crds { // which has a status
				t.Errorf("%s %s is written again: %+v", f.resource.Resource, f.name, live.GetManagedFields())
			}
			versions[key] = live.GetResourceVersion()
		}
		if got := w.run(items, func(s *reconciler.Scope) { s.Verify = true }); got.kinds() != "unchanged 6" {
			t.Errorf("verified: %s; %s", got.kinds(), got.errors())
		}
	}
	// What git does set there is put back as ever.
	w.patchCluster(fills[3].resource, named("empty-NS"), "hand", mergePatch, `{"aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"a":"b"}}]}}`)
	out := w.correct(items, named("empty-NS"))
	if out.Err != nil || len(out.Changes) != 1 || !strings.HasPrefix(out.Changes[0].Path, ".aggregationRule") || out.Changes[0].Manager != "hand" {
		t.Errorf("error %v, changes %+v", out.Err, out.Changes)
	}
}

// TestABundleInAnAPIServiceIsNoDrift: the same of an API that another server serves. It
// has a cluster of its own, since a group whose server is away is one that no client
// can discover.
func TestABundleInAnAPIServiceIsNoDrift(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, kube.Own(t).Config())
	items := w.items(`
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.NS.example.com}
spec:
  group: NS.example.com
  version: v1
  groupPriorityMinimum: 100
  versionPriority: 100
  service: {name: api, namespace: NS}
`)
	if got := w.run(items); got.errors() != "" {
		t.Fatal(got.errors())
	}
	services := schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"}
	name := "v1." + w.namespace + ".example.com"
	w.eventually("the cluster has found its server to be away", func() bool {
		all, _, _ := unstructured.NestedSlice(w.getCluster(services, name).Object, "status", "conditions")
		return len(all) > 0
	})
	ca := base64.StdEncoding.EncodeToString(w.config.CAData)
	w.patchCluster(services, name, "cainjector", types.JSONPatchType, `[{"op":"add","path":"/spec/caBundle","value":"`+ca+`"}]`)
	w.eventually("it is clean", func() bool { return w.run(items).kinds() == "unchanged 1" })
	for range 2 {
		if got := w.run(items, func(s *reconciler.Scope) { s.Verify = true }); got.kinds() != "unchanged 1" {
			t.Errorf("verified: %s; %s", got.kinds(), got.errors())
		}
		if got, _, _ := unstructured.NestedString(w.getCluster(services, name).Object, "spec", "caBundle"); got != ca {
			t.Errorf("what was filled in is gone: %q", got)
		}
	}
	w.patchCluster(services, name, "hand", mergePatch, `{"spec":{"versionPriority":7}}`)
	out := w.correct(items, name)
	if out.Err != nil || len(out.Changes) != 1 || out.Changes[0].Path != ".spec.versionPriority" || out.Changes[0].Manager != "hand" {
		t.Errorf("error %v, changes %+v", out.Err, out.Changes)
	}
	if got, _, _ := unstructured.NestedString(w.getCluster(services, name).Object, "spec", "caBundle"); got != ca {
		t.Errorf("a correction took what was filled in: %q", got)
	}
}

func hasBundle(o map[string]any) bool { return strings.Contains(fmt.Sprint(o), "caBundle:") }

func hasRules(o map[string]any) bool {
	rules, _, _ := unstructured.NestedSlice(o, "rules")
	return len(rules) == 1
}

// patchCluster changes an object outside of namespaces by foreign hand.
func (w *world) patchCluster(r schema.GroupVersionResource, name, manager string, kind types.PatchType, body string) {
	w.t.Helper()
	if _, err := w.objects.Resource(r).Patch(context.Background(), name, kind, []byte(body), patchAs(manager, kind)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) getCluster(r schema.GroupVersionResource, name string) *unstructured.Unstructured {
	w.t.Helper()
	u, err := w.objects.Resource(r).Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return u
}
