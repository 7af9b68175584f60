package reconciler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
)

// readiness is how an environment stands for those that wait for it.
type readiness struct {
	// revision is the one in force; since is from when on it has been ready, zero
	// while it is not.
	revision sources.Revision
	since    time.Time
	// driftSince is when drift was last open.
	driftSince time.Time
	pinned     bool
	// why says what it waits for.
	why string
}

// readinessOf is how the environment of a name stands; ok is false when there is
// none.
func (e *Engine) readinessOf(name string) (readiness, bool) {
	e.mu.Lock()
	w := e.workers[name]
	e.mu.Unlock()
	if w == nil || w.isRemoved() {
		return readiness{}, false
	}
	return w.readiness(), true
}

// dependsGates are the environments that have to be ready first.
func (e *Engine) dependsGates(a Assignment) []Gate {
	var out []Gate
	for _, name := range a.Spec.DependsOn {
		r, ok := e.readinessOf(name)
		switch {
		case !ok:
			out = append(out, Gate{Kind: GateDependsOn, Why: fmt.Sprintf("depends on environment %s, which there is not", name)})
		case r.since.IsZero():
			out = append(out, Gate{Kind: GateDependsOn, Why: strings.TrimSuffix(fmt.Sprintf("depends on environment %s, which is not ready: %s", name, r.why), ": ")})
		}
	}
	return out
}

// afterGate is promotion: the other environment must have been ready with this
// very revision for as long as asked. A pinned one proves nothing.
func (e *Engine) afterGate(a Assignment, now time.Time, c *choice) *Gate {
	after := a.Spec.After
	if after == nil {
		return nil
	}
	refuse := func(format string, args ...any) *Gate {
		return &Gate{Kind: GateAfter, Why: fmt.Sprintf("waits for environment %s: ", after.Environment) + fmt.Sprintf(format, args...)}
	}
	r, ok := e.readinessOf(after.Environment)
	switch {
	case !ok:
		return refuse("there is none of this name")
	case r.pinned:
		return refuse("it is rolled back, which proves nothing")
	case r.revision.ID != a.Revision.ID:
		return refuse("it is at %s, not at %s", orNone(r.revision.Short()), a.Revision.Short())
	case r.since.IsZero():
		return refuse("it is not ready: %s", r.why)
	}
	from := r.since
	if after.DriftFree && r.driftSince.After(from) {
		from = r.driftSince
	}
	if until := from.Add(after.Ready); now.Before(until) {
		c.wake = earliest(c.wake, until)
		g := refuse("it has been ready since %s, and %s are asked for", clock(r.since), after.Ready)
		g.Since, g.Until = from, until
		return g
	}
	return nil
}

func orNone(s string) string {
	if s == "" {
		return "no revision"
	}
	return s
}

// wakeFollowers makes the environments that wait for another look again.
func (e *Engine) wakeFollowers(name string) {
	e.mu.Lock()
	var followers []*worker
	for _, w := range e.workers {
		if w.follows(name) {
			followers = append(followers, w)
		}
	}
	e.mu.Unlock()
	for _, w := range followers {
		w.post(Trigger{Reason: ReasonTimer, Actor: "readiness of " + name})
	}
}

func (w *worker) follows(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.assigned.Spec
	return slices.Contains(s.DependsOn, name) || s.After != nil && s.After.Environment == name
}

// readiness is how the environment stands for those that wait for it.
func (w *worker) readiness() readiness {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := readiness{revision: w.applied, since: w.readySince, driftSince: w.driftAt, pinned: w.pinned, why: w.unready}
	if w.last == nil {
		r.why = "it has not been applied yet"
	}
	return r
}
