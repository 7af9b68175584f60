package daemon

import (
	"maps"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

func TestDeploymentsAreCountedOnce(t *testing.T) {
	m := newDeliveryMetrics()
	r := prometheus.NewRegistry()
	m.register(r)
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	deploy := func(id, before string, minute int, counts reconciler.Counts) {
		m.RunEnded(reconciler.Run{Environment: "prod", Revision: sources.Revision{ID: id}, Before: before, Finished: start.Add(time.Duration(minute) * time.Minute), Counts: counts})
	}
	found := func(id string, minute int, h reconciler.Health) {
		now := start.Add(time.Duration(minute) * time.Minute)
		m.HealthChanged(reconciler.Verdict{Environment: "prod", Revision: sources.Revision{ID: id, Time: now.Add(-20 * time.Second)}, Health: h, At: now})
	}
	found("a", 0, reconciler.HealthReady) // nothing was deployed yet
	deploy("a", "", 1, reconciler.Counts{Updated: 1})
	found("a", 2, reconciler.HealthReady) // what was before is not known: the first, or one again
	deploy("b", "a", 3, reconciler.Counts{Updated: 1})
	deploy("b", "a", 3, reconciler.Counts{Created: 1})
	found("b", 4, reconciler.HealthReady)
	deploy("b", "", 5, reconciler.Counts{Corrected: 1})
	found("b", 6, reconciler.HealthFailed)
	found("b", 7, reconciler.HealthReady)
	deploy("c", "b", 8, reconciler.Counts{Deleted: 1})
	found("c", 9, reconciler.HealthFailed)
	deploy("d", "c", 10, reconciler.Counts{Updated: 1})
	found("d", 12, reconciler.HealthReady)
	all, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		h := f.Metric[0].GetHistogram()
		switch f.GetName() {
		case "holdfast_deployments_total":
			got := map[string]float64{}
			for _, m := range f.Metric {
				got[m.Label[1].GetValue()] = m.Counter.GetValue()
			}
			if !maps.Equal(got, map[string]float64{"failed": 1, "ready": 2}) {
				t.Errorf("deployments: %v", got)
			}
		case "holdfast_deployment_lead_seconds":
			if h.GetSampleCount() != 2 || h.GetSampleSum() != 40 {
				t.Errorf("lead: %v", h)
			}
		case "holdfast_deployment_restore_seconds":
			if h.GetSampleCount() != 1 || h.GetSampleSum() != 240 {
				t.Errorf("restore: %v", h)
			}
		}
	}
}
