package reconciler

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// HealthChanged makes a listener one that is told verdicts.
func (l *listener) HealthChanged(v Verdict) {
	l.note(func() { l.verdicts = append(l.verdicts, v.Revision.ID+" "+string(v.Health)) })
}

func TestVerdictsAreToldOnceForEachDeployment(t *testing.T) {
	withEngine(t, func(b *bench) {
		l := &listener{}
		b.engine.watcher, b.engine.opts.Observer = l, l
		expect := func(what string, want ...string) {
			b.Helper()
			b.pass(0)
			l.note(func() {
				if !slices.Equal(l.verdicts, want) {
					b.Errorf("%s: told %v, want %v", what, l.verdicts, want)
				}
				l.verdicts = nil
			})
		}
		b.assign(b.assignment("r1", thingItem("a", "1")))
		expect("first", "r1 ready")
		b.shelf.put(thing("Thing", "web", "a"), "x")
		b.hint("a")
		expect("drift")
		b.assign(b.assignment("r2", thingItem("a", "1")))
		expect("a revision that changes nothing")
		b.assign(b.assignment("r3", thingItem("a", "2")))
		expect("a change", "r3 ready")
		l.note(func() {
			last := l.ended[len(l.ended)-1]
			if last.Before != "r2" || !last.Deploys() || l.ended[0].Before != "" || !l.ended[0].Deploys() {
				b.Errorf("runs: %+v", l.ended)
			}
		})
	})
}

// follower keeps the traces that it is told of.
type follower struct {
	mu          sync.Mutex
	runs        []RunTrace
	corrections []CorrectionTrace
	settled     []Health
}

func (f *follower) TraceRun(r RunTrace) (string, func(Health, time.Time)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.runs = append(f.runs, r)
	return fmt.Sprint("trace-", len(f.runs)), func(h Health, _ time.Time) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.settled = append(f.settled, h)
	}
}

func (f *follower) TraceCorrection(c CorrectionTrace) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.corrections = append(f.corrections, c)
}

func TestRunsAndCorrectionsAreTraced(t *testing.T) {
	withEngine(t, func(b *bench) {
		f, l := &follower{}, &listener{}
		b.engine.opts.Tracer, b.engine.opts.Observer = f, l
		b.assign(b.assignment("r1", thingItem("a", "1")))
		b.pass(0)
		b.shelf.put(thing("Thing", "web", "a"), "x")
		b.hint("a")
		b.pass(0)
		b.assign(b.assignment("r2", thingItem("a", "1")))
		b.pass(0)
		if len(f.runs) != 2 || len(f.corrections) != 1 || !slices.Equal(f.settled, []Health{HealthReady, ""}) {
			b.Fatalf("runs %+v, corrections %+v, settled %v", f.runs, f.corrections, f.settled)
		}
		var phases []string
		for _, p := range f.runs[0].Phases {
			phases = append(phases, p.Name)
			if p.Ended.Before(p.Began) || p.Failed {
				b.Errorf("%+v", p)
			}
		}
		if !slices.Equal(phases, []string{"wait for turn", "render", "compare", "plan", "apply"}) || len(f.runs[0].Objects) != 1 || f.runs[0].Run.ID == "" || f.runs[0].Origin.Asked.IsZero() {
			b.Errorf("%v of %+v", phases, f.runs[0])
		}
		if c := f.corrections[0]; c.Environment != "prod" || c.Counts.Corrected != 1 || len(c.Objects) != 1 || c.Read.Before(c.Began) || c.Began.Before(c.Sensed) {
			b.Errorf("%+v", c)
		}
		l.note(func() {
			if l.ended[0].Trace != "trace-1" || l.ended[1].Trace != "trace-2" {
				b.Errorf("runs name %q and %q", l.ended[0].Trace, l.ended[1].Trace)
			}
		})
		if s, _ := b.engine.Environment("prod"); s.LastRun.Trace != "trace-2" {
			b.Errorf("the status names %q", s.LastRun.Trace)
		}
	})
}

func TestNotTracingCostsNothing(t *testing.T) {
	w := &worker{engine: &Engine{}}
	out, o := Run{}, Outcome{}
	if n := testing.AllocsPerRun(100, func() {
		w.recording = w.recorder()
		began := w.recording.now()
		w.recording.phase("compare", began, nil)
		w.recording.object(o)
		w.traceCorrection("near", began, began, began, &out, w.recording)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
