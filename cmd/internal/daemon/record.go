package daemon

import (
	"context"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
	"github.com/holdfast-gitops/holdfast/sources"
)

// observers are told one after the other.
type observers []reconciler.Observer

// RunEnded implements reconciler.Observer.
func (all observers) RunEnded(r reconciler.Run) {
	for _, o := range all {
		o.RunEnded(r)
	}
}

// DriftSeen implements reconciler.Observer.
func (all observers) DriftSeen(e drift.Episode, took time.Duration) {
	for _, o := range all {
		o.DriftSeen(e, took)
	}
}

// DriftChanged implements reconciler.Observer.
func (all observers) DriftChanged(e drift.Episode) {
	for _, o := range all {
		o.DriftChanged(e)
	}
}

// DriftEnded implements reconciler.Observer.
func (all observers) DriftEnded(e drift.Episode) {
	for _, o := range all {
		o.DriftEnded(e)
	}
}

// RunBegan implements reconciler.Watcher.
func (all observers) RunBegan(r reconciler.Run) {
	for _, o := range all {
		if w, ok := o.(reconciler.Watcher); ok {
			w.RunBegan(r)
		}
	}
}

// StatusChanged implements reconciler.Watcher.
func (all observers) StatusChanged(environment string) {
	for _, o := range all {
		if w, ok := o.(reconciler.Watcher); ok {
			w.StatusChanged(environment)
		}
	}
}

// HealthChanged implements reconciler.HealthWatcher.
func (all observers) HealthChanged(v reconciler.Verdict) {
	for _, o := range all {
		if w, ok := o.(reconciler.HealthWatcher); ok {
			w.HealthChanged(v)
		}
	}
}

// mover is told which commits a source brought.
type mover interface {
	Moved(before, now sources.Revision, commits []sources.Revision)
}

// Moved tells those who want to know.
func (all observers) Moved(before, now sources.Revision, commits []sources.Revision) {
	for _, o := range all {
		if m, ok := o.(mover); ok {
			m.Moved(before, now, commits)
		}
	}
}

// SourceChanged tells those who want to know that a source may stand otherwise.
func (all observers) SourceChanged(name string) {
	for _, o := range all {
		if w, ok := o.(interface{ SourceChanged(string) }); ok {
			w.SourceChanged(name)
		}
	}
}

func (d *daemon) observer() observers {
	return observers{d.metrics, d.metrics.delivery, d.ledger, d.notifier, namer{d}, announcer{d}, d.reporter, d.events}
}

// keepRecord opens the ledger, reads what is of use from before the start, and
// has it written until stop is called. Stop comes after all that is recorded has
// ended, and waits until it is written.
func (d *daemon) keepRecord(ctx context.Context) (stop func()) {
	c := d.opts.Config
	d.ledger = ledger.Open(ctx, ledger.Options{
		Path: filepath.Join(c.DataDir, ledger.FileName), Log: d.log,
		MaxAge: time.Duration(c.Ledger.MaxDays) * 24 * time.Hour, MaxBytes: int64(c.Ledger.MaxMiB) << 20,
	})
	d.recall(ctx)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = d.ledger.Run(ctx) // it says itself what went wrong
	}()
	return func() {
		cancel()
		<-ended
	}
}

// recall reads what was before the start. Without it, history begins anew.
func (d *daemon) recall(ctx context.Context) {
	open, err := d.ledger.OpenEpisodes(ctx)
	if err == nil {
		d.book.Recall(open)
		d.earlier, err = d.ledger.LastRuns(ctx)
	}
	if err != nil {
		d.log.Warn().Err(err).Msg("what was before the start cannot be read")
	}
}

// addEarlier adds the last run on record to the status of an environment that
// has had none since the start.
func (d *daemon) addEarlier(s *reconciler.Status) {
	if run, ok := d.earlier[s.Name]; ok && s.LastRun == nil {
		s.Earlier = &run
	}
}

var (
	descLedgerQueue = prometheus.NewDesc("holdfast_ledger_queue", "Records that wait to be written.", []string{"kind"}, nil)
	descLedgerLost  = prometheus.NewDesc("holdfast_ledger_lost_total", "Records that could neither be written nor kept waiting.", []string{"kind"}, nil)
	descLedgerErrs  = prometheus.NewDesc("holdfast_ledger_write_errors_total", "Writes to the ledger that failed.", nil, nil)
	descLedgerBytes = prometheus.NewDesc("holdfast_ledger_bytes", "Size of the ledger and its journal.", nil, nil)
	descLedgerUp    = prometheus.NewDesc("holdfast_ledger_up", "1 while the ledger can be written.", nil, nil)
	ledgerDescs     = []*prometheus.Desc{descLedgerQueue, descLedgerLost, descLedgerErrs, descLedgerBytes, descLedgerUp}
)

func collectLedger(s ledger.Stats, ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	up := 1.0
	if s.Problem != "" {
		up = 0
	}
	send(descLedgerQueue, prometheus.GaugeValue, float64(s.QueuedRuns), "runs")
	send(descLedgerQueue, prometheus.GaugeValue, float64(s.QueuedEpisodes), "episodes")
	send(descLedgerLost, prometheus.CounterValue, float64(s.LostRuns), "runs")
	send(descLedgerLost, prometheus.CounterValue, float64(s.LostEpisodes), "episodes")
	send(descLedgerErrs, prometheus.CounterValue, float64(s.Errors))
	send(descLedgerBytes, prometheus.GaugeValue, float64(s.Bytes))
	send(descLedgerUp, prometheus.GaugeValue, up)
}
