package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/kube"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

const systemNamespace = "holdfast-system"

func deployed(group, version, resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: version, Resource: resource}
}

// deployStage is a cluster of its own with the files of examples/deploy in a
// repository.
type deployStage struct {
	*stage
	admin *rest.Config
}

func newDeployStage(t *testing.T) *deployStage {
	t.Helper()
	own := kube.Own(t)
	objects, err := dynamic.NewForConfig(own.Config())
	if err != nil {
		t.Fatal(err)
	}
	s := &deployStage{stage: newStage(t, own.Kubeconfig(), objects), admin: own.Config()}
	s.patience = 40 * time.Second
	files := map[string]string{}
	root := os.DirFS("../../examples/deploy")
	err = fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(root, path)
		files[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s.repo.Commit(t, files)
	return s
}

// configure writes a configuration as those of the example are, for a kubeconfig.
func (s *deployStage) configure(kubeconfig, grant string) {
	s.t.Helper()
	text := fmt.Sprintf(`
listen: 127.0.0.1:0
dataDir: %s
targets:
- {name: default, kubeconfig: %s, stateNamespace: %s}
sources:
- name: platform
  url: %s
  ref: main
  interval: 1h
  grants: [{target: default, %s}]
`, filepath.Join(s.dir, "data"), kubeconfig, systemNamespace, s.repo.URL, grant)
	s.config = filepath.Join(s.dir, "holdfast.yaml")
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// kubeconfigOf is a kubeconfig with a token of a service account, as its pod
// would have.
func (s *deployStage) kubeconfigOf(account string) (path string, config *rest.Config) {
	s.t.Helper()
	request := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": map[string]any{"expirationSeconds": int64(3600)},
	}}
	api := s.objects.Resource(deployed("", "v1", "serviceaccounts")).Namespace(systemNamespace)
	request.SetName(account)
	got, err := api.Create(context.Background(), request, metav1.CreateOptions{}, "token")
	if err != nil {
		s.t.Fatal(err)
	}
	token, _, _ := unstructured.NestedString(got.Object, "status", "token")
	ca := s.admin.CAData
	out := clientcmdapi.Config{
		Clusters:  map[string]*clientcmdapi.Cluster{"c": {Server: s.admin.Host, CertificateAuthorityData: ca}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{"u": {Token: token}},
		Contexts:  map[string]*clientcmdapi.Context{"c": {Cluster: "c", AuthInfo: "u", Namespace: systemNamespace}}, CurrentContext: "c",
	}
	path = filepath.Join(s.dir, account+".kubeconfig")
	if err := clientcmd.WriteToFile(out, path); err != nil {
		s.t.Fatal(err)
	}
	config, err = clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		s.t.Fatal(err)
	}
	return path, config
}

// TestHoldfastLooksAfterItsOwnDeployment applies examples/deploy with a daemon
// that may do anything, and then runs daemons with the very rights that this gave
// them: for the whole cluster, for asking the cluster about its accounts, and for
// one tenant's namespace.
func TestHoldfastLooksAfterItsOwnDeployment(t *testing.T) {
	s := newDeployStage(t)
	s.configure(s.kubeconfig, `namespaces: ["*"], cluster: true`)
	s.start()
	// The namespace was made for the daemon's state, so that it has to be taken over.
	held := s.settled("holdfast", reconciler.Held)
	if got := s.resyncWith(api.ResyncRequest{Environments: []string{"holdfast"}, Approve: held.LastRun.PlanHash}); got.Result != reconciler.Applied {
		s.t.Fatalf("approved: %+v", got)
	}
	s.stop()
	kubeconfig, as := s.kubeconfigOf("holdfast")
	s.clusterRights(kubeconfig, as)
	s.everyVariant()
	s.accountsOfTheCluster(kubeconfig)
	s.withoutClusterRights()
	s.tenantRights(kubeconfig, as)
}

