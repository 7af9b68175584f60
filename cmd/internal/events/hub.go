// Package events turns what the engine does into a numbered stream of events that
// many may follow, each at its own pace.
//
// What the engine tells is taken down in no time: one goroutine, Hub.Run, makes
// events of it, and keeps the newest in a ring that is bounded by number and
// bytes. Who follows has a place in the ring and nothing else, so that a slow
// reader costs no memory; who falls out of it has to begin anew. While nobody
// follows, nothing is made.
package events

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
)

// Options are what a hub needs. The functions are required.
type Options struct {
	// Environments, Environment and Sources are how things stand now.
	Environments func() []reconciler.Status
	Environment  func(name string) (reconciler.Status, bool)
	Sources      func() []api.Source
	// Keep and KeepBytes bound the events that can be resumed from; zero has a
	// default.
	Keep, KeepBytes int
	// Idle is for how long events are still made after the last one stopped
	// following; zero has a default.
	Idle time.Duration
	// Sweep is how often all is looked at while somebody follows, for what changes
	// without a word, such as a watch that fell silent; zero has a default.
	Sweep time.Duration
	// Pause is the least time between two rounds, in which changes of one
	// environment become one event; zero has a default.
	Pause time.Duration
}

// maxQueue bounds what waits to become events. What is more makes all followers
// begin anew.
const maxQueue = 8192

// Hub makes events. Create it with New, then Run it. It implements
// reconciler.Observer and reconciler.Watcher.
type Hub struct {
	opts  Options
	epoch string
	// version grows with everything that is told.
	version atomic.Uint64
	// dropped counts readers that were too slow.
	dropped atomic.Uint64
	// wake holds a token when there is something to make events of.
	wake chan struct{}

	mu sync.Mutex
	// awake: events are made. missed: something was told while they were not.
	awake, missed bool
	followers     int
	left          time.Time
	queue         []api.Event
	overflow      bool
	dirty         map[string]bool
	// sweep: all environments and sources are to be looked at.
	sweep bool
	ring  ring
	// more is closed when there are new events.
	more chan struct{}

	// looking guards what was last told of each environment and source.
	looking sync.Mutex
	stood   map[string]api.EnvironmentBrief
	sources map[string]api.SourceBrief
}

// New makes a hub; nothing runs before Run.
func New(o Options) *Hub {
	o.Keep = cmp.Or(o.Keep, 4096)
	o.KeepBytes = cmp.Or(o.KeepBytes, 4<<20)
	o.Idle = cmp.Or(o.Idle, 2*time.Minute)
	o.Sweep = cmp.Or(o.Sweep, 5*time.Second)
	o.Pause = cmp.Or(o.Pause, 50*time.Millisecond)
	var b [4]byte
	rand.Read(b[:]) // never fails, says its documentation
	return &Hub{
		opts: o, epoch: hex.EncodeToString(b[:]), wake: make(chan struct{}, 1), dirty: map[string]bool{}, more: make(chan struct{}),
		ring:  ring{keep: o.Keep, keepBytes: o.KeepBytes, next: 1},
		stood: map[string]api.EnvironmentBrief{}, sources: map[string]api.SourceBrief{},
	}
}

// Version is another number whenever something was told since.
func (h *Hub) Version() uint64 { return h.version.Load() }

// note takes down what was told; it never blocks for long.
func (h *Hub) note(take func()) {
	h.version.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.awake {
		h.missed = true
		return
	}
	take()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *Hub) add(e api.Event) {
	h.note(func() {
		if len(h.queue) == maxQueue {
			h.overflow = true
			return
		}
		h.queue = append(h.queue, e)
	})
}

// StatusChanged implements reconciler.Watcher.
func (h *Hub) StatusChanged(environment string) {
	h.note(func() { h.dirty[environment] = true })
}

// RunBegan implements reconciler.Watcher.
func (h *Hub) RunBegan(r reconciler.Run) { h.run(api.EventRunBegan, r, r.Started) }

// RunEnded implements reconciler.Observer.
func (h *Hub) RunEnded(r reconciler.Run) { h.run(api.EventRunEnded, r, r.Finished) }

func (h *Hub) run(t api.EventType, r reconciler.Run, at time.Time) {
	brief := api.RunBriefOf(r)
	h.add(api.Event{Type: t, At: at, Environment: r.Environment, Run: &brief})
}

// DriftSeen implements reconciler.Observer.
func (h *Hub) DriftSeen(e drift.Episode, _ time.Duration) {
	h.drift(api.EventDriftOpened, e, e.LastSeen)
}

