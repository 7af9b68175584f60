package ledger

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
)

// TestALargeLedger says how long a start takes, and what a full ledger costs. It
// is for HOLDFAST_LONG=1, as filling the file takes a while.
func TestALargeLedger(t *testing.T) {
	if os.Getenv("HOLDFAST_LONG") == "" {
		t.Skip("takes long; set HOLDFAST_LONG=1")
	}
	path := filepath.Join(t.TempDir(), FileName)
	l, stop := begin(t, Options{Path: path, MaxAge: 100 * 365 * 24 * time.Hour})
	began, n := time.Now(), 0
	for l.bytes.Load() < DefaultBytes*9/10 {
		for range 400 {
			l.RunEnded(testRun(n))
			e := testEpisode(n)
			l.DriftSeen(e, time.Second)
			e.State, e.Ended = drift.Corrected, e.FirstSeen.Add(time.Second)
			l.DriftEnded(e)
			n++
		}
		flush(t, l)
	}
	t.Logf("%d runs and episodes in %s, %d bytes", n, time.Since(began), l.bytes.Load())
	stop()
	began = time.Now()
	l = running(t, Options{Path: path, MaxAge: 100 * 365 * 24 * time.Hour})
	t.Logf("opened and checked in %s", time.Since(began))
	for name, read := range map[string]func() error{
		"newest page": func() error { _, err := l.Runs(t.Context(), RunQuery{}); return err },
		"by object":   func() error { _, err := l.Runs(t.Context(), RunQuery{Object: "Deployment/web/api"}); return err },
		"last runs":   func() error { _, err := l.LastRuns(t.Context()); return err },
		"open drift":  func() error { _, err := l.OpenEpisodes(t.Context()); return err },
		"series": func() error {
			_, err := l.Series(t.Context(), SeriesQuery{Since: start, Until: start.Add(time.Duration(n) * time.Minute)})
			return err
		},
		"delivery": func() error {
			_, err := l.Delivery(t.Context(), DeliveryQuery{Since: start, Until: start.Add(time.Duration(n) * time.Minute)})
			return err
		},
		"drift summed": func() error { _, err := l.Summary(t.Context(), EpisodeQuery{}, ByManager); return err },
	} {
		began := time.Now()
		if err := read(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%s took %s", name, took)
		} else {
			t.Logf("%s: %s", name, took)
		}
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	t.Logf("%d KiB of heap in use", m.HeapInuse>>10)
}
