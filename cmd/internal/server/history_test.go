package server

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
	"github.com/holdfast-gitops/holdfast/sources"
)

// recorded is a ledger that runs until the test ends.
func recorded(t *testing.T) *ledger.Ledger {
	t.Helper()
	l := ledger.Open(t.Context(), ledger.Options{
		Path: filepath.Join(t.TempDir(), ledger.FileName), Log: zerolog.New(zerolog.NewTestWriter(t)), Now: func() time.Time { return now },
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l
}

func flushed(t *testing.T, l *ledger.Ledger) {
	t.Helper()
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func pastRun(id, environment string, ago time.Duration) reconciler.Run {
	return reconciler.Run{
		ID: id, Environment: environment, Result: reconciler.Applied, Started: now.Add(-ago), Finished: now.Add(-ago),
		Counts:  reconciler.Counts{Updated: 1},
		Changes: []reconciler.ObjectChange{{Object: sources.ID{Kind: "ConfigMap", Namespace: "web", Name: "a"}, Op: reconciler.OpUpdate}},
	}
}

func TestRunsOnRecordAreServed(t *testing.T) {
	l := recorded(t)
	for i, env := range []string{"dev", "prod", "prod"} {
		l.RunEnded(pastRun("run-"+string(rune('a'+i)), env, time.Duration(3-i)*time.Hour))
	}
	flushed(t, l)
	h := testServer(newFake("prod"), Options{Ledger: l}).Handler(false)
	for target, want := range map[string]string{
		"/api/v1/runs":                                      "run-c run-b run-a",
		"/api/v1/runs?environment=prod":                     "run-c run-b",
		"/api/v1/runs?since=90m":                            "run-c",
		"/api/v1/runs?since=1d":                             "run-c run-b run-a",
		"/api/v1/runs?object=ConfigMap/web/a&limit=1":       "run-c",
		"/api/v1/runs?object=ConfigMap/web/b":               "",
		"/api/v1/runs?before=2":                             "run-a",
		"/api/v1/runs?environment=prod&before=3&limit=1000": "run-b",
	} {
		var ids []string
		for _, r := range decode[ledger.Runs](t, ask(t, h, "GET", target)).Runs {
			ids = append(ids, r.ID)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
	one := decode[reconciler.Run](t, ask(t, h, "GET", "/api/v1/runs/run-b")) // which the engine does not know
	if one.ID != "run-b" || len(one.Changes) != 1 {
		t.Errorf("one run: %+v", one)
	}
	for target, status := range map[string]int{
		"/api/v1/runs/run-none": 404, "/api/v1/runs?limit=0": 400, "/api/v1/runs?limit=many": 400,
		"/api/v1/runs?before=x": 400, "/api/v1/runs?since=yesterday": 400, "/api/v1/drift/history?group=colour": 400,
	} {
		if res := ask(t, h, "GET", target); res.StatusCode != status {
			t.Errorf("%s: %d, want %d", target, res.StatusCode, status)
		}
	}
}

func TestForgottenChangesComeFromTheRecord(t *testing.T) {
	l := recorded(t)
	f := newFake("prod")
	f.runs["run-prod"].run.Counts.Updated = 1
	f.finish("prod", reconciler.Applied)
	l.RunEnded(pastRun("run-prod", "prod", time.Minute))
	flushed(t, l)
	h := testServer(f, Options{Ledger: l}).Handler(false)
	if got := decode[reconciler.Run](t, ask(t, h, "GET", "/api/v1/runs/run-prod")); len(got.Changes) != 1 {
		t.Errorf("run %+v", got)
	}
}

func TestDriftOfAnEarlierLifeIsReported(t *testing.T) {
	l := recorded(t)
	past, known := drifted("prod", now.Add(-2*time.Hour)), drifted("prod", now.Add(-time.Hour))
	past.ID, past.State, known.ID, known.State = "past", drift.Corrected, "known", drift.Corrected
	for _, e := range []drift.Episode{past, known} {
		l.DriftSeen(e, time.Second)
	}
	flushed(t, l)
	f := newFake("prod")
	open := drifted("prod", time.Time{})
	open.ID = "open"
	f.episodes = []drift.Episode{known, open}
	h := testServer(f, Options{Ledger: l}).Handler(false)
	for target, want := range map[string]int{
		"/api/v1/drift?since=3h": 3, "/api/v1/drift?since=90m": 2, "/api/v1/drift?since=3h&open": 1, "/api/v1/drift": 2,
		"/api/v1/environments/prod/drift?since=3h": 3,
	} {
		got := decode[reconciler.Report](t, ask(t, h, "GET", target)).Episodes
		if len(got) != want || !got[0].Ended.IsZero() && want > 2 {
			t.Errorf("%s: %+v, want %d, the open one first", target, got, want)
		}
	}
	history := decode[api.DriftHistory](t, ask(t, h, "GET", "/api/v1/drift/history?since=7d&group=environment"))
	if history.Summary.All.Episodes != 2 || len(history.Episodes) != 2 || len(history.Summary.Groups) != 1 {
		t.Errorf("history %+v", history)
	}
}

func TestWhatWasAskedForIsOnRecord(t *testing.T) {
	l := recorded(t)
	h := testServer(newFake("dev", "prod"), Options{Ledger: l}).Handler(true)
	ask(t, h, "POST", "/api/v1/environments/prod/resync?approve=feed")
	flushed(t, l)
	got := decode[ledger.Actions](t, ask(t, h, "GET", "/api/v1/actions?environment=prod")).Actions
	if len(got) != 1 || got[0].Verb != "resync" || got[0].Actor != "socket" || got[0].Subject != "approve feed" || got[0].Outcome != "run-prod" || got[0].Request == "" {
		t.Errorf("actions %+v", got)
	}
}

func TestLedgerIsCheckedAndBackedUpOverTheAPI(t *testing.T) {
	l := recorded(t)
	l.RunEnded(pastRun("run-a", "prod", time.Hour))
	s := testServer(newFake("prod"), Options{Ledger: l})
	h := s.Handler(true)
	if got := decode[ledger.Report](t, ask(t, h, "POST", "/api/v1/ledger/check")); got.Runs != 1 || got.Damage != "" {
		t.Errorf("check %+v", got)
	}
	if got := decode[ledger.Stats](t, ask(t, h, "GET", "/api/v1/ledger")); got.Bytes == 0 || got.Problem != "" {
		t.Errorf("stats %+v", got)
	}
	res := ask(t, h, "POST", "/api/v1/ledger/backup")
	file := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(file, []byte(text(t, res)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := ledger.CheckFile(t.Context(), file); err != nil || got.Runs != 1 || got.Damage != "" || res.Header.Get("Content-Type") != api.LedgerType {
		t.Errorf("the backup: %+v, %v, %v", got, err, res.Header)
	}
	s.heavy.Lock()
	if res := ask(t, h, "POST", "/api/v1/ledger/backup"); res.StatusCode != 409 {
		t.Errorf("a second backup at once: %d", res.StatusCode)
	}
	s.heavy.Unlock()
	for _, target := range []string{"/api/v1/ledger/backup", "/api/v1/ledger/check"} {
		if res := ask(t, testServer(newFake(), Options{Ledger: l}).Handler(false), "POST", target); res.StatusCode != 403 {
			t.Errorf("%s over TCP without a token: %d", target, res.StatusCode)
		}
	}
}

func TestWithoutALedgerTheRestAnswers(t *testing.T) {
	l := ledger.Open(t.Context(), ledger.Options{Path: filepath.Join(t.TempDir(), "none", ledger.FileName), Log: zerolog.Nop()})
	if _, err := l.Runs(t.Context(), ledger.RunQuery{}); !errors.Is(err, ledger.ErrUnavailable) {
		t.Fatalf("the ledger works: %v", err)
	}
	for _, o := range []Options{{}, {Ledger: l}} {
		h := testServer(newFake("prod"), o).Handler(false)
		all := decode[api.Environments](t, ask(t, h, "GET", "/api/v1/environments"))
		if (all.Ledger != "") != (o.Ledger != nil) {
			t.Errorf("the status says %q of the ledger", all.Ledger)
		}
		for target, status := range map[string]int{
			"/api/v1/runs": 503, "/api/v1/drift/history": 503, "/api/v1/actions": 503, "/api/v1/drift?since=1h": 200, "/api/v1/environments": 200,
		} {
			if res := ask(t, h, "GET", target); res.StatusCode != status {
				t.Errorf("%s: %d, want %d", target, res.StatusCode, status)
			}
		}
	}
}
