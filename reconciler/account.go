package reconciler

import (
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
)

// countAllIdle accounts for what of a plan is not carried out.
func (w *worker) countAllIdle(plan Plan, a Assignment, out *Run, seen time.Time) {
	for _, op := range plan.Operations {
		w.countIdle(op, a, out, seen)
	}
}

// countIdle accounts for what is not carried out.
func (w *worker) countIdle(op Operation, a Assignment, out *Run, seen time.Time) {
	switch {
	case op.Kind == OpUnchanged:
		w.unchanged(&op, out)
	case op.Err != nil:
		out.Counts.Failed++
		out.note(ObjectChange{Object: op.Object, Op: op.Kind, Origin: op.Item.Origin, Error: op.Err.Error()})
		out.Errors = append(out.Errors, sources.ProblemsOf(op.Err)...)
		if op.Class != "" { // drift that cannot be put back
			w.keep(op)
			w.seeDrift(sighting{op: op, changes: op.Changes, class: op.Class, fate: drift.Retried, next: "cannot be put back, is retried: " + op.Err.Error(), seen: seen}, a)
		}
	case op.heldFirstBy(GateDrift) && op.Held == heldIgnored:
		out.Counts.Unchanged++
		w.keep(op)
	case op.Held != "" && op.drifted():
		w.keep(op)
		w.seeDrift(sighting{op: op, changes: op.Changes, class: op.Class, fate: fateOf(op), next: "stays: " + op.Held, seen: seen}, a)
		out.Counts.Pending++
	case op.heldFirstBy(GateMode):
		out.Counts.Pending++
	case op.Held != "":
		out.Counts.Held++
		out.wait(Waiting{Object: op.Object, Op: op.Kind, Why: op.Held, Gate: op.HeldBy[0]})
	}
}

// outcome accounts for what was carried out.
func (w *worker) outcome(o Outcome, a Assignment, out *Run, seen time.Time) {
	op := o.Operation
	if !o.Noop && o.Deferred == "" {
		out.note(changeOf(o, w.good[op.Object]))
	}
	if o.Err != nil {
		w.breakers.failed(op, o.Err, time.Now())
		out.Counts.Failed++
		out.Errors = append(out.Errors, sources.ProblemsOf(o.Err)...)
		if op.drifted() {
			w.keep(op)
			w.seeDrift(sighting{op: op, changes: o.Changes, class: o.Class, fate: drift.Retried, next: "correction failed, is retried", seen: seen}, a)
		}
		return
	}
	if o.Deferred == "" {
		delete(w.breakers, op.Object)
	}
	switch {
	case o.Deferred != "":
		out.Counts.Held++
		out.wait(Waiting{Object: op.Object, Op: op.Kind, Why: o.Deferred})
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
	case op.drifted():
		out.Counts.Corrected++
		w.corrected(o, a, seen)
	case op.Kind == OpUpdate, op.Kind == OpRecreate:
		out.Counts.Updated++
		w.endDrift(op.Object, drift.Corrected)
	case op.Kind == OpAdopt:
		out.Counts.Adopted++
	}
	if good := w.good[op.Object]; good == nil || good.Digest != op.Item.Digest {
		item := op.Item // which does not keep the operation
		w.good[op.Object] = &item
	}
	if op.Kind != OpCorrect && !o.Noop && w.touched != nil {
		w.touched[op.Object] = true
	}
}

// keep makes a drifted thing one to be looked after, if it is not yet: what it
// drifted from was applied before.
func (w *worker) keep(op Operation) {
	if _, known := w.good[op.Object]; !known {
		item := op.Item
		w.good[op.Object] = &item
	}
}

// share lets what was last applied be the very items that are desired, where they
// are the same, instead of copies.
func (w *worker) share() {
	for i := range w.desired {
		item := &w.desired[i]
		if good := w.good[item.ID]; good != nil && good.Digest == item.Digest {
			w.good[item.ID] = item
		}
	}
}
