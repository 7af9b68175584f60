package kube

import (
	"context"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

func conflicts(c environment.Conflicts) func(*reconciler.Scope) {
	return func(s *reconciler.Scope) { s.Conflicts = c }
}

func replicasOf(u *unstructured.Unstructured) int64 {
	n, _, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
	return n
}

func TestFieldOfAnotherManagerIsTakenYieldedOrAnError(t *testing.T) {
	t.Parallel()
	replicas := environment.Match{Kind: "Deployment", Paths: []string{"/spec/replicas"}}
	for name, c := range map[string]struct {
		rules environment.Conflicts
		want  int64
		err   string
	}{
		"taken by default":      {environment.Conflicts{}, 3, ""},
		"yielded by default":    {environment.Conflicts{Default: environment.ConflictYield}, 7, ""},
		"yielded by rule":       {environment.Conflicts{Rules: []environment.ConflictRule{{Match: replicas, Mode: environment.ConflictYield}}}, 7, ""},
		"a rule for another":    {environment.Conflicts{Rules: []environment.ConflictRule{{Match: environment.Match{Kind: "Service"}, Mode: environment.ConflictYield}}}, 3, ""},
		"taken by rule":         {environment.Conflicts{Default: environment.ConflictFail, Rules: []environment.ConflictRule{{Match: replicas, Mode: environment.ConflictTake}}}, 3, ""},
		"an error":              {environment.Conflicts{Default: environment.ConflictFail}, 7, "fields are owned by others: .spec.replicas by scaler"},
		"an error by a manager": {environment.Conflicts{Rules: []environment.ConflictRule{{Match: environment.Match{Managers: []string{"scal*"}}, Mode: environment.ConflictFail}}}, 7, "by scaler"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.run(w.items(shop), conflicts(c.rules))
			w.patch(deploys, "web", "scaler", types.ApplyPatchType, `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":7}}`)
			items := w.items(strings.ReplaceAll(shop, "replicas: 2", "replicas: 3"))
			got := w.run(items, conflicts(c.rules))
			if c.err == "" && got.errors() != "" || !strings.Contains(got.errors(), c.err) {
				t.Errorf("errors %q", got.errors())
			}
			if n := replicasOf(w.get(deploys, "web")); n != c.want {
				t.Errorf("replicas %d, want %d", n, c.want)
			}
			if c.err != "" {
				return
			}
			if again := w.run(items, conflicts(c.rules)); again.kinds() != "unchanged 4" {
				t.Errorf("afterwards: %s", again.kinds())
			}
			w.restart()
			if w.run(items, conflicts(c.rules)); replicasOf(w.get(deploys, "web")) != c.want {
				t.Errorf("after a restart: replicas %d, want %d", replicasOf(w.get(deploys, "web")), c.want)
			}
		})
	}
}

func TestCorrectionYieldsToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	rules := conflicts(environment.Conflicts{Rules: []environment.ConflictRule{{Match: environment.Match{Paths: []string{"/spec/replicas"}}, Mode: environment.ConflictYield}}})
	w.run(items, rules)
	w.patch(deploys, "web", "kubectl-scale", mergePatch, `{"spec":{"replicas":5}}`)
	<-w.hints
	w.eventually("the run is quiet", func() bool { return w.run(items, rules).kinds() == "unchanged 4" })
	if n := replicasOf(w.get(deploys, "web")); n != 5 {
		t.Errorf("replicas %d, want those of the other manager", n)
	}
}

func TestCorrectionLeavesWhatItIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	w.run(items)
	w.patch(deploys, "web", "kubectl-edit", types.StrategicMergePatchType, `{"spec":{"replicas":5,"template":{"spec":{"containers":[{"name":"web","image":"web:2"}]}}}}`)
	<-w.hints
	ops, err := w.target.Compare(t.Context(), items, reconciler.Scope{Environment: w.name})
	if err != nil {
		t.Fatal(err)
	}
	for i := range ops {
		ops[i].Leave = []string{".spec.replicas"}
	}
	err = w.target.Apply(t.Context(), reconciler.Plan{Environment: w.name, Operations: ops}, func(o reconciler.Outcome) {
		if o.Err != nil {
			t.Error(o.Err)
		}
	})
	live := w.get(deploys, "web")
	if err != nil || replicasOf(live) != 5 || !strings.Contains(string(mustJSON(live)), `"image":"web:1"`) {
		t.Errorf("replicas %d, error %v", replicasOf(live), err)
	}
}

func mustJSON(u *unstructured.Unstructured) []byte { b, _ := u.MarshalJSON(); return b }

