package daemon

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/cmd/internal/events"
)

var (
	descTargetSent    = prometheus.NewDesc("holdfast_target_requests_total", "Requests that were sent to a target.", []string{"target", "verb"}, nil)
	descTargetRefused = prometheus.NewDesc("holdfast_target_requests_refused_total", "Requests that were answered by 400 or more.", []string{"target"}, nil)
	descTargetFailed  = prometheus.NewDesc("holdfast_target_requests_failed_total", "Requests that had no answer.", []string{"target"}, nil)
	descTargetLag     = prometheus.NewDesc("holdfast_target_quiet_seconds", "How long the quietest watch of a target has said nothing.", []string{"target"}, nil)
	descTargetBroken  = prometheus.NewDesc("holdfast_target_problems", "Watches of a target that fail or are silent.", []string{"target"}, nil)
	descStreams       = prometheus.NewDesc("holdfast_event_streams", "Streams of events that are open.", nil, nil)
	descDropped       = prometheus.NewDesc("holdfast_event_streams_dropped_total", "Streams of events that were ended because their reader was too slow.", nil, nil)
)

// targetMetrics are what targets say of themselves, and who follows events.
type targetMetrics struct {
	targets func() []api.Target
	events  *events.Hub
}

// Describe implements prometheus.Collector.
func (targetMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descTargetSent, descTargetRefused, descTargetFailed, descTargetLag, descTargetBroken, descStreams, descDropped} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m targetMetrics) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	for _, t := range m.targets() {
		for verb, n := range t.Requests.Total {
			send(descTargetSent, prometheus.CounterValue, float64(n), t.Name, verb)
		}
		send(descTargetRefused, prometheus.CounterValue, float64(t.Requests.Refused), t.Name)
		send(descTargetFailed, prometheus.CounterValue, float64(t.Requests.Failed), t.Name)
		send(descTargetLag, prometheus.GaugeValue, t.LagSeconds, t.Name)
		send(descTargetBroken, prometheus.GaugeValue, float64(len(t.Problems)), t.Name)
	}
	following, dropped := m.events.Following()
	send(descStreams, prometheus.GaugeValue, float64(following))
	send(descDropped, prometheus.CounterValue, float64(dropped))
}
