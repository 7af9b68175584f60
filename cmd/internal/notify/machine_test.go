package notify

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// noon is a Friday.
var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func patience() timing {
	return timing{remind: 4 * time.Hour, settle: time.Minute, digest: clock("08:00"), zone: time.UTC}
}

func newMachine() *machine {
	return &machine{Alerts: map[string]*tracked{}, Corrected: map[string]int{}}
}

// env is an environment that stands well, but for what edits say.
func env(name string, edits ...func(*reconciler.Status)) View {
	s := reconciler.Status{Name: name, Source: "shop", Sync: reconciler.SyncClean, Compared: true}
	for _, edit := range edits {
		edit(&s)
	}
	return View{Environments: []reconciler.Status{s}, Settled: true}
}

func failing(why string) func(*reconciler.Status) {
	return func(s *reconciler.Status) {
		s.Sync, s.Errors = reconciler.SyncFailed, sources.ProblemsOf(errors.New(why))
	}
}

func standing(to reconciler.Sync) func(*reconciler.Status) {
	return func(s *reconciler.Status) { s.Sync = to }
}

func told(ns []Notice) string {
	var out []string
	for _, n := range ns {
		out = append(out, string(n.Phase)+" "+n.Fingerprint)
	}
	return strings.Join(out, ", ")
}

func TestAnAlertIsToldOnceAndThenWhenItMatters(t *testing.T) {
	m := newMachine()
	for _, step := range []struct {
		after time.Duration
		view  View
		want  string
	}{
		{0, env("prod"), ""},
		{0, env("prod", failing("one")), "new failed/prod"},
		{time.Minute, env("prod", failing("one")), ""},
		{2 * time.Minute, env("prod", failing("two")), ""}, // too soon after the last
		{6 * time.Minute, env("prod", failing("two")), "changed failed/prod"},
		{4 * time.Hour, env("prod", failing("two")), ""},
		{4*time.Hour + 6*time.Minute, env("prod", failing("two")), "reminder failed/prod"},
		{5 * time.Hour, env("prod"), ""}, // it may come back
		{5*time.Hour + 30*time.Second, env("prod", failing("two")), ""},
		{6 * time.Hour, env("prod"), ""},
		{6*time.Hour + time.Minute, env("prod"), "resolved failed/prod"},
		{7 * time.Hour, env("prod"), ""},
	} {
		if got := told(m.step(noon.Add(step.after), step.view, patience())); got != step.want {
			t.Errorf("after %s: %q, want %q", step.after, got, step.want)
		}
	}
}

func TestWhatIsNotKnownIsNotResolved(t *testing.T) {
	m := newMachine()
	m.step(noon, env("prod", failing("one")), patience())
	at := noon
	for name, v := range map[string]View{
		"nothing read yet": {}, "pending": env("prod", standing(reconciler.SyncPending)), "verifying": env("prod", standing(reconciler.SyncVerifying)),
	} {
		for range 3 {
			at = at.Add(2 * time.Minute)
			if got := told(m.step(at, v, patience())); got != "" {
				t.Errorf("%s: %s", name, got)
			}
		}
	}
	at = at.Add(2 * time.Minute)
	if got := told(m.step(at, env("prod", standing(reconciler.SyncStale)), patience())); got != "new stale/prod" {
		t.Errorf("stale: %q", got)
	}
	m.step(at.Add(time.Minute), View{Settled: true}, patience())
	if got := told(m.step(at.Add(3*time.Minute), View{Settled: true}, patience())); got != "resolved failed/prod, resolved stale/prod" {
		t.Errorf("gone: %q", got)
	}
}

func TestAStandbyTellsNothing(t *testing.T) {
	m := newMachine()
	m.step(noon, env("prod", failing("one")), patience())
	for _, after := range []time.Duration{time.Minute, time.Hour} {
		if got := told(m.step(noon.Add(after), env("prod", standing(reconciler.SyncStandby)), patience())); got != "" {
			t.Errorf("%q", got)
		}
	}
}

func TestASourceThatStaysAwayIsOneAlert(t *testing.T) {
	m := newMachine()
	v := env("prod", failing("cannot fetch"))
	v.Sources = map[string]sources.Problems{"shop": sources.ProblemsOf(errors.New("cannot fetch"))}
	if got := told(m.step(noon, v, patience())); got != "" {
		t.Errorf("at once: %q", got)
	}
	if got := told(m.step(noon.Add(time.Minute), v, patience())); got != "new source/shop" {
		t.Errorf("later: %q", got)
	}
	v.Environments[0].LastRun = &reconciler.Run{Result: reconciler.Failed}
	if got := told(m.step(noon.Add(2*time.Minute), v, patience())); got != "new failed/prod" {
		t.Errorf("with a failed run: %q", got)
	}
}

func TestGatesTellOnlyOfWhatNeedsSomebody(t *testing.T) {
	gates := func(s *reconciler.Status) {
		s.Health = reconciler.HealthFailed
		s.Unready = []reconciler.Unready{{Why: "crash loop", RootCause: "image not found"}}
		s.Gates = []reconciler.Gate{
			{Kind: reconciler.GateMode, Why: "only compared"}, {Kind: reconciler.GateWindow, Why: "closed"},
			{Kind: reconciler.GateBudget, Why: "7 deletions"}, {Kind: reconciler.GateFight, Why: "hpa"},
			{Kind: reconciler.GateHold, ID: "hold-1", Why: "ann holds it", Until: noon.Add(10 * time.Minute)},
			{Kind: reconciler.GateHold, ID: "hold-2", Why: "bob holds it", Until: noon.Add(time.Hour)},
		}
	}
	all := newMachine().step(noon, env("prod", gates), patience())
	if got, want := told(all), "new approval/prod/budget, new fight/prod, new hold-ends/prod/hold-1, new unhealthy/prod"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if text := all[2].Text; !strings.Contains(text, "holdfast hold --extend hold-1 --for 1h") {
		t.Errorf("no word of how to extend: %s", text)
	}
	if text := all[3].Text; !strings.Contains(text, "image not found") {
		t.Errorf("no root cause: %s", text)
	}
}

