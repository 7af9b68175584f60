package daemon

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-gitops/holdfast/drift"
)

var (
	descSeverity = prometheus.NewDesc("holdfast_drifts_open_by_severity", "Open drift episodes that are neither accepted nor fought over.", []string{"severity"}, nil)
	descQuiet    = prometheus.NewDesc("holdfast_drifts_quiet", "Open drift episodes that are accepted or fought over.", nil, nil)
	descAge      = prometheus.NewDesc("holdfast_drift_oldest_seconds", "Age of the oldest open drift episode; 0 if none is open.", []string{"environment"}, nil)
	descBehind   = prometheus.NewDesc("holdfast_objects_behind", "Objects at which git is newer than what is live, because the change waits or failed.", nil, nil)
	descVerified = prometheus.NewDesc("holdfast_verification_last_success_seconds", "Unix time at which the background verification last saw everything.", []string{"target"}, nil)
	descFound    = prometheus.NewDesc("holdfast_verification_found_total", "Objects that it found to differ though no watch had told of it.", []string{"target"}, nil)
)

// verifies is a driver that verifies in the background.
type verifies interface {
	Verified() (at time.Time, found int)
}

// driftMetrics are taken from the report at the moment of the scrape.
type driftMetrics struct {
	report  func() drift.Report
	targets func() map[string]verifies
	now     func() time.Time
}

// Describe implements prometheus.Collector.
func (driftMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descSeverity, descQuiet, descAge, descBehind, descVerified, descFound} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m driftMetrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	r := m.report().Summed()
	for _, s := range drift.Severities {
		gauge(descSeverity, float64(r.Severities[s]), string(s))
	}
	gauge(descQuiet, float64(r.Quiet))
	gauge(descBehind, float64(len(r.Behind)))
	oldest := map[string]time.Duration{}
	for _, d := range r.Detectors {
		oldest[d.Environment] = 0
	}
	for _, e := range r.Episodes {
		if e.Ended.IsZero() && !e.Class.Foreign() {
			oldest[e.Environment] = max(oldest[e.Environment], m.now().Sub(e.FirstSeen))
		}
	}
	for name, age := range oldest {
		gauge(descAge, age.Seconds(), name)
	}
	for name, t := range m.targets() {
		at, found := t.Verified()
		if !at.IsZero() {
			gauge(descVerified, float64(at.Unix()), name)
		}
		ch <- prometheus.MustNewConstMetric(descFound, prometheus.CounterValue, float64(found), name)
	}
}

// verifying are the targets in force that verify.
func (d *daemon) verifying() map[string]verifies {
	out := map[string]verifies{}
	if g := d.now.Load(); g != nil {
		for name, t := range g.targets {
			if v, ok := t.driver.(verifies); ok {
				out[name] = v
			}
		}
	}
	return out
}
