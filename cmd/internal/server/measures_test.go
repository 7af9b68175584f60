package server

import (
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
	"github.com/holdfast-gitops/holdfast/sources"
)

func TestSeriesAreServed(t *testing.T) {
	l := recorded(t)
	for i, environment := range []string{"dev", "prod", "prod"} {
		l.RunEnded(pastRun("run-"+string(rune('a'+i)), environment, time.Duration(3-i)*time.Hour))
	}
	e := drifted("prod", now.Add(-time.Minute))
	e.Severity = drift.High
	l.DriftEnded(e)
	flushed(t, l)
	h := testServer(newFake("prod"), Options{Ledger: l}).Handler(false)
	for target, want := range map[string]struct{ buckets, runs int }{
		"/api/v1/series":                              {ledger.DefaultBuckets, 3},
		"/api/v1/series?environment=prod":             {ledger.DefaultBuckets, 2},
		"/api/v1/series?since=90m&buckets=3":          {3, 1},
		"/api/v1/series?environment=none&buckets=500": {500, 0},
	} {
		got := decode[ledger.Series](t, ask(t, h, "GET", target))
		runs := 0
		for _, b := range got.Buckets {
			runs += b.Runs[reconciler.Applied]
		}
		if len(got.Buckets) != want.buckets || runs != want.runs || !got.Until.Equal(now) {
			t.Errorf("%s: %d buckets, %d runs until %s, want %+v", target, len(got.Buckets), runs, got.Until, want)
		}
	}
	last := decode[ledger.Series](t, ask(t, h, "GET", "/api/v1/series?buckets=1")).Buckets[0]
	if last.Ended[drift.High] != 1 || last.Corrected != 1 || last.CorrectMedian == nil {
		t.Errorf("drift: %+v", last)
	}
	for _, query := range []string{"buckets=0", "buckets=501", "buckets=many", "since=yesterday", "since=0s"} {
		if res := ask(t, h, "GET", "/api/v1/series?"+query); res.StatusCode != 400 {
			t.Errorf("%s: %d", query, res.StatusCode)
		}
	}
	if res := ask(t, testServer(newFake("prod"), Options{}).Handler(false), "GET", "/api/v1/series"); res.StatusCode != 503 {
		t.Errorf("without a ledger: %d", res.StatusCode)
	}
}

func TestDeliveryIsServed(t *testing.T) {
	l := recorded(t)
	run := pastRun("run-a", "prod", 40*24*time.Hour)
	run.Revision = sources.Revision{ID: "c1", Time: now.Add(-41 * 24 * time.Hour)}
	l.RunEnded(run)
	run = pastRun("run-b", "prod", time.Hour)
	run.Revision, run.Before = sources.Revision{ID: "c2", Time: now.Add(-2 * time.Hour)}, "c1"
	l.RunEnded(run)
	l.HealthChanged(reconciler.Verdict{Environment: "prod", Revision: run.Revision, Health: reconciler.HealthReady, At: now.Add(-30 * time.Minute)})
	flushed(t, l)
	h := testServer(newFake("prod"), Options{Ledger: l}).Handler(false)
	got := decode[ledger.Delivery](t, ask(t, h, "GET", "/api/v1/delivery"))
	if len(got.Environments) != 1 || got.All.Deployments != 1 || got.All.LeadMax == nil || *got.All.LeadMax != 5400 || len(got.Deployments) != 0 {
		t.Errorf("%+v", got)
	}
	if got := decode[ledger.Delivery](t, ask(t, h, "GET", "/api/v1/delivery?since=60d&environment=prod")); got.All.Deployments != 2 || len(got.Deployments) != 2 {
		t.Errorf("60 days of one: %+v", got)
	}
	if got := decode[ledger.Delivery](t, ask(t, h, "GET", "/api/v1/delivery?environment=none")); len(got.Environments) != 0 {
		t.Errorf("one that is not there: %+v", got)
	}
	for _, query := range []string{"since=yesterday", "since=0s"} {
		if res := ask(t, h, "GET", "/api/v1/delivery?"+query); res.StatusCode != 400 {
			t.Errorf("%s: %d", query, res.StatusCode)
		}
	}
}
