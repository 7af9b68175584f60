package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/cmd/internal/events"
	"github.com/holdfast-gitops/holdfast/cmd/internal/server"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
	"github.com/holdfast-gitops/holdfast/sources"
)

// moving is an engine whose environments change while it is asked.
type moving struct {
	values
	mu sync.Mutex
}

func (m *moving) set(all ...reconciler.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.statuses = all
}

// Environments are a copy.
func (m *moving) Environments() []reconciler.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]reconciler.Status(nil), m.statuses...)
}

func (m *moving) Environment(name string) (reconciler.Status, bool) {
	return values{statuses: m.Environments()}.Environment(name)
}

// following runs a verb against a daemon that tells what changes, and gives the
// lines that it prints.
func following(t *testing.T, m *moving, args ...string) (hub *events.Hub, line func() string, end func(early bool) int) {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket, err := server.ListenSocket(dir)
	if err != nil {
		t.Fatal(err)
	}
	hub = events.New(events.Options{Environments: m.Environments, Environment: m.Environment, Sources: func() []api.Source { return nil }, Pause: time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	srv := server.New(server.Options{Engine: m, Events: hub, Now: func() time.Time { return now }})
	all.Go(func() { _ = srv.Serve(ctx, nil, socket) })
	all.Go(func() { _ = hub.Run(ctx) })
	out, in := io.Pipe()
	verb, interrupt := context.WithCancel(ctx)
	code := make(chan int, 1)
	all.Go(func() {
		var errs bytes.Buffer
		a := &app{stdin: strings.NewReader(""), stdout: in, stderr: &errs, env: func(string) string { return "" }, now: func() time.Time { return now }}
		root := a.root()
		root.SetArgs(append(args, "--data-dir", dir))
		code <- a.report(root.ExecuteContext(verb))
		in.Close()
	})
	lines := bufio.NewScanner(out)
	line = func() string {
		t.Helper()
		if !lines.Scan() {
			t.Fatal("nothing more is printed")
		}
		return lines.Text()
	}
	end = func(early bool) int {
		if early {
			interrupt()
		}
		_, _ = io.Copy(io.Discard, out) // until the verb has ended
		return <-code
	}
	t.Cleanup(func() { interrupt(); cancel(); out.Close(); all.Wait() })
	return hub, line, end
}

func TestEventsArePrintedOneALine(t *testing.T) {
	m := &moving{}
	m.set(status("prod", reconciler.SyncClean))
	hub, line, end := following(t, m, "events", "prod", "-o", "json")
	var e api.Event
	if err := json.Unmarshal([]byte(line()), &e); err != nil || e.Type != api.EventHello {
		t.Fatalf("%v: %+v", err, e)
	}
	hub.RunEnded(reconciler.Run{ID: "run-1", Environment: "dev"})
	hub.RunEnded(reconciler.Run{ID: "run-2", Environment: "prod"})
	if err := json.Unmarshal([]byte(line()), &e); err != nil || e.Run == nil || e.Run.ID != "run-2" {
		t.Errorf("%v: %+v", err, e)
	}
	if code := end(true); code != 0 {
		t.Errorf("ends with %d when it is interrupted", code)
	}
}

func TestEventTexts(t *testing.T) {
	id := sources.ID{Kind: "ConfigMap", Namespace: "web", Name: "a"}
	brief := api.BriefOf(status("prod", reconciler.SyncDrifted))
	brief.OpenDrifts, brief.Gates = 2, 1
	for want, e := range map[string]api.Event{
		"drifted, –, main@a1b2c3d, 2 open drifts, 1 gates": {Status: &brief},
		"run-1, by poll": {Type: api.EventRunBegan, Run: &reconciler.Run{ID: "run-1", Trigger: reconciler.Trigger{Reason: reconciler.ReasonPoll}}},
		"run-1 failed, nothing, 1.500s: x.yaml:3: is not YAML":                  {Run: &reconciler.Run{ID: "run-1", Result: reconciler.Failed, Seconds: 1.5, Errors: sources.Problems{{File: "x.yaml", Line: 3, Message: "is not YAML"}}}},
		"ConfigMap/web/a changed .data.k and 3 more by kubectl-edit, corrected": {Drift: &api.DriftBrief{Object: id, Class: drift.Changed, Fields: []string{".data.k", ".data.l"}, MoreFields: 2, Manager: "kubectl-edit", State: drift.Corrected}},
		"shop at main@a1b2c3d, failing, held ffff":                              {Source: &api.SourceBrief{Name: "shop", Revision: sources.Revision{ID: "a1b2c3d4", Ref: "refs/heads/main"}, Failing: true, Held: "ffff"}},
		"ann: hold, hold-1, the \ufffd[31m weather":                             {Action: &ledger.Action{Actor: "ann", Verb: "hold", Outcome: "hold-1", Reason: "the \x1b[31m weather"}},
	} {
		if got := eventText(e); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestStatusIsShownAgainWhenItChanges(t *testing.T) {
	m := &moving{}
	m.set(status("prod", reconciler.SyncClean))
	hub, line, end := following(t, m, "status", "--watch")
	await := func(word string) {
		t.Helper()
		for text := ""; !strings.Contains(text, word); {
			text = line()
		}
	}
	await("clean")
	m.set(status("prod", reconciler.SyncDrifted))
	hub.StatusChanged("prod")
	await("drifted")
	if code := end(true); code != 2 {
		t.Errorf("ends with %d though something drifts", code)
	}
}

func TestWatchingWhatThereIsNotEnds(t *testing.T) {
	m := &moving{}
	_, _, end := following(t, m, "status", "none", "--watch")
	if code := end(false); code != 3 {
		t.Errorf("ends with %d", code)
	}
}

func TestObjectsTable(t *testing.T) {
	var out bytes.Buffer
	a := &app{stdout: &out, now: func() time.Time { return now }}
	list := api.Objects{Total: 7, Next: "ConfigMap/web/b", Objects: []reconciler.Object{
		{Object: sources.ID{Kind: "ConfigMap", Namespace: "web", Name: "a"}, Sync: reconciler.ObjectSynced, Health: reconciler.HealthReady, Origin: sources.Origin{File: "a.yaml", Line: 3}, LastApplied: now.Add(-time.Hour)},
		{Object: sources.ID{Kind: "ConfigMap", Namespace: "web", Name: "b"}, Sync: reconciler.ObjectWaits, Why: "held\nuntil noon", Health: reconciler.HealthProgressing, Unready: "no pods"},
	}}
	a.objectsTable(&out, list)
	want := `OBJECT           SYNC    HEALTH       FROM      APPLIED   WHY
ConfigMap/web/a  synced  ready        a.yaml:3  1h0m ago
ConfigMap/web/b  waits   progressing  –         –         held until noon; no pods

2 of 7; --page ConfigMap/web/b goes on, --all shows all
`
	if out.String() != want || objectsCode(list.Objects) != 2 {
		t.Errorf("code %d:\n%s", objectsCode(list.Objects), out.String())
	}
	list.Objects[0].Health = reconciler.HealthFailed
	if objectsCode(list.Objects) != 1 {
		t.Error("what failed is no error")
	}
}

func TestTargetsTable(t *testing.T) {
	var out bytes.Buffer
	a := &app{stdout: &out, now: func() time.Time { return now }}
	east := api.Target{Name: "east", Environments: 3, LagSeconds: 12.4, TargetReport: reconciler.TargetReport{
		Driver: "kubernetes", Address: "https://10.0.0.1:6443", Ours: true, Holder: "a", Objects: 40, Requests: reconciler.TargetRequests{Total: map[string]int64{"get": 3, "patch": 4}},
		Watches: []reconciler.TargetWatch{{Kind: "configmaps", Of: "metadata", Heard: now.Add(-12 * time.Second), Synced: true, Problem: "watch configmaps: forbidden"}}, Problems: []string{"watch configmaps: forbidden"},
	}}
	a.targetsTable(&out, []api.Target{east})
	want := `TARGET  STATE    DRIVER      ENVIRONMENTS  OBJECTS  WATCHES  HEARD    REQUESTS  ADDRESS
east    failing  kubernetes  3             40       1        12s ago  7         https://10.0.0.1:6443

east:
  error: watch configmaps: forbidden
`
	if out.String() != want || targetsCode(east) != 1 {
		t.Errorf("code %d:\n%s", targetsCode(east), out.String())
	}
	out.Reset()
	a.targetDetail(&out, east)
	for _, part := range []string{"3 get, 4 patch", "ours: a", "configmaps", "12s ago"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("no %q in:\n%s", part, out.String())
		}
	}
}
