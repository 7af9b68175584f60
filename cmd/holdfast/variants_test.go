package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
)

// create makes an object of the cluster as its administrator.
func (s *deployStage) create(group, version, resource, namespace, text string) {
	s.t.Helper()
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON([]byte(text)); err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.objects.Resource(deployed(group, version, resource)).Namespace(namespace).Create(context.Background(), u, metav1.CreateOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

// monitors is the kind of the Prometheus operator, as far as the example needs it.
const monitors = `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"servicemonitors.monitoring.coreos.com"},
"spec":{"group":"monitoring.coreos.com","scope":"Namespaced","names":{"kind":"ServiceMonitor","listKind":"ServiceMonitorList","plural":"servicemonitors","singular":"servicemonitor"},
"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"object","required":["selector","endpoints"],
"properties":{"selector":{"type":"object","x-kubernetes-preserve-unknown-fields":true},"endpoints":{"type":"array","items":{"type":"object","properties":{"port":{"type":"string"},"path":{"type":"string"},"interval":{"type":"string"}}}}}}}}}}]}}`

// everyVariant applies every kustomization of the examples that was not applied so
// far, as somebody who may do anything.
func (s *deployStage) everyVariant() {
	s.t.Helper()
	s.create("apiextensions.k8s.io", "v1", "customresourcedefinitions", "", monitors)
	variants := map[string]string{"standby": systemNamespace, "servicemonitor": systemNamespace, "accounts": systemNamespace, "tenant-namespace": "variant-tenant"}
	files, gone := map[string]string{}, map[string]string{}
	for name, namespace := range variants {
		more := "createNamespace: true"
		if namespace == systemNamespace {
			more = ""
		}
		at := "environments/variant-" + name + ".yaml"
		files[at], gone[at] = environmentSpec("variant-"+name, name, namespace, more), gitserver.Delete
	}
	// What is the same things in another way takes the place of the first.
	gone["environments/holdfast.yaml"] = s.file("environments/holdfast.yaml")
	files["environments/holdfast.yaml"] = strings.Replace(s.file("environments/holdfast.yaml"), "path: cluster", "path: tenant", 1)
	s.repo.Commit(s.t, files)
	s.configure(s.kubeconfig, `namespaces: ["*"], cluster: true`)
	s.start()
	for name := range variants {
		if status := s.settled("variant-"+name, reconciler.Applied); status.LastRun.Counts.Created == 0 {
			s.t.Errorf("%s made nothing: %+v", name, status.LastRun)
		}
	}
	s.until("the variant for tenants is in force", func() error {
		config, err := s.value(systemNamespace, "holdfast-config", "holdfast.yaml")
		if err == nil && config != s.file("tenant/holdfast.yaml") {
			err = fmt.Errorf("the configuration is\n%s", config)
		}
		return err
	})
	s.stop()
	s.repo.Commit(s.t, gone)

	tried := map[string]bool{"cluster": true, "tenant": true, "base": true, "daemon": true} // the last two are below the others
	root := os.DirFS("../../examples/deploy")
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if dir := path.Dir(name); err == nil && d.Name() == "kustomization.yaml" && !tried[dir] && variants[dir] == "" {
			s.t.Errorf("nobody has tried the kustomization %s", dir)
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// tokenOf is a token of a service account in the namespace app, meant for an
// audience; an empty one is the API server's.
func (s *deployStage) tokenOf(account, audience string) string {
	s.t.Helper()
	spec := map[string]any{"expirationSeconds": int64(3600)}
	if audience != "" {
		spec["audiences"] = []any{audience}
	}
	request := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}}
	request.SetName(account)
	got, err := s.objects.Resource(deployed("", "v1", "serviceaccounts")).Namespace("app").Create(context.Background(), request, metav1.CreateOptions{}, "token")
	if err != nil {
		s.t.Fatal(err)
	}
	token, _, _ := unstructured.NestedString(got.Object, "status", "token")
	return token
}

// bind lets an account have a role, and waits until the server knows that.
func (s *deployStage) bind(account, role, verb, environment string) {
	s.t.Helper()
	s.create("", "v1", "serviceaccounts", "app", `{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"`+account+`"}}`)
	if role == "" {
		return
	}
	s.create("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "", `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"`+account+`"},
		"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"`+role+`"},"subjects":[{"kind":"ServiceAccount","name":"`+account+`","namespace":"app"}]}`)
	s.untilAllowed(account, map[string]any{"verb": verb, "group": "holdfast.dev", "resource": "environments", "name": environment})
}

// untilAllowed waits until the server lets an account do something.
func (s *deployStage) untilAllowed(account string, what map[string]any) {
	s.t.Helper()
	user := "system:serviceaccount:app:" + account
	if account == "holdfast" {
		user = "system:serviceaccount:" + systemNamespace + ":holdfast"
	}
	review := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": map[string]any{"user": user, "resourceAttributes": what},
	}}
	s.until("the server knows what "+account+" may", func() error {
		got, err := s.objects.Resource(deployed("authorization.k8s.io", "v1", "subjectaccessreviews")).Create(context.Background(), review, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		if may, _, _ := unstructured.NestedBool(got.Object, "status", "allowed"); !may {
			return fmt.Errorf("it may not")
		}
		return nil
	})
}

// address is where the daemon listens, as its log says.
func (s *deployStage) address() string {
	s.t.Helper()
	log, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		s.t.Fatal(err)
	}
	address := ""
	for line := range strings.Lines(string(log)) {
		var entry struct{ Message, Address string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Message == "started" {
			address = entry.Address
		}
	}
	return "http://" + address
}

// accountsOfTheCluster runs with the rights that the example accounts gave beside
// those of the cluster variant, and calls with tokens of the cluster, whose RBAC says who may
// do what.
func (s *deployStage) accountsOfTheCluster(kubeconfig string) {
	s.t.Helper()
	s.configure(kubeconfig, `namespaces: ["*"], cluster: true, serviceAccounts: [holdfast-system/holdfast-applier]`)
	text, err := os.ReadFile(s.config)
	if err == nil {
		err = os.WriteFile(s.config, append(text, "server: {readsNeedToken: true, kubernetes: {}}\n"...), 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.start()
	for _, name := range []string{"app", "holdfast"} {
		s.until(name+" is known", func() error {
			status, err := s.client.Environment(context.Background(), name)
			if err == nil && status.LastRun == nil {
				err = fmt.Errorf("it has not run")
			}
			return err
		})
	}
	s.untilAllowed("holdfast", map[string]any{"verb": "create", "group": "authentication.k8s.io", "resource": "tokenreviews"})
	s.create("rbac.authorization.k8s.io", "v1", "clusterroles", "", `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"app-only"},
		"rules":[{"apiGroups":["holdfast.dev"],"resources":["environments"],"resourceNames":["app"],"verbs":["get","operate"]}]}`)
	s.bind("reader", "holdfast-read", "get", "holdfast")
	s.bind("deployer", "holdfast-operate", "operate", "holdfast")
	s.bind("keeper", "holdfast-administer", "administer", "")
	s.bind("owner", "app-only", "operate", "app")
	s.bind("stranger", "", "", "")
	tokens := map[string]string{"": "", "of the API server": s.tokenOf("deployer", ""), "guess": "aaaa.bbbb.cccc"}
	for _, name := range []string{"reader", "deployer", "keeper", "owner", "stranger"} {
		tokens[name] = s.tokenOf(name, "holdfast")
	}
	const all = api.PathEnvironments
	for _, tt := range []struct {
		who, method, path string
		want              int
		with, without     string
	}{
		{who: "", method: "GET", path: all, want: 401},
		{who: "guess", method: "GET", path: all, want: 401},
		{who: "of the API server", method: "GET", path: all, want: 401},
		{who: "stranger", method: "GET", path: all, want: 403},
		{who: "reader", method: "GET", path: all, want: 200, with: `"holdfast"`},
		{who: "reader", method: "POST", path: all + "/app/resync", want: 403},
		{who: "deployer", method: "POST", path: all + "/app/resync", want: 202},
		{who: "deployer", method: "POST", path: api.PathLedgerCheck, want: 403},
		{who: "keeper", method: "POST", path: api.PathLedgerCheck, want: 200},
		{who: "owner", method: "GET", path: all, want: 200, with: `"app"`, without: `"holdfast"`},
		{who: "owner", method: "GET", path: all + "/holdfast", want: 404},
		{who: "owner", method: "POST", path: all + "/app/resync", want: 202},
		{who: "owner", method: "POST", path: all + "/holdfast/resync", want: 403},
		{who: "owner", method: "POST", path: api.PathResync, want: 403},
	} {
		status, body := s.callAs(tokens[tt.who], tt.method, tt.path)
		if status != tt.want || !strings.Contains(body, tt.with) || tt.without != "" && strings.Contains(body, tt.without) {
			s.t.Errorf("%s %s as %q: %d, want %d: %s", tt.method, tt.path, tt.who, status, tt.want, body)
		}
	}
	s.until("who asked is on record", func() error {
		actions, err := s.client.Actions(context.Background(), api.RunsQuery{Environment: "app"})
		for _, name := range []string{"deployer", "owner"} {
			if err == nil && !slices.ContainsFunc(actions.Actions, func(a ledger.Action) bool { return a.Verb == "resync" && a.Actor == "system:serviceaccount:app:"+name }) {
				err = fmt.Errorf("%s is not: %+v", name, actions.Actions)
			}
		}
		return err
	})
	log, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		s.t.Fatal(err)
	}
	for name, token := range tokens {
		if token != "" && strings.Contains(string(log), token) {
			s.t.Errorf("the token %s is in the log", name)
		}
	}
	s.stop()
}

func (s *deployStage) callAs(token, method, path string) (status int, body string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.address()+path, strings.NewReader("{}"))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, string(data)
}
