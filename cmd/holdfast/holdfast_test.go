package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/kube"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// edit changes a ConfigMap as somebody with kubectl would.
func (s *stage) edit(namespace, name, patch string) {
	s.t.Helper()
	_, err := s.objects.Resource(cms).Namespace(namespace).Patch(context.Background(), name, types.MergePatchType, []byte(patch),
		metav1.PatchOptions{FieldManager: "kubectl-edit"})
	if err != nil {
		s.t.Fatal(err)
	}
}

// drifts is the report as one line a change.
func (s *stage) drifts(environment string) string {
	s.t.Helper()
	report, err := s.client.Drift(context.Background(), api.DriftQuery{Environment: environment})
	if err != nil {
		s.t.Fatal(err)
	}
	var lines []string
	for _, e := range report.Episodes {
		for _, c := range e.Changes {
			lines = append(lines, fmt.Sprintf("%s %s %s%s: %s -> %s by %s, %s from %s", e.Environment, e.Class, e.Object, c.Path, c.Desired, c.Live, c.Manager, e.State, e.Origin))
		}
	}
	return strings.Join(lines, "\n")
}

func (s *stage) expectDrift(environment, want string) {
	s.t.Helper()
	s.until("drift is reported", func() error {
		if got := s.drifts(environment); !strings.Contains(got, want) {
			return fmt.Errorf("the report is:\n%s\nand lacks %s", got, want)
		}
		return nil
	})
}

func TestCommitsBecomeLiveAndDriftGoesBack(t *testing.T) {
	t.Parallel()
	s, ns := sharedStage(t), kube.Namespace(t)
	env := "main-" + ns
	s.repo.Commit(t, map[string]string{
		"environments/main.yaml": environmentSpec(env, "app", ns, ""),
		"app/a.yaml":             configMap("a", "color", "blue"),
		"app/b.yaml":             configMap("b", "color", "blue"),
	})
	s.start()
	s.settled(env, reconciler.Applied)
	s.expectValue(ns, "a", "color", "blue")

	s.edit(ns, "a", `{"data":{"color":"red"}}`)
	s.expectValue(ns, "a", "color", "blue")
	s.expectDrift(env, `changed ConfigMap/`+ns+`/a.data.color: "blue" -> "red" by kubectl-edit, corrected from app/a.yaml:1`)

	s.edit(ns, "a", `{"data":{"color":null}}`)
	s.expectValue(ns, "a", "color", "blue")
	s.expectDrift(env, `a.data.color: "blue" -> (absent) by unknown, corrected`)

	if err := s.objects.Resource(cms).Namespace(ns).Delete(context.Background(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.expectValue(ns, "a", "color", "blue")
	s.expectDrift(env, `missing ConfigMap/`+ns+`/a: "present" -> (absent) by unknown, corrected`)

	s.stop()
	s.edit(ns, "b", `{"data":{"color":"red"}}`)
	s.start()
	s.expectValue(ns, "b", "color", "blue")
	s.expectDrift(env, `b.data.color: "blue" -> "red" by kubectl-edit, corrected`)

	head := s.repo.Commit(t, map[string]string{"app/a.yaml": configMap("a", "color", "green"), "app/b.yaml": gitserver.Delete})
	got := s.resync(env)
	if got.Result != reconciler.Applied || got.Revision.ID != head || got.Counts.Updated != 1 || got.Counts.Deleted != 1 {
		t.Errorf("receipt %+v", got)
	}
	s.expectValue(ns, "a", "color", "green")
	if _, err := s.value(ns, "b", "color"); !apierrors.IsNotFound(err) {
		t.Errorf("b left git, and is there: %v", err)
	}
	if again := s.resync(env); again.Result != reconciler.Unchanged || again.ID == got.ID {
		t.Errorf("second receipt %+v", again)
	}
}

func TestBrokenRevisionsKeepTheLastGoodState(t *testing.T) {
	t.Parallel()
	s, ns := sharedStage(t), kube.Namespace(t)
	broken, fine := "broken-"+ns, "fine-"+ns
	good := map[string]string{
		"environments/broken.yaml": environmentSpec(broken, "broken", ns, ""),
		"environments/fine.yaml":   environmentSpec(fine, "fine", ns, ""),
		"broken/a.yaml":            configMap("a", "color", "blue"),
		"broken/b.yaml":            configMap("b", "color", "blue"),
		"fine/f.yaml":              configMap("f", "count", "0"),
	}
	s.repo.Commit(t, good)
	s.start()
	s.settled(broken, reconciler.Applied)
	for i, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"a broken YAML file", map[string]string{"broken/b.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b\n"}, "broken/b.yaml:"},
		{"a missing path", map[string]string{"broken": gitserver.Delete}, "broken"},
		{"an empty path", map[string]string{"broken/a.yaml": "# nothing\n", "broken/b.yaml": gitserver.Delete}, "renders to nothing"},
		{"two objects of one identity", map[string]string{"broken/c.yaml": configMap("a", "x", "y")}, "broken/c.yaml:1"},
		{"a kustomization that points outside", map[string]string{"broken/kustomization.yaml": "resources:\n- ../../outside\n"}, "broken/kustomization.yaml:2"},
		{"a kustomization that points at a URL", map[string]string{"broken/kustomization.yaml": "resources:\n- https://example.com/x.yaml\n"}, "broken/kustomization.yaml:2"},
		{"a spec with an unknown key", map[string]string{"environments/broken.yaml": environmentSpec(broken, "broken", ns, "prun: false")}, "environments/broken.yaml:7:3"},
	} {
		count := fmt.Sprint(i + 1)
		c.files["fine/f.yaml"] = configMap("f", "count", count)
		s.repo.Commit(t, c.files)
		s.resync(broken)
		s.until(c.name, func() error {
			status, err := s.client.Environment(context.Background(), broken)
			if err == nil && !strings.Contains(status.Errors.Error(), c.want) {
				err = fmt.Errorf("errors lack %q: %v", c.want, status.Errors)
			}
			return err
		})
		s.expectValue(ns, "f", "count", count) // the other environment goes on
		s.edit(ns, "a", `{"data":{"color":"red"}}`)
		s.expectValue(ns, "a", "color", "blue") // drift is still corrected
		s.expectValue(ns, "b", "color", "blue") // nothing is deleted
		restore := map[string]string{"broken/kustomization.yaml": gitserver.Delete, "broken/c.yaml": gitserver.Delete}
		for file, content := range good {
			restore[file] = content
		}
		s.repo.Commit(t, restore)
		if got := s.resync(broken); got.Result != reconciler.Unchanged && got.Result != reconciler.Applied {
			t.Errorf("%s, mended: %+v", c.name, got)
		}
	}
}

