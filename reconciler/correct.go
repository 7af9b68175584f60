package reconciler

import (
	"context"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// correct looks at the hinted things and puts back what drifted. What was last
// applied is the measure, so that a broken head does not stop it.
func (w *worker) correct(ctx context.Context, hints map[sources.ID]Hint) {
	a, ok := w.assignment()
	if !ok || a.Spec.Drift.Mode == environment.DriftIgnore && a.Spec.Mode != environment.ModePlan {
		return
	}
	driver := w.engine.opts.Drivers[a.Spec.Target]
	var want []sources.Item
	seen := time.Now()
	for id, h := range hints {
		if timer := w.later[id]; timer != nil {
			timer.Stop()
			delete(w.later, id)
		}
		item, known := w.good[id]
		if !known || !w.cool(id, h) {
			continue
		}
		want = append(want, item)
		if h.Seen.Before(seen) {
			seen = h.Seen
		}
	}
	if driver == nil || len(want) == 0 || standsBy(driver) != nil {
		return
	}
	w.recording = w.recorder()
	defer func() { w.recording = nil }()
	began := w.recording.now()
	c, err := w.choose(ctx, driver, a, Trigger{})
	var ops []Operation
	if err == nil {
		ops, err = w.compare(ctx, driver, a, want, Scope{Partial: true, ReadOnly: c.readOnly() || w.fights.any()})
	}
	if err != nil {
		w.log.Error().Err(err).Msg("drift could not be examined")
		w.again(hints)
		return
	}
	policy := w.policy(a, "")
	policy.Partial, policy.Gates = true, c.gates
	policy.Accepted, _ = c.state.accepted(time.Now())
	out, read := Run{}, w.recording.now()
	w.carryOut(ctx, driver, a, NewPlan(ops, policy), &out, seen)
	w.traceCorrection(a.Spec.Target, seen, began, read, &out, w.recording)
	w.scrub(&out)
	if len(out.Errors) > 0 && ctx.Err() == nil {
		w.log.Error().Err(out.Errors).Msg("drift could not be corrected")
		w.again(hints)
		return
	}
	w.misses = 0
}

// again asks for another look after a failure, not at once.
func (w *worker) again(hints map[sources.ID]Hint) {
	w.misses++
	for _, h := range hints {
		w.delay(h, min(time.Second<<min(w.misses, 8), 5*time.Minute))
	}
}

// delay lets a hint come back later. There is one such for each thing, so that
// retries do not multiply.
func (w *worker) delay(h Hint, wait time.Duration) {
	if timer := w.later[h.Object]; timer != nil {
		timer.Stop()
	}
	w.later[h.Object] = time.AfterFunc(wait, func() { w.box.hint(h) })
}

// heat counts how often a thing was corrected lately: another writer that never
// gives up must not make us write for ever at full speed.
type heat struct {
	count int
	last  time.Time
}

// Corrections beyond heatFree within heatDecay of each other are delayed, from
// one second up to heatMax.
const (
	heatFree  = 5
	heatDecay = time.Minute
	heatMax   = 5 * time.Minute
)

// cool reports whether a thing may be corrected now; otherwise it comes back
// later by itself.
func (w *worker) cool(id sources.ID, h Hint) bool {
	k := w.heat[id]
	if k == nil || k.count <= heatFree {
		return true
	}
	wait := min(time.Second<<min(k.count-heatFree-1, 9), heatMax)
	since := time.Since(k.last)
	if since < wait {
		w.delay(h, wait-since)
	}
	return since >= wait
}

func (w *worker) heatUp(id sources.ID) {
	k := w.heat[id]
	if k == nil || time.Since(k.last) > k.memory() {
		k = &heat{}
		w.heat[id] = k
	}
	k.count++
	k.last = time.Now()
	if k.count == heatFree+1 {
		w.log.Warn().Str("object", id.String()).Msg("corrected again and again; slowing down")
	}
}

// memory is how long a thing must stay quiet to be forgiven: longer than the
// delay it has earned.
func (k *heat) memory() time.Duration {
	if k.count > heatFree {
		return 2 * heatMax
	}
	return heatDecay
}

// corrected records a drift that was put back.
func (w *worker) corrected(o Outcome, a Assignment, seen time.Time) {
	if o.Class == "" {
		return
	}
	w.seeDrift(sighting{op: o.Operation, changes: o.Changes, class: o.Class, fate: drift.Reverts, next: "reverts now", seen: seen}, a)
	if o.Persists {
		w.endDrift(o.Operation.Object, drift.Persists)
		return
	}
	w.heatUp(o.Operation.Object)
	for _, c := range w.fights.note(o.Operation.Object, o.Changes, time.Now()) {
		w.log.Warn().Str("object", o.Operation.Object.String()).Str("field", c.Path).Str("manager", c.Manager).
			Msg(w.fights.why(o.Operation.Object, c.Path))
	}
	w.mu.Lock()
	w.fixed++
	w.mu.Unlock()
	w.endDrift(o.Operation.Object, drift.Corrected)
}

func (w *worker) endDrift(id sources.ID, how drift.State) {
	episode, ok := w.engine.book.End(w.name, id, how, time.Now())
	if ok {
		w.tell()
	}
	o := w.engine.opts.Observer
	switch {
	case !ok || o == nil:
	case how == drift.Persists: // which is no end
		o.DriftChanged(episode)
	default:
		o.DriftEnded(episode)
	}
}
