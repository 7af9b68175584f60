package reconciler

import (
	"context"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// maxFlights bounds how many corrections are under way at once, each of one or more
// things. What is hinted at beyond that waits, and then goes together.
const maxFlights = 8

// flight is a look at some things that were hinted at, and their correction. It goes
// on beside the worker's goroutine, so that a thing that takes long keeps no other
// waiting; everything it finds is accounted for on that goroutine, and no run begins
// before all have landed.
type flight struct {
	driver Driver
	a      Assignment
	hints  map[sources.ID]Hint
	want   []sources.Item
	choice choice
	// seen is when the first of them was hinted at.
	seen, began, read time.Time
	recording         *recorder
	out               Run
}

// correct looks at the hinted things and puts back what drifted. What was last
// applied is the measure, so that a broken head does not stop it. It returns at
// once; land waits for the end.
func (w *worker) correct(ctx context.Context, hints map[sources.ID]Hint) {
	a, ok := w.assignment()
	if !ok || a.Spec.Drift.Mode == environment.DriftIgnore && a.Spec.Mode != environment.ModePlan {
		return
	}
	f := &flight{driver: w.engine.opts.Drivers[a.Spec.Target], a: a, hints: hints, seen: time.Now(), recording: w.recorder()}
	w.pack(f)
	if f.driver == nil || len(f.want) == 0 || standsBy(f.driver) != nil {
		return
	}
	f.began = f.recording.now()
	var err error
	if f.choice, err = w.choose(ctx, f.driver, a, Trigger{}); err != nil {
		w.log.Error().Err(err).Msg("drift could not be examined")
		w.again(f.hints)
		return
	}
	scope := w.scope(a, Scope{Partial: true, ReadOnly: f.choice.readOnly() || w.fights.any()})
	for i := range f.want {
		w.flying[f.want[i].ID] = nil
	}
	w.flights++
	go func() {
		ops, err := w.look(ctx, f.driver, a, f.want, scope)
		w.box.land(func() { w.looked(ctx, f, ops, err) })
	}()
}

// pack chooses what to look at among the hints. What is in the air already is looked
// at again afterwards, and what gets too hot later.
func (w *worker) pack(f *flight) {
	for id, h := range f.hints {
		if _, flying := w.flying[id]; flying {
			w.flying[id] = &h
			delete(f.hints, id)
			continue
		}
		if timer := w.later[id]; timer != nil {
			timer.Stop()
			delete(w.later, id)
		}
		item, known := w.good[id]
		if !known || !w.cool(id, h) {
			continue
		}
		f.want = append(f.want, *item)
		if h.Seen.Before(f.seen) {
			f.seen = h.Seen
		}
	}
}

// looked plans what was found to differ, and sends that off.
func (w *worker) looked(ctx context.Context, f *flight, ops []Operation, err error) {
	if err != nil {
		w.log.Error().Err(err).Msg("drift could not be examined")
		w.again(f.hints)
		w.landed(f)
		return
	}
	policy := w.policy(f.a, "")
	policy.Partial, policy.Gates = true, f.choice.gates
	policy.Accepted, _ = f.choice.state.accepted(time.Now())
	f.read = f.recording.now()
	plan := NewPlan(ops, policy)
	w.countAllIdle(plan, f.a, &f.out, f.seen)
	if len(plan.Active()) == 0 {
		w.corrections(ctx, f, nil)
		return
	}
	w.noteBefore(plan)
	go func() {
		err := w.apply(ctx, f.driver, f.a, plan, func(o Outcome) {
			w.box.land(func() {
				f.recording.object(o)
				w.outcome(o, f.a, &f.out, f.seen)
			})
		})
		w.box.land(func() { w.corrections(ctx, f, err) })
	}()
}

// corrections accounts for a flight as a whole.
func (w *worker) corrections(ctx context.Context, f *flight, err error) {
	defer w.landed(f)
	if err != nil {
		f.out.Errors = append(f.out.Errors, sources.ProblemsOf(err)...)
	}
	w.traceCorrection(f.a.Spec.Target, f.seen, f.began, f.read, &f.out, f.recording)
	w.scrub(&f.out)
	if len(f.out.Errors) > 0 && ctx.Err() == nil {
		w.log.Error().Err(f.out.Errors).Msg("drift could not be corrected")
		w.again(f.hints)
		return
	}
	w.misses = 0
}

// landed ends a flight. What was hinted at meanwhile gets its look.
func (w *worker) landed(f *flight) {
	w.flights--
	for i := range f.want {
		id := f.want[i].ID
		if h := w.flying[id]; h != nil {
			w.box.hint(*h)
		}
		delete(w.flying, id)
	}
	w.box.signal() // hints may have waited for room
}

// land waits until no flight is in the air. They end with the context that they
// began with.
func (w *worker) land() {
	for w.flights > 0 {
		<-w.box.wake
		w.account()
	}
	w.box.signal() // for what else woke us
}

// account takes in what flights found.
func (w *worker) account() {
	for _, landing := range w.box.takeLandings() {
		landing()
	}
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