func episode(severity drift.Severity, state drift.State) drift.Episode {
	return drift.Episode{
		ID: "e1", Environment: "prod", Object: sources.ID{Kind: "Deployment", Namespace: "shop", Name: "web"}, Severity: severity, State: state,
		Changes: []drift.Change{{Path: ".spec.replicas", Desired: drift.NewValue(2, false), Live: drift.NewValue("planted", true), Manager: "kubectl"}},
	}
}

func TestDriftIsSummedUpUnlessItIsBad(t *testing.T) {
	m := newMachine()
	m.step(noon, env("prod"), patience()) // the day begins
	for range 3 {
		if n := m.ended(noon, episode(drift.Low, drift.Corrected), nil); n != nil {
			t.Errorf("told at once: %v", n)
		}
	}
	if n := m.ended(noon, episode(drift.High, drift.Gone), nil); n != nil {
		t.Errorf("told of what went by itself: %v", n)
	}
	n := m.ended(noon, episode(drift.High, drift.Corrected), nil)
	if n == nil || n.Phase != Info || !strings.Contains(n.Title, "was corrected") || strings.Contains(n.Text, "planted") {
		t.Errorf("corrected: %+v", n)
	}
	tomorrow := time.Date(2026, 5, 2, 8, 0, 0, 0, time.UTC)
	if got := told(m.step(tomorrow.Add(-time.Second), env("prod"), patience())); got != "" {
		t.Errorf("before the time: %q", got)
	}
	all := m.step(tomorrow.Add(time.Second), env("prod"), patience())
	if told(all) != "info digest/2026-05-02" || all[0].Text != "prod: 3" {
		t.Errorf("digest: %+v", all)
	}
	if got := told(m.step(tomorrow.Add(25*time.Hour), env("prod"), patience())); got != "" {
		t.Errorf("a digest of nothing: %q", got)
	}
	open := env("prod")
	open.Drifts = []drift.Episode{episode(drift.High, drift.Open), episode(drift.Medium, drift.Open)}
	if got := told(m.step(tomorrow.Add(26*time.Hour), open, patience())); got != "new drift/prod/Deployment/shop/web" {
		t.Errorf("open: %q", got)
	}
	if n := m.ended(tomorrow.Add(27*time.Hour), episode(drift.High, drift.Corrected), nil); n != nil {
		t.Errorf("told twice of one end: %v", n)
	}
}

func TestRoutesMatchAllThatTheySay(t *testing.T) {
	a := Alert{Kind: Failed, Environment: "prod-eu", Severity: drift.High, Labels: map[string]string{"team": "shop"}}
	for name, tt := range map[string]struct {
		route config.Route
		want  bool
	}{
		"empty":          {config.Route{}, true},
		"pattern":        {config.Route{Environments: []string{"dev", "prod-*"}}, true},
		"other name":     {config.Route{Environments: []string{"dev-*"}}, false},
		"kind":           {config.Route{Kinds: []string{Stale, Failed}}, true},
		"other kind":     {config.Route{Kinds: []string{Stale}}, false},
		"less severe":    {config.Route{Severity: "medium"}, true},
		"as severe":      {config.Route{Severity: "high"}, true},
		"more severe":    {config.Route{Severity: "critical"}, false},
		"label":          {config.Route{Labels: []string{"team=shop"}}, true},
		"one of labels":  {config.Route{Labels: []string{"team=shop", "tier="}}, false},
		"all but a kind": {config.Route{Environments: []string{"prod-eu"}, Labels: []string{"team=shop"}, Kinds: []string{Drift}}, false},
	} {
		if got := matches(tt.route, a); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestQuietHoursGoOverMidnight(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	week := []config.QuietHours{{From: "22:00", To: "07:00", Days: []string{"fri"}, Except: "critical"}}
	for _, tt := range []struct {
		at       string
		severity drift.Severity
		want     string
	}{
		{"2026-05-01T19:59:00Z", drift.High, ""},
		{"2026-05-01T20:00:00Z", drift.High, "2026-05-02T05:00:00Z"}, // 22:00 in Berlin
		{"2026-05-01T20:00:00Z", drift.Critical, ""},
		{"2026-05-02T04:59:00Z", drift.Low, "2026-05-02T05:00:00Z"},
		{"2026-05-02T05:00:00Z", drift.Low, ""},
		{"2026-05-02T21:00:00Z", drift.Low, ""}, // Saturday
	} {
		at, err := time.Parse(time.RFC3339, tt.at)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if end := quietUntil(week, berlin, tt.severity, at); !end.IsZero() {
			got = end.UTC().Format(time.RFC3339)
		}
		if got != tt.want {
			t.Errorf("%s %s: %q, want %q", tt.at, tt.severity, got, tt.want)
		}
	}
}

func TestWithoutReceiversNothingIsKept(t *testing.T) {
	n, err := Open(Options{DataDir: t.TempDir(), Look: func() View { return View{} }})
	if err != nil {
		t.Fatal(err)
	}
	n.DriftEnded(episode(drift.High, drift.Corrected))
	if err := n.Run(t.Context()); err != nil || len(n.events) > 0 {
		t.Errorf("%v, %d events", err, len(n.events))
	}
}
