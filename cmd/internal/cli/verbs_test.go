package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/cmd/internal/server"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// values is an engine that answers with what it holds.
type values struct {
	statuses []reconciler.Status
	report   reconciler.Report
	runs     []reconciler.Run
	sources  map[string]sources.Problems
}

func (v values) Environments() []reconciler.Status { return v.statuses }

func (v values) SourceProblems() map[string]sources.Problems { return v.sources }

func (v values) Environment(name string) (reconciler.Status, bool) {
	for _, s := range v.statuses {
		if s.Name == name {
			return s, true
		}
	}
	return reconciler.Status{}, false
}

func (v values) Drift(reconciler.Filter) reconciler.Report { return v.report }

func (v values) Resync([]string, reconciler.Trigger) ([]reconciler.Run, error) {
	return append([]reconciler.Run{}, v.runs...), nil
}

func (v values) Wait(_ context.Context, id string) (reconciler.Run, error) {
	for _, r := range v.runs {
		if r.ID == id {
			return r, nil
		}
	}
	return reconciler.Run{}, os.ErrNotExist
}

func (v values) LastResync() []reconciler.Run { return v.runs }

// daemonOf serves values at a socket, and returns the data directory.
func daemonOf(t *testing.T, v values) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf") // short, as the path of a socket must be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket, err := server.ListenSocket(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	srv := server.New(server.Options{Engine: v, Now: func() time.Time { return now }})
	go func() { ended <- srv.Serve(ctx, nil, socket) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return dir
}

// holdfast runs a command line against values.
func holdfast(t *testing.T, v values, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: &errs, env: func(string) string { return "" }, now: func() time.Time { return now }}
	root := a.root()
	root.SetArgs(append(args, "--data-dir", daemonOf(t, v)))
	code = a.report(root.ExecuteContext(t.Context()))
	return code, out.String(), errs.String()
}

func status(name string, s reconciler.Sync) reconciler.Status {
	return reconciler.Status{
		Name: name, Source: "shop", Target: "default", Path: name, Mode: "apply", Drift: "correct", Sync: s, Objects: 3,
		Applied: sources.Revision{ID: "a1b2c3d4e5f6", Ref: "refs/heads/main", Subject: "Scale up", Author: "ann"},
		Head:    sources.Revision{ID: "a1b2c3d4e5f6", Ref: "refs/heads/main", Subject: "Scale up", Author: "ann"},
		LastRun: &reconciler.Run{ID: "run-1", Result: reconciler.Applied, Finished: now.Add(-3 * time.Minute), Seconds: 0.5, Counts: reconciler.Counts{Created: 3}},
	}
}

func TestStatusEndsWithTheWorst(t *testing.T) {
	for _, tt := range []struct {
		syncs []reconciler.Sync
		want  int
	}{
		{nil, 0},
		{[]reconciler.Sync{reconciler.SyncClean, reconciler.SyncClean}, 0},
		{[]reconciler.Sync{reconciler.SyncDrifted, reconciler.SyncClean}, 2},
		{[]reconciler.Sync{reconciler.SyncChanges}, 2},
		{[]reconciler.Sync{reconciler.SyncPending}, 2},
		{[]reconciler.Sync{reconciler.SyncVerifying}, 2},
		{[]reconciler.Sync{reconciler.SyncRemoved}, 2},
		{[]reconciler.Sync{reconciler.SyncDrifted, reconciler.SyncFailed}, 1},
		{[]reconciler.Sync{reconciler.SyncStale, reconciler.SyncClean}, 1},
	} {
		var all []reconciler.Status
		for i, s := range tt.syncs {
			all = append(all, status(string(rune('a'+i)), s))
		}
		if got := syncCode(all...); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.syncs, got, tt.want)
		}
	}
}

