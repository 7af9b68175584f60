package reconciler

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// Assignment is what an environment's worker is to bring about.
type Assignment struct {
	Spec     environment.Spec
	Source   string
	Revision sources.Revision
	Reach    Reach
	// Identity, when not empty, is who writes: a service account that the source
	// was granted.
	Identity string
	// Render makes the items. It may be called more than once and must be cheap
	// when nothing changed.
	Render func(context.Context) ([]sources.Item, error)
	// Problem, when not nil, is why the spec at Revision cannot be used; what
	// was last good stays in force.
	Problem error
	// Trouble is why nothing newer can be had of where the files lie, when that is
	// another source or ref than the spec's. The assignment counts nevertheless.
	Trouble sources.Problems
}

// Observer is told what happens, for metrics and the record of it. Its methods
// must not block; RunEnded may, for a moment.
type Observer interface {
	RunEnded(Run)
	// DriftSeen tells of a new episode, and how long it took from the first sign
	// to knowing it.
	DriftSeen(drift.Episode, time.Duration)
	// DriftChanged tells of an open episode that was seen again, or that moved to
	// another state without ending.
	DriftChanged(drift.Episode)
	DriftEnded(drift.Episode)
}

// Options are what an engine needs.
type Options struct {
	// Drivers are the targets by name.
	Drivers map[string]Driver
	// Refresh asks a source's remote now, and assigns what moved before it
	// returns.
	Refresh func(ctx context.Context, source string) error
	// At is an environment's assignment at an older revision of its source; nil
	// where none can be had.
	At       func(ctx context.Context, source, environment, revision string) (Assignment, error)
	Observer Observer
	// Tracer follows runs and corrections; nil, as is usual, does not.
	Tracer Tracer
	Log    zerolog.Logger
	// Book keeps the episodes; nil for a new one.
	Book *drift.Book
	// Timeouts of a run's phases; zero has a default.
	RenderTimeout, CompareTimeout, ApplyTimeout time.Duration
	// Scrub takes out of a text what must not be shown, such as values that were
	// decrypted; nil leaves texts as they are.
	Scrub func(string) string
	// Version is that of the program. Where it is known, an environment whose
	// inputs render to something else than under the version before waits.
	Version string
	// Runs bounds how many environments are rendered, compared and applied at the
	// same time. Default: 8.
	Runs int
	// Reach is what a source was granted in a target, for environments that have
	// left it.
	Reach func(source, target string) Reach
}

// keepRuns bounds how many ended runs can still be asked for.
const keepRuns = 2000

// Engine holds the workers. Create it with New, then Run it.
type Engine struct {
	opts Options
	book *drift.Book
	// slots bounds the runs under way.
	slots *slots
	turns turns
	// watcher is the observer, if it wants to know more; else nil.
	watcher Watcher
	// start hands new workers to Run.
	start chan *worker

	mu      sync.Mutex
	workers map[string]*worker
	runs    map[string]*handle
	order   []string
	resync  []*handle
	// detailed are the newest runs, whose changes are kept.
	detailed []*handle
	// sources holds what is wrong with each source now.
	sources map[string]sources.Problems
}

// New makes an engine; nothing runs before Run.
func New(o Options) *Engine {
	o.RenderTimeout = cmp.Or(o.RenderTimeout, 2*time.Minute)
	o.CompareTimeout = cmp.Or(o.CompareTimeout, 5*time.Minute)
	o.ApplyTimeout = cmp.Or(o.ApplyTimeout, 10*time.Minute)
	o.Runs = cmp.Or(o.Runs, 8)
	if o.Book == nil {
		o.Book = drift.NewBook()
	}
	watcher, _ := o.Observer.(Watcher)
	return &Engine{
		watcher: watcher,
		opts:    o, book: o.Book, slots: newSlots(o.Runs), turns: turns{groups: map[string]map[string]turn{}}, start: make(chan *worker),
		workers: map[string]*worker{}, runs: map[string]*handle{}, sources: map[string]sources.Problems{},
	}
}

