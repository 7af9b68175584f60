package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"go.yaml.in/yaml/v3"
)

const tenant = "shop-dev"

// tenantRights runs as an account that has the rights of tenant-namespace in one
// namespace, and those of base in its own.
func (s *deployStage) tenantRights(kubeconfig string, as *rest.Config) {
	s.t.Helper()
	s.grantTenant()
	s.configure(kubeconfig, "namespaces: ["+tenant+"]")
	deletions := map[string]string{"environments/holdfast.yaml": gitserver.Delete, "environments/app.yaml": gitserver.Delete}
	s.repo.Commit(s.t, deletions)
	s.repo.Commit(s.t, map[string]string{
		"environments/shop.yaml": environmentSpec("shop", "shop", tenant, ""),
		"shop/a.yaml":            configMap("a", "color", "blue"),
		"shop/b.yaml":            configMap("b", "color", "blue"),
	})
	s.forget()
	s.start()
	s.settled("shop", reconciler.Applied)
	s.edit(tenant, "a", `{"data":{"color":"red"}}`)
	s.expectValue(tenant, "a", "color", "blue")
	s.repo.Commit(s.t, map[string]string{"shop/b.yaml": gitserver.Delete})
	if got := s.resync("shop"); got.Result != reconciler.Applied || got.Counts.Deleted != 1 {
		s.t.Errorf("what left git: %+v", got)
	}
	var holds api.Holds
	if err := json.Unmarshal([]byte(s.verb(0, "hold", "shop", "--for", "1h", "--reason", "try", "-o", "json")), &holds); err != nil || len(holds.Holds) != 1 {
		s.t.Fatalf("holds %+v, %v", holds, err)
	}
	s.verb(0, "unhold", holds.Holds[0].ID)

	// A kind that the role does not name, and a namespace that it is not in.
	s.repo.Commit(s.t, map[string]string{
		"shop/quota.yaml": "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: q}\nspec: {hard: {pods: \"5\"}}\n",
	})
	s.resync("shop")
	s.expectError("shop", "resourcequotas", "list")
	s.repo.Commit(s.t, map[string]string{"shop/quota.yaml": gitserver.Delete})
	s.until("shop is well again", func() error {
		if got := s.resync("shop"); got.Result == reconciler.Failed || got.Result == reconciler.Partial {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
	s.stop()
	s.missingRights(as)
}

// forget takes away what the daemons so far kept for themselves.
func (s *deployStage) forget() {
	s.t.Helper()
	state := s.objects.Resource(cms).Namespace(systemNamespace)
	if err := state.DeleteCollection(context.Background(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "!app.kubernetes.io/name"}); err != nil {
		s.t.Fatal(err)
	}
	if err := os.RemoveAll(s.dir + "/data"); err != nil {
		s.t.Fatal(err)
	}
}

// expectError waits until an environment's errors, or the daemon's log, say all of
// the words.
func (s *deployStage) expectError(name string, words ...string) {
	s.t.Helper()
	s.until(fmt.Sprintf("%s says %q", name, words), func() error {
		status, err := s.client.Environment(context.Background(), name)
		if err != nil {
			return err
		}
		said, err := json.Marshal(status)
		if err != nil {
			return err
		}
		log, err := os.ReadFile(s.dir + "/log")
		if err != nil {
			return err
		}
		text := string(said) + string(log)
		for _, w := range words {
			if !strings.Contains(text, w) {
				return fmt.Errorf("it lacks %q: %s", w, said)
			}
		}
		return nil
	})
}

// grantTenant does what `kubectl apply -k tenant-namespace -n` would.
func (s *deployStage) grantTenant() {
	s.t.Helper()
	ctx := context.Background()
	namespace := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": tenant}}}
	if _, err := s.objects.Resource(deployed("", "v1", "namespaces")).Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		s.t.Fatal(err)
	}
	for _, text := range strings.Split(s.file("tenant-namespace/rights.yaml"), "\n---\n") {
		var object map[string]any
		if err := yaml.Unmarshal([]byte(text), &object); err != nil {
			s.t.Fatal(err)
		}
		u := &unstructured.Unstructured{Object: object}
		u.SetNamespace(tenant)
		data, err := json.Marshal(u)
		if err != nil {
			s.t.Fatal(err)
		}
		resource := deployed("rbac.authorization.k8s.io", "v1", strings.ToLower(u.GetKind())+"s")
		if _, err := s.objects.Resource(resource).Namespace(tenant).Patch(ctx, u.GetName(), types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: "test"}); err != nil {
			s.t.Fatal(err)
		}
	}
}

// right is a verb on a resource in a namespace.
type right struct{ namespace, role, resource, verb string }

// missingRights takes one right after the other away and has a daemon do what
// needs it: it must say which one is missing. So none in the example is idle.
func (s *deployStage) missingRights(as *rest.Config) {
	s.t.Helper()
	all := []right{
		{tenant, "holdfast", "configmaps", "get"}, {tenant, "holdfast", "configmaps", "watch"},
		{tenant, "holdfast", "configmaps", "create"}, {tenant, "holdfast", "configmaps", "patch"}, {tenant, "holdfast", "configmaps", "delete"},
		{systemNamespace, "holdfast-state", "configmaps", "get"}, {systemNamespace, "holdfast-state", "configmaps", "list"},
		{systemNamespace, "holdfast-state", "configmaps", "watch"}, {systemNamespace, "holdfast-state", "configmaps", "create"},
		{systemNamespace, "holdfast-state", "configmaps", "patch"}, {systemNamespace, "holdfast-state", "configmaps", "delete"},
		{systemNamespace, "holdfast-state", "leases", "get"}, {systemNamespace, "holdfast-state", "leases", "update"},
		{systemNamespace, "holdfast-state", "leases", "create"},
	}
	for i, r := range all {
		if i%5 != 0 && os.Getenv("HOLDFAST_LONG") == "" {
			continue // each costs seconds
		}
		s.without(as, r, func() { s.exercise(r) })
	}
}

// exercise starts a daemon and has it do all it can do: create, correct, prune,
// hold, forget. It stops when the missing right was named.
func (s *deployStage) exercise(r right) {
	s.t.Helper()
	ctx := context.Background()
	if r.resource == "leases" && r.verb == "create" {
		leases := s.objects.Resource(deployed("coordination.k8s.io", "v1", "leases")).Namespace(systemNamespace)
		if err := leases.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			s.t.Fatal(err)
		}
	}
	if r.namespace == systemNamespace && r.resource == "configmaps" && r.verb == "create" {
		s.forget() // what is there need not be made
	}
	spec := environmentSpec("shop", "shop", tenant, "")
	fresh := r.verb + "-" + r.resource + "-" + r.role // what no exercise before has made
	for _, dir := range []string{"/data", "/log"} {
		if err := os.RemoveAll(s.dir + dir); err != nil {
			s.t.Fatal(err)
		}
	}
	s.repo.Commit(s.t, map[string]string{
		// Another, so that there is a spec left when this one goes.
		"environments/other.yaml": environmentSpec("other", "other", tenant, ""), "other/o.yaml": configMap("o", "color", "blue"),
		"environments/shop.yaml": spec, "shop/a.yaml": configMap("a", "color", "blue"), "shop/" + fresh + ".yaml": configMap(fresh, "color", "blue")})
	s.start()
	defer s.stop()
	steps := []func(){
		func() { s.resyncAll() },
		func() {
			patch := []byte(`{"data":{"color":"red"}}`)
			// Where it could not be made there is nothing to edit.
			_, _ = s.objects.Resource(cms).Namespace(tenant).Patch(ctx, "a", types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "kubectl-edit"})
			s.repo.Commit(s.t, map[string]string{"shop/" + fresh + ".yaml": gitserver.Delete})
			s.resyncAll()
		},
		func() {
			s.said("hold", "shop", "--for", "1h", "--reason", "try")
			if status, err := s.client.Environment(ctx, "shop"); err == nil {
				for _, g := range status.Gates {
					s.said("unhold", g.ID)
				}
			}
		},
		func() {
			s.repo.Commit(s.t, map[string]string{"environments/shop.yaml": gitserver.Delete})
			s.resyncAll()
			s.said("delete", "shop")
		},
	}
	want := fmt.Sprintf("cannot %s resource %q in API group %q in the namespace %q", r.verb, r.resource, r.group(), r.namespace)
	for i := 0; !s.toldOf(want); i++ {
		if i < len(steps) {
			steps[i]()
			continue
		}
		s.patience = 10 * time.Second
		s.until("it says: "+want, func() error {
			if s.toldOf(want) {
				return nil
			}
			return fmt.Errorf("nothing said so; is the right needed?")
		})
	}
}

