package server

import (
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
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