// clusterRights runs as the account of the cluster variant.
func (s *deployStage) clusterRights(kubeconfig string, as *rest.Config) {
	s.t.Helper()
	s.configure(kubeconfig, `namespaces: ["*"], cluster: true, serviceAccounts: [holdfast-system/holdfast-applier]`)
	s.repo.Commit(s.t, map[string]string{
		"environments/app.yaml": environmentSpec("app", "app", "app", "createNamespace: true"),
		"app/a.yaml":            configMap("a", "color", "blue"),
		"app/b.yaml":            configMap("b", "color", "blue"),
		"app/c.yaml":            configMap("c", "color", "blue") + "---\n" + configMap("d", "color", "blue"),
	})
	s.start()
	s.settled("holdfast", reconciler.Unchanged)
	s.settled("app", reconciler.Applied)

	deployments := s.objects.Resource(deployed("apps", "v1", "deployments")).Namespace(systemNamespace)
	if _, err := deployments.Patch(context.Background(), "holdfast", types.MergePatchType, []byte(`{"spec":{"replicas":0}}`),
		metav1.PatchOptions{FieldManager: "kubectl-scale"}); err != nil {
		s.t.Fatal(err)
	}
	s.until("its own deployment is put back", func() error {
		live, err := deployments.Get(context.Background(), "holdfast", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if n, _, _ := unstructured.NestedInt64(live.Object, "spec", "replicas"); n != 1 {
			return fmt.Errorf("replicas %d", n)
		}
		return nil
	})
	// It changes its own rights, which hold a right to impersonate: nobody may grant
	// what they have not, and the applier has that one.
	s.repo.Commit(s.t, map[string]string{
		"app/b.yaml": gitserver.Delete,
		"cluster/more.yaml": "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: more, namespace: holdfast-system}\n" +
			"rules:\n- {apiGroups: [\"\"], resources: [serviceaccounts], resourceNames: [holdfast-applier], verbs: [impersonate]}\n",
		"cluster/kustomization.yaml": strings.Replace(s.file("cluster/kustomization.yaml"), "- rights.yaml", "- rights.yaml\n  - more.yaml", 1),
	})
	s.resyncAll()
	s.until("what left git is deleted, and the new role is there", func() error {
		if _, err := s.value("app", "b", "color"); err == nil {
			return errors.New("the ConfigMap is there")
		}
		_, err := s.objects.Resource(deployed("rbac.authorization.k8s.io", "v1", "roles")).Namespace(systemNamespace).Get(context.Background(), "more", metav1.GetOptions{})
		return err
	})
	direct, err := dynamic.NewForConfig(as)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := direct.Resource(cms).Namespace("app").Delete(context.Background(), "a", metav1.DeleteOptions{}); err == nil {
		s.t.Error("the daemon's own account may write what git asks for")
	}
	s.stop()
}

func (s *deployStage) file(name string) string {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join("../../examples/deploy", name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(data)
}

// withoutClusterRights leaves the account what the tenant variant gives it.
func (s *deployStage) withoutClusterRights() {
	s.t.Helper()
	ctx := context.Background()
	bindings := s.objects.Resource(deployed("rbac.authorization.k8s.io", "v1", "clusterrolebindings"))
	for _, name := range []string{"holdfast", "holdfast-applier", "holdfast-auth-delegator"} {
		if err := bindings.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			s.t.Fatal(err)
		}
	}
	namespaced := s.objects.Resource(deployed("rbac.authorization.k8s.io", "v1", "rolebindings")).Namespace(systemNamespace)
	if err := namespaced.Delete(ctx, "holdfast-impersonate", metav1.DeleteOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

// TestExampleUnitOfSystemd has systemd read the unit, where there is one.
func TestExampleUnitOfSystemd(t *testing.T) {
	program, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze")
	}
	data, err := os.ReadFile("../../examples/deploy/systemd/holdfast.service")
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "holdfast.service")
	// It is checked that the program is there.
	data = bytes.ReplaceAll(data, []byte("/usr/local/bin/holdfast"), []byte(os.Args[0]))
	if err := os.WriteFile(unit, data, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program, "verify", "--man=no", unit).CombinedOutput()
	if err != nil || strings.Contains(string(out), "holdfast.service:") {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = exec.Command(program, "security", "--offline=true", "--threshold=20", unit).CombinedOutput()
	if err != nil {
		t.Errorf("it is exposed more than it was: %v\n%s", err, out)
	}
}
