package reconciler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// run carries out one run and answers all that wait for it.
func (w *worker) run(ctx context.Context, h *handle) {
	started := time.Now()
	w.setRunning(&h.run, started)
	w.recording = w.recorder()
	fetchErr := w.refresh(ctx, h.run.Trigger)
	// What the refresh itself triggered is answered by this run.
	absorbed := w.box.takePoll()

	out, err := w.inTurn(ctx, h.run.Trigger)
	for try := 1; errors.Is(err, ErrSuperseded) && try < 3; try++ {
		out, err = w.inTurn(ctx, h.run.Trigger)
	}
	if err != nil {
		out.Result, out.Errors = Failed, sources.ProblemsOf(err)
	}
	w.finishRun(h, absorbed, out, started, append(sources.ProblemsOf(fetchErr), w.specProblems()...))
}

// finishRun adds what kept head from being applied, though the last good state
// was, and publishes the end.
func (w *worker) finishRun(h, absorbed *handle, out Run, started time.Time, head sources.Problems) {
	w.scrub(&out)
	own := out.Errors
	if len(head) > 0 {
		out.Result, out.Errors = Failed, append(head, own...)
	}
	out.Started, out.Finished = started, time.Now()
	out.Seconds = out.Finished.Sub(started).Seconds()
	w.traceRun(&out, h.run)
	w.conclude(&out, h.run, own)
	w.finish(h, out)
	if absorbed != nil {
		w.finish(absorbed, out)
	}
}

// scrub takes what must not be shown out of what a server said.
func (w *worker) scrub(out *Run) {
	scrub := w.engine.opts.Scrub
	if scrub == nil {
		return
	}
	for i := range out.Errors {
		out.Errors[i].Message = scrub(out.Errors[i].Message)
	}
	for i := range out.Changes {
		out.Changes[i].Error = scrub(out.Changes[i].Error)
	}
}

func (w *worker) setRunning(run *Run, started time.Time) {
	copied := *run
	copied.Started = started
	w.mu.Lock()
	w.running = &copied
	w.mu.Unlock()
	w.tell()
	if o := w.engine.watcher; o != nil {
		o.RunBegan(copied)
	}
}

// refresh asks the source when the trigger says so. A run without it, such as
// after a poll, has just been told.
func (w *worker) refresh(ctx context.Context, t Trigger) error {
	if !t.Fetch || w.engine.opts.Refresh == nil {
		return nil
	}
	began := w.recording.now()
	err := w.engine.opts.Refresh(ctx, w.source())
	w.recording.phase("fetch", began, err)
	return err
}

// inTurn waits for the run's turn, and executes it.
func (w *worker) inTurn(ctx context.Context, t Trigger) (Run, error) {
	a, _ := w.assignment()
	began := w.recording.now()
	release, err := w.engine.slots.acquire(ctx, t.Reason, a.Spec.Target)
	w.recording.phase("wait for turn", began, err)
	if err != nil {
		return Run{Revision: a.Revision}, err
	}
	defer release()
	return w.execute(ctx, t)
}

