package reconciler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// choice is what a run brings about, and what keeps it from more.
type choice struct {
	// a is the assignment that is applied: head's, or that of an older revision.
	a Assignment
	// head is the newest, where an older one was chosen because of waits.
	head  *Assignment
	waits []Gate
	// promoted: the older one is new here, having proved itself elsewhere.
	promoted bool
	// gates are all that are active.
	gates []Gate
	state State
	// dry: it is only asked what would be chosen.
	dry bool
	// wake is when a gate may open or close by itself; zero for never.
	wake time.Time
}

// choose decides which revision a run is about. A rollback chooses; else head,
// if nothing stops it; else the last accepted revision stays and is healed.
func (w *worker) choose(ctx context.Context, d Driver, a Assignment, t Trigger) (choice, error) {
	now := time.Now()
	state, err := stateOf(ctx, d, w.name)
	if err != nil {
		return choice{}, err
	}
	c := choice{a: a, state: state, dry: t.Reason == 0}
	for _, h := range state.activeHolds(now) {
		if !t.passes(h.ID) {
			c.gates = append(c.gates, h.gate())
		}
		c.wake = earliest(c.wake, h.Until)
		if warn := h.Until.Add(-holdWarning); warn.After(now) {
			c.wake = earliest(c.wake, warn)
		} else {
			w.warn(h)
		}
	}
	counting, _ := state.accepted(now)
	for _, d := range counting {
		c.wake = earliest(c.wake, d.Until)
	}
	if pin := state.pinned(now); pin != nil {
		c.gates = append(c.gates, pin.gate())
		c.wake = earliest(c.wake, pin.Until)
		return w.pinTo(ctx, c, pin)
	}
	if c.waits, err = w.waits(a, state, now, &c); err != nil {
		return choice{}, err
	}
	c.gates = append(c.gates, c.waits...)
	if len(c.waits) == 0 || state.Accepted.ID == a.Revision.ID {
		c.waits = nil
		return c, nil
	}
	if state.Accepted.ID == "" {
		return c, nil // nothing was ever applied: head is held as a whole
	}
	inForce := state.Accepted
	if len(c.waits) == 1 && c.waits[0].Kind == GateAfter {
		if r, ok := w.engine.proven(a, state); ok {
			inForce, c.promoted = r, true
		}
	}
	older, err := w.at(ctx, inForce.ID)
	if err != nil {
		return choice{}, fmt.Errorf("revision %s cannot be had, and the newest one has to wait: %w", inForce.Short(), err)
	}
	// What people say at head about how to go about it counts at once.
	older.Spec.Mode, older.Spec.Drift, older.Spec.Windows = a.Spec.Mode, a.Spec.Drift, a.Spec.Windows
	c.a, c.head = older, &a
	return c, nil
}

// gatesFor are all that are active for an assignment now.
func (w *worker) gatesFor(a Assignment, state State) []Gate {
	now := time.Now()
	var out []Gate
	for _, h := range state.activeHolds(now) {
		out = append(out, h.gate())
	}
	if pin := state.pinned(now); pin != nil {
		return append(out, pin.gate())
	}
	waits, err := w.waits(a, state, now, &choice{dry: true})
	if err != nil {
		waits = []Gate{{Kind: GateWindow, Why: err.Error()}}
	}
	return append(out, waits...)
}

// holdWarning is how long before its end a hold is told about.
const holdWarning = 15 * time.Minute

// warn says once that a hold ends soon, and what that means.
func (w *worker) warn(h Hold) {
	if w.warned[h.ID] {
		return
	}
	w.warned[h.ID] = true
	w.mu.Lock()
	pending := w.pending
	w.mu.Unlock()
	w.log.Warn().Str("hold", h.ID).Time("until", h.Until).Int("drifts", w.engine.book.OpenCount(w.name)).Int("changes", pending).
		Msgf("a hold ends soon; drift is then put back and what waits is applied; `holdfast hold --extend %s --for 1h` extends it", h.ID)
}

