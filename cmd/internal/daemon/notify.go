package daemon

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/cmd/internal/notify"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// openNotifier reads what was told before. Nobody is told before it runs.
func (d *daemon) openNotifier() error {
	sent := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_notifications_total", Help: "Attempts to send a notification, by how they ended.",
	}, []string{"receiver", "outcome"})
	n, err := notify.Open(notify.Options{
		Config: d.opts.Config.Notifications, DataDir: d.opts.Config.DataDir, Look: d.view, Logger: d.log,
		Count: func(receiver, outcome string) { sent.WithLabelValues(receiver, outcome).Inc() },
	})
	if err != nil {
		return err
	}
	d.metrics.registry.MustRegister(sent, notifyMetrics{n})
	d.notifier = n
	return nil
}

// view is how things stand, for the notifier.
func (d *daemon) view() notify.View {
	g := d.now.Load()
	return notify.View{
		Environments: g.engine.Environments(), Sources: g.engine.SourceProblems(),
		Drifts: g.engine.Drift(reconciler.Filter{OpenOnly: true}).Episodes, Settled: d.ready() == nil,
	}
}

// TestNotifications implements server.Notifications.
func (d *daemon) TestNotifications(ctx context.Context, receiver string) (api.NotifyOutcomes, error) {
	all, err := d.notifier.Test(ctx, receiver)
	if err != nil {
		return api.NotifyOutcomes{}, api.Problem{Status: http.StatusNotFound, Detail: err.Error()}
	}
	out := api.NotifyOutcomes{Outcomes: []api.NotifyOutcome{}}
	for _, o := range all {
		out.Outcomes = append(out.Outcomes, api.NotifyOutcome(o))
	}
	return out, nil
}

var descNotifyWaiting = prometheus.NewDesc("holdfast_notifications_waiting", "Notices that a receiver has not taken yet.", []string{"receiver"}, nil)

// notifyMetrics says what waits.
type notifyMetrics struct{ n *notify.Notifier }

// Describe implements prometheus.Collector.
func (m notifyMetrics) Describe(ch chan<- *prometheus.Desc) { ch <- descNotifyWaiting }

// Collect implements prometheus.Collector.
func (m notifyMetrics) Collect(ch chan<- prometheus.Metric) {
	for name, waiting := range m.n.Waiting() {
		ch <- prometheus.MustNewConstMetric(descNotifyWaiting, prometheus.GaugeValue, float64(waiting), name)
	}
}
