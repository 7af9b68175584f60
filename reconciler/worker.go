package reconciler

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/holdfast-gitops/holdfast/drift/severity"
	"github.com/holdfast-gitops/holdfast/sources"
)

// problemKind says where an environment's problem comes from, so that each kind
// is cleared by what mends it.
type problemKind int

const (
	problemSource problemKind = iota
	problemSpec
	problemContent
	problemClash
	problemRun
	problemKinds
)

// worker is the only writer of one environment's objects. The fields below mu
// are shared; those above belong to its goroutine.
type worker struct {
	engine *Engine
	name   string
	log    zerolog.Logger
	box    *mailbox

	// good is what was last applied successfully, by thing: what drift is
	// corrected to, also when head is broken.
	good map[sources.ID]*sources.Item
	// desired is the newest successful render, and rendered its revision.
	desired  []sources.Item
	rendered string
	heat     map[sources.ID]*heat
	// later holds the one hint of each thing that is to come back.
	later map[sources.ID]*time.Timer
	// flights are how many corrections are in the air, and flying what they are about,
	// with what was hinted at since, if anything.
	flights int
	flying  map[sources.ID]*Hint
	// fights are the fields that are corrected again and again.
	fights fights
	// grader says how bad a drift is.
	grader *severity.Grader
	// settled is an older revision that is in force in full, while head waits.
	settled sources.Revision
	// acceptLater: the accepted revision could not be noted yet.
	acceptLater bool
	// quiet: the last comparison found nothing to do, and was accounted for.
	quiet bool
	// breakers are the things that fail again and again.
	breakers breakers
	// warned are the holds whose coming end was told.
	warned map[string]bool
	// failures counts runs, and misses corrections, that failed in a row.
	failures int
	misses   int
	// older is the last assignment at an older revision that was asked for.
	older Assignment
	// wake posts a run when a gate may have ended.
	wake *time.Timer
	// accepted notes the accepted revision, once those that wait for the run have
	// their answer.
	accepted func()
	// touched are the things that the last run which wrote anything wrote to, until
	// all was ready since.
	touched map[sources.ID]bool
	// recording is the trace of the run under way, and traced ends that of the last
	// that applied something; nil while nobody follows.
	recording *recorder
	traced    func(Health, time.Time)
	// told is the verdict that was told last.
	told Health
	// gone: nothing of the environment is left, and the loop ends.
	gone bool

	mu       sync.Mutex
	assigned Assignment
	// head is the newest revision, also when its spec is broken and an older
	// one stays assigned.
	head sources.Revision
	// usable is false until a first spec without problems was assigned.
	usable   bool
	removed  bool
	problems [problemKinds]sources.Problems
	running  *Run
	last     *Run
	applied  sources.Revision
	objects  int
	// items are those that the last run wanted, and order is orderOf them, made
	// when somebody asks.
	items    []sources.Item
	order    []int32
	compared bool
	pending  int
	// failed are the changes that the last run could not make.
	failed []ObjectChange
	held   []Gate
	// gates are those of the environment as a whole; held those of single
	// operations.
	gates  []Gate
	pinned bool
	// readySince is from when on it has been ready, zero while it is not; unready
	// says what for. driftAt is when drift was last open.
	readySince, driftAt time.Time
	unready             string
	// health is the verdict, and verdict closed when there is a new one. readyAt,
	// unreadyAt and failedAt are the revisions that it was about, waiting what is
	// waited for, and deadline when that takes too long.
	health                       Health
	verdict                      chan struct{}
	readyAt, unreadyAt, failedAt string
	// readyRevision is the one that readySince is about; proofs are those before.
	readyRevision sources.Revision
	proofs        []proof
	unreadySince  time.Time
	waiting       []Unready
	deadline      *time.Timer
	// standby: the last run found that another daemon has the lease.
	standby bool
	// decided is what of the state the last run saw.
	decided string
	// wanted is what was asked for when the environment was last planned, planned
	// the revision of that, and moving says that deletes wait for the plans of
	// others.
	wanted  []sources.Item
	planned string
	deletes int
	moving  bool
	fixed   int
}

