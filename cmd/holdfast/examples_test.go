package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// TestExamplesAreApplied runs the daemon on the sample repositories, as their
// READMEs say: several sources, one with keys, two targets, a chart, blueprints.
func TestExamplesAreApplied(t *testing.T) {
	s := sharedStage(t)
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	monorepo := filepath.Join(s.dir, "monorepo")
	if err := os.CopyFS(monorepo, os.DirFS(filepath.Join(examples, "monorepo"))); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(filepath.Join(examples, "monorepo", "generate.sh"), monorepo, "6").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dirs := map[string]string{"monorepo": monorepo}
	for _, name := range []string{"plain", "shop", "helm", "extends", "sops", "clusters", "platform"} {
		dirs[name] = filepath.Join(examples, name)
	}
	s.writeExamplesConfig(dirs, filepath.Join(examples, "sops", "keys", "throw-away.age"))
	s.start()
	applied := []string{
		"plain-app", "dev", "staging", "prod", "tools", "guestbook-dev", "guestbook-prod", "hello-dev", "hello-prod",
		"sops-app", "notes-eu", "notes-us", "search", "billing", "mail", "monorepo-shared", "service-1", "service-6",
	}
	t.Cleanup(func() { s.removeExamples() })
	for _, name := range applied {
		s.until(name+" is applied", func() error {
			status, err := s.client.Environment(context.Background(), name)
			if err != nil {
				return err
			}
			if status.LastRun == nil || !slices.Contains([]reconciler.Result{reconciler.Applied, reconciler.Unchanged}, status.LastRun.Result) {
				return fmt.Errorf("last run %+v, errors %v", status.LastRun, status.Errors)
			}
			return nil
		})
	}
	s.expectValue("notes-eu", "notes", "reach", "everything below the folder is read")
	deployments := s.objects.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"})
	for namespace, name := range map[string]string{"guestbook-prod": "guestbook", "extends-hello-prod": "hello", "team-search": "app"} {
		if _, err := deployments.Namespace(namespace).Get(context.Background(), name, metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	}
	secret, err := s.objects.Resource(secrets).Namespace("sops-app").Get(context.Background(), "database", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if data, _ := secret.Object["data"].(map[string]any); data["password"] != "bm90LWEtcmVhbC1wYXNzd29yZA==" {
		t.Error("the decrypted password did not arrive")
	}
	s.stop()
}

var secrets = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}

func (s *stage) writeExamplesConfig(dirs map[string]string, key string) {
	s.t.Helper()
	text := fmt.Sprintf("listen: 127.0.0.1:0\ndataDir: %s\ninstallation: %s\ntargets:\n", filepath.Join(s.dir, "data"), s.installation)
	for _, target := range []string{"default", "eu", "us"} {
		text += fmt.Sprintf("- {name: %s, kubeconfig: %s, stateNamespace: holdfast-examples-%s}\n", target, s.kubeconfig, target)
	}
	text += fmt.Sprintf("decryption: {sops: {keys: [{name: throw-away, ageFile: %s}]}}\nsources:\n", key)
	for name, dir := range dirs {
		text += fmt.Sprintf("- name: %s\n  dir: %s\n  grants:\n", name, dir)
		for _, target := range []string{"default", "eu", "us"} {
			text += fmt.Sprintf("  - {target: %s, namespaces: [\"*\"], cluster: true}\n", target)
		}
		if name == "sops" {
			text += "  keys: [throw-away]\n"
		}
	}
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// removeExamples deletes the namespaces that the examples made.
func (s *stage) removeExamples() {
	namespaces := s.objects.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"})
	for _, name := range []string{
		"plain-app", "shop-dev", "shop-staging", "shop-prod", "tools", "guestbook-dev", "guestbook-prod",
		"extends-hello-dev", "extends-hello-prod", "sops-app", "notes-eu", "notes-us", "team-search", "team-billing", "team-mail",
		"monorepo", "holdfast-examples-default", "holdfast-examples-eu", "holdfast-examples-us",
	} {
		// What is left over does no harm to other tests.
		_ = namespaces.Delete(context.Background(), name, metav1.DeleteOptions{})
	}
}

// TestPreviewExampleFollowsBranches has branches in the sample of previews.
func TestPreviewExampleFollowsBranches(t *testing.T) {
	s := sharedStage(t)
	files := map[string]string{}
	for _, name := range []string{"app/web.yaml", "environments/web.yaml"} {
		data, err := os.ReadFile(filepath.Join("../../examples/previews", name))
		if err != nil {
			t.Fatal(err)
		}
		// The test's commits are dated years ago.
		files[name] = strings.Replace(string(data), "lifetime: 72h", "lifetime: 200000h", 1)
	}
	head := s.repo.Commit(t, files)
	// Another run of the tests is another installation, whose environment of the
	// same name would be refused.
	branch := fmt.Sprintf("feature/search-%d", os.Getpid())
	s.repo.CommitTo(t, "refs/heads/"+branch, head, map[string]string{"app/more.yaml": configMap("more", "from", "branch")})
	s.repo.CommitTo(t, "refs/heads/feature/wip-x", head, map[string]string{"app/more.yaml": configMap("more", "from", "wip")})
	s.writeConfig("interval: 1s")
	s.start()
	name := environment.InstanceName("web-preview", branch)
	t.Cleanup(func() {
		_ = s.objects.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Delete(context.Background(), name, metav1.DeleteOptions{})
	})
	s.settled(name, reconciler.Applied)
	s.expectValue(name, "banner", "text", "this is "+branch)
	s.expectValue(name, "more", "from", "branch")
	all, err := s.client.Environments(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(all.Environments); n != 1 {
		t.Errorf("%d environments", n)
	}
	s.stop()
}
