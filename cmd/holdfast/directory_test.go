package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
)

// hostStage is a stage whose target is a directory; there is no cluster.
func hostStage(t *testing.T) (s *stage, dir string) {
	t.Helper()
	s = &stage{t: t, git: gitserver.Start(t), dir: t.TempDir()}
	s.repo = s.git.Repo(t, "shop")
	dir = filepath.Join(s.dir, "etc")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s.config = filepath.Join(s.dir, "holdfast.yaml")
	text := fmt.Sprintf(`
listen: 127.0.0.1:0
dataDir: %s
targets:
- {name: host, directory: %s}
sources:
- name: shop
  url: %s
  ref: main
  interval: 1h
  grants: [{target: host, cluster: true}]
`, filepath.Join(s.dir, "data"), dir, s.repo.URL)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := api.NewClient(api.ClientOptions{Socket: filepath.Join(s.dir, "data", "holdfast.sock")})
	if err != nil {
		t.Fatal(err)
	}
	s.client = client
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			s.printLog()
		}
	})
	return s, dir
}

func hostFile(name, content string) string {
	return fmt.Sprintf("apiVersion: host.holdfast.dev/v1alpha1\nkind: File\nmetadata: {name: %s}\nspec:\n  path: conf/%s\n  content: %q\n", name, name, content)
}

// replaceFile edits as editors do, in one step: a file that is written in place is
// put back while it is still empty.
func (s *stage) replaceFile(path, content string) {
	s.t.Helper()
	temp := filepath.Join(s.dir, "edited")
	if err := errors.Join(os.WriteFile(temp, []byte(content), 0o644), os.Rename(temp, path)); err != nil {
		s.t.Fatal(err)
	}
}

// expectFile waits until a file has a content; a nil content means no file.
func (s *stage) expectFile(path string, want *string) {
	s.t.Helper()
	s.until(path+" is as desired", func() error {
		got, err := os.ReadFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && want == nil:
			return nil
		case err != nil:
			return err
		case want == nil || string(got) != *want:
			return fmt.Errorf("it is %q", got)
		}
		return nil
	})
}

