package kube

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-gitops/holdfast/internal/testkit/kube"
)

// rbac grants rights over environments to accounts of a namespace, by bindings that
// go with the test.
type rbac struct {
	t         *testing.T
	objects   dynamic.Interface
	namespace string
}

var (
	serviceAccounts = schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}
	clusterRoles    = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"}
	clusterBindings = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterrolebindings"}
)

func (b rbac) make(r schema.GroupVersionResource, content string) {
	b.t.Helper()
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(content), &u.Object); err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.in(r).Create(b.t.Context(), u, metav1.CreateOptions{}); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := b.in(r).Delete(context.WithoutCancel(b.t.Context()), u.GetName(), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			b.t.Error(err)
		}
	})
}

func (b rbac) in(r schema.GroupVersionResource) dynamic.ResourceInterface {
	if r == serviceAccounts {
		return b.objects.Resource(r).Namespace(b.namespace)
	}
	return b.objects.Resource(r)
}

// account makes one with a right, and a token for it.
func (b rbac) account(name, rule, audience string) (token string) {
	b.t.Helper()
	full := b.namespace + "-" + name
	b.make(serviceAccounts, `{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "`+name+`"}}`)
	if rule != "" {
		b.make(clusterRoles, `{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "`+full+`"}, "rules": [`+rule+`]}`)
		b.make(clusterBindings, `{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "`+full+`"},
			"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "`+full+`"},
			"subjects": [{"kind": "ServiceAccount", "name": "`+name+`", "namespace": "`+b.namespace+`"}]}`)
	}
	request := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
		"metadata": map[string]any{"name": name, "namespace": b.namespace},
		"spec":     map[string]any{"expirationSeconds": int64(600)},
	}}
	if audience != "" {
		_ = unstructured.SetNestedStringSlice(request.Object, []string{audience}, "spec", "audiences")
	}
	answer, err := b.in(serviceAccounts).Create(b.t.Context(), request, metav1.CreateOptions{}, "token")
	if err != nil {
		b.t.Fatal(err)
	}
	token, _, _ = unstructured.NestedString(answer.Object, "status", "token")
	if token == "" {
		b.t.Fatal("no token was given")
	}
	return token
}

// exampleRule is the rule of a role in the example of deploying.
func exampleRule(t *testing.T, role string) string {
	t.Helper()
	data, err := os.ReadFile("../../examples/deploy/accounts/rights.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for text := range strings.SplitSeq(string(data), "---") {
		var u unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
			t.Fatal(err)
		}
		if rules, ok, _ := unstructured.NestedSlice(u.Object, "rules"); ok && u.GetKind() == "ClusterRole" && u.GetName() == role {
			out, err := json.Marshal(rules)
			if err != nil {
				t.Fatal(err)
			}
			return strings.Trim(string(out), "[]")
		}
	}
	t.Fatalf("the example has no role %s", role)
	return ""
}

// delegate is a client with the rights that the example gives the daemon.
func (b rbac) delegate(config *rest.Config) *rest.Config {
	b.t.Helper()
	b.make(clusterBindings, `{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "`+b.namespace+`-delegate"},
		"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
		"subjects": [{"kind": "ServiceAccount", "name": "daemon", "namespace": "`+b.namespace+`"}]}`)
	out := rest.AnonymousClientConfig(config)
	out.BearerToken = b.account("daemon", "", "")
	return out
}

func newRBAC(t *testing.T, config *rest.Config) rbac {
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return rbac{t: t, objects: objects, namespace: kube.NamespaceIn(t, config)}
}

