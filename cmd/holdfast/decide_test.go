package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/kube"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// verb runs the program against the stage's daemon and returns its output.
func (s *stage) verb(code int, args ...string) string {
	s.t.Helper()
	var out, errs bytes.Buffer
	cmd := program(append(args, "--data-dir", filepath.Join(s.dir, "data"))...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // the code is looked at
	if got := cmd.ProcessState.ExitCode(); got != code {
		s.t.Fatalf("holdfast %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, &out, &errs)
	}
	return out.String()
}

func TestHoldsOutliveTheDaemonAndItsDisk(t *testing.T) {
	t.Parallel()
	s, ns := sharedStage(t), kube.Namespace(t)
	env := "held-" + ns
	s.repo.Commit(t, map[string]string{
		"environments/e.yaml": environmentSpec(env, "app", ns, ""),
		"app/a.yaml":          configMap("a", "color", "blue"),
	})
	s.start()
	s.settled(env, reconciler.Applied)
	var holds api.Holds
	if err := json.Unmarshal([]byte(s.verb(0, "hold", env, "--for", "1h", "--reason", "looking into it", "--author", "anna", "-o", "json")), &holds); err != nil || len(holds.Holds) != 1 {
		t.Fatalf("holds %+v, %v", holds, err)
	}
	s.edit(ns, "a", `{"data":{"color":"red"}}`)
	s.expectDrift(env, `a.data.color: "blue" -> "red" by kubectl-edit, open`)
	s.repo.Commit(t, map[string]string{"app/b.yaml": configMap("b", "color", "blue")})
	if got := s.resync(env); got.Result != reconciler.Held || len(got.Waiting) != 1 {
		t.Errorf("a resync while it is held: %+v", got)
	}
	if text := s.verb(2, "status"); !strings.Contains(text, "by anna (socket): looking into it") {
		t.Errorf("status:\n%s", text)
	}
	s.stop()
	if err := os.RemoveAll(filepath.Join(s.dir, "data")); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.settled(env, reconciler.Held)
	if v, err := s.value(ns, "a", "color"); err != nil || v != "red" {
		t.Errorf("a is %q (%v) after the disk was lost; the hold counts on", v, err)
	}
	s.verb(0, "unhold", holds.Holds[0].ID)
	s.expectValue(ns, "a", "color", "blue")
	s.expectValue(ns, "b", "color", "blue")
	s.verb(1, "unhold", holds.Holds[0].ID)
}

func TestRollbackSticksUntilItIsReleased(t *testing.T) {
	t.Parallel()
	s, ns := sharedStage(t), kube.Namespace(t)
	env := "rolled-" + ns
	first := s.repo.Commit(t, map[string]string{
		"environments/e.yaml": environmentSpec(env, "app", ns, ""),
		"app/a.yaml":          configMap("a", "color", "blue"),
	})
	s.start()
	s.settled(env, reconciler.Applied)
	s.repo.Commit(t, map[string]string{"app/a.yaml": configMap("a", "color", "broken"), "app/new.yaml": configMap("new", "x", "y")})
	s.resync(env)
	s.expectValue(ns, "a", "color", "broken")

	text := s.verb(0, "rollback", env, "--reason", "errors")
	// The watch on the state may have brought it about before the run that was asked
	// for, which then finds nothing left to do.
	if !strings.Contains(text, first[:7]) || !strings.Contains(text, " applied ") && !strings.Contains(text, " unchanged ") {
		t.Errorf("rollback:\n%s", text)
	}
	s.expectValue(ns, "a", "color", "blue")
	s.repo.Commit(t, map[string]string{"app/a.yaml": configMap("a", "color", "later")})
	s.resync(env)
	s.edit(ns, "a", `{"data":{"color":"red"}}`)
	s.expectValue(ns, "a", "color", "blue")
	s.kill()
	s.start()
	s.edit(ns, "a", `{"data":{"color":"red"}}`)
	s.expectValue(ns, "a", "color", "blue")
	s.verb(0, "release", env)
	s.expectValue(ns, "a", "color", "later")
	s.verb(1, "release", env)
}

func TestPlanShowsWhatAMergeWouldDo(t *testing.T) {
	t.Parallel()
	s, ns := sharedStage(t), kube.Namespace(t)
	env := "plan-" + ns
	spec := environmentSpec(env, "app", ns, "drift: {mode: report}")
	head := s.repo.Commit(t, map[string]string{
		"environments/e.yaml": spec,
		"app/a.yaml":          configMap("a", "color", "blue"),
		"app/old.yaml":        configMap("old", "x", "y"),
		"app/secret.yaml":     "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {token: planted-sentinel}\n",
	})
	s.start()
	s.settled(env, reconciler.Applied)
	s.verb(0, "plan", env)
	s.edit(ns, "a", `{"data":{"color":"red"}}`)

	dir := t.TempDir()
	for name, text := range map[string]string{
		"environments/e.yaml": spec,
		"app/a.yaml":          configMap("a", "color", "green"),
		"app/new.yaml":        configMap("new", "x", "y"),
		"app/secret.yaml":     "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {token: planted-sentinel-2}\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, format := range []string{"table", "markdown", "json"} {
		text := s.verb(2, "plan", env, "--dir", dir, "-o", format)
		for _, want := range []string{"new", "old", `red`, `blue`, `green`, "kubectl-edit"} {
			if !strings.Contains(text, want) {
				t.Errorf("as %s it lacks %s:\n%s", format, want, text)
			}
		}
		if strings.Contains(text, "planted-sentinel") {
			t.Errorf("as %s it shows a secret:\n%s", format, text)
		}
	}
	s.repo.CommitTo(t, "refs/heads/feature", head, map[string]string{"app/a.yaml": "broken: ["})
	if text := s.verb(1, "plan", env, "--ref", "feature"); text != "" {
		t.Errorf("a broken ref printed:\n%s", text)
	}
	for _, name := range []string{"a", "old"} {
		if _, err := s.value(ns, name, "x"); err != nil {
			t.Errorf("a plan changed something: %v", err)
		}
	}
	if v, _ := s.value(ns, "a", "color"); v != "red" {
		t.Errorf("a plan wrote a: %q", v)
	}
}

func TestAnEnvironmentThatLeavesGitWaitsForItsConfirmation(t *testing.T) {
	t.Parallel()
	s, ns := sharedStage(t), kube.Namespace(t)
	env, other := "left-"+ns, "stays-"+ns
	s.repo.Commit(t, map[string]string{
		"environments/e.yaml": environmentSpec(env, "app", ns, ""),
		"environments/o.yaml": environmentSpec(other, "other", ns, ""),
		"app/a.yaml":          configMap("a", "color", "blue"),
		"other/o.yaml":        configMap("o", "color", "blue"),
	})
	s.start()
	s.settled(env, reconciler.Applied)
	s.settled(other, reconciler.Applied)
	s.kill()
	s.repo.Commit(t, map[string]string{"environments/e.yaml": gitserver.Delete, "app/a.yaml": gitserver.Delete})
	s.start()
	s.until("the environment is known to have left git", func() error {
		status, err := s.client.Environment(context.Background(), env)
		if err == nil && (status.Sync != reconciler.SyncRemoved || len(status.Gates) == 0) {
			err = fmt.Errorf("it is %s with %v", status.Sync, status.Gates)
		}
		return err
	})
	s.expectValue(ns, "a", "color", "blue")
	s.verb(0, "delete", env)
	s.until("the object is gone", func() error {
		if _, err := s.value(ns, "a", "color"); err == nil {
			return fmt.Errorf("it is there")
		}
		return nil
	})
	s.until("the environment is forgotten", func() error {
		if _, err := s.client.Environment(context.Background(), env); err == nil {
			return fmt.Errorf("it is known")
		}
		return nil
	})
	s.expectValue(ns, "o", "color", "blue")
}

func TestAStandbyTakesOver(t *testing.T) {
	t.Parallel()
	s, ns := sharedStage(t), kube.Namespace(t)
	env := "pair-" + ns
	s.repo.Commit(t, map[string]string{
		"environments/e.yaml": environmentSpec(env, "app", ns, ""),
		"app/a.yaml":          configMap("a", "color", "blue"),
	})
	s.start()
	s.settled(env, reconciler.Applied)
	second := *s
	second.dir = t.TempDir()
	second.writeConfig("interval: 1h")
	var err error
	if second.client, err = api.NewClient(api.ClientOptions{Socket: filepath.Join(second.dir, "data", "holdfast.sock")}); err != nil {
		t.Fatal(err)
	}
	second.daemon = nil
	second.start()
	t.Cleanup(second.kill)
	second.settled(env, reconciler.Held)
	if status, err := second.client.Environment(context.Background(), env); err != nil || len(status.Gates) != 1 || status.Gates[0].Kind != reconciler.GateLease {
		t.Errorf("the standby: %+v, %v", status.Gates, err)
	}
	s.kill()
	s.edit(ns, "a", `{"data":{"color":"red"}}`)
	began := time.Now()
	second.expectValue(ns, "a", "color", "blue")
	t.Logf("taken over after %s", time.Since(began).Round(time.Second))
}
