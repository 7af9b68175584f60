package server

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

func TestReadsAnswerTheStructs(t *testing.T) {
	f := newFake("dev", "prod")
	f.episodes = []drift.Episode{drifted("prod", time.Time{}), drifted("dev", now.Add(-2*time.Hour))}
	h := testServer(f, Options{}).Handler(false)
	all := decode[api.Environments](t, ask(t, h, "GET", "/api/v1/environments"))
	if diff := cmp.Diff(f.statuses, all.Environments); diff != "" {
		t.Error(diff)
	}
	if one := decode[reconciler.Status](t, ask(t, h, "GET", "/api/v1/environments/prod")); one.Name != "prod" {
		t.Errorf("one = %+v", one)
	}
	for target, want := range map[string]int{
		"/api/v1/drift":                            2,
		"/api/v1/drift?open=true":                  1,
		"/api/v1/drift?open":                       1,
		"/api/v1/drift?since=1h":                   1, // the open one, though it was last seen 3 h ago
		"/api/v1/drift?since=3h":                   2,
		"/api/v1/environments/dev/drift":           1,
		"/api/v1/environments/dev/drift?open=true": 0,
	} {
		res := ask(t, h, "GET", target)
		if got := decode[reconciler.Report](t, res); res.StatusCode != 200 || len(got.Episodes) != want {
			t.Errorf("%s: %d with %d episodes, want %d", target, res.StatusCode, len(got.Episodes), want)
		}
	}
}

func TestEmptyListsAreNotNull(t *testing.T) {
	h := testServer(newFake(), Options{}).Handler(false)
	for target, want := range map[string]string{
		"/api/v1/environments":     `{"environments":[],"total":0}`,
		"/api/v1/runs/last-resync": `{"runs":[]}`,
		"/api/v1/drift":            `{"at":"2026-05-01T12:00:00Z","episodes":[]}`,
	} {
		if got := text(t, ask(t, h, "GET", target)); strings.TrimSpace(got) != want {
			t.Errorf("%s = %s, want %s", target, got, want)
		}
	}
	if got := text(t, ask(t, h, "GET", "/api/v1/environments?pretty")); got != "{\n  \"environments\": [],\n  \"total\": 0\n}\n" {
		t.Errorf("pretty = %q", got)
	}
}

func TestMistakesAreProblems(t *testing.T) {
	h := testServer(newFake("dev", "prod"), Options{}).Handler(true)
	for _, tt := range []struct {
		method, target string
		edit           func(*http.Request)
		status         int
		detail         string
	}{
		{"GET", "/api/v1/environments/nope", nil, 404, `there is no environment "nope"`},
		{"GET", "/api/v1/environments/nope/drift", nil, 404, `there is no environment "nope"`},
		{"POST", "/api/v1/environments/nope/resync", nil, 404, `there is no environment "nope"`},
		{"POST", "/api/v1/resync?environment=nope", nil, 404, `there is no environment "nope"`},
		{"POST", "/api/v1/resync?wait=soon", nil, 400, `wait must be a duration such as 60s, and is "soon"`},
		{"POST", "/api/v1/resync?verify=perhaps", nil, 400, `verify must be true or false, and is "perhaps"`},
		{"POST", "/api/v1/resync", body("application/json", `{"verfy":true}`), 400, `the body is no resync request: json: unknown field "verfy"`},
		{"POST", "/api/v1/resync", body("application/json", strings.Repeat(" ", maxBody+1)), 413, "the body is larger than 1048576 bytes"},
		{"GET", "/api/v1/drift?since=-1h", nil, 400, `since must be a duration such as 60s, and is "-1h"`},
		{"GET", "/api/v1/runs/run-nope", nil, 404, "no run run-nope"},
		{"GET", "/api/v2", nil, 404, "there is nothing at GET /api/v2"},
		{"DELETE", "/api/v1/environments/dev", nil, 405, "the API knows GET and POST"},
	} {
		edit := tt.edit
		if edit == nil {
			edit = func(*http.Request) {}
		}
		res := ask(t, h, tt.method, tt.target, edit)
		got := decode[api.Problem](t, res)
		if res.StatusCode != tt.status || got.Status != tt.status || got.Detail != tt.detail ||
			res.Header.Get("Content-Type") != api.ProblemType || got.RequestID == "" {
			t.Errorf("%s %s: %d %s %+v", tt.method, tt.target, res.StatusCode, res.Header.Get("Content-Type"), got)
		}
	}
	res := ask(t, h, "GET", "/api/v1/environments/nope")
	if got := decode[api.Problem](t, res); !cmp.Equal(got.Known, []string{"dev", "prod"}) || got.Hint != "there are: dev, prod" {
		t.Errorf("problem = %+v", got)
	}
}

