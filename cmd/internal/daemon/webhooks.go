package daemon

import (
	"maps"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/cmd/internal/server/webhooks"
	"github.com/holdfast-gitops/holdfast/cmd/internal/tracing"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// hooked is who asked a follower by webhook to look, until it does.
type hooked struct{ by atomic.Pointer[hook] }

// hook is one call of a webhook.
type hook struct {
	actor, traceparent string
	at                 time.Time
}

// trigger is what the next look is to be told as.
func (h *hooked) trigger() reconciler.Trigger {
	now := time.Now()
	if by := h.by.Swap(nil); by != nil {
		return reconciler.Trigger{
			Reason: reconciler.ReasonWebhook, Actor: by.actor,
			Origin: &reconciler.Origin{Parent: by.traceparent, Asked: by.at, Fetched: now},
		}
	}
	return reconciler.Trigger{Reason: reconciler.ReasonPoll, Origin: &reconciler.Origin{Asked: now, Fetched: now}}
}

// look asks for a look now, for somebody.
func (f *follower) look(actor, traceparent string) {
	f.hooked.by.Store(&hook{actor, traceparent, time.Now()})
	f.signal()
}

// webhooks serves the receivers of the configuration in force.
func (d *daemon) webhooks() http.Handler {
	calls := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_webhooks_total", Help: "Calls of webhooks, by what became of them.",
	}, []string{"receiver", "outcome"})
	d.metrics.registry.MustRegister(calls)
	return webhooks.New(webhooks.Options{
		Receivers: func() []config.Webhook { return d.now.Load().config.Webhooks },
		Sources:   func() []webhooks.Source { return d.now.Load().hookable() },
		Look: func(source, actor, traceparent string) {
			d.now.Load().look(source, actor, tracing.ValidParent(traceparent))
		},
		Count:  func(receiver, outcome string) { calls.WithLabelValues(receiver, outcome).Inc() },
		Logger: d.log,
	})
}

// hookable are the sources, as pushes are matched with them.
func (g *generation) hookable() []webhooks.Source {
	used := map[string]bool{}
	for _, f := range g.followers {
		for _, name := range f.elsewhere.using() {
			used[name] = true
		}
	}
	var out []webhooks.Source
	for _, name := range slices.Sorted(maps.Keys(g.followers)) {
		c := g.followers[name].config
		out = append(out, webhooks.Source{
			Name: name, URL: c.URL, Ref: c.Ref,
			// What takes files from a source may take them from any ref.
			AnyRef: c.Semver != "" || c.OCI() || used[name],
		})
	}
	return out
}

// look makes a source's follower look now, and those that take files from there.
func (g *generation) look(source, actor, traceparent string) {
	for _, f := range g.followers {
		if f.name == source || slices.Contains(f.elsewhere.using(), source) {
			f.look(actor, traceparent)
		}
	}
}