func TestRepositoryThatIsMissingOrEmptySaysSo(t *testing.T) {
	t.Parallel()
	s := sharedStage(t)
	s.start() // its repository has no commit yet
	s.expectSourceProblem("has no commits", "empty")
	s.writeConfig("interval: 1s")
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	missing := bytes.ReplaceAll(text, []byte("/shop.git"), []byte("/nowhere.git"))
	if err := os.WriteFile(s.config, missing, 0o600); err != nil {
		t.Fatal(err)
	}
	s.expectSourceProblem("not found", "nowhere")
}

// expectSourceProblem waits until the source's problem has one of the words, in
// the API and for who asks on the command line.
func (s *stage) expectSourceProblem(words ...string) {
	s.t.Helper()
	s.until("the source's problem is told", func() error {
		all, err := s.client.Environments(context.Background())
		if err != nil {
			return err
		}
		said := all.Sources["shop"].Error()
		for _, w := range words {
			if strings.Contains(said, w) {
				return nil
			}
		}
		return fmt.Errorf("it says %q", said)
	})
	out, err := program("status", "--data-dir", filepath.Join(s.dir, "data")).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !bytes.Contains(out, []byte("source shop:")) {
		s.t.Errorf("status: %v\n%s", err, out)
	}
}

func TestSourceThatIsAwayKeepsHealing(t *testing.T) {
	t.Parallel()
	s, ns := sharedStage(t), kube.Namespace(t)
	env := "away-" + ns
	s.repo.Commit(t, map[string]string{"environments/e.yaml": environmentSpec(env, "app", ns, ""), "app/a.yaml": configMap("a", "color", "blue")})
	s.start()
	s.settled(env, reconciler.Applied)
	s.git.SetFault(gitserver.Status(500))
	if got := s.resync(env); got.Result != reconciler.Failed || len(got.Errors) == 0 {
		t.Errorf("a resync that cannot fetch: %+v", got)
	}
	s.edit(ns, "a", `{"data":{"color":"red"}}`)
	s.expectValue(ns, "a", "color", "blue")
	// A restart without the remote goes on from the mirror.
	s.stop()
	s.edit(ns, "a", `{"data":{"color":"red"}}`)
	s.start()
	s.expectValue(ns, "a", "color", "blue")
	s.git.SetFault(nil)
	s.until("the source is back", func() error {
		if got := s.resync(env); got.Result == reconciler.Failed {
			return got.Errors
		}
		return nil
	})
}