// Run keeps one goroutine per environment until ctx ends, then waits for them.
func (e *Engine) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case w := <-e.start:
			all.Go(func() { w.loop(ctx) })
		}
	}
}

// ErrSuperseded is what an assignment's Render returns when a newer assignment
// has taken its place: the run goes on with that one.
var ErrSuperseded = errors.New("a newer revision has taken its place")

// Assign replaces what a source's environments are to be. Environments that the
// source no longer names are marked as removed; their objects stay. When the
// source is not complete, because a spec cannot even be named, none is.
func (e *Engine) Assign(ctx context.Context, source string, all []Assignment, complete bool, t Trigger) {
	named := map[string]bool{}
	started := map[*worker]bool{}
	var moved []*worker
	// All are assigned before the first one runs: what leaves one environment may
	// be what another takes over.
	for _, a := range all {
		named[a.Spec.Name] = true
		w, fresh := e.worker(a)
		if w == nil {
			continue
		}
		if w.assign(a) || fresh {
			moved, started[w] = append(moved, w), fresh
		}
	}
	for _, w := range moved {
		w.post(t)
		fresh := started[w]
		if fresh {
			e.begin(ctx, w)
		}
	}
	for _, w := range e.bySource(source) {
		if complete && !named[w.name] {
			w.remove()
		}
	}
	if complete {
		e.findLeft(ctx, source, func(w *worker) {
			w.log.Warn().Msg("environment has no spec in git any more")
			e.begin(ctx, w)
			w.post(Trigger{Reason: ReasonPoll, Actor: "the spec left git"})
		})
	}
}

// begin hands a new worker to Run.
func (e *Engine) begin(ctx context.Context, w *worker) {
	select {
	case e.start <- w:
	case <-ctx.Done():
	}
}

// worker finds or makes the worker for an assignment. A name that another source
// holds is refused, and both are told.
func (e *Engine) worker(a Assignment) (w *worker, fresh bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if w = e.workers[a.Spec.Name]; w == nil {
		w = newWorker(e, a)
		e.workers[a.Spec.Name] = w
		return w, true
	}
	if owner := w.source(); owner != a.Source && !w.isRemoved() {
		w.report(problemClash, sources.Problem{
			File: a.Spec.File, Line: a.Spec.Line, Object: "Environment/" + a.Spec.Name,
			Message: fmt.Sprintf("sources %q and %q both have an environment of this name", owner, a.Source),
			Hint:    "names are unique in a daemon: rename one of them",
		})
		return nil, false
	}
	return w, false
}

func (e *Engine) bySource(source string) []*worker {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []*worker
	for _, w := range e.workers {
		if w.source() == source {
			out = append(out, w)
		}
	}
	return out
}

// SourceState tells a source's environments how the last look at it went; a nil
// error clears what was said before.
func (e *Engine) SourceState(source string, err error) {
	e.mu.Lock()
	if err == nil {
		delete(e.sources, source)
	} else {
		e.sources[source] = sources.ProblemsOf(err)
	}
	e.mu.Unlock()
	for _, w := range e.bySource(source) {
		w.report(problemSource, sources.ProblemsOf(err)...)
	}
}

// SourceProblems is what is wrong with each source now; those without problems
// are left out. A source that could never be read has no environment to show it.
func (e *Engine) SourceProblems() map[string]sources.Problems {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.sources)
}

// Hint passes a driver's hint to the environment's worker.
func (e *Engine) Hint(h Hint) {
	e.mu.Lock()
	w := e.workers[h.Environment]
	e.mu.Unlock()
	if w != nil {
		w.box.hint(h)
	}
}

