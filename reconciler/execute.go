package reconciler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// run carries out one run and answers all that wait for it.
func (w *worker) run(ctx context.Context, h *handle) {
	started := time.Now()
	w.setRunning(&h.run, started)
	fetchErr := w.refresh(ctx, h.run.Trigger)
	// What the refresh itself triggered is answered by this run.
	absorbed := w.box.takePoll()

	out, err := w.execute(ctx, h.run.Trigger)
	for try := 1; errors.Is(err, ErrSuperseded) && try < 3; try++ {
		out, err = w.execute(ctx, h.run.Trigger)
	}
	if err != nil {
		out.Result, out.Errors = Failed, sources.ProblemsOf(err)
	}
	w.finishRun(h, absorbed, out, started, append(sources.ProblemsOf(fetchErr), w.specProblems()...))
}

// finishRun adds what kept head from being applied, though the last good state
// was, and publishes the end.
func (w *worker) finishRun(h, absorbed *handle, out Run, started time.Time, head sources.Problems) {
	own := out.Errors
	if len(head) > 0 {
		out.Result, out.Errors = Failed, append(head, own...)
	}
	out.Started, out.Finished = started, time.Now()
	out.Seconds = out.Finished.Sub(started).Seconds()
	w.conclude(&out, h.run, own)
	w.finish(h, out)
	if absorbed != nil {
		w.finish(absorbed, out)
	}
}

func (w *worker) setRunning(run *Run, started time.Time) {
	copied := *run
	copied.Started = started
	w.mu.Lock()
	w.running = &copied
	w.mu.Unlock()
}

// refresh asks the source when the trigger says so. A run without it, such as
// after a poll, has just been told.
func (w *worker) refresh(ctx context.Context, t Trigger) error {
	if !t.Fetch || w.engine.opts.Refresh == nil {
		return nil
	}
	return w.engine.opts.Refresh(ctx, w.source())
}

// execute renders, compares, plans and applies. Its error is what stopped it
// before anything was applied.
func (w *worker) execute(ctx context.Context, t Trigger) (Run, error) {
	a, ok := w.assignment()
	if !ok {
		return Run{Revision: a.Revision}, sources.Problem{
			Object: "Environment/" + w.name, Message: "nothing to apply: its spec is missing or cannot be used",
		}
	}
	out := Run{Revision: a.Revision}
	driver := w.engine.opts.Drivers[a.Spec.Target]
	if driver == nil {
		return out, sources.Problem{
			File: a.Spec.File, Line: a.Spec.Line, Object: "Environment/" + w.name,
			Message: fmt.Sprintf("no target %q", a.Spec.Target), Hint: "add it to the daemon's targets",
		}
	}
	if err := w.render(ctx, a); err != nil {
		return out, err
	}
	ops, err := w.compare(ctx, driver, a, w.desired, Scope{Verify: t.Verify})
	if err != nil {
		return out, err
	}
	w.forgetUnwanted()
	plan := NewPlan(ops, w.policy(a, t.Approve))
	out.PlanHash = plan.Hash
	w.carryOut(ctx, driver, a, plan, &out, time.Now())
	return out, nil
}

// render brings w.desired to the assigned revision. When it fails, what was
// desired before stays, and nothing is deleted.
func (w *worker) render(ctx context.Context, a Assignment) error {
	key := a.Revision.ID + "\x00" + a.Spec.Path + "\x00" + a.Spec.Namespace + "\x00" + a.Spec.Target + fmt.Sprint(a.Spec.CreateNamespace)
	if w.rendered == key {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.engine.opts.RenderTimeout)
	defer cancel()
	items, err := a.Render(ctx)
	if err != nil {
		return err
	}
	if len(items) == 0 {
		return sources.Problem{File: a.Spec.Path, Message: "renders to nothing; nothing is applied or deleted"}
	}
	w.desired, w.rendered = items, key
	return nil
}

func (w *worker) compare(ctx context.Context, d Driver, a Assignment, want []sources.Item, s Scope) ([]Operation, error) {
	ctx, cancel := context.WithTimeout(ctx, w.engine.opts.CompareTimeout)
	defer cancel()
	s.Environment, s.Source, s.AdoptFrom = w.name, a.Source, a.Spec.AdoptFrom
	s.ReadOnly = a.Spec.Mode == environment.ModePlan || a.Spec.Drift.Mode != environment.DriftCorrect
	ops, err := d.Compare(ctx, want, s)
	if err != nil {
		return nil, fmt.Errorf("compare with target %s: %w", a.Spec.Target, err)
	}
	return ops, nil
}

func (w *worker) policy(a Assignment, approve string) Policy {
	return Policy{
		Environment: w.name, Revision: a.Revision, Mode: a.Spec.Mode, Drift: a.Spec.Drift.Mode,
		Prune: a.Spec.Prune, Reach: a.Reach, Wanted: len(w.desired), Approve: approve,
	}
}

// carryOut applies a plan and fills in the run's counts, errors and result.
func (w *worker) carryOut(ctx context.Context, d Driver, a Assignment, plan Plan, out *Run, seen time.Time) {
	for _, op := range plan.Operations {
		w.countIdle(op, a, out, seen)
	}
	if len(plan.Active()) > 0 {
		applyCtx, cancel := context.WithTimeout(ctx, w.engine.opts.ApplyTimeout)
		defer cancel()
		err := d.Apply(applyCtx, plan, func(o Outcome) { w.outcome(o, a, out, seen) })
		if err != nil {
			out.Errors = append(out.Errors, sources.ProblemsOf(err)...)
		}
	}
	out.Result = resultOf(out)
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
	w.engine.book.EndAll(w.name, drift.Gone, time.Now(), func(id sources.ID) bool { return wanted[id] })
}