func newWorker(e *Engine, a Assignment) *worker {
	return &worker{
		engine: e, name: a.Spec.Name, box: newMailbox(&e.mu),
		log:  e.opts.Log.With().Str("environment", a.Spec.Name).Logger(),
		good: map[sources.ID]*sources.Item{}, heat: map[sources.ID]*heat{},
		later: map[sources.ID]*time.Timer{}, flying: map[sources.ID]*Hint{}, fights: fights{}, breakers: breakers{}, warned: map[string]bool{}, wake: stopped(), deadline: stopped(), verdict: make(chan struct{}),
		health: HealthUnknown, touched: map[sources.ID]bool{},
		assigned: Assignment{Source: a.Source, Spec: a.Spec},
	}
}

// stopped is a timer that does nothing.
func stopped() *time.Timer {
	t := time.AfterFunc(time.Hour, func() {})
	t.Stop()
	return t
}

// assign takes a new assignment in and reports whether a run is called for. A
// broken spec changes nothing but what is reported.
func (w *worker) assign(a Assignment) bool {
	defer w.tell()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.problems[problemSpec] = sources.ProblemsOf(a.Problem)
	w.problems[problemClash], w.problems[problemContent] = nil, a.Trouble
	w.removed = false
	w.head = a.Revision
	if a.Problem != nil {
		w.assigned.Source = a.Source
		return false
	}
	same := w.usable && w.assigned.Revision.ID == a.Revision.ID && w.assigned.Spec.Equal(a.Spec) &&
		w.assigned.Reach.equal(a.Reach)
	if old := w.assigned.Spec.Rollout; old != nil && (a.Spec.Rollout == nil || a.Spec.Rollout.Group != old.Group) {
		w.engine.turns.done(old.Group, w.name)
	}
	w.assigned, w.usable = a, true
	return !same
}

func (r Reach) equal(other Reach) bool {
	return r.Cluster == other.Cluster && slices.Equal(r.Namespaces, other.Namespaces)
}

func (w *worker) assignment() (Assignment, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.assigned, w.usable && !w.removed
}

// specProblems are what is wrong with the spec at head.
func (w *worker) specProblems() sources.Problems {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.problems[problemSpec]
}

func (w *worker) source() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.assigned.Source
}

func (w *worker) isRemoved() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.removed
}

func (w *worker) remove() {
	w.mu.Lock()
	was := w.removed
	w.removed = true
	w.mu.Unlock()
	if !was {
		if group := w.rolloutGroup(); group != "" {
			w.engine.turns.done(group, w.name)
		}
		w.log.Warn().Msg("environment left its source")
		w.post(Trigger{Reason: ReasonPoll, Actor: "the spec left git"})
	}
}

func (w *worker) report(kind problemKind, problems ...sources.Problem) {
	w.mu.Lock()
	news := len(problems)+len(w.problems[kind]) > 0
	w.problems[kind] = problems
	w.mu.Unlock()
	if news {
		w.tell()
	}
}

// post asks the worker for a run.
func (w *worker) post(t Trigger) *handle {
	defer w.tell()
	if w.engine.opts.Tracer != nil && t.Origin == nil {
		t.Origin = &Origin{Asked: time.Now()}
	}
	return w.box.post(t, func(t Trigger) *handle { return w.engine.newHandle(w.name, t) })
}