func (w *worker) pinTo(ctx context.Context, c choice, pin *Pin) (choice, error) {
	if pin.Revision.ID == c.a.Revision.ID {
		return c, nil
	}
	older, err := w.at(ctx, pin.Revision.ID)
	if err != nil {
		return choice{}, fmt.Errorf("the revision that is rolled back to, %s, cannot be had: %w", pin.Revision.Short(), err)
	}
	c.a = older
	return c, nil
}

// waits are the gates that keep an environment from taking a new revision.
func (w *worker) waits(a Assignment, s State, now time.Time, c *choice) ([]Gate, error) {
	var out []Gate
	if s.Returned != "" && s.Returned == a.Revision.ID {
		out = append(out, Gate{
			Kind: GateReturned,
			Why:  fmt.Sprintf("%s did not get ready and was left again; a new commit, or `holdfast retry %s`, tries anew", a.Revision.Short(), w.name),
		})
	}
	if g := w.engine.afterGate(a, now, c); g != nil {
		out = append(out, *g)
	}
	out = append(out, w.engine.dependsGates(a)...)
	gate, next, err := windowGate(a.Spec.Windows, now)
	if err != nil {
		return nil, sources.Problem{File: a.Spec.File, Line: a.Spec.Line, Object: "Environment/" + w.name, Message: err.Error()}
	}
	c.wake = earliest(c.wake, next)
	if gate != nil {
		out = append(out, *gate)
	}
	// Last, since it takes a turn, which others then wait for.
	if s.Accepted.ID != a.Revision.ID && w.appliedID() != a.Revision.ID {
		if g := w.engine.rolloutGate(a, c.dry || len(out) > 0 || a.Spec.Mode == environment.ModePlan); g != nil {
			out = append(out, *g)
		}
	}
	return out, nil
}

// at is the environment's assignment at another revision. The last one is kept,
// since a gate that refuses head asks for the same at every run.
func (w *worker) at(ctx context.Context, revision string) (Assignment, error) {
	now, _ := w.assignment()
	if w.older.Revision.ID == revision && w.older.Source == now.Source {
		// What was granted may be another by now.
		w.older.Reach, w.older.Identity = now.Reach, now.Identity
		return w.older, nil
	}
	if w.engine.opts.At == nil {
		return Assignment{}, errors.New("this source keeps no older revisions")
	}
	a, err := w.engine.opts.At(ctx, w.source(), w.name, revision)
	if err != nil {
		return Assignment{}, err
	}
	w.older = a
	return a, nil
}

// preview finds out what head would change that a gate keeps back, and notes it
// in the run. It writes nothing.
func (w *worker) preview(ctx context.Context, d Driver, c choice, out *Run) {
	if c.head == nil {
		return
	}
	items, err := c.head.Render(ctx)
	if err != nil {
		out.Errors = append(out.Errors, sources.ProblemsOf(err)...)
		return
	}
	ops, err := w.compare(ctx, d, *c.head, items, Scope{Preview: true})
	if err != nil {
		out.Errors = append(out.Errors, sources.ProblemsOf(err)...)
		return
	}
	policy := w.policy(*c.head, "")
	policy.Wanted, policy.Gates = len(items), c.waits
	for _, op := range NewPlan(ops, policy).Operations {
		if op.Kind.writes() && !op.drifted() {
			out.Counts.Held++
			out.wait(Waiting{Object: op.Object, Op: op.Kind, Why: c.waits[0].Why, Gate: c.waits[0].Kind})
		}
	}
}

// maxWaiting bounds how many held operations a receipt names.
const maxWaiting = 1000

func (r *Run) wait(w Waiting) {
	if len(r.Waiting) < maxWaiting {
		r.Waiting = append(r.Waiting, w)
	}
}

// readOnly reports whether differences have to be explained by dry runs, because
// something may keep them from being put back.
func (c choice) readOnly() bool {
	if c.a.Spec.Mode == environment.ModePlan || c.a.Spec.Drift.Mode != environment.DriftCorrect || needsFields(c.a.Spec.Drift) {
		return true
	}
	for _, g := range c.gates {
		if g.StopsCorrection {
			return true
		}
	}
	return len(c.state.Decisions) > 0
}

// appliedID is the revision that was last brought about in full.
func (w *worker) appliedID() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.applied.ID
}
