package reconciler

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// Remover is a driver that can let go of a whole environment.
type Remover interface {
	// Environments are the names of all environments that state is kept of.
	Environments(ctx context.Context) ([]string, error)
	// Detach takes our marks and our ownership of fields from everything that
	// belongs to an environment, and says from how many; the things and their
	// values stay.
	Detach(ctx context.Context, environment string) (int, error)
	// Forget removes what is kept about an environment that has nothing left.
	Forget(ctx context.Context, environment string) error
}

// ConfirmRemoval lets the objects of an environment go whose spec left git.
func (e *Engine) ConfirmRemoval(ctx context.Context, name, actor string) (Run, error) {
	w, err := e.one(name)
	if err != nil {
		return Run{}, err
	}
	if !w.isRemoved() {
		return Run{}, fmt.Errorf("environment %s has a spec in git; remove that first", name)
	}
	err = w.save(ctx, func(s *State) error {
		if s.Removed == nil {
			s.Removed = &Removal{Since: time.Now()}
		}
		s.Removed.Confirmed = actor
		return nil
	})
	if err != nil {
		return Run{}, err
	}
	return e.snapshot(w.post(Trigger{Reason: ReasonOnCall, Actor: actor})), nil
}

// findLeft makes known the environments of a source that left it while the
// daemon was not looking.
func (e *Engine) findLeft(ctx context.Context, source string, start func(*worker)) {
	for target, d := range e.opts.Drivers {
		r, removes := d.(Remover)
		k, keeps := d.(Keeper)
		if !removes || !keeps {
			continue
		}
		names, err := r.Environments(ctx)
		if err != nil {
			e.opts.Log.Warn().Err(err).Str("target", target).Msg("environments that left git cannot be looked for")
			continue
		}
		for _, name := range names {
			if w := e.left(ctx, k, source, target, name); w != nil {
				start(w)
			}
		}
	}
}

// left is a worker for an environment that nobody has and that was the source's.
func (e *Engine) left(ctx context.Context, k Keeper, source, target, name string) *worker {
	e.mu.Lock()
	_, known := e.workers[name]
	e.mu.Unlock()
	if known {
		return nil
	}
	state, err := k.State(ctx, name)
	if err != nil || state.Source != source {
		return nil
	}
	spec := environment.New(name)
	spec.Target, spec.Deletion = target, environment.Deletion(state.Deletion)
	if state.Mode == string(environment.ModePlan) {
		spec.Mode = environment.ModePlan
	}
	a := Assignment{Spec: spec, Source: source, Revision: state.Accepted, Identity: state.Identity}
	if e.opts.Reach != nil {
		a.Reach = e.opts.Reach(source, target)
	}
	w := newWorker(e, a)
	w.assigned, w.removed = a, true
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, known := e.workers[name]; known {
		return nil
	}
	e.workers[name] = w
	return w
}

// executeRemoval deletes, detaches or keeps what an environment has that left
// git.
func (w *worker) executeRemoval(ctx context.Context, t Trigger) (Run, error) {
	w.mu.Lock()
	a := w.assigned
	w.mu.Unlock()
	out := Run{Revision: a.Revision}
	d, k, err := w.keeper()
	if err != nil {
		out.Result = Unchanged // there is nothing to remember it by
		return out, nil
	}
	if w.noteStandby(standsBy(d)) {
		out.Result = Held
		return out, nil
	}
	state, err := stateOf(ctx, d, w.name)
	if err == nil && state.Removed == nil {
		state, err = k.SaveState(ctx, w.name, func(s *State) error {
			if s.Removed == nil {
				s.Removed = &Removal{Since: time.Now()}
			}
			s.Source, s.Deletion = a.Source, string(deletionOf(a.Spec))
			return nil
		})
	}
	if err != nil {
		return out, err
	}
	gates := w.removalGates(a, state)
	held := choice{a: a, state: state, gates: gates}
	for _, h := range state.activeHolds(time.Now()) {
		held.wake = earliest(held.wake, h.Until)
	}
	w.noteGates(held)
	if a.Spec.Deletion == environment.DeletionOrphan && len(gates) == 0 {
		return w.detach(ctx, d, a, out)
	}
	w.desired = nil
	w.setMoving(false)
	ops, err := w.compare(ctx, d, a, nil, Scope{})
	if err != nil {
		return out, err
	}
	w.forgetUnwanted()
	policy := w.policy(a, t.Approve)
	policy.Gates, policy.Prune = gates, true
	policy.Budget = &environment.DeletionBudget{Count: math.MaxInt, Percent: 100, StopPercent: 100}
	w.holdHandover(a, ops)
	plan := NewPlan(ops, policy)
	out.PlanHash = plan.Hash
	w.carryOut(ctx, d, a, plan, &out, time.Now())
	if len(ops) == 0 {
		w.forget(ctx, d)
	} else if out.Counts.Deleted > 0 {
		w.post(Trigger{Reason: ReasonTimer, Actor: "removal"}) // see that all is gone
	}
	return out, nil
}