func (r right) group() string {
	if r.resource == "leases" {
		return "coordination.k8s.io"
	}
	return ""
}

// resyncAll runs everything that is there, whatever comes of it.
func (s *deployStage) resyncAll() { s.said("resync", "--wait=5s", "-o", "json") }

// said runs a verb and keeps what it says beside the log.
func (s *deployStage) said(args ...string) {
	s.t.Helper()
	out, _ := program(append(args, "--data-dir", s.dir+"/data")...).CombinedOutput() // the code says nothing here
	if _, err := s.log.Write(append(out, '\n')); err != nil {
		s.t.Fatal(err)
	}
}

// toldOf reports whether the log, the API or a verb said a text.
func (s *deployStage) toldOf(text string) bool {
	s.t.Helper()
	log, err := os.ReadFile(s.dir + "/log")
	if err != nil {
		s.t.Fatal(err)
	}
	all, err := s.client.Environments(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	status, err := json.Marshal(all)
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Contains(strings.ReplaceAll(string(log)+string(status), `\"`, `"`), text)
}

// without takes a right away while do runs.
func (s *deployStage) without(as *rest.Config, r right, do func()) {
	s.t.Helper()
	ctx := context.Background()
	roles := s.objects.Resource(deployed("rbac.authorization.k8s.io", "v1", "roles")).Namespace(r.namespace)
	live, err := roles.Get(ctx, r.role, metav1.GetOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	cut := live.DeepCopy()
	rules, _, _ := unstructured.NestedSlice(cut.Object, "rules")
	rest := []any{}
	for _, e := range rules {
		rule := e.(map[string]any)
		resources, _, _ := unstructured.NestedStringSlice(rule, "resources")
		verbs, _, _ := unstructured.NestedStringSlice(rule, "verbs")
		if !slices.Contains(resources, r.resource) {
			rest = append(rest, rule)
			continue
		}
		fewer := slices.DeleteFunc(slices.Clone(verbs), func(v string) bool { return v == r.verb })
		rest = append(rest, map[string]any{"apiGroups": rule["apiGroups"], "resources": []any{r.resource}, "verbs": anys(fewer)})
		if others := slices.DeleteFunc(slices.Clone(resources), func(o string) bool { return o == r.resource }); len(others) > 0 {
			rest = append(rest, map[string]any{"apiGroups": rule["apiGroups"], "resources": anys(others), "verbs": anys(verbs)})
		}
	}
	if err := unstructured.SetNestedSlice(cut.Object, rest, "rules"); err != nil {
		s.t.Fatal(err)
	}
	s.setRole(roles, cut)
	s.untilMay(as, r, false)
	do()
	s.setRole(roles, live)
	s.untilMay(as, r, true)
}

func anys(list []string) []any {
	out := make([]any, len(list))
	for i, e := range list {
		out[i] = e
	}
	return out
}

func (s *deployStage) setRole(roles dynamic.ResourceInterface, to *unstructured.Unstructured) {
	s.t.Helper()
	to = to.DeepCopy()
	to.SetResourceVersion("")
	to.SetManagedFields(nil)
	if _, err := roles.Update(context.Background(), to, metav1.UpdateOptions{FieldManager: "test"}); err != nil {
		s.t.Fatal(err)
	}
}

// untilMay waits until the server has learned what the account may.
func (s *deployStage) untilMay(as *rest.Config, r right, want bool) {
	s.t.Helper()
	client, err := dynamic.NewForConfig(as)
	if err != nil {
		s.t.Fatal(err)
	}
	review := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": map[string]any{"resourceAttributes": map[string]any{
			"namespace": r.namespace, "verb": r.verb, "group": r.group(), "resource": r.resource,
		}},
	}}
	s.until("the server knows the rights", func() error {
		got, err := client.Resource(deployed("authorization.k8s.io", "v1", "selfsubjectaccessreviews")).Create(context.Background(), review, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		if may, _, _ := unstructured.NestedBool(got.Object, "status", "allowed"); may != want {
			return fmt.Errorf("allowed is %v", may)
		}
		return nil
	})
}