func TestResyncWithoutWaitIsPending(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	f := newFake("dev", "prod")
	var log bytes.Buffer
	h := testServer(f, Options{Logger: quiet(&log)}).Handler(true)
	res := ask(t, h, "POST", "/api/v1/resync?verify=true", header("X-Request-Id", "call-1"), header("traceparent", parent))
	got := decode[api.Receipts](t, res)
	if res.StatusCode != http.StatusAccepted || len(got.Runs) != 2 || got.Runs[0].Result != reconciler.Pending {
		t.Errorf("%d %+v", res.StatusCode, got)
	}
	want := reconciler.Trigger{Reason: reconciler.ReasonOnCall, Actor: "socket", Verify: true, Fetch: true, Origin: &reconciler.Origin{Parent: parent, Asked: now}}
	if f.asked[0] != nil || !cmp.Equal(f.trig[0], want) {
		t.Errorf("engine was asked for %v, %+v", f.asked, f.trig)
	}
	for _, part := range []string{`"actor":"socket"`, `"request":"call-1"`, `"runs":["run-dev","run-prod"]`, `"message":"resync asked for"`} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("log has no %s: %s", part, log.String())
		}
	}
}

func TestResyncTakesNamesFromPathQueryAndBody(t *testing.T) {
	f := newFake("dev", "prod", "test")
	h := testServer(f, Options{}).Handler(true)
	ask(t, h, "POST", "/api/v1/environments/prod/resync")
	ask(t, h, "POST", "/api/v1/resync?environment=test&environment=dev&environment=dev")
	ask(t, h, "POST", "/api/v1/resync", body("application/json", `{"environments":["dev"],"verify":true}`))
	want := [][]string{{"prod"}, {"dev", "test"}, {"dev"}}
	if diff := cmp.Diff(want, f.asked); diff != "" {
		t.Error(diff)
	}
	if !f.trig[2].Verify {
		t.Error("verify in the body was not passed on")
	}
}

func TestResyncWaitsForAllRuns(t *testing.T) {
	f := newFake("dev", "prod")
	h := testServer(f, Options{}).Handler(true)
	go func() {
		<-f.waited // the call waits for the first run
		f.finish("dev", reconciler.Unchanged)
		f.finish("prod", reconciler.Applied)
	}()
	res := ask(t, h, "POST", "/api/v1/resync?wait=1m")
	got := decode[api.Receipts](t, res)
	if res.StatusCode != 200 || got.Runs[0].Result != reconciler.Unchanged || got.Runs[1].Result != reconciler.Applied {
		t.Errorf("%d %+v", res.StatusCode, got.Runs)
	}
}

func TestResyncAnswersPendingWhenTheWaitRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("dev", "prod")
		f.finish("dev", reconciler.Applied)
		h := testServer(f, Options{}).Handler(true)
		began := time.Now()
		res := ask(t, h, "POST", "/api/v1/resync?wait=90s")
		got := decode[api.Receipts](t, res)
		if res.StatusCode != http.StatusAccepted || got.Runs[0].Result != reconciler.Applied || got.Runs[1].Result != reconciler.Pending {
			t.Errorf("%d %+v", res.StatusCode, got.Runs)
		}
		if took := time.Since(began); took != 90*time.Second {
			t.Errorf("waited %s", took)
		}
	})
}

func TestWaitIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testServer(newFake("dev"), Options{}).Handler(true)
		began := time.Now()
		if res := ask(t, h, "GET", "/api/v1/runs/run-dev?wait=24h"); res.StatusCode != 200 {
			t.Errorf("status %d", res.StatusCode)
		}
		if took := time.Since(began); took != api.MaxWait {
			t.Errorf("waited %s", took)
		}
	})
}

func TestProbesAndMetrics(t *testing.T) {
	var cause error
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("holdfast_runs 1\n")) })
	h := testServer(newFake(), Options{Ready: func() error { return cause }, Metrics: metrics}).Handler(false)
	// A kubelet calls by an address that nobody configured.
	if res := ask(t, h, "GET", "/healthz", host("10.1.2.3:8080")); res.StatusCode != 200 {
		t.Errorf("healthz %d", res.StatusCode)
	}
	if res := ask(t, h, "GET", "/readyz"); res.StatusCode != 200 {
		t.Errorf("readyz %d", res.StatusCode)
	}
	cause = errors.New("source shop was not looked at yet")
	res := ask(t, h, "GET", "/readyz")
	if got := decode[api.Problem](t, res); res.StatusCode != 503 || got.Detail != cause.Error() {
		t.Errorf("readyz %d %+v", res.StatusCode, got)
	}
	if got := text(t, ask(t, h, "GET", "/metrics")); got != "holdfast_runs 1\n" {
		t.Errorf("metrics = %q", got)
	}
}

type panicking struct{ *fakeEngine }

func (panicking) Environments() []reconciler.Status { panic("a bug") }

func TestABugInAHandlerIsAnsweredAndLogged(t *testing.T) {
	var log bytes.Buffer
	s := New(Options{Engine: panicking{newFake()}, Logger: quiet(&log)})
	res := ask(t, s.Handler(true), "GET", "/api/v1/environments")
	if got := decode[api.Problem](t, res); res.StatusCode != 500 || strings.Contains(got.Detail, "a bug") {
		t.Errorf("%d %+v", res.StatusCode, got)
	}
	if !strings.Contains(log.String(), "a bug") {
		t.Errorf("log = %s", log.String())
	}
}
