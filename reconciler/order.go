package reconciler

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
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
	// proofs are earlier revisions that it was ready with, the oldest first.
	proofs []proof
	// why says what it waits for.
	why string
}

// proof is for how long an environment was ready with a revision.
type proof struct {
	revision sources.Revision
	span     time.Duration
	// drifted: drift was open in that time.
	drifted bool
}

// keepProofs bounds how many are remembered.
const keepProofs = 20

// proveReady remembers for how long the environment was ready, as that ends. It
// needs w.mu.
func (w *worker) proveReady(now time.Time) {
	if w.readySince.IsZero() || w.pinned {
		return
	}
	p := proof{revision: w.readyRevision, span: now.Sub(w.readySince), drifted: w.driftAt.After(w.readySince)}
	w.proofs = append(w.proofs, p)
	if over := len(w.proofs) - keepProofs; over > 0 {
		w.proofs = slices.Delete(w.proofs, 0, over)
	}
}

// proven is the newest revision that the other environment of an after has
// proved, newer than the one in force here. Without it, an environment that gets
// a commit every few minutes would never let the next one have any.
func (e *Engine) proven(a Assignment, s State) (sources.Revision, bool) {
	r, ok := e.readinessOf(a.Spec.After.Environment)
	if !ok || r.pinned {
		return sources.Revision{}, false
	}
	from := slices.IndexFunc(r.proofs, func(p proof) bool { return p.revision.ID == s.Accepted.ID })
	if from < 0 {
		return sources.Revision{}, false
	}
	for _, p := range slices.Backward(r.proofs[from+1:]) {
		if p.revision.ID != s.Accepted.ID && p.span >= a.Spec.After.Ready && !(a.Spec.After.DriftFree && p.drifted) {
			return p.revision, true
		}
	}
	return sources.Revision{}, false
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

// turns are the environments of rollout groups that took a revision and are not
// ready with it yet.
type turns struct {
	mu     sync.Mutex
	groups map[string]map[string]turn
}

type turn struct {
	revision string
	wave     int
}

// take gives an environment its turn, if fewer than limit of its wave have
// theirs; else it names one that does. Dry only asks.
func (t *turns) take(group, name string, mine turn, limit int, dry bool) (ok bool, other string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.groups[group] == nil {
		t.groups[group] = map[string]turn{}
	}
	count := 0
	for n, o := range t.groups[group] {
		if n != name && o.wave == mine.wave {
			count++
			other = n
		}
	}
	if count >= limit {
		return false, other
	}
	if !dry {
		t.groups[group][name] = mine
	}
	return true, ""
}

// done ends an environment's turn.
func (t *turns) done(group, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.groups[group], name)
}

// rolloutGate lets the environments of a group take a revision wave by wave, and
// in each wave only so many at a time. Dry only asks.
func (e *Engine) rolloutGate(a Assignment, dry bool) *Gate {
	r := a.Spec.Rollout
	if r == nil {
		return nil
	}
	refuse := func(format string, args ...any) *Gate {
		return &Gate{Kind: GateRollout, Why: fmt.Sprintf("rollout %s: ", r.Group) + fmt.Sprintf(format, args...)}
	}
	for _, w := range e.all() {
		w.mu.Lock()
		s, removed := w.assigned.Spec, w.removed
		w.mu.Unlock()
		if removed || w.name == a.Spec.Name || s.Rollout == nil || s.Rollout.Group != r.Group || s.Rollout.Wave >= r.Wave {
			continue
		}
		switch state := w.readiness(); {
		case state.revision.ID != a.Revision.ID:
			return refuse("environment %s of wave %d is at %s, not at %s", w.name, s.Rollout.Wave, orNone(state.revision.Short()), a.Revision.Short())
		case state.since.IsZero():
			return refuse("environment %s of wave %d is not ready: %s", w.name, s.Rollout.Wave, state.why)
		}
	}
	limit := r.MaxUnavailable
	if limit <= 0 {
		limit = environment.DefaultRolloutUnready
	}
	if ok, other := e.turns.take(r.Group, a.Spec.Name, turn{a.Revision.ID, r.Wave}, limit, dry); !ok {
		return refuse("environment %s has its turn in wave %d, and is not ready yet", other, r.Wave)
	}
	return nil
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
	group := ""
	e.mu.Lock()
	if w := e.workers[name]; w != nil {
		group = w.rolloutGroup()
	}
	var followers []*worker
	for _, w := range e.workers {
		if w.follows(name, group) {
			followers = append(followers, w)
		}
	}
	e.mu.Unlock()
	for _, w := range followers {
		w.post(Trigger{Reason: ReasonTimer, Actor: "readiness of " + name})
	}
}

// follows reports whether the environment waits for the one of a name, or is in
// its rollout group.
func (w *worker) follows(name, group string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.assigned.Spec
	if s.Rollout != nil && s.Rollout.Group == group {
		return w.name != name
	}
	return slices.Contains(s.DependsOn, name) || s.After != nil && s.After.Environment == name
}

func (w *worker) rolloutGroup() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := w.assigned.Spec.Rollout; r != nil {
		return r.Group
	}
	return ""
}

// readiness is how the environment stands for those that wait for it.
func (w *worker) readiness() readiness {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := readiness{revision: w.applied, since: w.readySince, driftSince: w.driftAt, pinned: w.pinned, why: w.unready, proofs: slices.Clone(w.proofs)}
	if w.last == nil {
		r.why = "it has not been applied yet"
	}
	return r
}