// Environments are all environments by name.
func (e *Engine) Environments() []Status {
	e.mu.Lock()
	workers := slices.Collect(maps.Values(e.workers))
	e.mu.Unlock()
	out := make([]Status, 0, len(workers))
	for _, w := range workers {
		out = append(out, w.status())
	}
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Environment is one environment's status.
func (e *Engine) Environment(name string) (Status, bool) {
	e.mu.Lock()
	w := e.workers[name]
	e.mu.Unlock()
	if w == nil {
		return Status{}, false
	}
	return w.status(), true
}

// Drift is what drifted, and of which environments nothing can be said.
func (e *Engine) Drift(f Filter) Report {
	r := Report{At: time.Now()}
	r.Episodes = e.book.List(func(d *drift.Episode) bool {
		return (f.Environment == "" || d.Environment == f.Environment) &&
			(!f.OpenOnly || d.Ended.IsZero()) && !d.LastSeen.Before(f.Since)
	})
	for _, w := range e.all() {
		if f.Environment == "" || w.name == f.Environment {
			w.addTo(&r)
		}
	}
	return r.Summed()
}

func unsure(s Status) string {
	switch {
	case s.Sync == SyncRemoved:
		return "its spec left git, so that nobody looks"
	case s.Sync == SyncStale && s.Compared && !s.AsOf.IsZero():
		return "its target has not been heard of since " + s.AsOf.UTC().Format(time.RFC3339)
	case !s.Compared && len(s.Errors) > 0:
		return "it could not be compared: " + s.Errors[0].Error()
	case !s.Compared:
		return "not compared yet"
	}
	return ""
}

// Resync asks for a run of the named environments, or of all, and returns the
// receipts: runs that are pending, to be waited for.
func (e *Engine) Resync(names []string, t Trigger) ([]Run, error) {
	workers, err := e.named(names)
	if err != nil {
		return nil, err
	}
	t.Fetch = true
	handles := make([]*handle, 0, len(workers))
	out := make([]Run, 0, len(workers))
	for _, w := range workers {
		h := w.post(t)
		handles = append(handles, h)
		out = append(out, e.snapshot(h))
	}
	e.mu.Lock()
	e.resync = handles
	e.mu.Unlock()
	return out, nil
}

func (e *Engine) named(names []string) ([]*worker, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	known := slices.Sorted(maps.Keys(e.workers))
	if names == nil {
		names = known
	}
	var out []*worker
	for _, name := range names {
		w := e.workers[name]
		if w == nil {
			return nil, fmt.Errorf("no environment %q; there are: %s", name, strings.Join(known, ", "))
		}
		out = append(out, w)
	}
	return out, nil
}

// LastResync is the newest resync's receipts.
func (e *Engine) LastResync() []Run {
	e.mu.Lock()
	handles := e.resync
	e.mu.Unlock()
	out := make([]Run, 0, len(handles))
	for _, h := range handles {
		out = append(out, e.snapshot(h))
	}
	return out
}

// Wait returns a run when it has ended, or as it is when ctx ends.
func (e *Engine) Wait(ctx context.Context, id string) (Run, error) {
	e.mu.Lock()
	h := e.runs[id]
	e.mu.Unlock()
	if h == nil {
		return Run{}, fmt.Errorf("no run %q: it is unknown, or too long ago", id)
	}
	select {
	case <-h.done:
	case <-ctx.Done():
	}
	return e.snapshot(h), nil
}

// snapshot copies a run whose worker may be writing it.
func (e *Engine) snapshot(h *handle) Run {
	e.mu.Lock()
	defer e.mu.Unlock()
	return h.run
}

// newHandle registers a pending run.
func (e *Engine) newHandle(environment string, t Trigger) *handle {
	h := &handle{run: Run{ID: newRunID(), Environment: environment, Trigger: t, Result: Pending}, done: make(chan struct{})}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.runs[h.run.ID] = h
	e.order = append(e.order, h.run.ID)
	for len(e.order) > keepRuns {
		delete(e.runs, e.order[0])
		e.order = e.order[1:]
	}
	return h
}

func newRunID() string {
	var b [6]byte
	rand.Read(b[:]) // never fails, says its documentation
	return "run-" + hex.EncodeToString(b[:])
}