func TestSignalsReloadAndResync(t *testing.T) {
	t.Parallel()
	s, ns := sharedStage(t), kube.Namespace(t)
	env := "sig-" + ns
	s.repo.Commit(t, map[string]string{"environments/e.yaml": environmentSpec(env, "app", ns, ""), "app/a.yaml": configMap("a", "color", "blue")})
	s.start()
	first := s.settled(env, reconciler.Applied).LastRun.ID
	s.repo.Commit(t, map[string]string{"app/a.yaml": configMap("a", "color", "green")})
	if err := s.daemon.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	s.expectValue(ns, "a", "color", "green")
	s.until("the signal's receipt", func() error {
		got, err := s.client.LastResync(context.Background())
		if err == nil && (len(got.Runs) != 1 || got.Runs[0].Result != reconciler.Applied || got.Runs[0].ID == first || got.Runs[0].Trigger.Actor != "SIGUSR1") {
			err = fmt.Errorf("%+v", got)
		}
		return err
	})

	s.writeConfig("intervall: 1h") // a bad configuration leaves the old one running
	s.until("the bad configuration is refused", s.logs("new configuration is bad"))
	s.repo.Commit(t, map[string]string{"app/a.yaml": configMap("a", "color", "white")})
	s.resync(env)
	s.expectValue(ns, "a", "color", "white")

	s.writeConfig("interval: 1s") // a good one takes over without a signal
	s.until("the good configuration is loaded", s.logs("configuration reloaded"))
	s.repo.Commit(t, map[string]string{"app/a.yaml": configMap("a", "color", "black")})
	s.expectValue(ns, "a", "color", "black")
	s.stop()
}

func TestMassDeletionWaitsForApprovalOfThatPlan(t *testing.T) {
	t.Parallel()
	s, ns := sharedStage(t), kube.Namespace(t)
	env := "mass-" + ns
	files := map[string]string{"environments/e.yaml": environmentSpec(env, "app", ns, "")}
	gone := map[string]string{}
	for i := range 12 {
		file := fmt.Sprintf("app/%02d.yaml", i)
		files[file] = configMap(fmt.Sprintf("c%02d", i), "k", "v")
		if i < 10 {
			gone[file] = gitserver.Delete
		}
	}
	s.repo.Commit(t, files)
	s.start()
	s.settled(env, reconciler.Applied)
	s.repo.Commit(t, gone)
	held := s.resync(env)
	if held.Result != reconciler.Held || held.Counts.Held != 10 || held.Counts.Deleted != 0 {
		t.Fatalf("ten of twelve left git: %+v", held)
	}
	s.expectValue(ns, "c00", "k", "v")
	if wrong := s.resyncWith(api.ResyncRequest{Environments: []string{env}, Approve: "another"}); wrong.Result != reconciler.Held {
		t.Errorf("approved another plan: %+v", wrong)
	}
	if done := s.resyncWith(api.ResyncRequest{Environments: []string{env}, Approve: held.PlanHash}); done.Result != reconciler.Applied || done.Counts.Deleted != 10 {
		t.Errorf("approved: %+v", done)
	}
	s.expectValue(ns, "c10", "k", "v")
}

func (s *stage) logs(text string) func() error {
	return func() error {
		b, err := os.ReadFile(filepath.Join(s.dir, "log"))
		if err == nil && !bytes.Contains(b, []byte(text)) {
			err = errors.New("the log does not say so")
		}
		return err
	}
}

