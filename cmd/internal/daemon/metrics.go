package daemon

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
)

// metrics is what Holdfast counts. It implements reconciler.Observer.
type metrics struct {
	registry  *prometheus.Registry
	runs      *prometheus.CounterVec
	runTime   *prometheus.HistogramVec
	drifts    *prometheus.CounterVec
	detect    *prometheus.HistogramVec
	resolved  *prometheus.CounterVec
	resolve   *prometheus.HistogramVec
	polls     *prometheus.CounterVec
	pollTime  *prometheus.HistogramVec
	delivery  *deliveryMetrics
	statusNow func() []reconciler.Status
	ledgerNow func() ledger.Stats
	// queueNow is how many runs wait, and for how long the oldest has.
	queueNow func() (int, time.Duration)
	// work is told of what there is to do.
	work work
}

// short buckets reach from a millisecond to a minute: corrections take
// milliseconds, first applies seconds.
var short = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

func newMetrics(status func() []reconciler.Status, ledger func() ledger.Stats) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: short}, labels)
	}
	m := &metrics{
		registry:  prometheus.NewRegistry(),
		runs:      counter("holdfast_runs_total", "Runs that ended, by result.", "environment", "result"),
		runTime:   histogram("holdfast_run_seconds", "How long runs took.", "environment"),
		drifts:    counter("holdfast_drifts_total", "Drift episodes that began, by class.", "environment", "class"),
		detect:    histogram("holdfast_drift_detect_seconds", "From sensing a change to knowing its fields.", "environment"),
		resolved:  counter("holdfast_drifts_ended_total", "Drift episodes that ended, by how.", "environment", "state"),
		resolve:   histogram("holdfast_drift_resolve_seconds", "From first seeing a drift to its end.", "environment"),
		polls:     counter("holdfast_source_polls_total", "Looks at a source, by outcome.", "source", "outcome"),
		pollTime:  histogram("holdfast_source_poll_seconds", "How long looks at a source took.", "source"),
		delivery:  newDeliveryMetrics(),
		statusNow: status, ledgerNow: ledger,
		work: newWork(),
	}
	m.delivery.register(m.registry)
	m.registry.MustRegister(m.runs, m.runTime, m.drifts, m.detect, m.resolved, m.resolve, m.polls, m.pollTime, m,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// RunBegan implements reconciler.Watcher.
func (m *metrics) RunBegan(reconciler.Run) { signalOnce(m.work.began) }

// StatusChanged implements reconciler.Watcher.
func (m *metrics) StatusChanged(string) {}

// RunEnded implements reconciler.Observer.
func (m *metrics) RunEnded(r reconciler.Run) {
	m.runs.WithLabelValues(r.Environment, string(r.Result)).Inc()
	m.runTime.WithLabelValues(r.Environment).Observe(r.Seconds)
	if r.Result != reconciler.Unchanged {
		signalOnce(m.work.ran)
	}
}

// signalOnce leaves a token where none waits.
func signalOnce(to chan<- struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// DriftSeen implements reconciler.Observer.
func (m *metrics) DriftSeen(e drift.Episode, took time.Duration) {
	m.drifts.WithLabelValues(e.Environment, string(e.Class)).Inc()
	m.detect.WithLabelValues(e.Environment).Observe(took.Seconds())
}

// DriftChanged implements reconciler.Observer.
func (m *metrics) DriftChanged(drift.Episode) {}

// DriftEnded implements reconciler.Observer.
func (m *metrics) DriftEnded(e drift.Episode) {
	m.resolved.WithLabelValues(e.Environment, string(e.State)).Inc()
	m.resolve.WithLabelValues(e.Environment).Observe(e.Ended.Sub(e.FirstSeen).Seconds())
	signalOnce(m.work.healed)
}

func (m *metrics) polled(source string, took time.Duration, err error) {
	outcome := "ok"
	if err != nil {
		outcome = "error"
	}
	m.polls.WithLabelValues(source, outcome).Inc()
	m.pollTime.WithLabelValues(source).Observe(took.Seconds())
}

var (
	descOpen    = prometheus.NewDesc("holdfast_drifts_open", "Open drift episodes.", []string{"environment"}, nil)
	descObjects = prometheus.NewDesc("holdfast_environment_objects", "Objects that an environment wants.", []string{"environment"}, nil)
	descSync    = prometheus.NewDesc("holdfast_environment_sync", "1 for the word that says how an environment stands.", []string{"environment", "sync"}, nil)
	descQueue   = prometheus.NewDesc("holdfast_runs_waiting", "Runs that wait for their turn.", nil, nil)
	descOldest  = prometheus.NewDesc("holdfast_runs_waiting_seconds", "How long the oldest of them has waited.", nil, nil)
	descHealth  = prometheus.NewDesc("holdfast_environment_health", "1 for the word that says how what was applied works.", []string{"environment", "health"}, nil)
	descGates   = prometheus.NewDesc("holdfast_environment_gates", "Gates that hold something back.", []string{"environment"}, nil)
	descAsOf    = prometheus.NewDesc("holdfast_environment_as_of_seconds", "Unix time of the last sign of life of its target's watches.", []string{"environment"}, nil)
)

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range append(ledgerDescs, descOpen, descObjects, descSync, descAsOf, descQueue, descOldest, descHealth, descGates) {
		ch <- d
	}
}

// Collect implements prometheus.Collector: gauges come from the status, so they
// cannot disagree with it.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	collectLedger(m.ledgerNow(), ch)
	if m.queueNow != nil {
		length, oldest := m.queueNow()
		ch <- prometheus.MustNewConstMetric(descQueue, prometheus.GaugeValue, float64(length))
		ch <- prometheus.MustNewConstMetric(descOldest, prometheus.GaugeValue, oldest.Seconds())
	}
	for _, s := range m.statusNow() {
		gauge := func(d *prometheus.Desc, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{s.Name}, labels...)...)
		}
		gauge(descOpen, float64(s.OpenDrifts))
		gauge(descObjects, float64(s.Objects))
		gauge(descSync, 1, string(s.Sync))
		gauge(descHealth, 1, string(s.Health))
		gauge(descGates, float64(len(s.Gates)))
		if !s.AsOf.IsZero() {
			gauge(descAsOf, float64(s.AsOf.Unix()))
		}
	}
}
