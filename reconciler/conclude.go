package reconciler

import (
	"errors"
	"slices"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

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
	if out.Result == Failed || out.Result == Partial {
		w.failures++
	} else {
		w.failures = 0
	}
	defer w.tell()
	w.mu.Lock()
	defer w.mu.Unlock()
	known := out.Result != Failed && !w.standby
	if w.applied.ID != out.Revision.ID {
		out.Before = w.applied.ID
	}
	if out.Deploys() {
		w.told = "" // how this works is told, even if it works like the one before
	}
	last := *out
	w.failed = failedChanges(out.Changes)
	last.Changes = nil // who wants them asks for the run
	w.running, w.last, w.held = nil, &last, waitingGates(out.Waiting)
	if len(out.Changes) > 0 {
		w.health = HealthProgressing // until it was looked at anew
	}
	w.problems[problemRun] = problems
	w.objects, w.items, w.order = len(w.desired), w.desired, nil
	if known {
		w.compared = true
		w.pending = out.Counts.Held + out.Counts.Pending
	}
	if w.settled.ID != "" {
		w.applied, w.settled = w.settled, sources.Revision{}
	} else if out.Result == Applied || out.Result == Unchanged && out.Counts.Pending == 0 {
		w.applied = out.Revision
	}
}

// failedChanges are those of a run that it could not make, the correction of
// drift aside.
func failedChanges(all []ObjectChange) []ObjectChange {
	var out []ObjectChange
	for _, c := range all {
		if c.Error != "" && (c.Op == OpCreate || c.Op == OpUpdate || c.Op == OpRecreate) {
			out = append(out, c)
		}
	}
	return out
}

// waitingGates are the gates that hold single operations back: deletions, as a
// rule. What the environment's own gates hold is told by those.
func waitingGates(waiting []Waiting) []Gate {
	var out []Gate
	for _, wait := range waiting {
		if wait.Gate != "" && !slices.ContainsFunc(out, func(g Gate) bool { return g.Why == wait.Why }) {
			out = append(out, Gate{Kind: wait.Gate, Why: wait.Why})
		}
	}
	return out
}

// noteStandby keeps whether another daemon writes to the target, and says so.
func (w *worker) noteStandby(g *Gate) bool {
	defer w.tell()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.standby = g != nil
	if g != nil {
		w.gates = []Gate{*g}
	}
	return w.standby
}

// noteGates keeps what is active for the status, and looks again when one of
// them may end by itself.
func (w *worker) noteGates(c choice) {
	gates := slices.Clone(c.gates)
	if c.a.Spec.Mode == environment.ModePlan {
		gates = append(gates, Gate{Kind: GateMode, Why: "mode plan: nothing is written"})
	}
	w.wake.Stop()
	if !c.wake.IsZero() {
		w.wake = time.AfterFunc(time.Until(c.wake)+time.Second, func() {
			w.post(Trigger{Reason: ReasonTimer, Actor: "a gate that ended"})
		})
	}
	defer w.tell()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gates, w.pinned, w.decided = sortGates(gates), c.state.pinned(time.Now()) != nil, c.state.decided()
}

// finish publishes a run's end to all that wait.
func (w *worker) finish(h *handle, out Run) {
	w.engine.mu.Lock()
	out.ID, out.Environment, out.Trigger = h.run.ID, w.name, h.run.Trigger
	h.run = out
	w.engine.keepChanges(h)
	w.engine.mu.Unlock()
	close(h.done)
	if w.accepted != nil {
		w.accepted()
		w.accepted = nil
	}
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
	if r.Trace != "" {
		event = event.Str("trace", r.Trace)
	}
	event.Str("run", r.ID).Str("result", string(r.Result)).Str("revision", r.Revision.Short()).
		Stringer("reason", r.Trigger.Reason).Str("actor", r.Trigger.Actor).
		Int("created", r.Counts.Created).Int("updated", r.Counts.Updated).Int("corrected", r.Counts.Corrected).
		Int("deleted", r.Counts.Deleted).Int("unchanged", r.Counts.Unchanged).Int("failed", r.Counts.Failed).
		Float64("seconds", r.Seconds).Msg("run ended")
}
