package ledger

import (
	"errors"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// ended records a drift of an environment that began at a time and was put back
// after another.
func ended(l *Ledger, n int, environment string, began time.Time, took time.Duration, bad drift.Severity, how drift.State) {
	e := testEpisode(n)
	e.Environment, e.FirstSeen, e.LastSeen, e.Severity = environment, began, began, bad
	l.DriftSeen(e, time.Second)
	if how != drift.Open {
		e.State, e.Ended = how, began.Add(took)
		l.DriftEnded(e)
	}
}

func TestSeriesCountWhatHappenedInEachPart(t *testing.T) {
	l := running(t, Options{})
	hour := func(n float64) time.Time { return start.Add(time.Duration(n * float64(time.Hour))) }
	for i, r := range []struct {
		at          float64
		environment string
		result      reconciler.Result
	}{
		{-1, "prod", reconciler.Applied}, // before
		{0, "prod", reconciler.Applied}, {0.9, "prod", reconciler.Applied}, {0.5, "dev", reconciler.Failed},
		{1, "prod", reconciler.Failed}, {3.99, "prod", reconciler.Held}, {4, "prod", reconciler.Applied}, // after
	} {
		run := testRun(i)
		run.Environment, run.Result, run.Started, run.Finished = r.environment, r.result, hour(r.at-0.01), hour(r.at)
		l.RunEnded(run)
	}
	ended(l, 0, "prod", hour(0), 2*time.Second, drift.High, drift.Corrected)
	ended(l, 1, "prod", hour(0.1), 10*time.Second, drift.High, drift.Corrected)
	ended(l, 2, "prod", hour(0.2), 4*time.Second, drift.Low, drift.Corrected)
	ended(l, 3, "prod", hour(0.3), 6*time.Second, drift.Low, drift.Corrected)
	ended(l, 4, "prod", hour(0.4), 3*time.Hour, drift.Low, drift.Gone) // no correction
	ended(l, 5, "prod", hour(2), 0, drift.Critical, drift.Open)
	ended(l, 6, "dev", hour(2), time.Minute, "", drift.Corrected)
	flush(t, l)

	got, err := l.Series(t.Context(), SeriesQuery{Environment: "prod", Since: start, Until: hour(4), Buckets: 4})
	if err != nil || len(got.Buckets) != 4 || got.BucketSeconds != 3600 || got.Cut {
		t.Fatalf("%+v, %v", got, err)
	}
	b := got.Buckets
	if len(b[0].Runs) != 1 || b[0].Runs[reconciler.Applied] != 2 || b[1].Runs[reconciler.Failed] != 1 || len(b[2].Runs) != 0 || b[3].Runs[reconciler.Held] != 1 {
		t.Errorf("runs: %+v", b)
	}
	if b[0].Opened[drift.High] != 2 || b[0].Opened[drift.Low] != 3 || b[2].Opened[drift.Critical] != 1 || len(b[1].Opened)+len(b[3].Opened) != 0 {
		t.Errorf("opened: %+v", b)
	}
	if b[0].Ended[drift.High] != 2 || b[0].Ended[drift.Low] != 2 || b[3].Ended[drift.Low] != 1 || len(b[2].Ended) != 0 {
		t.Errorf("ended: %+v", b)
	}
	if b[0].Corrected != 4 || b[0].CorrectMedian == nil || *b[0].CorrectMedian != 5 || *b[0].CorrectMax != 10 || b[3].Corrected != 0 || b[3].CorrectMedian != nil {
		t.Errorf("corrections: %+v", b[0])
	}
	for i := range b {
		if !b[i].Start.Equal(hour(float64(i))) || b[i].Runs == nil || b[i].Opened == nil || b[i].Ended == nil {
			t.Errorf("part %d: %+v", i, b[i])
		}
	}

	all, err := l.Series(t.Context(), SeriesQuery{Since: start, Until: hour(4), Buckets: 7}) // which the time cannot be divided by
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]int{}
	for _, b := range all.Buckets {
		for _, n := range b.Runs {
			sums["runs"] += n
		}
		sums["none"] += b.Opened["none"]
		sums["corrected"] += b.Corrected
	}
	if sums["runs"] != 5 || sums["none"] != 1 || sums["corrected"] != 5 {
		t.Errorf("all environments: %v", sums)
	}
}

func TestSeriesOfNonsenseAreRefused(t *testing.T) {
	l := running(t, Options{})
	for _, q := range []SeriesQuery{
		{Since: start, Until: start.Add(time.Hour), Buckets: MaxBuckets + 1}, {Since: start, Until: start.Add(time.Hour), Buckets: -1},
		{Since: start, Until: start}, {Since: start, Until: start.Add(-time.Hour), Buckets: 1}, {Since: start, Until: start.Add(time.Minute), Buckets: 100},
	} {
		if _, err := l.Series(t.Context(), q); !errors.As(err, new(BadQuery)) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}