var (
	hpas = schema.GroupVersionResource{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"}
	crds = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
)

// make creates an object by foreign hand.
func (w *world) make(r schema.GroupVersionResource, namespace, text string) {
	w.t.Helper()
	item := w.items(text)[0]
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(item.Body); err != nil {
		w.t.Fatal(err)
	}
	var err error
	if namespace == "" {
		_, err = w.objects.Resource(r).Create(context.Background(), u, metav1.CreateOptions{FieldManager: "somebody"})
	} else {
		_, err = w.objects.Resource(r).Namespace(namespace).Create(context.Background(), u, metav1.CreateOptions{FieldManager: "somebody"})
	}
	if err != nil && !apierrors.IsAlreadyExists(err) {
		w.t.Fatal(err)
	}
}

// follow answers hints about an object until it is as it should be.
func (w *world) follow(items []sources.Item, what string, is func() bool) {
	w.t.Helper()
	w.eventually(what, func() bool {
		if is() {
			return true
		}
		w.run(items)
		return is()
	})
}

func TestReplicasYieldWhileAnAutoscalerTargetsTheWorkload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	w.run(items)
	yield := yieldManager(kubelive.NewOwner(w.name, w.namespace))
	w.make(hpas, w.namespace, `
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web, namespace: NS}
spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}, minReplicas: 2, maxReplicas: 9}
`)
	w.follow(items, "replicas are handed over", func() bool { return kubelive.HasEntry(w.get(deploys, "web"), yield) })
	if n := replicasOf(w.get(deploys, "web")); n != 2 {
		t.Fatalf("giving them up made them %d", n)
	}
	// The autoscaler scales; nobody minds.
	w.patch(deploys, "web", "kube-controller-manager", mergePatch, `{"spec":{"replicas":6}}`)
	changed := w.items(strings.ReplaceAll(shop, "web:1", "web:2"))
	w.follow(changed, "quiet", func() bool { return w.run(changed).kinds() == "unchanged 4" })
	if n := replicasOf(w.get(deploys, "web")); n != 6 {
		t.Fatalf("the autoscaler's %d is not 6", n)
	}
	if err := w.objects.Resource(hpas).Namespace(w.namespace).Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.follow(changed, "git's replicas are back", func() bool { return replicasOf(w.get(deploys, "web")) == 2 })
	w.follow(changed, "quiet again", func() bool { return w.run(changed).kinds() == "unchanged 4" })
	if kubelive.HasEntry(w.get(deploys, "web"), yield) {
		t.Error("the second manager still holds the replicas")
	}
}

const scalerCRDs = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: scaledobjects.keda.sh
spec: {group: keda.sh, scope: Namespaced, names: {kind: ScaledObject, plural: scaledobjects}, versions: [{name: v1alpha1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: verticalpodautoscalers.autoscaling.k8s.io
  annotations: {api-approved.kubernetes.io: "https://github.com/kubernetes/kubernetes/pull/63797"}
spec: {group: autoscaling.k8s.io, scope: Namespaced, names: {kind: VerticalPodAutoscaler, plural: verticalpodautoscalers}, versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]}
`

func TestScaledObjectsAndVerticalAutoscalersCount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, text := range strings.Split(scalerCRDs, "---") {
		w.make(crds, "", text)
	}
	keda := schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledobjects"}
	vpas := schema.GroupVersionResource{Group: "autoscaling.k8s.io", Version: "v1", Resource: "verticalpodautoscalers"}
	for _, r := range []schema.GroupVersionResource{keda, vpas} {
		w.eventually("served: "+r.Resource, func() bool {
			_, err := w.objects.Resource(r).Namespace(w.namespace).List(t.Context(), metav1.ListOptions{})
			return err == nil
		})
	}
	items := w.items(shop)
	w.run(items)
	w.make(keda, w.namespace, "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {name: web, namespace: NS}\nspec: {scaleTargetRef: {name: web}}\n")
	w.make(vpas, w.namespace, "apiVersion: autoscaling.k8s.io/v1\nkind: VerticalPodAutoscaler\nmetadata: {name: web, namespace: NS}\nspec: {targetRef: {apiVersion: apps/v1, kind: Deployment, name: web}, updatePolicy: {updateMode: \"Off\"}}\n")
	yields := func() string {
		return strings.Join(w.target.yieldsOf(items[3]), " ")
	}
	w.follow(items, "replicas yield to KEDA", func() bool { return yields() == ".spec.replicas" })
	if _, err := w.objects.Resource(vpas).Namespace(w.namespace).Patch(t.Context(), "web", mergePatch, []byte(`{"spec":{"updatePolicy":{"updateMode":"Recreate"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	w.follow(items, "resources yield, too", func() bool {
		return yields() == ".spec.replicas .spec.template.spec.containers[name=web].resources"
	})
	w.follow(items, "quiet", func() bool { return w.run(items).kinds() == "unchanged 4" })
	live := w.get(deploys, "web")
	if !strings.Contains(string(mustJSON(live)), `"memory":"1Gi"`) || replicasOf(live) != 2 {
		t.Error("giving fields up reset them")
	}
	// What is given up drifts no more.
	w.patch(deploys, "web", "vpa", types.StrategicMergePatchType, `{"spec":{"template":{"spec":{"containers":[{"name":"web","resources":{"limits":{"memory":"2Gi"}}}]}}}}`)
	w.patch(deploys, "web", "vpa", mergePatch, `{"spec":{"strategy":{"type":"Recreate","rollingUpdate":null}}}`)
	got := w.run(items, func(s *reconciler.Scope) { s.Verify, s.ReadOnly = true, true })
	for _, op := range got.plan.Operations {
		if op.Class == drift.Changed {
			t.Errorf("drift of a yielded field: %+v", op.Changes)
		}
	}
}