// DriftChanged implements reconciler.Observer.
func (h *Hub) DriftChanged(e drift.Episode) { h.drift(api.EventDriftChanged, e, e.LastSeen) }

// DriftEnded implements reconciler.Observer.
func (h *Hub) DriftEnded(e drift.Episode) { h.drift(api.EventDriftEnded, e, e.Ended) }

func (h *Hub) drift(t api.EventType, e drift.Episode, at time.Time) {
	brief := api.DriftBriefOf(e)
	h.add(api.Event{Type: t, At: at, Environment: e.Environment, Drift: &brief})
}

// SourceChanged tells that a source may stand otherwise. Sources are few, and
// looked at all together.
func (h *Hub) SourceChanged(string) { h.Reloaded() }

// Reloaded tells that everything may stand otherwise.
func (h *Hub) Reloaded() { h.note(func() { h.sweep = true }) }

// Acted tells what somebody asked for.
func (h *Hub) Acted(a ledger.Action) {
	if t := typeOf(a.Verb); t != "" {
		h.add(api.Event{Type: t, At: a.At, Environment: a.Environment, Action: &a})
	}
}

// typeOf is empty for what changes no environment and no source.
func typeOf(verb string) api.EventType {
	switch verb {
	case "resync":
		return api.EventResync
	case "hold", "unhold", "extend":
		return api.EventHold
	case "rollback", "release", "retry", "delete", "revert", "accept", "allow":
		return api.EventDecision
	}
	return ""
}

// Run makes events until ctx ends.
func (h *Hub) Run(ctx context.Context) error {
	tick := time.NewTicker(h.opts.Sweep)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.wake:
			h.round()
		case <-tick.C:
			if h.tired() {
				continue
			}
			h.Reloaded()
			continue
		}
		select { // what changes meanwhile becomes one event
		case <-ctx.Done():
			return nil
		case <-time.After(h.opts.Pause):
		}
	}
}

// tired reports whether nobody follows, and stops the making of events when that
// is so for long.
func (h *Hub) tired() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.followers > 0 {
		return false
	}
	if h.awake && time.Since(h.left) > h.opts.Idle {
		h.awake = false
	}
	return true
}

// round makes events of what was told.
func (h *Hub) round() {
	h.looking.Lock()
	defer h.looking.Unlock()
	h.mu.Lock()
	queue, dirty, sweep, overflow := h.queue, h.dirty, h.sweep, h.overflow
	h.queue, h.dirty, h.sweep, h.overflow = nil, map[string]bool{}, false, false
	h.mu.Unlock()
	if overflow {
		h.publish(func() { h.ring.forget() })
	}
	out := queue
	if sweep {
		out = append(out, h.lookAtAll()...)
	} else {
		out = append(out, h.lookAt(dirty)...)
	}
	if len(out) > 0 {
		h.publish(func() {
			for _, e := range out {
				h.ring.add(h.epoch, e)
			}
		})
	}
}

func (h *Hub) publish(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
	close(h.more)
	h.more = make(chan struct{})
}

// lookAt compares environments with how they stood. It needs looking.
func (h *Hub) lookAt(names map[string]bool) []api.Event {
	var out []api.Event
	for name := range names {
		if s, ok := h.opts.Environment(name); ok {
			out = h.compare(out, api.BriefOf(s))
		} else {
			out = h.gone(out, name)
		}
	}
	return out
}

// lookAtAll needs looking.
func (h *Hub) lookAtAll() []api.Event {
	var out []api.Event
	there := map[string]bool{}
	for _, s := range h.opts.Environments() {
		there[s.Name] = true
		out = h.compare(out, api.BriefOf(s))
	}
	for name := range h.stood {
		if !there[name] {
			out = h.gone(out, name)
		}
	}
	for _, s := range h.opts.Sources() {
		brief := api.SourceBriefOf(s)
		if was, known := h.sources[s.Name]; !known || was != brief {
			h.sources[s.Name] = brief
			out = append(out, api.Event{Type: api.EventSource, At: time.Now(), Source: &brief})
		}
	}
	return out
}

func (h *Hub) compare(out []api.Event, now api.EnvironmentBrief) []api.Event {
	if was, known := h.stood[now.Name]; known && was == now {
		return out
	}
	h.stood[now.Name] = now
	return append(out, api.Event{Type: api.EventEnvironment, At: time.Now(), Environment: now.Name, Status: &now})
}

func (h *Hub) gone(out []api.Event, name string) []api.Event {
	if _, known := h.stood[name]; !known {
		return out
	}
	delete(h.stood, name)
	return append(out, api.Event{Type: api.EventEnvironmentGone, At: time.Now(), Environment: name})
}
