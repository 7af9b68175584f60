package kube

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// adopted is what is in git, and was applied by others before.
const adopted = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: NS, labels: {app: shop}}
data: {color: blue, size: "7"}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: NS}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: NS}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, annotations: {note: here}}
    spec: {containers: [{name: web, image: "web:1", env: [{name: A, value: "1"}, {name: B, value: "2"}]}]}
`

var services = schema.GroupVersionResource{Version: "v1", Resource: "services"}

func resourceOf(kind string) schema.GroupVersionResource {
	return map[string]schema.GroupVersionResource{"ConfigMap": cms, "Service": services, "Deployment": deploys}[kind]
}

// clientSideApply does what kubectl apply does to an object that is not there:
// create it, with the annotation by which it finds later what it applied.
func (w *world) clientSideApply(text string) {
	w.t.Helper()
	for _, item := range w.items(text) {
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(item.Body); err != nil {
			w.t.Fatal(err)
		}
		notes := u.GetAnnotations()
		if notes == nil {
			notes = map[string]string{}
		}
		notes[lastApplied] = string(item.Body)
		u.SetAnnotations(notes)
		api := w.objects.Resource(resourceOf(item.ID.Kind)).Namespace(w.namespace)
		if _, err := api.Create(context.Background(), u, metav1.CreateOptions{FieldManager: "kubectl-client-side-apply"}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// clientSideReapply does what kubectl apply does to an object that it applied
// before: a three-way merge, whose result it sends as a strategic merge patch.
func (w *world) clientSideReapply(r schema.GroupVersionResource, name, patch string) {
	w.t.Helper()
	var p map[string]any
	if err := json.Unmarshal([]byte(patch), &p); err != nil {
		w.t.Fatal(err)
	}
	live := w.get(r, name)
	p["metadata"] = map[string]any{"annotations": map[string]any{lastApplied: live.GetAnnotations()[lastApplied] + " "}}
	raw, err := json.Marshal(p)
	if err != nil {
		w.t.Fatal(err)
	}
	w.patch(r, name, "kubectl-client-side-apply", types.StrategicMergePatchType, string(raw))
}

// helmInstall creates the objects as Helm 3 does.
func (w *world) helmInstall(text string) {
	w.t.Helper()
	for _, item := range w.items(text) {
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(item.Body); err != nil {
			w.t.Fatal(err)
		}
		labels := map[string]string{managedByLabel: "Helm"}
		for k, v := range u.GetLabels() {
			labels[k] = v
		}
		u.SetLabels(labels)
		u.SetAnnotations(map[string]string{"meta.helm.sh/release-name": "shop", "meta.helm.sh/release-namespace": w.namespace})
		api := w.objects.Resource(resourceOf(item.ID.Kind)).Namespace(w.namespace)
		if _, err := api.Create(context.Background(), u, metav1.CreateOptions{FieldManager: "helm"}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// serverSideApply applies the objects as a manager, with labels and annotations.
func (w *world) serverSideApply(text, manager string, labels, notes map[string]string) {
	w.t.Helper()
	for _, item := range w.items(text) {
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(item.Body); err != nil {
			w.t.Fatal(err)
		}
		all := map[string]string{}
		for _, m := range []map[string]string{u.GetLabels(), labels} {
			for k, v := range m {
				all[k] = v
			}
		}
		u.SetLabels(all)
		u.SetAnnotations(notes)
		raw, err := u.MarshalJSON()
		if err != nil {
			w.t.Fatal(err)
		}
		w.patch(resourceOf(item.ID.Kind), item.ID.Name, manager, types.ApplyPatchType, string(raw))
	}
}

func TestExistingObjectsAreAdoptedWithoutLossOrDowntime(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before    func(*world)
		adoptFrom []string
		refusal   string
		marks     []string
	}{
		"kubectl apply": {
			func(w *world) { w.clientSideApply(adopted) }, []string{"kubectl"},
			"written by kubectl-client-side-apply", []string{lastApplied},
		},
		"kubectl apply, applied twice": {
			func(w *world) {
				w.clientSideApply(strings.ReplaceAll(adopted, "web:1", "web:0"))
				w.clientSideReapply(deploys, "web", `{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"web:1"}]}}}}`)
			}, []string{"kubectl-client-side-apply"}, "written by kubectl-client-side-apply", []string{lastApplied},
		},
		"Helm": {
			func(w *world) { w.helmInstall(adopted) }, []string{"helm"},
			"tracked by helm", []string{"meta.helm.sh/release-name", managedByLabel},
		},
		"Flux": {
			func(w *world) {
				w.serverSideApply(adopted, "kustomize-controller", map[string]string{"kustomize.toolkit.fluxcd.io/name": "shop", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}, nil)
			}, []string{"flux"}, "tracked by flux", []string{"kustomize.toolkit.fluxcd.io/name"},
		},
		"Argo CD": {
			func(w *world) {
				w.serverSideApply(adopted, "argocd-controller", nil, map[string]string{"argocd.argoproj.io/tracking-id": "shop:x"})
			}, []string{"argocd"}, "tracked by argocd", []string{"argocd.argoproj.io/tracking-id"},
		},
		"another ApplySet": {
			func(w *world) {
				w.serverSideApply(adopted, "kubectl-applyset", map[string]string{kubelive.LabelPartOf: "applyset-xyz-v1"}, nil)
			}, []string{"applyset"}, "tracked by applyset", nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.before(w)
			w.patch(cms, "settings", "flags", mergePatch, `{"data":{"extra":"theirs"}}`)
			w.patch(deploys, "web", "kubectl-annotate", mergePatch, `{"metadata":{"annotations":{"by":"hand"}}}`)
			adoptFrom := append(c.adoptFrom, "flags", "kubectl")
			w.eventually("the Deployment is up", func() bool {
				n, _, _ := nestedInt(w.get(deploys, "web"), "status", "readyReplicas")
				return n == 2
			})
			before := w.get(deploys, "web")
			items := w.items(adopted)
			refused := w.run(items, func(s *reconciler.Scope) { s.AdoptFrom = []string{"flags", "kubectl-annotate"} })
			if refused.kinds() != "conflict 3" || !strings.Contains(refused.errors(), c.refusal) {
				t.Fatalf("unasked: %s; errors %s", refused.kinds(), refused.errors())
			}
			got := w.run(items, func(s *reconciler.Scope) { s.AdoptFrom = adoptFrom })
			if got.kinds() != "adopt 3" || got.errors() != "" {
				t.Fatalf("adopting: %s; errors %s", got.kinds(), got.errors())
			}
			w.expectSameSpec(before)
			for _, mark := range c.marks {
				live := w.get(deploys, "web")
				if live.GetAnnotations()[mark]+live.GetLabels()[mark] != "" {
					t.Errorf("the mark %s stays", mark)
				}
			}
			if again := w.run(items); again.kinds() != "unchanged 3" {
				t.Errorf("afterwards: %s", again.kinds())
			}
			w.expectRemovalsWork()
		})
	}
}

// expectSameSpec checks that adopting changed nothing that runs.
func (w *world) expectSameSpec(before *unstructured.Unstructured) {
	w.t.Helper()
	after := w.get(deploys, "web")
	a, _ := json.Marshal(before.Object["spec"])
	b, _ := json.Marshal(after.Object["spec"])
	if string(a) != string(b) || before.GetUID() != after.GetUID() {
		w.t.Errorf("adopting changed the Deployment:\n%s\n%s", a, b)
	}
	if after.GetAnnotations()["by"] != "hand" || w.value(cms, "settings", "data", "extra") != "theirs" || w.value(cms, "settings", "data", "color") != "blue" {
		w.t.Error("what others set is lost")
	}
}

// expectRemovalsWork checks that keys which leave git now go.
func (w *world) expectRemovalsWork() {
	w.t.Helper()
	text := strings.NewReplacer(`, size: "7"`, "", `, {name: B, value: "2"}`, "", ", labels: {app: shop}", "").Replace(adopted)
	if got := w.run(w.items(text)); got.errors() != "" {
		w.t.Fatal(got.errors())
	}
	if w.value(cms, "settings", "data", "size") != "" || w.get(cms, "settings").GetLabels()["app"] != "" {
		w.t.Errorf("keys that left git stay: %v, %v", w.get(cms, "settings").Object["data"], w.get(cms, "settings").GetManagedFields())
	}
	if strings.Contains(string(mustJSON(w.get(deploys, "web"))), `{"name":"B","value":"2"}`) {
		w.t.Error("a variable that left git stays")
	}
}

func TestStarAdoptsFromNoTool(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serverSideApply(adopted, "argocd-controller", nil, map[string]string{"argocd.argoproj.io/tracking-id": "shop:x"})
	got := w.run(w.items(adopted), func(s *reconciler.Scope) { s.AdoptFrom = []string{"*"} })
	if got.kinds() != "conflict 3" || !strings.Contains(got.errors(), "adoptFrom: [argocd") {
		t.Errorf("%s; errors %s", got.kinds(), got.errors())
	}
	got = w.run(w.items(adopted), func(s *reconciler.Scope) { s.AdoptFrom = []string{"*", "argocd"} })
	if got.kinds() != "adopt 3" || got.errors() != "" {
		t.Errorf("%s; errors %s", got.kinds(), got.errors())
	}
}
