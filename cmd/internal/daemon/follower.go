package daemon

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// source is where snapshots come from.
type source interface {
	// Fetch gives the newest revision, and costs one listing when nothing moved.
	Fetch(context.Context) (*sources.Snapshot, error)
	// Last gives the newest revision that is already here, without a network.
	Last() (*sources.Snapshot, error)
}

// watched is a source that notices changes by itself.
type watched interface {
	Watch(ctx context.Context, changed func()) error
}

// engine is what a follower tells.
type engine interface {
	Assign(ctx context.Context, source string, all []reconciler.Assignment, complete bool, t reconciler.Trigger)
	SourceState(source string, err error)
}

// follower follows one source and assigns its environments.
type follower struct {
	name     string
	source   source
	interval time.Duration
	engine   engine
	log      zerolog.Logger
	metrics  *metrics
	// find reads the environment specs of a snapshot.
	find func(sources.Tree) ([]environment.Spec, []environment.Broken, error)
	// assignment turns a spec into what its worker is to do.
	assignment func(*lease, environment.Spec) reconciler.Assignment

	mu      sync.Mutex
	waiting *call
	// work holds a token while a refresh is under way.
	work chan struct{}

	// What follows belongs to the holder of work.
	current *lease
	head    string
	// standing is what is wrong with head.
	standing error
	failures int
}

// call is one refresh that several may wait for.
type call struct {
	done chan struct{}
	err  error
}

// run refreshes at the interval, with jitter so that sources do not march in
// step, backing off while the source fails, and at once when it notices a change.
func (f *follower) run(ctx context.Context) error {
	f.startFromDisk(ctx)
	changed := make(chan struct{}, 1)
	var watching sync.WaitGroup
	defer watching.Wait()
	if w, ok := f.source.(watched); ok {
		watching.Go(func() { f.watch(ctx, w, changed) })
	}
	for {
		// The error is in the environments' status and was logged; the next try
		// comes by itself.
		_ = f.refresh(ctx)
		select {
		case <-ctx.Done():
			f.release()
			return nil
		case <-time.After(f.pause()):
		case <-changed:
		}
	}
}

func (f *follower) watch(ctx context.Context, w watched, changed chan<- struct{}) {
	err := w.Watch(ctx, func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	if err != nil && ctx.Err() == nil {
		f.log.Warn().Err(err).Msg("source cannot be watched; it is polled")
	}
}

func (f *follower) pause() time.Duration {
	f.work <- struct{}{}
	failures := f.failures
	<-f.work
	pause := f.interval
	if failures > 0 {
		pause = min(max(f.interval, time.Second)<<min(failures-1, 6), max(5*time.Minute, f.interval))
	}
	return pause - pause/20 + rand.N(pause/10+1)
}

// startFromDisk puts the last good revision in force, so that drift is corrected
// even while the remote is away.
func (f *follower) startFromDisk(ctx context.Context) {
	snap, err := f.source.Last()
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			f.log.Warn().Err(err).Msg("last revision on disk cannot be used; it is fetched again")
		}
		return
	}
	f.work <- struct{}{}
	defer func() { <-f.work }()
	if err := f.accept(ctx, snap, reconciler.Trigger{Reason: reconciler.ReasonTimer, Actor: "start"}); err != nil {
		f.log.Warn().Err(err).Msg("last revision on disk cannot be used")
	}
}