// countIdle accounts for what is not carried out.
func (w *worker) countIdle(op Operation, a Assignment, out *Run, seen time.Time) {
	switch {
	case op.Kind == OpUnchanged:
		out.Counts.Unchanged++
		if op.Item.Body != nil {
			w.good[op.Object] = op.Item
			w.endDrift(op.Object, drift.Gone)
		}
	case op.Err != nil:
		out.Counts.Failed++
		out.note(ObjectChange{Object: op.Object, Op: op.Kind, Origin: op.Item.Origin, Error: op.Err.Error()})
		out.Errors = append(out.Errors, sources.ProblemsOf(op.Err)...)
	case op.Held == heldIgnored:
		out.Counts.Unchanged++
		w.keep(op)
	case op.Held != "" && op.Kind == OpCorrect:
		w.keep(op)
		w.seeDrift(op, a, op.Changes, op.Class, op.Held, seen)
		out.Counts.Pending++
	case op.Held == heldPlan:
		out.Counts.Pending++
	case op.Held != "":
		out.Counts.Held++
		out.Waiting = append(out.Waiting, Waiting{Object: op.Object, Op: op.Kind, Why: op.Held})
	}
}

// outcome accounts for what was carried out.
func (w *worker) outcome(o Outcome, a Assignment, out *Run, seen time.Time) {
	op := o.Operation
	if !o.Noop && o.Deferred == "" {
		out.note(changeOf(o, w.good[op.Object]))
	}
	if o.Err != nil {
		out.Counts.Failed++
		out.Errors = append(out.Errors, sources.ProblemsOf(o.Err)...)
		if op.Kind == OpCorrect {
			w.keep(op)
			w.seeDrift(op, a, o.Changes, o.Class, "correction failed, is retried", seen)
		}
		return
	}
	switch {
	case o.Deferred != "":
		out.Counts.Held++
		out.Waiting = append(out.Waiting, Waiting{Object: op.Object, Op: op.Kind, Why: o.Deferred})
		return
	case op.Kind == OpDelete:
		out.Counts.Deleted++
		delete(w.good, op.Object)
		w.endDrift(op.Object, drift.Gone)
		return
	case o.Noop:
		out.Counts.Unchanged++
		w.endDrift(op.Object, drift.Gone)
	case op.Kind == OpCreate:
		out.Counts.Created++
	case op.Kind == OpUpdate:
		out.Counts.Updated++
		w.endDrift(op.Object, drift.Corrected)
	case op.Kind == OpAdopt:
		out.Counts.Adopted++
	case op.Kind == OpCorrect:
		out.Counts.Corrected++
		w.corrected(o, a, seen)
	}
	w.good[op.Object] = op.Item
}

// keep makes a drifted thing one to be looked after, if it is not yet: what it
// drifted from was applied before.
func (w *worker) keep(op Operation) {
	if _, known := w.good[op.Object]; !known {
		w.good[op.Object] = op.Item
	}
}

// resultOf says in one word how a run ended.
func resultOf(r *Run) Result {
	c := r.Counts
	written := c.Created + c.Updated + c.Corrected + c.Adopted + c.Deleted
	switch {
	case len(r.Errors) > 0 && written+c.Unchanged == 0:
		return Failed
	case len(r.Errors) > 0:
		return Partial
	case c.Held > 0:
		return Held
	case written > 0:
		return Applied
	}
	return Unchanged
}

// conclude keeps what a run found for the status.
// Problems are those of the run itself; others are reported by where they come
// from.
func (w *worker) conclude(out *Run, asked Run, problems sources.Problems) {
	out.ID, out.Environment, out.Trigger = asked.ID, asked.Environment, asked.Trigger
	var gates []string
	for _, wait := range out.Waiting {
		gates = appendNew(gates, wait.Why)
	}
	if out.Result == Failed || out.Result == Partial {
		w.failures++
	} else {
		w.failures = 0
	}
	known := out.Result != Failed
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.assigned.Spec.Mode == environment.ModePlan {
		gates = append(gates, "mode plan: nothing is written")
	}
	w.running, w.last, w.held = nil, out, gates
	w.problems[problemRun] = problems
	w.objects = len(w.desired)
	if known {
		w.compared = true
		w.pending = out.Counts.Held + out.Counts.Pending
	}
	if out.Result == Applied || out.Result == Unchanged && out.Counts.Pending == 0 {
		w.applied = out.Revision
	}
}

func appendNew(list []string, s string) []string {
	for _, have := range list {
		if have == s {
			return list
		}
	}
	return append(list, s)
}

// finish publishes a run's end to all that wait.
func (w *worker) finish(h *handle, out Run) {
	w.engine.mu.Lock()
	out.ID, out.Environment, out.Trigger = h.run.ID, w.name, h.run.Trigger
	h.run = out
	w.engine.mu.Unlock()
	close(h.done)
	w.logRun(out)
	if o := w.engine.opts.Observer; o != nil {
		o.RunEnded(out)
	}
}

// logRun writes one line, at Info only when something changed.
func (w *worker) logRun(r Run) {
	event := w.log.Debug()
	switch r.Result {
	case Applied, Held:
		event = w.log.Info()
	case Failed, Partial:
		event = w.log.Error().Err(errors.New(r.Errors.Error()))
	}
	event.Str("run", r.ID).Str("result", string(r.Result)).Str("revision", r.Revision.Short()).
		Stringer("reason", r.Trigger.Reason).Str("actor", r.Trigger.Actor).
		Int("created", r.Counts.Created).Int("updated", r.Counts.Updated).Int("corrected", r.Counts.Corrected).
		Int("deleted", r.Counts.Deleted).Int("unchanged", r.Counts.Unchanged).Int("failed", r.Counts.Failed).
		Float64("seconds", r.Seconds).Msg("run ended")
}
