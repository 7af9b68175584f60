package daemon

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/holdfast-gitops/holdfast/drift"
)

type verifiedAt struct{ at time.Time }

func (v verifiedAt) Verified() (time.Time, int) { return v.at, 3 }

func TestDriftMetricsAreTheReport(t *testing.T) {
	now := time.Unix(10_000, 0)
	m := driftMetrics{
		now: func() time.Time { return now },
		report: func() drift.Report {
			return drift.Report{
				Episodes: []drift.Episode{
					{Environment: "prod", Severity: drift.High, FirstSeen: now.Add(-time.Hour)},
					{Environment: "prod", Severity: drift.High, FirstSeen: now.Add(-time.Minute)},
					{Environment: "prod", Severity: drift.Critical, FirstSeen: now, Fate: drift.Accepted},
					{Environment: "prod", Severity: drift.Low, FirstSeen: now.Add(-5 * time.Hour), Ended: now},
				},
				Detectors: []drift.Detector{{Environment: "prod"}, {Environment: "dev"}}, Behind: make([]drift.Behind, 2),
			}
		},
		targets: func() map[string]verifies {
			return map[string]verifies{"default": verifiedAt{now}, "edge": verifiedAt{}}
		},
	}
	want := `# HELP holdfast_drift_oldest_seconds Age of the oldest open drift episode; 0 if none is open.
# TYPE holdfast_drift_oldest_seconds gauge
holdfast_drift_oldest_seconds{environment="dev"} 0
holdfast_drift_oldest_seconds{environment="prod"} 3600
# HELP holdfast_drifts_open_by_severity Open drift episodes that are neither accepted nor fought over.
# TYPE holdfast_drifts_open_by_severity gauge
holdfast_drifts_open_by_severity{severity="critical"} 0
holdfast_drifts_open_by_severity{severity="high"} 2
holdfast_drifts_open_by_severity{severity="low"} 0
holdfast_drifts_open_by_severity{severity="medium"} 0
# HELP holdfast_drifts_quiet Open drift episodes that are accepted or fought over.
# TYPE holdfast_drifts_quiet gauge
holdfast_drifts_quiet 1
# HELP holdfast_objects_behind Objects at which git is newer than what is live, because the change waits or failed.
# TYPE holdfast_objects_behind gauge
holdfast_objects_behind 2
# HELP holdfast_verification_found_total Objects that it found to differ though no watch had told of it.
# TYPE holdfast_verification_found_total counter
holdfast_verification_found_total{target="default"} 3
holdfast_verification_found_total{target="edge"} 3
# HELP holdfast_verification_last_success_seconds Unix time at which the background verification last saw everything.
# TYPE holdfast_verification_last_success_seconds gauge
holdfast_verification_last_success_seconds{target="default"} 10000
`
	registry := prometheus.NewRegistry()
	registry.MustRegister(m)
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if got := w.Body.String(); got != want {
		t.Errorf("got\n%s", got)
	}
}