// refresh asks the source now. Callers that come while one is under way share
// the next, since what they ask about may have happened after that one began.
func (f *follower) refresh(ctx context.Context) error {
	f.mu.Lock()
	c, leader := f.waiting, false
	if c == nil {
		c, leader = &call{done: make(chan struct{})}, true
		f.waiting = c
	}
	f.mu.Unlock()
	if leader {
		f.lead(ctx, c)
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *follower) lead(ctx context.Context, c *call) {
	defer close(c.done)
	select {
	case f.work <- struct{}{}:
		defer func() { <-f.work }()
	case <-ctx.Done():
		c.err = ctx.Err()
	}
	f.mu.Lock()
	f.waiting = nil
	f.mu.Unlock()
	if c.err == nil {
		c.err = f.fetch(ctx)
	}
}

// fetch needs work. Only a failure to reach the source slows the polling down: a
// revision with problems is mended by a push, which is to be seen soon.
func (f *follower) fetch(ctx context.Context) error {
	started := time.Now()
	snap, err := f.source.Fetch(ctx)
	f.metrics.polled(f.name, time.Since(started), err)
	if ctx.Err() != nil {
		if err == nil {
			snap.Close()
		}
		return ctx.Err()
	}
	f.count(err)
	if err == nil {
		err = f.accept(ctx, snap, reconciler.Trigger{Reason: reconciler.ReasonPoll})
	}
	f.engine.SourceState(f.name, err)
	return err
}

func (f *follower) count(err error) {
	switch {
	case err == nil && f.failures > 0:
		f.failures = 0
		f.log.Info().Msg("source is back")
	case err != nil:
		f.failures++
		if f.failures == 1 {
			f.log.Error().Err(err).Msg("source failed; the last good state stays")
		}
	}
}

// accept assigns a snapshot's environments, if the revision is new, and returns
// what is wrong with the revision. A snapshot whose specs cannot be read at all
// changes nothing.
func (f *follower) accept(ctx context.Context, snap *sources.Snapshot, t reconciler.Trigger) error {
	if snap.Revision.ID == f.head {
		snap.Close()
		return f.standing
	}
	specs, broken, err := f.find(snap.Tree)
	if err == nil && len(specs)+len(broken) == 0 {
		err = sources.Problem{Message: "no environment specs were found", Hint: "add a document of kind Environment, apiVersion " + environment.APIVersion}
	}
	f.head, f.standing = snap.Revision.ID, err
	if err != nil {
		f.log.Error().Err(err).Str("revision", snap.Revision.Short()).Msg("revision cannot be used; the last good state stays")
		snap.Close()
		return err
	}
	l := newLease(snap)
	all, nameless := f.assignments(l, specs, broken)
	f.standing = nameless.Err()
	f.log.Info().Str("revision", snap.Revision.Short()).Str("subject", snap.Revision.Subject).
		Int("environments", len(specs)).Int("broken", len(broken)).Msg("revision")
	f.engine.Assign(ctx, f.name, all, len(nameless) == 0, t)
	old := f.current
	f.current = l
	if old != nil {
		old.release()
	}
	return f.standing
}

// assignments makes one for every spec that has a name, broken ones included;
// the problems of the others are the source's.
func (f *follower) assignments(l *lease, specs []environment.Spec, broken []environment.Broken) (all []reconciler.Assignment, nameless sources.Problems) {
	for _, s := range specs {
		all = append(all, f.assignment(l, s))
	}
	for _, b := range broken {
		if b.Name == "" {
			nameless = append(nameless, b.Problems...)
			continue
		}
		all = append(all, reconciler.Assignment{
			Spec:   environment.Spec{Name: b.Name, File: b.File, Line: b.Line},
			Source: f.name, Revision: l.snap.Revision, Problem: b.Problems,
		})
	}
	return all, nameless
}

func (f *follower) release() {
	f.work <- struct{}{}
	defer func() { <-f.work }()
	if f.current != nil {
		f.current.release()
		f.current = nil
	}
	if c, ok := f.source.(interface{ Close() }); ok {
		c.Close()
	}
}

// lease shares a snapshot among those that render it, and closes it when it was
// replaced and the last of them is done.
type lease struct {
	snap *sources.Snapshot

	mu      sync.Mutex
	holders int
}

func newLease(snap *sources.Snapshot) *lease { return &lease{snap: snap, holders: 1} }

// acquire fails when the snapshot was closed already.
func (l *lease) acquire() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holders == 0 {
		return false
	}
	l.holders++
	return true
}

func (l *lease) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holders--
	if l.holders == 0 {
		l.snap.Close()
	}
}
