package daemon

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// long buckets reach from ten seconds to four weeks: what people wait for.
var long = []float64{10, 30, 60, 300, 900, 1800, 3600, 4 * 3600, 12 * 3600, 86400, 3 * 86400, 7 * 86400, 28 * 86400}

// deliveryMetrics count deployments as they happen. What is counted is defined as
// for the ledger's measures, as far as can be known at that moment: that a
// deployment is left later is in the ledger alone.
type deliveryMetrics struct {
	deployments *prometheus.CounterVec
	lead        *prometheus.HistogramVec
	restore     *prometheus.HistogramVec

	mu      sync.Mutex
	current map[string]*deployed
}

// deployed is the newest deployment of an environment.
type deployed struct {
	revision string
	// failing is since when the environment has been failing: when what failed was
	// deployed.
	at, failing time.Time
	settled     bool
}

func newDeliveryMetrics() *deliveryMetrics {
	histogram := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: long}, []string{"environment"})
	}
	return &deliveryMetrics{
		deployments: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "holdfast_deployments_total", Help: "Deployments, by whether they worked at first."}, []string{"environment", "outcome"}),
		lead:        histogram("holdfast_deployment_lead_seconds", "From the commit of a deployed revision until it worked."),
		restore:     histogram("holdfast_deployment_restore_seconds", "From a deployment that failed until the environment worked again."),
		current:     map[string]*deployed{},
	}
}

func (m *deliveryMetrics) register(r *prometheus.Registry) {
	r.MustRegister(m.deployments, m.lead, m.restore)
}

// RunEnded implements reconciler.Observer.
func (m *deliveryMetrics) RunEnded(r reconciler.Run) {
	if !r.Deploys() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.current[r.Environment]
	switch {
	case d == nil:
		m.current[r.Environment] = &deployed{revision: r.Revision.ID, at: r.Finished, settled: r.Before == ""}
	case d.revision != r.Revision.ID:
		d.revision, d.at, d.settled = r.Revision.ID, r.Finished, false
	}
}

// HealthChanged implements reconciler.HealthWatcher.
func (m *deliveryMetrics) HealthChanged(v reconciler.Verdict) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.current[v.Environment]
	if d == nil {
		return
	}
	if v.Health == reconciler.HealthFailed {
		if !d.settled {
			m.deployments.WithLabelValues(v.Environment, "failed").Inc()
			if d.settled = true; d.failing.IsZero() {
				d.failing = d.at
			}
		}
		return
	}
	if !d.failing.IsZero() {
		m.restore.WithLabelValues(v.Environment).Observe(v.At.Sub(d.failing).Seconds())
		d.failing = time.Time{}
	}
	if d.settled {
		return
	}
	d.settled = true
	m.deployments.WithLabelValues(v.Environment, "ready").Inc()
	if t := v.Revision.Time; !t.IsZero() && t.Before(v.At) {
		m.lead.WithLabelValues(v.Environment).Observe(v.At.Sub(t).Seconds())
	}
}

// DriftSeen implements reconciler.Observer.
func (*deliveryMetrics) DriftSeen(drift.Episode, time.Duration) {}

// DriftChanged implements reconciler.Observer.
func (*deliveryMetrics) DriftChanged(drift.Episode) {}

// DriftEnded implements reconciler.Observer.
func (*deliveryMetrics) DriftEnded(drift.Episode) {}