func TestStatusTable(t *testing.T) {
	bad := status("prod", reconciler.SyncFailed)
	bad.Head = sources.Revision{ID: "ffff0000", Ref: "refs/heads/main"}
	bad.OpenDrifts, bad.Gates = 2, []reconciler.Gate{{Kind: reconciler.GateBudget, Why: "deletion budget: 7 deletions"}}
	bad.Errors = sources.Problems{{File: "prod/x.yaml", Line: 3, Message: "is not YAML", Hint: "mend it"}}
	bad.Running = &reconciler.Run{ID: "run-2"}
	bad.Health, bad.Unready = reconciler.HealthFailed, []reconciler.Unready{{
		Object: sources.ID{Group: "apps", Kind: "Deployment", Namespace: "web", Name: "api"}, Why: "not available", RootCause: "Pod api-1: ImagePullBackOff",
	}}
	good := status("dev", reconciler.SyncClean)
	good.Health = reconciler.HealthReady
	code, out, _ := holdfast(t, values{statuses: []reconciler.Status{good, bad}}, "status")
	want := `ENVIRONMENT  SYNC    HEALTH  REVISION                         OBJECTS  DRIFT   LAST RUN
dev          clean   ready   main@a1b2c3d                     3        0 open  applied 3m ago
prod         failed  failed  main@a1b2c3d, head main@ffff000  3        2 open  applied 3m ago, running

prod:
  held: deletion budget: 7 deletions
  error: prod/x.yaml:3: is not YAML
         hint: mend it

prod is not ready:
  waits for: Deployment/web/api: Pod api-1: ImagePullBackOff
`
	if diff := cmp.Diff(want, out); diff != "" || code != 1 {
		t.Errorf("exit code %d\n%s", code, diff)
	}
}

func TestStatusOfOne(t *testing.T) {
	v := values{statuses: []reconciler.Status{status("dev", reconciler.SyncClean)}}
	code, out, _ := holdfast(t, v, "status", "dev")
	for _, part := range []string{"main@a1b2c3d  Scale up  (ann)", "run-1, 3 created, 0.500s", "apply, drift correct"} {
		if !strings.Contains(out, part) {
			t.Errorf("output has no %q:\n%s", part, out)
		}
	}
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	code, out, errs := holdfast(t, v, "status", "nope")
	if code != 3 || out != "" || errs != "error: there is no environment \"nope\"\nhint: there are: dev\n" {
		t.Errorf("exit code %d, %q, %q", code, out, errs)
	}
}

func TestJSONIsTheStructOfTheAPI(t *testing.T) {
	v := values{statuses: []reconciler.Status{status("dev", reconciler.SyncClean)}}
	_, out, _ := holdfast(t, v, "status", "-o", "json")
	var got api.Environments
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(v.statuses, got.Environments); diff != "" {
		t.Error(diff)
	}
	if _, out, _ := holdfast(t, v, "status", "-o", "yaml"); !strings.HasPrefix(out, "environments:\n- applied:\n") {
		t.Errorf("yaml:\n%s", out)
	}
}

func episode() drift.Episode {
	return drift.Episode{
		Environment: "prod", Object: sources.ID{Group: "apps", Kind: "Deployment", Namespace: "web", Name: "api"},
		Class: drift.Changed, State: drift.Open, FirstSeen: now.Add(-252 * time.Minute), LastSeen: now, Occurrences: 1, Next: "reported only",
		Changes: []drift.Change{
			{Path: ".spec.replicas", Desired: drift.NewValue(3, false), Live: drift.NewValue(9, false), Manager: "kubectl-scale"},
			{Path: ".data.password", Desired: drift.NewValue("sentinel", true), Live: drift.Absent(), Manager: drift.Unknown},
		},
	}
}

