package kube

import (
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// requestVerbs are what requests are counted by.
var requestVerbs = []string{"get", "watch", "create", "update", "patch", "delete"}

// requests counts what is sent to a target.
type requests struct {
	total                                []atomic.Int64
	failed, refused, throttled, inFlight atomic.Int64
}

func newRequests() *requests { return &requests{total: make([]atomic.Int64, len(requestVerbs))} }

// counting is a transport that counts.
type counting struct {
	next http.RoundTripper
	to   *requests
}

// wrap makes a transport count.
func (c *requests) wrap(next http.RoundTripper) http.RoundTripper { return counting{next, c} }

// RoundTrip implements http.RoundTripper.
func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	watch := r.Method == http.MethodGet && isWatch(r.URL)
	c.to.total[verbOf(r.Method, watch)].Add(1)
	if !watch { // which goes on for minutes
		c.to.inFlight.Add(1)
		defer c.to.inFlight.Add(-1)
	}
	res, err := c.next.RoundTrip(r)
	switch {
	case err != nil && r.Context().Err() == nil:
		c.to.failed.Add(1)
	case err == nil && res.StatusCode == http.StatusTooManyRequests:
		c.to.throttled.Add(1)
		fallthrough
	case err == nil && res.StatusCode >= 400:
		c.to.refused.Add(1)
	}
	return res, err
}

func isWatch(u *url.URL) bool {
	q := u.Query()
	return q.Get("watch") == "true" || q.Get("watch") == "1"
}

// verbOf is the place of a request's verb.
func verbOf(method string, watch bool) int {
	switch method {
	case http.MethodPost:
		return 2
	case http.MethodPut:
		return 3
	case http.MethodPatch:
		return 4
	case http.MethodDelete:
		return 5
	}
	if watch {
		return 1
	}
	return 0
}

// Report implements reconciler.Reporter.
func (t *Target) Report() reconciler.TargetReport {
	holder, ours := t.Leader()
	at, found := t.Verified()
	out := reconciler.TargetReport{
		Driver: "kubernetes", Address: addressOf(t.config.Host), Holder: holder, Ours: ours, LeaseProblem: t.LeaseProblem(),
		Objects: t.Objects(), Watches: []reconciler.TargetWatch{}, Verified: at, Found: found,
		Requests: reconciler.TargetRequests{
			Total: map[string]int64{}, Failed: t.requests.failed.Load(), Refused: t.requests.refused.Load(),
			Throttled: t.requests.throttled.Load(), InFlight: t.requests.inFlight.Load(), Limit: t.slots.most,
		},
	}
	for i, verb := range requestVerbs {
		if n := t.requests.total[i].Load(); n > 0 {
			out.Requests.Total[verb] = n
		}
	}
	add := func(of string, all []kubelive.WatchState) {
		for _, w := range all {
			watch := reconciler.TargetWatch{Kind: w.Kind, Namespace: w.Namespace, Of: of, Heard: w.Heard, Synced: w.Synced}
			if w.Err != nil {
				watch.Problem = w.Err.Error()
				out.Problems = append(out.Problems, watch.Problem)
			}
			out.Watches = append(out.Watches, watch)
		}
	}
	add("metadata", t.cluster.Watcher.State())
	add("health", t.objects.State())
	return out
}

// addressOf is a server's address without what may be secret.
func addressOf(host string) string {
	u, err := url.Parse(host)
	if err != nil || u.Host == "" {
		return host
	}
	return u.Scheme + "://" + u.Host
}
