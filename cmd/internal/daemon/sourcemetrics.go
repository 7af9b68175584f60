package daemon

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
)

// sourceMetrics are those of the sources' status. They are taken from it at the
// moment of the scrape, so they cannot disagree with it.
type sourceMetrics struct {
	now func() []api.Source
}

// sourceLabel is the only label: what else is known of a source is in its status.
var sourceLabel = []string{"source"}

var (
	descSourceListed    = prometheus.NewDesc("holdfast_source_listed_seconds", "Unix time of the last look that a source answered.", sourceLabel, nil)
	descSourceFetched   = prometheus.NewDesc("holdfast_source_fetched_seconds", "Unix time of the last download.", sourceLabel, nil)
	descSourceFailures  = prometheus.NewDesc("holdfast_source_failures", "Looks in a row that failed.", sourceLabel, nil)
	descSourceProblems  = prometheus.NewDesc("holdfast_source_problems", "Problems of the source now.", sourceLabel, nil)
	descSourceHeld      = prometheus.NewDesc("holdfast_source_held", "1 while a revision is held because history was rewritten.", sourceLabel, nil)
	descSourceDownloads = prometheus.NewDesc("holdfast_source_downloads_total", "Downloads.", sourceLabel, nil)
	descSourceBytes     = prometheus.NewDesc("holdfast_source_download_bytes_total", "Bytes that were downloaded.", sourceLabel, nil)
	descSourceTook      = prometheus.NewDesc("holdfast_source_download_seconds", "How long the last download took.", sourceLabel, nil)
	descSourceMirror    = prometheus.NewDesc("holdfast_source_mirror_bytes", "Bytes that are kept of a repository.", sourceLabel, nil)
	sourceDescs         = []*prometheus.Desc{
		descSourceListed, descSourceFetched, descSourceFailures, descSourceProblems, descSourceHeld,
		descSourceDownloads, descSourceBytes, descSourceTook, descSourceMirror,
	}
)

// Describe implements prometheus.Collector.
func (sourceMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range sourceDescs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m sourceMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, s := range m.now() {
		send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
			ch <- prometheus.MustNewConstMetric(d, kind, v, s.Name)
		}
		held := 0.0
		if s.Held != nil {
			held = 1
		}
		send(descSourceHeld, prometheus.GaugeValue, held)
		send(descSourceFailures, prometheus.GaugeValue, float64(s.Failures))
		send(descSourceProblems, prometheus.GaugeValue, float64(len(s.Errors)))
		if !s.LastListing.IsZero() {
			send(descSourceListed, prometheus.GaugeValue, float64(s.LastListing.Unix()))
		}
		if s.Kind == api.KindDir {
			continue
		}
		send(descSourceDownloads, prometheus.CounterValue, float64(s.Downloads))
		send(descSourceBytes, prometheus.CounterValue, float64(s.DownloadedBytes))
		send(descSourceMirror, prometheus.GaugeValue, float64(s.MirrorBytes))
		if !s.LastFetch.IsZero() {
			send(descSourceFetched, prometheus.GaugeValue, float64(s.LastFetch.Unix()))
			send(descSourceTook, prometheus.GaugeValue, s.FetchSeconds)
		}
	}
}