// execute renders, compares, plans and applies. Its error is what stopped it
// before anything was applied.
func (w *worker) execute(ctx context.Context, t Trigger) (Run, error) {
	if w.isRemoved() {
		return w.executeRemoval(ctx, t)
	}
	a, ok := w.assignment()
	if !ok {
		return Run{Revision: a.Revision}, sources.Problem{
			Object: "Environment/" + w.name, Message: "nothing to apply: its spec is missing or cannot be used",
		}
	}
	out, started := Run{Revision: a.Revision}, time.Now()
	driver := w.engine.opts.Drivers[a.Spec.Target]
	if driver == nil {
		return out, sources.Problem{
			File: a.Spec.File, Line: a.Spec.Line, Object: "Environment/" + w.name,
			Message: fmt.Sprintf("no target %q", a.Spec.Target), Hint: "add it to the daemon's targets",
		}
	}
	if w.noteStandby(standsBy(driver)) {
		out.Result = Held
		return out, nil
	}
	if t.Reason == ReasonOnCall && t.Fetch {
		clear(w.fights) // somebody wants it tried anew
	}
	c, err := w.choose(ctx, driver, a, t)
	if err != nil {
		w.publishHead(ctx, a) // what it asks for can be said all the same
		return out, err
	}
	w.noteGates(c)
	err = w.render(ctx, c.a)
	if err != nil {
		if c, err = w.fallBack(ctx, c, err, &out); err != nil {
			return out, err
		}
	}
	out.Revision = c.a.Revision
	accepted, ended := c.state.accepted(started)
	if len(ended) > 0 {
		// What was left has become ours at its live value: only the server can tell.
		t.Verify = true
	}
	w.setMoving(false)
	ops, err := w.compare(ctx, driver, c.a, w.desired, Scope{Verify: t.Verify, ReadOnly: c.readOnly() || w.fights.any()})
	if err != nil {
		w.quiet = false
		w.publishHead(ctx, a)
		return out, err
	}
	if w.isQuiet(ops, c) {
		w.notePlanned(a)
		out.Counts.Unchanged, out.Result = len(w.desired), Unchanged
		return out, nil
	}
	ops = Expand(ops, w.desired)
	w.forgetUnwanted()
	ops = w.countUnchanged(ops, &out)
	if t.Reason != ReasonOnCall && w.breakers.open(ops, time.Now()) {
		holdDeletes(ops)
	}
	policy := w.policyOf(driver, c, t.Approve)
	policy.Accepted, policy.Revert = accepted, t.Revert
	if w.publish(c.a, ops); c.a.Revision.ID != a.Revision.ID {
		w.publishHead(ctx, a)
	}
	w.holdMoving(a, ops, policy)
	began := w.recording.now()
	plan := NewPlan(ops, policy)
	w.recording.phase("plan", began, nil)
	out.PlanHash = plan.Hash
	w.carryOut(ctx, driver, c.a, plan, &out, time.Now())
	w.share()
	if out.Counts.Adopted > 0 {
		w.wakeMoving(a)
	}
	if r := resultOf(&out); c.head != nil && (r == Applied || r == Unchanged && out.Counts.Pending == 0) {
		w.settled = c.a.Revision
	}
	w.preview(ctx, driver, c, &out)
	out.Result = resultOf(&out)
	w.remember(ctx, driver, c, &out)
	if len(ended) > 0 && out.Result != Failed {
		w.dropEnded(ctx, driver, started)
	}
	return out, nil
}

// policyOf is the policy for what was chosen.
func (w *worker) policyOf(d Driver, c choice, approve string) Policy {
	p := w.policy(c.a, approve)
	p.Gates = c.gates
	if c.head != nil {
		// What is in force was accepted before: only holds concern it.
		p.Gates = withoutWaits(c.gates, c.waits)
	} else if g := w.versionGate(c); g != nil {
		p.Gates = append(slices.Clone(p.Gates), *g)
	}
	if pin := c.state.pinned(time.Now()); pin != nil {
		p.ApproveBudget = pin.Approved
	}
	p.First = c.state.Accepted.ID == ""
	if _, keeps := d.(Keeper); !keeps {
		p.First = false // nothing would ever say that it is no longer the first
	}
	if whole, ok := d.(Whole); ok {
		p.Whole = whole.Whole()
	}
	return p
}

// fallBack goes on with the last accepted revision when head does not render and
// nothing is known that drift could be corrected to, as after a start.
func (w *worker) fallBack(ctx context.Context, c choice, cause error, out *Run) (choice, error) {
	accepted := c.state.Accepted.ID
	if len(w.good) > 0 || accepted == "" || accepted == c.a.Revision.ID || errors.Is(cause, ErrSuperseded) || ctx.Err() != nil {
		return c, cause
	}
	older, err := w.at(ctx, accepted)
	if err != nil {
		return c, errors.Join(cause, fmt.Errorf("the last accepted revision cannot be had either: %w", err))
	}
	if err := w.render(ctx, older); err != nil {
		return c, errors.Join(cause, fmt.Errorf("the last accepted revision does not render either: %w", err))
	}
	out.Errors = append(out.Errors, sources.ProblemsOf(cause)...)
	older.Spec.Mode, older.Spec.Drift = c.a.Spec.Mode, c.a.Spec.Drift
	c.a, c.head, c.waits = older, nil, []Gate{{Kind: GateSource, Why: "the newest revision does not render"}}
	return c, nil
}

// deletionOf is what becomes of the objects when the spec leaves git. Previews
// go with their branch.
func deletionOf(s environment.Spec) environment.Deletion {
	if s.Preview != nil {
		return environment.DeletionDelete
	}
	return s.Deletion
}

// render brings w.desired to the assigned revision. When it fails, what was
// desired before stays, and nothing is deleted.
func (w *worker) render(ctx context.Context, a Assignment) error {
	key := a.Revision.ID + " " + a.Spec.RenderKey()
	if w.rendered == key {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.engine.opts.RenderTimeout)
	defer cancel()
	began := w.recording.now()
	items, err := a.Render(ctx)
	w.recording.phase("render", began, err)
	if err != nil {
		return err
	}
	if len(items) == 0 {
		return sources.Problem{File: a.Spec.Path, Message: "renders to nothing; nothing is applied or deleted"}
	}
	w.desired, w.rendered = items, key
	clear(w.fights)
	return nil
}