// holdHandover keeps what other environments of the source take over, or may take
// over once they are planned at their revision.
func (w *worker) holdHandover(a Assignment, ops []Operation) {
	for _, other := range w.engine.bySource(a.Source) {
		v := other.view()
		if other == w || v.removed || v.revision == "" {
			continue
		}
		at := a
		at.Revision.ID = v.revision
		w.holdFor(other.name, v, at, ops)
	}
}

// removalGates are the holds, and the confirmation that is still to come.
func (w *worker) removalGates(a Assignment, s State) []Gate {
	var out []Gate
	for _, h := range s.activeHolds(time.Now()) {
		out = append(out, h.gate())
	}
	confirmed := s.Removed != nil && s.Removed.Confirmed != ""
	if how := deletionOf(a.Spec); how == environment.DeletionDelete || how == environment.DeletionOrphan || confirmed {
		return out
	}
	return append(out, Gate{
		Kind: GateRemoval, Since: s.Removed.Since, StopsCorrection: true,
		Why: fmt.Sprintf("its spec left git; its objects stay until `holdfast delete %s` confirms that they go", w.name),
	})
}

func (w *worker) detach(ctx context.Context, d Driver, a Assignment, out Run) (Run, error) {
	r, ok := d.(Remover)
	if !ok {
		return out, errors.New("this target cannot let go of objects without deleting them")
	}
	// The comparison tells the target as whom it acts for this environment.
	if _, err := w.compare(ctx, d, a, nil, Scope{}); err != nil {
		return out, err
	}
	count, err := r.Detach(ctx, w.name)
	if err != nil {
		return out, fmt.Errorf("let go of the environment's objects: %w", err)
	}
	w.log.Info().Int("objects", count).Msg("let go of the environment's objects")
	w.forget(ctx, d)
	out.Result = Applied
	return out, nil
}

// forget ends the environment: nothing of it is left.
func (w *worker) forget(ctx context.Context, d Driver) {
	r, ok := d.(Remover)
	if !ok {
		return
	}
	if err := r.Forget(ctx, w.name); err != nil {
		w.log.Warn().Err(err).Msg("what is kept about the environment could not be removed")
		return
	}
	w.engine.mu.Lock()
	defer w.engine.mu.Unlock()
	if w.isRemoved() { // not come back meanwhile
		delete(w.engine.workers, w.name)
		w.gone = true
		w.log.Info().Msg("environment is gone")
	}
}

// The rest is about objects that move from one environment to another.

// maxCommitDeletes is how many objects one commit may delete unasked, over all
// environments of a source.
const maxCommitDeletes = 50

// holdMoving keeps the deletes of objects that another environment of the same
// source asks for, or may ask for once it has been planned at this revision; and
// all deletes of a commit that deletes very much.
func (w *worker) holdMoving(a Assignment, ops []Operation, p Policy) {
	if !slices.ContainsFunc(ops, func(op Operation) bool { return op.Kind == OpDelete }) {
		return
	}
	total, environments := 0, 0
	for _, other := range w.engine.bySource(a.Source) {
		v := other.view()
		if v.removed || v.revision != a.Revision.ID {
			continue
		}
		if v.planned == a.Revision.ID && v.deletes > 0 {
			total, environments = total+v.deletes, environments+1
		}
		if other != w {
			w.holdFor(other.name, v, a, ops)
		}
	}
	if total <= maxCommitDeletes || environments < 2 || p.Approve != "" && p.Approve == hashOf(withinAll(ops, p)) {
		return
	}
	why := fmt.Sprintf("deletion budget: this commit deletes %d objects in %d environments; approve the plan", total, environments)
	for i := range ops {
		if ops[i].Kind == OpDelete && !p.ownPlace(ops[i].Object) {
			ops[i].hold(GateBudget, why)
		}
	}
}

