package config

import (
	"net/url"

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
)

// Tracing sends traces of runs to a collector; without an endpoint there are none.
type Tracing struct {
	// Endpoint is where the collector takes OTLP over HTTP, with its path:
	// http://collector:4318/v1/traces.
	Endpoint string `json:"endpoint,omitempty"`
	// HeadersFile has lines of "Name: value" that are sent along. It is read for
	// every batch.
	HeadersFile string `json:"headersFile,omitempty"`
	// CAFile holds certificates to trust beside the system's.
	CAFile string `json:"caFile,omitempty"`
	// SamplePercent is how many of a hundred traces are kept. Default: 100. Where a
	// caller brings a trace of its own, that says whether it is kept.
	SamplePercent int `json:"samplePercent,omitempty"`
}

func (d *decoder) tracing(n *yamldoc.Node, t *Tracing) {
	t.SamplePercent = 100
	d.Mapping(n, "tracing",
		on("endpoint", func(n *yamldoc.Node) {
			if !d.Text(n, "tracing.endpoint", &t.Endpoint) {
				return
			}
			u, err := url.Parse(t.Endpoint)
			if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
				d.Fail(n, "tracing.endpoint is no address of a collector", "write it as http://collector:4318/v1/traces; credentials go into headersFile")
				return
			}
			if u.Path == "" || u.Path == "/" {
				u.Path = "/v1/traces"
				t.Endpoint = u.String()
			}
		}),
		d.pathField("headersFile", "tracing.", &t.HeadersFile),
		d.pathField("caFile", "tracing.", &t.CAFile),
		on("samplePercent", func(n *yamldoc.Node) {
			percent := int64(t.SamplePercent)
			d.Number(n, "tracing.samplePercent", 0, 100, &percent)
			t.SamplePercent = int(percent)
		}),
	)
	if t.Endpoint == "" && len(d.Problems) == 0 {
		d.Fail(n, "tracing names no endpoint", "add endpoint: http://collector:4318/v1/traces, or leave tracing out")
	}
}