// loop serves the mailbox until ctx ends. Runs and corrections share it, so the
// environment has one writer: corrections of different things go on side by side,
// a run alone.
func (w *worker) loop(ctx context.Context) {
	retry := time.NewTimer(time.Hour)
	retry.Stop()
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			w.land()
			w.abandon()
			for _, answer := range w.box.takeQuestions(true) {
				answer(ctx)
			}
			return
		case <-w.box.wake:
		case <-retry.C:
			w.post(Trigger{Reason: ReasonTimer})
		}
		w.account()
		w.answer(ctx)
		if w.flights < maxFlights {
			if hints := w.box.takeHints(); len(hints) > 0 {
				w.correct(ctx, hints)
			}
		}
		h := w.box.takeRun()
		if h != nil {
			w.land()
			w.run(ctx, h)
			w.schedule(retry)
		}
		if w.gone {
			w.abandon()
			return
		}
		if w.box.poked() || h != nil {
			w.checkReady(ctx)
		}
	}
}

// answer answers questions, which are about what is not in motion.
func (w *worker) answer(ctx context.Context) {
	questions := w.box.takeQuestions(false)
	if len(questions) > 0 {
		w.land()
	}
	for _, answer := range questions {
		answer(ctx)
	}
}

// abandon ends the run that will not happen any more.
func (w *worker) abandon() {
	defer w.tell()
	w.wake.Stop()
	w.settleTrace(HealthUnknown, time.Now())
	w.mu.Lock()
	w.deadline.Stop()
	w.mu.Unlock()
	if h := w.box.takeRun(); h != nil {
		w.finish(h, Run{Result: Superseded, Errors: sources.Problems{{Message: "the daemon stopped before the run began"}}})
	}
}

// schedule sets the retry of a failed run: from 5 s, doubling, up to 5 minutes,
// with jitter, so that what failed together is not tried again together. A spec
// may ask for runs at an interval though nothing failed.
func (w *worker) schedule(retry *time.Timer) {
	retry.Stop()
	if w.failures == 0 {
		if a, _ := w.assignment(); a.Spec.Interval > 0 {
			retry.Reset(a.Spec.Interval - a.Spec.Interval/20 + rand.N(a.Spec.Interval/10+1))
		}
		return
	}
	wait := min(5*time.Second<<min(w.failures-1, 10), 5*time.Minute)
	retry.Reset(wait - wait/8 + rand.N(wait/4))
}

// status is a copy of what is known now.
func (w *worker) status() Status {
	open := w.engine.book.OpenCount(w.name)
	queued := w.box.queued()
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.assigned
	s := Status{
		Name: w.name, Source: a.Source, Target: a.Spec.Target, Path: a.Spec.Path,
		Mode: string(a.Spec.Mode), Drift: string(a.Spec.Drift.Mode), Labels: a.Spec.Labels, Objects: w.objects,
		Head: w.head, Applied: w.applied, OpenDrifts: open, Corrections: w.fixed,
		Gates: sortGates(slices.Concat(w.gates, w.held)), Compared: w.compared,
	}
	if s.Running = w.running; s.Running == nil {
		s.Running = queued
	}
	if w.last != nil {
		last := *w.last
		s.LastRun = &last
	}
	for _, p := range w.problems {
		s.Errors = append(s.Errors, p...)
	}
	s.Health, s.Unready, s.ReadySince = w.health, slices.Clone(w.waiting), w.readySince
	s.Sync = w.syncWord(&s)
	return s
}

// syncWord needs w.mu.
func (w *worker) syncWord(s *Status) Sync {
	var troubles []string
	if d := w.engine.opts.Drivers[s.Target]; d != nil {
		s.AsOf, troubles = d.Health(w.name)
	}
	for _, t := range troubles {
		s.Errors = append(s.Errors, sources.Problem{
			Object: "target " + s.Target, Message: t,
			Hint: "`holdfast targets` shows its watches: see whether its account may watch, and whether something on the way holds back what the server sends",
		})
	}
	switch {
	case w.removed:
		return SyncRemoved
	case w.standby:
		return SyncStandby
	case len(troubles) > 0:
		return SyncStale
	case len(s.Errors) > 0:
		return SyncFailed
	case w.last == nil:
		return SyncPending
	case !w.compared:
		return SyncVerifying
	case s.OpenDrifts > 0:
		return SyncDrifted
	case w.pending > 0:
		return SyncChanges
	}
	return SyncClean
}