func (w *worker) compare(ctx context.Context, d Driver, a Assignment, want []sources.Item, s Scope) ([]Operation, error) {
	began := w.recording.now()
	ops, err := w.look(ctx, d, a, want, w.scope(a, s))
	w.recording.phase("compare", began, err)
	return ops, err
}

// scope adds to a scope what the assignment says.
func (w *worker) scope(a Assignment, s Scope) Scope {
	s.Environment, s.Source, s.AdoptFrom = w.name, a.Source, a.Spec.AdoptFrom
	s.Revision, s.Recreate, s.Conflicts, s.Checks = a.Revision, a.Spec.Recreate, a.Spec.Conflicts, a.Spec.Health.Checks
	s.Identity, s.MayTake = a.Identity, w.mayTake(a)
	s.ExtraFields, s.Unmanaged = a.Spec.Drift.ExtraFields, a.Spec.Drift.Unmanaged
	return s
}

// look compares within the time there is. It needs no more of the worker than what
// never changes.
func (w *worker) look(ctx context.Context, d Driver, a Assignment, want []sources.Item, s Scope) ([]Operation, error) {
	ctx, cancel := context.WithTimeout(ctx, w.engine.opts.CompareTimeout)
	defer cancel()
	ops, err := d.Compare(ctx, want, s)
	if err != nil {
		return nil, fmt.Errorf("compare with target %s: %w", a.Spec.Target, err)
	}
	return ops, nil
}

// apply carries out a plan within the time there is, with no more of the worker than
// look needs.
func (w *worker) apply(ctx context.Context, d Driver, a Assignment, plan Plan, done func(Outcome)) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(a.Spec.Timeout, w.engine.opts.ApplyTimeout))
	defer cancel()
	return d.Apply(ctx, plan, done)
}

func (w *worker) policy(a Assignment, approve string) Policy {
	return Policy{
		Environment: w.name, Revision: a.Revision, Mode: a.Spec.Mode, Drift: a.Spec.Drift,
		Prune: a.Spec.Prune, Reach: a.Reach, Wanted: len(w.desired), Approve: approve,
		Budget: a.Spec.DeletionBudget, Fights: w.fights, OwnNamespaces: ownNamespaces(a.Spec),
	}
}

// ownNamespaces are those that a preview environment made for itself.
func ownNamespaces(s environment.Spec) []string {
	if s.Preview == nil || !s.CreateNamespace || s.Namespace == "" {
		return nil
	}
	return []string{s.Namespace}
}

// carryOut applies a run's plan and fills in its counts, errors and result.
func (w *worker) carryOut(ctx context.Context, d Driver, a Assignment, plan Plan, out *Run, seen time.Time) {
	w.countAllIdle(plan, a, out, seen)
	if len(plan.Active()) > 0 {
		w.touched = map[sources.ID]bool{}
		w.noteBefore(plan)
		began := w.recording.now()
		err := w.apply(ctx, d, a, plan, func(o Outcome) {
			w.recording.object(o)
			w.outcome(o, a, out, seen)
		})
		w.recording.phase("apply", began, err)
		if err != nil {
			out.Errors = append(out.Errors, sources.ProblemsOf(err)...)
		}
	}
	out.Result = resultOf(out)
}

// noteBefore tells the driver what was applied before what is now.
func (w *worker) noteBefore(plan Plan) {
	for i := range plan.Operations {
		op := &plan.Operations[i]
		if op.Kind != OpUpdate && op.Kind != OpCorrect || op.Held != "" {
			continue
		}
		if before, known := w.good[op.Object]; known && before.Digest != op.Item.Digest {
			op.Before = before
		}
	}
}

// forgetUnwanted drops what git no longer asks for: it is not healed any more,
// even while it stays, and its episodes end.
func (w *worker) forgetUnwanted() {
	wanted := make(map[sources.ID]bool, len(w.desired))
	for i := range w.desired {
		wanted[w.desired[i].ID] = true
	}
	for id := range w.good {
		if !wanted[id] {
			delete(w.good, id)
		}
	}
	ended := w.engine.book.EndAll(w.name, drift.Gone, time.Now(), func(id sources.ID) bool { return wanted[id] })
	if len(ended) > 0 {
		w.tell()
	}
	if o := w.engine.opts.Observer; o != nil {
		for _, e := range ended {
			o.DriftEnded(e)
		}
	}
}