func TestAFolderOfFilesIsKeptWithoutACluster(t *testing.T) {
	t.Parallel()
	s, dir := hostStage(t)
	files := map[string]string{
		"environments/host.yaml": "apiVersion: holdfast.dev/v1alpha1\nkind: Environment\nmetadata: {name: host}\nspec: {path: files, target: host}\n",
	}
	for i := range 20 {
		files[fmt.Sprintf("files/f%02d.yaml", i)] = hostFile(fmt.Sprintf("f%02d", i), "blue\n")
	}
	s.repo.Commit(t, files)
	s.start()
	if got := s.settled("host", reconciler.Applied); got.LastRun.Counts.Created != 20 || got.Sync != reconciler.SyncClean {
		t.Errorf("first run %+v, %s", got.LastRun.Counts, got.Sync)
	}
	blue, green, f00 := "blue\n", "green\n", filepath.Join(dir, "conf", "f00")
	s.expectFile(f00, &blue)

	// Drift goes back, and is reported.
	s.replaceFile(f00, "red\n")
	s.expectFile(f00, &blue)
	s.expectDrift("host", `changed File.host.holdfast.dev/f00.spec.content[line 1]: "blue\n" -> "red\n" by unknown, corrected from files/f00.yaml:1`)
	if err := os.Rename(filepath.Join(dir, "conf"), filepath.Join(s.dir, "away")); err != nil { // deleting it would race with its return
		t.Fatal(err)
	}
	s.expectFile(filepath.Join(dir, "conf", "f19"), &blue)

	// One change and one deletion pass; eight of twenty wait for an approval.
	s.repo.Commit(t, map[string]string{"files/f00.yaml": hostFile("f00", green), "files/f01.yaml": gitserver.Delete})
	if got := s.resync("host"); got.Result != reconciler.Applied || got.Counts.Updated != 1 || got.Counts.Deleted != 1 {
		t.Errorf("receipt %+v", got)
	}
	s.expectFile(f00, &green)
	gone := map[string]string{}
	for i := 2; i < 10; i++ {
		gone[fmt.Sprintf("files/f%02d.yaml", i)] = gitserver.Delete
	}
	s.repo.Commit(t, gone)
	held := s.resync("host")
	if held.Result != reconciler.Held || held.Counts.Held != 8 || !strings.Contains(held.Waiting[0].Why, "deletion budget") {
		t.Fatalf("receipt %+v", held)
	}
	s.expectFile(filepath.Join(dir, "conf", "f02"), &blue)
	if got := s.resyncWith(api.ResyncRequest{Environments: []string{"host"}, Approve: held.PlanHash}); got.Counts.Deleted != 8 {
		t.Errorf("approved: %+v", got)
	}
	s.expectFile(filepath.Join(dir, "conf", "f02"), nil)

	// What was there before is no prey, and the record outlives the daemon.
	if err := os.WriteFile(filepath.Join(dir, "conf", "theirs"), []byte("theirs"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.repo.Commit(t, map[string]string{"files/theirs.yaml": hostFile("theirs", "ours")})
	if got := s.resync("host"); got.Result != reconciler.Partial || !strings.Contains(got.Errors.Error(), "files/theirs.yaml:1: File.host.holdfast.dev/theirs: conf/theirs exists") {
		t.Errorf("receipt %+v", got)
	}
	s.checkHistory(held)
}

func TestHoldsAndRollbacksWorkOnAFolderOfFiles(t *testing.T) {
	t.Parallel()
	s, dir := hostStage(t)
	ctx := context.Background()
	blue, green, red := "blue\n", "green\n", "red\n"
	first := s.repo.Commit(t, map[string]string{
		"environments/host.yaml": "apiVersion: holdfast.dev/v1alpha1\nkind: Environment\nmetadata: {name: host}\nspec: {path: files, target: host}\n",
		"files/a.yaml":           hostFile("a", blue),
	})
	s.start()
	s.settled("host", reconciler.Applied)
	path := filepath.Join(dir, "conf", "a")

	// Held: what somebody writes stays, and is reported; then it goes back.
	holds, err := s.client.Hold(ctx, api.HoldRequest{Environments: []string{"host"}, For: "1h", Reason: "incident 7", Author: "ann"})
	if err != nil || len(holds.Holds) != 1 {
		t.Fatalf("%+v, %v", holds, err)
	}
	s.replaceFile(path, red)
	s.until("the drift is open", func() error {
		status, err := s.client.Environment(ctx, "host")
		if err == nil && status.OpenDrifts != 1 {
			err = fmt.Errorf("%d open, %s", status.OpenDrifts, status.Sync)
		}
		return err
	})
	s.expectFile(path, &red)

	// The hold, and the drift, outlive a kill, once they are on record.
	s.until("both are on record", func() error {
		history, err := s.client.DriftHistory(ctx, api.HistoryQuery{Environment: "host"})
		if err == nil && history.Summary.All.Open != 1 {
			err = fmt.Errorf("%+v", history.Summary.All)
		}
		actions, failed := s.client.Actions(ctx, api.RunsQuery{Environment: "host"})
		if failed == nil && len(actions.Actions) == 0 {
			failed = errors.New("no action")
		}
		return errors.Join(err, failed)
	})
	s.kill()
	s.start()
	s.until("the drift is seen again", func() error {
		report, err := s.client.Drift(ctx, api.DriftQuery{Environment: "host", Open: true})
		if err == nil && (len(report.Episodes) != 1 || report.Episodes[0].Occurrences < 2) {
			err = fmt.Errorf("%+v", report.Episodes)
		}
		return err
	})
	s.expectFile(path, &red)
	if _, err := s.client.EndHold(ctx, holds.Holds[0].ID, api.HoldChange{Author: "ann"}); err != nil {
		t.Fatal(err)
	}
	s.expectFile(path, &blue)
	s.until("the drift has ended on record, once", func() error {
		history, err := s.client.DriftHistory(ctx, api.HistoryQuery{Environment: "host"})
		if all := history.Summary.All; err == nil && (all.Episodes != 1 || all.Open != 0) {
			err = fmt.Errorf("%+v", all)
		}
		return err
	})

	// A rollback heals against the older revision.
	s.repo.Commit(t, map[string]string{"files/a.yaml": hostFile("a", green)})
	if got := s.resync("host"); got.Result != reconciler.Applied {
		t.Errorf("receipt %+v", got)
	}
	s.expectFile(path, &green)
	if _, err := s.client.Rollback(ctx, "host", api.RollbackRequest{To: first, Reason: "green is wrong", Author: "ann"}); err != nil {
		t.Fatal(err)
	}
	s.expectFile(path, &blue)
	s.replaceFile(path, red)
	s.expectFile(path, &blue)
	if _, err := s.client.Release(ctx, "host", api.ActorRequest{Author: "ann"}); err != nil {
		t.Fatal(err)
	}
	s.expectFile(path, &green)
	s.until("who asked is on record", func() error {
		actions, err := s.client.Actions(ctx, api.RunsQuery{Environment: "host"})
		said := ""
		for _, a := range actions.Actions {
			said += fmt.Sprintf("%s %s %s; ", a.Actor, a.Verb, a.Reason)
		}
		for _, want := range []string{"ann (socket) hold incident 7", "ann (socket) rollback green is wrong", "ann (socket) release"} {
			if err == nil && !strings.Contains(said, want) {
				err = errors.New(said)
			}
		}
		return err
	})
}

// checkHistory sees that runs, drift and approvals are on record, also after a
// kill, and can be carried away.
func (s *stage) checkHistory(held reconciler.Run) {
	s.t.Helper()
	ctx := context.Background()
	s.until("all is on record", func() error {
		page, err := s.client.Runs(ctx, api.RunsQuery{Environment: "host"})
		if err == nil && len(page.Runs) < 5 {
			err = fmt.Errorf("%d runs", len(page.Runs))
		}
		return err
	})
	s.kill()
	s.start()
	run, err := s.client.Run(ctx, held.ID, 0)
	if err != nil || run.Result != reconciler.Held || run.Counts != held.Counts {
		s.t.Errorf("after the kill: %+v, %v", run, err)
	}
	page, err := s.client.Runs(ctx, api.RunsQuery{Object: "File.host.holdfast.dev/f00"})
	if err != nil || len(page.Runs) != 2 {
		s.t.Errorf("%d runs wrote f00, %v", len(page.Runs), err)
	}
	history, err := s.client.DriftHistory(ctx, api.HistoryQuery{Since: time.Hour, GroupBy: ledger.ByEnvironment})
	if err != nil || history.Summary.All.Episodes < 2 || history.Summary.All.MeanResolve <= 0 {
		s.t.Errorf("drift on record: %+v, %v", history.Summary, err)
	}
	actions, err := s.client.Actions(ctx, api.RunsQuery{Environment: "host"})
	if err != nil || len(actions.Actions) < 4 || actions.Actions[0].Actor != "socket" {
		s.t.Errorf("actions: %+v, %v", actions, err)
	}
	report, err := s.client.Drift(ctx, api.DriftQuery{Environment: "host", Since: time.Hour})
	if err != nil || len(report.Episodes) < 2 {
		s.t.Errorf("the report after the kill: %+v, %v", report, err)
	}
	out, err := program("history", "host", "--data-dir", filepath.Join(s.dir, "data")).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(held.ID)) {
		s.t.Errorf("history: %v\n%s", err, out)
	}
	out, err = program("ledger", "backup", filepath.Join(s.dir, "copy.db"), "--data-dir", filepath.Join(s.dir, "data")).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("runs")) {
		s.t.Errorf("backup: %v\n%s", err, out)
	}
}
