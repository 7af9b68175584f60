package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/holdfast-gitops/holdfast/cmd/internal/server"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
	"github.com/holdfast-gitops/holdfast/sources"
)

// past is a daemon with a ledger, at the socket of a data directory.
type past struct {
	*testing.T
	dir    string
	ledger *ledger.Ledger
	stop   func()
}

func newPast(t *testing.T, v values) *past {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf") // short, as the path of a socket must be
	if err != nil {
		t.Fatal(err)
	}
	p := &past{T: t, dir: dir}
	p.ledger = ledger.Open(t.Context(), ledger.Options{
		Path: filepath.Join(dir, ledger.FileName), Log: zerolog.Nop(), Now: func() time.Time { return now },
	})
	socket, err := server.ListenSocket(dir)
	if err != nil {
		t.Fatal(err)
	}
	srv := server.New(server.Options{Engine: v, Ledger: p.ledger, Now: func() time.Time { return now }})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- srv.Serve(ctx, nil, socket) }()
	go func() { ended <- p.ledger.Run(ctx) }()
	stopped := false
	p.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := errors.Join(<-ended, <-ended); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() {
		p.stop()
		os.RemoveAll(dir)
	})
	return p
}

// holdfast runs a command line against it.
func (p *past) holdfast(args ...string) (code int, stdout, stderr string) {
	p.Helper()
	if err := p.ledger.Flush(p.Context()); err != nil && !strings.Contains(strings.Join(args, " "), "ledger") {
		p.Fatal(err)
	}
	return p.offline(args...)
}

func (p *past) offline(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &errs, env: func(string) string { return "" }, now: func() time.Time { return now }}
	root := a.root()
	root.SetArgs(append(args, "--data-dir", p.dir))
	code = a.report(root.ExecuteContext(p.Context()))
	return code, out.String(), errs.String()
}

func pastRun(id string, ago time.Duration) reconciler.Run {
	began := now.Add(-ago)
	return reconciler.Run{
		ID: id, Environment: "prod", Trigger: reconciler.Trigger{Reason: reconciler.ReasonOnCall, Actor: "socket"}, Result: reconciler.Applied,
		Revision: sources.Revision{ID: "a1b2c3d4e5f6", Ref: "refs/heads/main", Subject: "Scale up", Author: "ann"}, PlanHash: "feed",
		Started: began, Finished: began.Add(time.Second), Seconds: 1, Counts: reconciler.Counts{Updated: 1, Failed: 1},
		Changes: []reconciler.ObjectChange{
			{
				Object: sources.ID{Group: "apps", Kind: "Deployment", Namespace: "web", Name: "api"}, Op: reconciler.OpUpdate,
				Origin: sources.Origin{File: "api.yaml", Line: 3}, More: true,
				Fields: []drift.Change{
					{Path: ".spec.replicas", Live: drift.NewValue(2, false), Desired: drift.NewValue(3, false)},
					{Path: ".data.password", Live: drift.NewValue("sentinel", true), Desired: drift.NewValue("sentinel", true)},
				},
			},
			{Object: sources.ID{Kind: "Service", Namespace: "web", Name: "api"}, Op: reconciler.OpCreate, Error: "is refused\x1b[31m"},
		},
	}
}