// withinAll is the operations as a plan has them.
func withinAll(ops []Operation, p Policy) []Operation {
	out := make([]Operation, len(ops))
	for i, op := range ops {
		out[i] = withinReach(op, p.Reach)
	}
	return out
}

// holdFor keeps deletes for another environment's sake.
func (w *worker) holdFor(name string, v view, a Assignment, ops []Operation) {
	for i := range ops {
		if ops[i].Kind != OpDelete {
			continue
		}
		switch {
		case v.planned != a.Revision.ID:
			w.setMoving(true)
			ops[i].hold(GateTransfer, fmt.Sprintf("waits until environment %s is planned at this revision: it may take the object over", name))
		case holds(v.wanted, ops[i].Object):
			w.setMoving(true)
			ops[i].hold(GateTransfer, fmt.Sprintf("moves to environment %s", name))
		}
	}
}

// holds reports whether sorted items hold one of an id.
func holds(items []sources.Item, id sources.ID) bool {
	low, high := 0, len(items)
	for low < high {
		mid := (low + high) / 2
		if items[mid].ID.Compare(id) < 0 {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low < len(items) && items[low].ID == id
}

// view is what other environments have to know of this one.
type view struct {
	removed bool
	// revision is the one assigned, planned the one last planned; wanted and
	// deletes are what that plan asked for.
	revision, planned string
	wanted            []sources.Item
	deletes           int
}

func (w *worker) view() view {
	w.mu.Lock()
	defer w.mu.Unlock()
	return view{removed: w.removed, revision: w.assigned.Revision.ID, planned: w.planned, wanted: w.wanted, deletes: w.deletes}
}

// publish tells others what is asked for, and how much a plan deletes.
func (w *worker) publish(a Assignment, ops []Operation) {
	deletes := 0
	for i := range ops {
		if ops[i].Kind == OpDelete && !ops[i].heldFirstBy(GateUnproven) {
			deletes++
		}
	}
	w.mu.Lock()
	w.wanted, w.deletes = w.desired, deletes
	current := w.assigned.Revision.ID == a.Revision.ID
	w.mu.Unlock()
	if current {
		w.notePlanned(a)
	}
}

// publishHead tells others what is asked for at the revision assigned, where
// another is in force or nothing could be compared. When it does not render,
// nothing is known, and the deletes of others go on waiting.
func (w *worker) publishHead(ctx context.Context, a Assignment) {
	items, err := a.Render(ctx)
	if err != nil {
		return
	}
	w.mu.Lock()
	w.wanted = items
	w.mu.Unlock()
	w.notePlanned(a)
}

// notePlanned wakes the environments whose deletes waited for this one's plan.
func (w *worker) notePlanned(a Assignment) {
	w.mu.Lock()
	fresh := w.planned != a.Revision.ID
	w.planned = a.Revision.ID
	w.mu.Unlock()
	if fresh {
		w.wakeMoving(a)
	}
}

// wakeMoving makes the environments of a source look again whose deletes wait
// for others.
func (w *worker) wakeMoving(a Assignment) {
	for _, other := range w.engine.bySource(a.Source) {
		if other != w && other.isMoving() {
			other.post(Trigger{Reason: ReasonTimer, Actor: "plan of " + w.name})
		}
	}
}

func (w *worker) setMoving(moving bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.moving = moving
}

func (w *worker) isMoving() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.moving
}

// mayTake reports whether an object may be taken over from another environment:
// one that this one was called before, or one of the same source that no longer
// asks for the object.
func (w *worker) mayTake(a Assignment) func(sources.ID, string) bool {
	return func(id sources.ID, from string) bool {
		for _, name := range a.Spec.Formerly {
			if name == from {
				return true
			}
		}
		w.engine.mu.Lock()
		other := w.engine.workers[from]
		w.engine.mu.Unlock()
		if other == nil || other == w || other.source() != a.Source {
			return false
		}
		if other.isRemoved() {
			return true // it asks for nothing any more
		}
		v := other.view()
		if v.planned != a.Revision.ID {
			w.setMoving(true) // look again when it is
		}
		return v.planned == a.Revision.ID && !holds(v.wanted, id)
	}
}