func TestKilledAtAnyMomentConverges(t *testing.T) {
	t.Parallel()
	s, ns := sharedStage(t), kube.Namespace(t)
	env := "kill-" + ns
	files := map[string]string{"environments/e.yaml": environmentSpec(env, "app", ns, "")}
	for i := range 40 {
		files[fmt.Sprintf("app/%02d.yaml", i)] = configMap(fmt.Sprintf("c%02d", i), "round", "0")
	}
	s.repo.Commit(t, files)
	waits := []time.Duration{0, 5, 20, 50, 120, 250}
	if os.Getenv("HOLDFAST_LONG") != "" {
		waits = nil
		for i := range 40 {
			waits = append(waits, time.Duration(i*i/4))
		}
	}
	for round, wait := range waits {
		s.start()
		time.AfterFunc(wait*time.Millisecond, func() { _ = s.daemon.Process.Kill() })
		_ = s.daemon.Wait()
		change := map[string]string{}
		for i := range 40 {
			change[fmt.Sprintf("app/%02d.yaml", i)] = configMap(fmt.Sprintf("c%02d", i), "round", fmt.Sprint(round+1))
		}
		change[fmt.Sprintf("app/%02d.yaml", round)] = gitserver.Delete
		s.repo.Commit(t, change)
	}
	s.start()
	s.until("it converges", func() error {
		list, err := s.objects.Resource(cms).Namespace(ns).List(context.Background(), metav1.ListOptions{LabelSelector: "holdfast.dev/environment=" + env})
		if err != nil {
			return err
		}
		want := 39 // each commit brings back what the one before it removed
		for _, u := range list.Items {
			if data, _ := u.Object["data"].(map[string]any); data["round"] != fmt.Sprint(len(waits)) {
				return fmt.Errorf("%s has %v", u.GetName(), data)
			}
		}
		if len(list.Items) != want {
			return fmt.Errorf("%d objects, want %d", len(list.Items), want)
		}
		return nil
	})
}

func TestWithoutAFileOneFolderGoesIntoTheContextsNamespace(t *testing.T) {
	t.Parallel()
	s, ns := sharedStage(t), kube.Namespace(t)
	kubeconfig, err := clientcmd.LoadFromFile(s.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig.Contexts[kubeconfig.CurrentContext].Namespace = ns
	s.kubeconfig = filepath.Join(s.dir, "kubeconfig")
	if err := clientcmd.WriteToFile(*kubeconfig, s.kubeconfig); err != nil {
		t.Fatal(err)
	}
	s.repo.Commit(t, map[string]string{
		"app/a.yaml":     configMap("a", "color", "blue"),
		"app/other.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, namespace: default}\n",
		"app/ns.yaml":    "apiVersion: v1\nkind: Namespace\nmetadata: {name: " + ns + "-more}\n",
	})
	s.run("run", "--repo", s.repo.URL, "--ref", "main", "--path", "app", "--kubeconfig", s.kubeconfig,
		"--data-dir", filepath.Join(s.dir, "data"), "--listen", "127.0.0.1:0", "--log-format", "json")
	s.expectValue(ns, "a", "color", "blue")
	all, err := s.client.Environments(context.Background())
	if err != nil || len(all.Environments) != 1 {
		t.Fatalf("environments %+v, %v; want one", all, err)
	}
	status := s.settled(all.Environments[0].Name, reconciler.Partial)
	for _, want := range []string{
		"app/other.yaml:1: ConfigMap/default/b: not granted: this source may not touch namespace default",
		"app/ns.yaml:1: Namespace/" + ns + "-more: not granted: this source may not touch objects outside namespaces",
	} {
		if !strings.Contains(status.Errors.Error(), want) {
			t.Errorf("errors lack %q:\n%v", want, status.Errors)
		}
	}
	s.edit(ns, "a", `{"data":{"color":"red"}}`)
	s.expectValue(ns, "a", "color", "blue")
	if _, err := s.value(ns, "holdfast-"+status.Name, ""); err != nil {
		t.Errorf("the parent object is not in the context's namespace: %v", err)
	}
}