func TestHistoryShowsRunsAndWhatTheyChanged(t *testing.T) {
	p := newPast(t, values{})
	p.ledger.RunEnded(pastRun("run-00000000000a", 3*24*time.Hour))
	p.ledger.RunEnded(pastRun("run-00000000000b", time.Hour))
	p.ledger.Record(ledger.Action{At: now, Actor: "ann", Verb: "hold", Environment: "prod", Reason: "incident 7"})

	code, out, _ := p.holdfast("history", "prod")
	if lines := strings.Split(strings.TrimSpace(out), "\n"); code != 0 || len(lines) != 3 || !strings.Contains(lines[1], "run-00000000000b") ||
		!strings.Contains(lines[1], "2026-05-01 11:00:01Z") || !strings.Contains(lines[1], "on-call (socket)") {
		t.Errorf("%d\n%s", code, out)
	}
	if _, out, _ := p.holdfast("history", "--since", "2d"); strings.Contains(out, "run-00000000000a") || !strings.Contains(out, "run-00000000000b") {
		t.Errorf("since two days:\n%s", out)
	}
	_, out, _ = p.holdfast("history", "--limit", "1")
	if !strings.Contains(out, "older ones: add --before 2") {
		t.Errorf("the first of two pages:\n%s", out)
	}
	if _, out, _ := p.holdfast("history", "--limit", "1", "--before", "2"); !strings.Contains(out, "run-00000000000a") || strings.Contains(out, "older ones") {
		t.Errorf("the last page:\n%s", out)
	}
	code, out, _ = p.holdfast("history", "run-00000000000b")
	for _, part := range []string{
		"Scale up", "plan         feed", "update     Deployment/web/api  .spec.replicas", "2 → 3", "(sensitive) → (sensitive)",
		"and more fields", "api.yaml:3", "failed: is refused\ufffd",
	} {
		if !strings.Contains(out, part) {
			t.Errorf("one run lacks %q:\n%s", part, out)
		}
	}
	if code != 0 || strings.Contains(out, "sentinel") || strings.Contains(out, "\x1b") {
		t.Errorf("%d\n%s", code, out)
	}
	if code, _, errs := p.holdfast("history", "run-00000000000c"); code != exitInvalid || !strings.Contains(errs, "no such record") {
		t.Errorf("a run that is not there: %d %s", code, errs)
	}
	if _, out, _ := p.holdfast("history", "--object", "Service/web/api", "-o", "json"); strings.Count(out, `"id": "run-`) != 2 {
		t.Errorf("by object:\n%s", out)
	}
	for args, want := range map[string]int{"--result " + string(pastRun("", 0).Result): 2, "--result superseded": 0, "--reason on-call": 2, "--reason timer": 0} {
		if _, out, _ := p.holdfast(append([]string{"history", "-o", "json"}, strings.Fields(args)...)...); strings.Count(out, `"id": "run-`) != want {
			t.Errorf("%s:\n%s", args, out)
		}
	}
	if code, _, errs := p.holdfast("history", "--result", "good"); code != exitInvalid || !strings.Contains(errs, "superseded") {
		t.Errorf("a bad result: %d %s", code, errs)
	}
	if _, out, _ := p.holdfast("history", "--actions"); !strings.Contains(out, "incident 7") {
		t.Errorf("actions:\n%s", out)
	}
	if code, _, errs := p.holdfast("history", "--since", "soon"); code != exitInvalid || !strings.Contains(errs, "7d or 2w") {
		t.Errorf("a bad span: %d %s", code, errs)
	}
}

func TestDriftIsAddedUpFromTheRecord(t *testing.T) {
	p := newPast(t, values{report: reconciler.Report{At: now}})
	for i, manager := range []string{"kubectl-edit", "kubectl-edit", "helm"} {
		seen := now.Add(-time.Duration(i+1) * time.Hour)
		p.ledger.DriftSeen(drift.Episode{
			ID: manager + seen.String(), Environment: "prod", Class: drift.Changed, Severity: drift.Low, Object: sources.ID{Kind: "ConfigMap", Namespace: "web", Name: "a"}, State: drift.Corrected,
			FirstSeen: seen, LastSeen: seen, Ended: seen.Add(4 * time.Second), Occurrences: 1, Changes: []drift.Change{{Path: ".data.x", Manager: manager}},
		}, 50*time.Millisecond)
	}
	code, out, _ := p.holdfast("drift", "--since", "7d", "--group-by", "manager")
	for _, part := range []string{"3 drifts, 0 of them open", "mean time to detect 50ms, to resolve 4s", "kubectl-edit", "NOISIEST OBJECTS", "prod: ConfigMap/web/a"} {
		if !strings.Contains(out, part) {
			t.Errorf("lacks %q:\n%s", part, out)
		}
	}
	if code != 0 {
		t.Errorf("ends with %d", code)
	}
	if _, out, _ := p.holdfast("drift", "--since", "7d", "--group-by", "environment", "--manager", "helm", "--kind", "ConfigMap", "--class", "changed"); !strings.Contains(out, "1 drifts") {
		t.Errorf("by helm alone:\n%s", out)
	}
	if _, out, _ := p.holdfast("drift", "--since", "7d", "--severity", "high"); !strings.Contains(out, "no drift") || !strings.Contains(out, "0 drifts") {
		t.Errorf("at least high:\n%s", out)
	}
	if code, _, errs := p.holdfast("drift", "--severity", "bad"); code != exitInvalid || !strings.Contains(errs, "critical, high, medium, low") {
		t.Errorf("a bad severity: %d %s", code, errs)
	}
	if _, out, _ := p.holdfast("drift", "--since", "90m"); !strings.Contains(out, "1 ended") || !strings.Contains(out, "1 drifts") {
		t.Errorf("since 90 minutes:\n%s", out)
	}
	if code, _, errs := p.holdfast("drift", "--group-by", "colour"); code != exitInvalid || !strings.Contains(errs, "cause, manager, environment, kind") {
		t.Errorf("a bad group: %d %s", code, errs)
	}
}

