package kube

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

const restricted = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: deployer, namespace: NS}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: deployer, namespace: NS}
rules:
- {apiGroups: [""], resources: [configmaps, services], verbs: [get, list, create, patch, delete]}
- {apiGroups: [apps], resources: [deployments], verbs: [get, create, patch, delete]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: deployer, namespace: NS}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: deployer}
subjects: [{kind: ServiceAccount, name: deployer, namespace: NS}]
`

func TestEverythingIsWrittenAsTheGrantedServiceAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, text := range strings.Split(restricted, "---") {
		kind := w.items(text)[0].ID.Kind
		w.make(map[string]schema.GroupVersionResource{
			"ServiceAccount": {Version: "v1", Resource: "serviceaccounts"},
			"Role":           {Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "roles"},
			"RoleBinding":    {Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "rolebindings"},
		}[kind], w.namespace, text)
	}
	as := func(s *reconciler.Scope) {
		s.Identity, s.Recreate = w.namespace+"/deployer", environment.RecreateAllowed
	}
	items := w.items(shop)
	w.eventually("the role counts", func() bool { return w.run(items, as).done["ConfigMap/"+w.namespace+"/settings"].Err == nil })
	got := w.run(items, as)
	if !strings.Contains(got.errors(), "Secret/"+w.namespace+"/token: ") || !strings.Contains(got.errors(), "give the environment's service account the right") {
		t.Errorf("a Secret without the right: %s; %s", got.kinds(), got.errors())
	}
	if !w.exists(deploys, "web") || !w.exists(cms, "settings") {
		t.Error("what is allowed was not applied")
	}
	// Dry runs, replacing and deleting go the same way.
	without := append(items[:1:1], items[2:]...)
	if got := w.run(without, as, func(s *reconciler.Scope) { s.Verify = true }); got.kinds() != "unchanged 3" {
		t.Errorf("verified: %s; %s", got.kinds(), got.errors())
	}
	changed := w.items(strings.ReplaceAll(shop, "{app: web}", "{app: web, tier: front}"))
	changed = append(changed[:1:1], changed[2:]...)
	if got := w.run(changed, as); !strings.Contains(got.kinds(), "recreate 1") || got.errors() != "" {
		t.Errorf("recreate: %s; %s", got.kinds(), got.errors())
	}
	if got := w.run(changed[1:], as); !strings.Contains(got.kinds(), "delete 1") || got.errors() != "" || w.exists(cms, "settings") {
		t.Errorf("delete: %s; %s", got.kinds(), got.errors())
	}
	if _, err := w.try(t.Context(), items, func(s *reconciler.Scope) { s.Identity = "nonsense" }); err == nil || !strings.Contains(err.Error(), "want namespace/name") {
		t.Errorf("a wrong name: %v", err)
	}
}
