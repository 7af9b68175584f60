package main

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

var namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}

// TestPreviewsComeAndGoWithTheirBranches is the life of a preview environment: it
// appears with its branch, follows it, heals, and is gone with it, its namespace
// included, while the template makes nothing of its own.
func TestPreviewsComeAndGoWithTheirBranches(t *testing.T) {
	s := sharedStage(t)
	prefix := fmt.Sprintf("review-%d-%d", os.Getpid(), time.Now().Unix()%100_000)
	s.writeConfig("interval: 1s")
	base := s.repo.Commit(t, map[string]string{
		"environments/review.yaml": `apiVersion: holdfast.dev/v1alpha1
kind: Environment
metadata: {name: ` + prefix + `}
spec:
  path: app
  namespace: ` + prefix + `-${branchSlug}
  createNamespace: true
  preview: {branches: ["feature/*"], lifetime: 1000000h}
`,
		"app/cm.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shown}\ndata: {branch: \"${branch}\", text: one}\n",
	})
	one := s.repo.CommitTo(t, "refs/heads/feature/one", base, map[string]string{"x": "1"})
	s.start()
	namespace := prefix + "-" + environment.BranchSlug("feature/one")
	t.Cleanup(func() {
		_ = s.objects.Resource(namespaces).Delete(context.Background(), namespace, metav1.DeleteOptions{})
	})
	s.expectValue(namespace, "shown", "branch", "feature/one")
	name := environment.InstanceName(prefix, "feature/one")
	if status := s.settled(name, reconciler.Applied); status.Applied.ID != one {
		t.Errorf("applied %s, want %s", status.Applied.ID, one)
	}

	s.repo.CommitTo(t, "refs/heads/feature/one", one, map[string]string{
		"app/cm.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shown}\ndata: {branch: \"${branch}\", text: two}\n",
	})
	s.expectValue(namespace, "shown", "text", "two")

	all, err := s.client.Environments(context.Background())
	if err != nil || len(all.Environments) != 1 {
		t.Errorf("environments: %+v, %v", all, err)
	}
	s.repo.DeleteRef(t, "refs/heads/feature/one")
	s.until("the namespace of the branch is going", func() error {
		ns, err := s.objects.Resource(namespaces).Get(context.Background(), namespace, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && ns.GetDeletionTimestamp() != nil {
			return nil
		}
		return fmt.Errorf("%s is there: %v", namespace, err)
	})
	s.stop()
}

// TestFilesOfAnotherRepositoryAreApplied: the spec is in one repository, its files
// in another, and a push to either is applied.
func TestFilesOfAnotherRepositoryAreApplied(t *testing.T) {
	s := sharedStage(t)
	namespace := fmt.Sprintf("elsewhere-%d-%d", os.Getpid(), time.Now().Unix()%100_000)
	files := s.git.Repo(t, "manifests")
	s.writeConfig("interval: 1s")
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	more := fmt.Sprintf("- {name: manifests, url: %q, ref: main, interval: 1s, sharedWith: [shop]}\n", files.URL)
	if err := os.WriteFile(s.config, append(text, more...), 0o600); err != nil {
		t.Fatal(err)
	}
	files.Commit(t, map[string]string{"web/cm.yaml": configMap("shown", "a", "one")})
	spec := environmentSpec(namespace, "web", namespace, "createNamespace: true\nsource: {name: manifests}")
	s.repo.Commit(t, map[string]string{"environments/e.yaml": spec})
	s.start()
	t.Cleanup(func() {
		_ = s.objects.Resource(namespaces).Delete(context.Background(), namespace, metav1.DeleteOptions{})
	})
	s.expectValue(namespace, "shown", "a", "one")
	second := files.Commit(t, map[string]string{"web/cm.yaml": configMap("shown", "a", "two")})
	s.expectValue(namespace, "shown", "a", "two")
	s.until("the status names the files' revision", func() error {
		status, err := s.client.Environment(context.Background(), namespace)
		if err == nil && status.Applied.ID != second {
			err = fmt.Errorf("it is %s", status.Applied.ID)
		}
		return err
	})
	s.repo.Commit(t, map[string]string{"environments/e.yaml": spec + "  commonLabels: {from: spec}\n"})
	s.until("a push to the specs is applied", func() error {
		u, err := s.objects.Resource(cms).Namespace(namespace).Get(context.Background(), "shown", metav1.GetOptions{})
		if err == nil && u.GetLabels()["from"] != "spec" {
			err = fmt.Errorf("labels %v", u.GetLabels())
		}
		return err
	})
	files.Commit(t, map[string]string{"web/cm.yaml": gitserver.Delete, "web/other.yaml": "a: ["})
	s.until("a broken push is told, and what was applied stays", func() error {
		status, err := s.client.Environment(context.Background(), namespace)
		if err == nil && len(status.Errors) == 0 {
			err = fmt.Errorf("no error yet")
		}
		return err
	})
	s.expectValue(namespace, "shown", "a", "two")
	s.stop()
}