func TestLedgerIsBackedUpRestoredAndChecked(t *testing.T) {
	p := newPast(t, values{})
	p.ledger.RunEnded(pastRun("run-00000000000a", time.Hour))
	first, second := filepath.Join(p.dir, "first.db"), filepath.Join(p.dir, "second.db")
	if code, out, errs := p.holdfast("ledger", "backup", first); code != 0 || !strings.Contains(out, "1 runs") {
		t.Fatalf("online: %d %s %s", code, out, errs)
	}
	if code, _, errs := p.holdfast("ledger", "backup", first); code != exitInvalid || !strings.Contains(errs, "is not replaced") {
		t.Errorf("to a file that exists: %d %s", code, errs)
	}
	p.ledger.RunEnded(pastRun("run-00000000000b", time.Minute))
	if code, out, _ := p.holdfast("ledger", "check"); code != 0 || !strings.Contains(out, "runs       2") {
		t.Errorf("online: %d\n%s", code, out)
	}
	p.stop()
	if code, out, errs := p.offline("ledger", "backup", second); code != 0 || !strings.Contains(out, "2 runs") {
		t.Errorf("offline: %d %s %s", code, out, errs)
	}
	if code, out, errs := p.offline("ledger", "restore", first); code != 0 || !strings.Contains(out, ".replaced-") {
		t.Errorf("restore: %d %s %s", code, out, errs)
	}
	if code, out, _ := p.offline("ledger", "check"); code != 0 || !strings.Contains(out, "runs       1") || !strings.Contains(out, "set aside") {
		t.Errorf("offline: %d\n%s", code, out)
	}
	if err := os.WriteFile(filepath.Join(p.dir, ledger.FileName), []byte(strings.Repeat("spoilt", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := p.offline("ledger", "check"); code != exitError || !strings.Contains(out, "damage") {
		t.Errorf("damaged: %d\n%s", code, out)
	}
	if left, err := filepath.Glob(filepath.Join(p.dir, ".holdfast-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestDeliveryIsMeasuredFromTheRecord(t *testing.T) {
	p := newPast(t, values{})
	if code, out, _ := p.holdfast("delivery"); code != 0 || !strings.Contains(out, "no deployments on record since 2026-04-01") {
		t.Errorf("nothing yet: %d\n%s", code, out)
	}
	for i, environment := range []string{"prod", "staging"} {
		run := pastRun(fmt.Sprintf("run-00000000000%d", i), time.Hour)
		run.Environment, run.Before, run.Revision.Time = environment, "before", run.Finished.Add(-time.Minute)
		p.ledger.RunEnded(run)
		p.ledger.HealthChanged(reconciler.Verdict{Environment: environment, Revision: run.Revision, Health: reconciler.HealthReady, At: run.Finished.Add(time.Minute)})
	}
	code, out, _ := p.holdfast("delivery")
	if lines := strings.Split(strings.TrimSpace(out), "\n"); code != 0 || len(lines) != 4 || !strings.Contains(lines[3], "all") || !strings.Contains(lines[1], "2m") || !strings.Contains(lines[1], "0 %") {
		t.Errorf("%d\n%s", code, out)
	}
	if _, out, _ := p.holdfast("delivery", "prod", "--since", "2h"); !strings.Contains(out, "run-000000000000") || !strings.Contains(out, "after 1m") || strings.Contains(out, "staging") {
		t.Errorf("one environment:\n%s", out)
	}
	if _, out, _ := p.holdfast("delivery", "prod", "-o", "yaml"); !strings.Contains(out, "leadMedianSeconds: 120") {
		t.Errorf("as yaml:\n%s", out)
	}
	if code, _, errs := p.holdfast("delivery", "--since", "soon"); code != exitInvalid || !strings.Contains(errs, "7d or 2w") {
		t.Errorf("a bad span: %d %s", code, errs)
	}
}
