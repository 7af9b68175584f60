package reconciler

import (
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
)

// Origin is where a trigger comes from in the eyes of whoever follows runs from
// their cause to their effect.
type Origin struct {
	// Parent is the traceparent of who asked, empty if there is none.
	Parent string
	// Asked is when, Fetched and FetchEnded the look at the source that followed.
	Asked, Fetched, FetchEnded time.Time
}

// Tracer is told what runs and corrections were made of, when they have ended. It
// must not wait.
type Tracer interface {
	// TraceRun returns the trace's id, empty if nothing is kept of it, and what is to be
	// called once when it is known how what was applied works; nil if nobody wants
	// to know.
	TraceRun(RunTrace) (id string, settled func(Health, time.Time))
	TraceCorrection(CorrectionTrace)
}

// Phase is one part of a run.
type Phase struct {
	Name         string
	Began, Ended time.Time
	Failed       bool
}

// Touched is what became of one object.
type Touched struct {
	Object sources.ID
	Op     OpKind
	At     time.Time
	Failed bool
}

// maxTouched bounds the objects that a trace names.
const maxTouched = 100

// RunTrace is what a run was made of.
type RunTrace struct {
	Run     Run
	Target  string
	Origin  Origin
	Phases  []Phase
	Objects []Touched
}

// CorrectionTrace is what the correction of drift was made of: it was sensed,
// examined from Began, known at Read, and over at Ended.
type CorrectionTrace struct {
	Environment, Target        string
	Sensed, Began, Read, Ended time.Time
	Counts                     Counts
	Objects                    []Touched
}

// recorder collects the trace of a run. All of it does nothing on nil, which is
// what it is while nobody follows.
type recorder struct {
	phases  []Phase
	objects []Touched
}

// now is the time, or none where nobody wants to know.
func (r *recorder) now() time.Time {
	if r == nil {
		return time.Time{}
	}
	return time.Now()
}

// phase adds one that began at a time and ends now.
func (r *recorder) phase(name string, began time.Time, err error) {
	if r != nil {
		r.phases = append(r.phases, Phase{Name: name, Began: began, Ended: time.Now(), Failed: err != nil})
	}
}

func (r *recorder) object(o Outcome) {
	if r != nil && len(r.objects) < maxTouched && !o.Noop && o.Deferred == "" {
		r.objects = append(r.objects, Touched{Object: o.Operation.Object, Op: o.Operation.Kind, At: time.Now(), Failed: o.Err != nil})
	}
}

// traceRun hands a run's trace on. What the run before is still waiting for is
// overtaken, if this one applied something.
func (w *worker) traceRun(out *Run, asked Run) {
	t, r := w.engine.opts.Tracer, w.recording
	w.recording = nil
	if t == nil || r == nil {
		return
	}
	origin := Origin{Asked: out.Started}
	if asked.Trigger.Origin != nil {
		origin = *asked.Trigger.Origin
	}
	run := *out
	run.ID, run.Environment, run.Trigger = asked.ID, asked.Environment, asked.Trigger
	w.mu.Lock()
	target := w.assigned.Spec.Target
	w.mu.Unlock()
	if out.Deploys() {
		w.settleTrace(HealthUnknown, out.Finished)
	}
	id, settled := t.TraceRun(RunTrace{Run: run, Target: target, Origin: origin, Phases: r.phases, Objects: r.objects})
	out.Trace = id
	switch {
	case settled == nil:
	case out.Deploys():
		w.traced = settled
	default: // there is nothing to wait for
		settled("", out.Finished)
	}
}

// settleTrace ends the trace of the last run that applied something.
func (w *worker) settleTrace(h Health, at time.Time) {
	if w.traced != nil {
		w.traced(h, at)
		w.traced = nil
	}
}

// traceCorrection hands the trace of a correction on, if there was one.
func (w *worker) traceCorrection(target string, sensed, began, read time.Time, out *Run, r *recorder) {
	t := w.engine.opts.Tracer
	if t == nil || r == nil || len(r.objects) == 0 {
		return
	}
	t.TraceCorrection(CorrectionTrace{
		Environment: w.name, Target: target, Sensed: sensed, Began: began, Read: read, Ended: time.Now(), Counts: out.Counts, Objects: r.objects,
	})
}

// recorder is nil while nobody follows.
func (w *worker) recorder() *recorder {
	if w.engine.opts.Tracer == nil {
		return nil
	}
	return &recorder{}
}