func TestAClusterSaysWhoHoldsATokenAndWhatThatOneMayDo(t *testing.T) {
	t.Parallel()
	config := kube.Config(t)
	b := newRBAC(t, config)
	a, err := OpenAccess(AccessOptions{Config: b.delegate(config), Audience: "holdfast-test"})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t}
	const rule = `{"apiGroups": ["holdfast.dev"], "resources": ["environments"], `
	for _, tt := range []struct {
		name, rule string
		may        []string
	}{
		{"nobody", "", nil},
		{"reader", exampleRule(t, "holdfast-read"), []string{"get", "get shop", "get prod"}},
		{"shop", rule + `"verbs": ["get", "operate"], "resourceNames": ["shop"]}`, []string{"get shop", "operate shop"}},
		{"operator", exampleRule(t, "holdfast-operate"), []string{"get", "get shop", "get prod", "operate", "operate shop", "operate prod"}},
		{"admin", exampleRule(t, "holdfast-administer"), []string{"get", "get shop", "get prod", "operate", "operate shop", "operate prod", "administer", "administer shop", "administer prod"}},
		// A right over another resource, or another group's of that name, is none.
		{"other", `{"apiGroups": ["apps"], "resources": ["environments", "deployments"], "verbs": ["*"]}`, nil},
	} {
		token := b.account(tt.name, tt.rule, "holdfast-test")
		var user User
		var ok bool
		w.eventually("the daemon may ask", func() bool {
			user, ok, err = a.Holder(t.Context(), token)
			return err == nil
		})
		if err != nil || !ok || user.Name != "system:serviceaccount:"+b.namespace+":"+tt.name || user.UID == "" || len(user.Groups) == 0 {
			t.Fatalf("%s is %+v, %v, %v", tt.name, user, ok, err)
		}
		var may []string
		w.eventually("the role of "+tt.name+" counts", func() bool {
			may = nil
			for _, verb := range []string{"get", "operate", "administer"} {
				for _, environment := range []string{"", "shop", "prod"} {
					if ok, err := a.May(t.Context(), user, verb, environment); err != nil {
						t.Fatal(err)
					} else if ok {
						may = append(may, strings.TrimSpace(verb+" "+environment))
					}
				}
			}
			return len(may) >= len(tt.may)
		})
		if got, want := strings.Join(may, ", "), strings.Join(tt.may, ", "); got != want {
			t.Errorf("%s may %s; want %s", tt.name, got, want)
		}
	}
}

func TestATokenForOthersIsNone(t *testing.T) {
	t.Parallel()
	config := kube.Config(t)
	b := newRBAC(t, config)
	a, err := OpenAccess(AccessOptions{Config: config, Audience: "holdfast-test"})
	if err != nil {
		t.Fatal(err)
	}
	apiServers, elsewhere := b.account("one", "", ""), b.account("two", "", "elsewhere")
	good := b.account("three", "", "holdfast-test")
	forged := good[:strings.LastIndex(good, ".")+1] + "AAAA"
	for what, token := range map[string]string{"the API server's": apiServers, "another's": elsewhere, "forged": forged, "no token at all": "a.b.c"} {
		if user, ok, err := a.Holder(t.Context(), token); ok || err != nil {
			t.Errorf("%s: %+v, %v, %v", what, user, ok, err)
		}
	}
	if _, ok, err := a.Holder(t.Context(), good); !ok || err != nil {
		t.Fatalf("a good token: %v, %v", ok, err)
	}
	// An account that is gone takes its tokens along.
	if err := b.in(serviceAccounts).Delete(t.Context(), "three", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	(&world{t: t}).eventually("the token has ended", func() bool {
		_, ok, err := a.Holder(t.Context(), good)
		return !ok && err == nil
	})
}

func TestAClusterThatDoesNotAnswerIsAnError(t *testing.T) {
	t.Parallel()
	config := kube.Config(t)
	var faults kube.Faults
	a, err := OpenAccess(AccessOptions{Config: faults.Wrap(config), Audience: "holdfast-test"})
	if err != nil {
		t.Fatal(err)
	}
	faults.Forbid("tokenreviews.authentication.k8s.io")
	if _, ok, err := a.Holder(t.Context(), "a.b.c"); ok || err == nil || !strings.Contains(err.Error(), "review a token") || strings.Contains(err.Error(), "a.b.c") {
		t.Errorf("forbidden: %v, %v", ok, err)
	}
	faults.Hang(kube.Match{Resource: "subjectaccessreviews.authorization.k8s.io"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ok, err := a.May(ctx, User{Name: "ann"}, "get", ""); ok || err == nil {
		t.Errorf("no answer: %v, %v", ok, err)
	}
}
