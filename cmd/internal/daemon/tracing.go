package daemon

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-gitops/holdfast/cmd/internal/tracing"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// trace has traces sent until stop is called, where the configuration asks for
// them. Stop comes after all that is traced has ended.
func (d *daemon) trace(ctx context.Context) (stop func(), err error) {
	c := d.opts.Config.Tracing
	if c.Endpoint == "" {
		return func() {}, nil
	}
	d.tracer, err = tracing.New(tracing.Options{
		Endpoint: c.Endpoint, HeadersFile: c.HeadersFile, CAFile: c.CAFile, SamplePercent: c.SamplePercent, Version: d.opts.Version, Log: d.log,
	})
	if err != nil {
		return nil, err
	}
	d.metrics.registry.MustRegister(spanMetrics{d.tracer})
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = d.tracer.Run(ctx) // it ends with ctx, and never otherwise
	}()
	return func() {
		cancel()
		<-ended
	}, nil
}

// traces is the tracer as the engine knows it; nil where there is none.
func (d *daemon) traces() reconciler.Tracer {
	if d.tracer == nil {
		return nil
	}
	return d.tracer
}

var descSpans = prometheus.NewDesc("holdfast_trace_spans_total", "Spans of traces, by what became of them.", []string{"outcome"}, nil)

// spanMetrics count what is sent to the collector of traces.
type spanMetrics struct{ tracer *tracing.Tracer }

// Describe implements prometheus.Collector.
func (spanMetrics) Describe(ch chan<- *prometheus.Desc) { ch <- descSpans }

// Collect implements prometheus.Collector.
func (m spanMetrics) Collect(ch chan<- prometheus.Metric) {
	s := m.tracer.Stats()
	ch <- prometheus.MustNewConstMetric(descSpans, prometheus.CounterValue, float64(s.Sent), "sent")
	ch <- prometheus.MustNewConstMetric(descSpans, prometheus.CounterValue, float64(s.Dropped), "dropped")
}
