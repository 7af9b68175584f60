package config

import (
	"cmp"
	"time"

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
)

// The defaults of the background verification.
const (
	DefaultVerifyInterval = 24 * time.Hour
	DefaultVerifyRequests = 30
)

// maxVerifyRequests bounds the budget that may be asked for.
const maxVerifyRequests = 6000

// Verification is how every object is read in full though no watch told of
// anything.
type Verification struct {
	// Off: there is none.
	Off bool `json:"off,omitempty"`
	// Interval is the time between two passes. Default: 24h.
	Interval time.Duration `json:"interval,omitempty"`
	// RequestsPerMinute is the budget of each target; a request reads 100 objects.
	// Default: 30.
	RequestsPerMinute int `json:"requestsPerMinute,omitempty"`
}

// Pace is the interval and the budget with their defaults; an interval of zero is
// none.
func (v Verification) Pace() (interval time.Duration, requests int) {
	if v.Off {
		return 0, 0
	}
	return cmp.Or(v.Interval, DefaultVerifyInterval), cmp.Or(v.RequestsPerMinute, DefaultVerifyRequests)
}

// Audit lets a Kubernetes API server send its audit events, which name the people
// behind drift.
type Audit struct {
	// TokenFile holds the bearer token that the API server sends. It is read for
	// every batch. Without it no events are taken.
	TokenFile string `json:"tokenFile,omitempty"`
}

func (d *decoder) verification(n *yamldoc.Node, v *Verification) {
	d.Mapping(n, "verification",
		d.boolField("off", "verification.", &v.Off),
		d.durationField("interval", "verification.", time.Minute, &v.Interval),
		on("requestsPerMinute", func(n *yamldoc.Node) {
			count := int64(DefaultVerifyRequests)
			d.Number(n, "verification.requestsPerMinute", 1, maxVerifyRequests, &count)
			v.RequestsPerMinute = int(count)
		}),
	)
}

func (d *decoder) audit(n *yamldoc.Node, a *Audit) {
	d.Mapping(n, "audit", d.pathField("tokenFile", "audit.", &a.TokenFile))
}