func TestDriftTable(t *testing.T) {
	ended := drift.Episode{
		Environment: "dev", Object: sources.ID{Kind: "ConfigMap", Namespace: "web", Name: "flags"}, Class: drift.Changed, State: drift.Corrected,
		FirstSeen: now.Add(-time.Hour), Ended: now.Add(-time.Hour + 12*time.Millisecond), Occurrences: 3,
		Changes: []drift.Change{{Path: ".data.note", Desired: drift.NewValue("a", false), Live: drift.NewValue("\x1b[2J\u202e"+strings.Repeat("x", 60), false), Manager: "evil\x1b]0;title\a"}},
	}
	report := reconciler.Report{At: now, Episodes: []drift.Episode{episode(), ended}, Unsure: map[string]string{"test": "not compared yet"}}
	code, out, _ := holdfast(t, values{report: report}, "drift")
	for _, part := range []string{
		"ENVIRONMENT  OBJECT", "DESIRED → LIVE", "prod         Deployment/web/api", ".spec.replicas  3 → 9", "kubectl-scale", "4h12m  open", "reported only",
		".data.password  " + drift.Masked + " → (absent)", "corrected after 12ms, ×3", "1 open, the oldest for 4h12m; 1 ended", "test: nothing can be said, not compared yet",
	} {
		if !strings.Contains(out, part) {
			t.Errorf("output has no %q:\n%s", part, out)
		}
	}
	if strings.ContainsAny(out, "\x1b\a\u202e") {
		t.Errorf("a value reaches the terminal as it is: %q", out)
	}
	if strings.Contains(out, "sentinel") || code != 2 {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

func TestDriftExpandedTellsAllThatIsKnown(t *testing.T) {
	e := episode()
	git := drift.NewValue(3, false)
	e.ID, e.Cause, e.Severity, e.SeverityRule, e.Author, e.Commit = "e7", drift.Manual, drift.High, "replicas\x1b[2J", "Ann", "abcdef"
	e.Changes[0].Git, e.Changes[0].Operation, e.Changes[0].Subresource, e.Changes[0].Time = &git, "Update", "scale", now
	e.Origin = sources.Origin{File: "prod/web.yaml", Line: 31}
	e.Decision = &drift.Decision{Author: "carla", Reason: "known", Until: now}
	late := sources.ID{Kind: "Secret", Namespace: "web", Name: "late"}
	report := reconciler.Report{
		At: now, Episodes: []drift.Episode{e}, Detectors: []drift.Detector{{Environment: "prod", Sight: drift.Fresh, AsOf: now}},
		Behind: []drift.Behind{{Environment: "prod", Object: late, Next: "waits: a"}, {Environment: "dev", Object: late, Next: "waits: b"}},
	}
	_, out, _ := holdfast(t, values{report: report}, "drift", "--expand")
	for _, part := range []string{
		"id: e7", "class: changed", ".spec.replicas: git 3, applied 3, live 9; by kubectl-scale (Update of scale at ", "cause: manual", "severity: high, by the rule: replicas",
		"written in: prod/web.yaml:31", "commit: abcdef", "author: Ann", "age: 4h12m0s", "occurrences: 1", "decision: accepted by carla", "detector: fresh, as of ",
		"waits: a", "dev: Secret/web/late: waits: b",
	} {
		if !strings.Contains(out, part) {
			t.Errorf("lacks %q:\n%s", part, out)
		}
	}
	if strings.Contains(out, "sentinel") || strings.Contains(out, "\x1b") {
		t.Errorf("a secret or an escape shows:\n%q", out)
	}
}

func TestDriftExitCodes(t *testing.T) {
	ended := episode()
	ended.Ended = now
	unsure := map[string]string{"prod": "not compared yet"}
	for _, tt := range []struct {
		report reconciler.Report
		want   int
	}{
		{reconciler.Report{}, 0},
		{reconciler.Report{Episodes: []drift.Episode{ended}}, 0},
		{reconciler.Report{Episodes: []drift.Episode{ended, episode()}}, 2},
		{reconciler.Report{Episodes: []drift.Episode{ended}, Unsure: unsure}, 1},
		{reconciler.Report{Episodes: []drift.Episode{episode()}, Unsure: unsure}, 2},
	} {
		if got := driftCode(tt.report); got != tt.want {
			t.Errorf("%+v: %d, want %d", tt.report, got, tt.want)
		}
	}
}

func TestResyncExitCodes(t *testing.T) {
	for _, tt := range []struct {
		results []reconciler.Result
		wait    bool
		want    int
	}{
		{[]reconciler.Result{reconciler.Applied, reconciler.Unchanged}, true, 0},
		{[]reconciler.Result{reconciler.Applied, reconciler.Held}, true, 2},
		{[]reconciler.Result{reconciler.Pending}, true, 2},
		{[]reconciler.Result{reconciler.Pending}, false, 0},
		{[]reconciler.Result{reconciler.Held, reconciler.Partial}, true, 1},
		{[]reconciler.Result{reconciler.Failed, reconciler.Applied}, true, 1},
		{[]reconciler.Result{reconciler.Superseded}, true, 1},
	} {
		v := values{statuses: []reconciler.Status{status("dev", reconciler.SyncClean)}}
		for i, r := range tt.results {
			v.runs = append(v.runs, reconciler.Run{ID: string(rune('a' + i)), Environment: "dev", Result: r})
		}
		args := []string{"resync"}
		if tt.wait {
			args = append(args, "--wait")
		}
		if code, out, errs := holdfast(t, v, args...); code != tt.want {
			t.Errorf("%v: %d, want %d\n%s%s", tt.results, code, tt.want, out, errs)
		}
	}
}

func TestReceiptsTable(t *testing.T) {
	v := values{
		statuses: []reconciler.Status{status("prod", reconciler.SyncClean)},
		runs: []reconciler.Run{{
			ID: "run-1", Environment: "prod", Result: reconciler.Held, Finished: now, Seconds: 0.25, Revision: sources.Revision{ID: "a1b2c3d4"},
			Counts: reconciler.Counts{Updated: 1, Held: 1}, PlanHash: "1f2e3d4c",
			Waiting: []reconciler.Waiting{{Object: sources.ID{Kind: "Namespace", Name: "web"}, Op: reconciler.OpDelete, Why: "protected kind: approve the plan"}},
		}},
	}
	want := `ENVIRONMENT  RESULT  REVISION  OBJECTS            TOOK    RUN
prod         held    a1b2c3d   1 updated, 1 held  0.250s  run-1

prod:
  held: delete Namespace/web: protected kind: approve the plan
  hint: holdfast resync prod --wait --approve 1f2e3d4c carries out this plan
`
	for _, args := range [][]string{{"resync", "prod", "--wait"}, {"status", "--last-resync"}} {
		code, out, errs := holdfast(t, v, args...)
		if diff := cmp.Diff(want, out); diff != "" || code != 2 {
			t.Errorf("%v: exit code %d, %s\n%s", args, code, errs, diff)
		}
	}
}

func TestTokensComeFromFileOrEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from-a-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- server.New(server.Options{Engine: values{}, TokenFile: file}).Serve(ctx, tcp, nil)
	}()
	call := func(env string, args ...string) (int, string) {
		var out, errs bytes.Buffer
		a := &app{stdout: &out, stderr: &errs, env: func(string) string { return env }}
		root := a.root()
		root.SetArgs(append([]string{"resync", "--server", "http://" + tcp.Addr().String()}, args...))
		return a.report(root.ExecuteContext(t.Context())), errs.String()
	}
	if code, errs := call("wrong-token"); code != 1 || !strings.Contains(errs, "error: the token is missing or wrong\nhint: set HOLDFAST_TOKEN or --token-file") {
		t.Errorf("wrong token: %d %s", code, errs)
	}
	if code, errs := call("from-a-file"); code != 0 {
		t.Errorf("token in the environment: %d %s", code, errs)
	}
	if code, errs := call("wrong-token", "--token-file", file); code != 0 {
		t.Errorf("token in a file: %d %s", code, errs)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestDriftSaysWhoWroteTheLines(t *testing.T) {
	e := drift.Episode{
		Environment: "prod", Object: sources.ID{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: "web"}, Class: drift.Changed, State: drift.Open,
		FirstSeen: time.Now(), Origin: sources.Origin{File: "prod/web.yaml", Line: 2},
		Changes: []drift.Change{
			{Path: ".spec.replicas", Line: &drift.Line{Number: 7, Commit: strings.Repeat("ab", 20), Author: "Ada\x1b[31m", Subject: "Scale down", Time: time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)}},
			{Path: ".spec.paused", Line: &drift.Line{Number: 9, Commit: strings.Repeat("cd", 20), Author: "Eve", Unsure: "the server is away"}},
		},
	}
	report := reconciler.Report{Episodes: []drift.Episode{e}}
	code, out, _ := holdfast(t, values{report: report}, "drift", "--blame")
	for _, part := range []string{"prod/web.yaml:7", "Ada", "2026-04-01", "abababa", "Scale down", "prod/web.yaml:9", "not known", "the server is away"} {
		if !strings.Contains(out, part) {
			t.Errorf("no %q in:\n%s", part, out)
		}
	}
	if code != exitChanges || strings.Contains(out, "\x1b") || strings.Contains(out, "Eve") {
		t.Errorf("code %d, or too much said:\n%s", code, out)
	}
	if _, out, _ := holdfast(t, values{report: report}, "drift"); strings.Contains(out, "Scale down") {
		t.Errorf("who wrote lines is told unasked:\n%s", out)
	}
}
