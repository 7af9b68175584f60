package daemon

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
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
	find func(sources.Tree) (*environment.Repository, error)
	// assignment turns a spec into what its worker is to do.
	// render makes the items of a spec out of a snapshot.
	render     func(context.Context, *lease, environment.Spec) ([]sources.Item, error)
	assignment func(*lease, environment.Spec) reconciler.Assignment

	// moved, when not nil, tells those who take files from here of a new snapshot.
	moved func()
	// noteMoved, when not nil, is told which commits a new revision brought.
	noteMoved func(before, now sources.Revision, commits []sources.Revision)
	// told, when not nil, tells that the source may stand otherwise.
	told func()
	// changed asks for a look now.
	changed chan struct{}
	hooked  hooked
	// inForce is current, for those who do not hold work.
	inForce atomic.Pointer[lease]
	// now is the time.
	now func() time.Time

	mu      sync.Mutex
	waiting *call
	// work holds a token while a refresh is under way.
	work chan struct{}

	config config.Source
	// guard holds revisions that rewrite history; nil where there is none.
	guard *guard
	sight sight

	// What follows belongs to the holder of work.
	current *lease
	// lent is what others take files from when there is nothing in it for us.
	lent      *lease
	repo      *environment.Repository
	elsewhere *elsewhere
	// fresh: this fetch has assigned the environments. offline: only what is on
	// disk may be used.
	fresh, offline bool
	head           string
	// standing is what is wrong with head.
	standing error
	failures int
	// logged is what was said of a held revision.
	logged string
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
	var watching sync.WaitGroup
	defer watching.Wait()
	if w, ok := f.source.(watched); ok {
		watching.Go(func() { f.watch(ctx, w) })
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
		case <-f.changed:
		}
	}
}

// signal asks for a look now.
func (f *follower) signal() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *follower) watch(ctx context.Context, w watched) {
	err := w.Watch(ctx, f.signal)
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
	pause = pause - pause/20 + rand.N(pause/10+1)
	f.sight.set(func(s *sight) { s.next = time.Now().Add(pause) })
	return pause
}

// startFromDisk puts the last good revision in force, so that drift is corrected
// even while the remote is away.
func (f *follower) startFromDisk(ctx context.Context) {
	f.guard.load()
	snap, err := f.onDisk(ctx)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			f.log.Warn().Err(err).Msg("last revision on disk cannot be used; it is fetched again")
		}
		return
	}
	f.work <- struct{}{}
	defer func() { <-f.work }()
	f.offline = true
	defer func() { f.offline, f.fresh = false, false }()
	if err := f.accept(ctx, snap, reconciler.Trigger{Reason: reconciler.ReasonTimer, Actor: "start"}); err != nil {
		f.log.Warn().Err(err).Msg("last revision on disk cannot be used")
	}
}

// onDisk is the revision that was accepted last, or where nothing is remembered,
// the one that was fetched last: a newer one may have been held.
func (f *follower) onDisk(ctx context.Context) (*sources.Snapshot, error) {
	snap, err := f.source.Last()
	old, known := f.guard.inForce()
	if err != nil || !known || snap.Revision.ID == old.ID {
		return snap, err
	}
	snap.Close()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return f.guard.history.Revision(ctx, old)
}

// startTimeout bounds what a start waits for a revision that is not on disk.
const startTimeout = 10 * time.Second

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
	started, t := time.Now(), f.hooked.trigger()
	// Whoever waits for this look asked before now, so that one listing answers
	// for the source and for the branches that its environments follow.
	ctx = gitrepo.Asked(ctx, started)
	snap, err := f.source.Fetch(ctx)
	t.Origin.FetchEnded = time.Now()
	f.metrics.polled(f.name, time.Since(started), err)
	f.noteMove()
	if err == nil {
		f.sight.set(func(s *sight) { s.head = snap.Revision })
		if err = f.guard.judge(ctx, snap.Revision); err != nil {
			snap.Close()
		}
	}
	if ctx.Err() != nil {
		if err == nil {
			snap.Close()
		}
		return ctx.Err()
	}
	held, reached := errors.As(err, &errHeld{}), err == nil
	if !held {
		f.count(err)
	}
	switch {
	case held:
		f.wait(ctx, err)
	case err == nil:
		f.logged = ""
		err = f.accept(ctx, snap, t)
	}
	if f.follow(ctx, t) && reached {
		err = f.standing
	}
	f.sight.looked(time.Now(), f.failures, err)
	if f.told != nil {
		f.told()
	}
	f.engine.SourceState(f.name, err)
	return err
}

// wait says once that a revision is held, and makes sure that the one in force
// is there to correct drift against.
func (f *follower) wait(ctx context.Context, why error) {
	f.failures = 0
	if f.logged != why.Error() {
		f.logged = why.Error()
		f.log.Error().Err(why).Msg("revision held")
	}
	old, known := f.guard.inForce()
	if f.current != nil || !known {
		return
	}
	snap, err := f.guard.history.Revision(ctx, old)
	if err == nil {
		err = f.accept(ctx, snap, reconciler.Trigger{Reason: reconciler.ReasonPoll})
	}
	if err != nil {
		f.log.Error().Err(err).Str("revision", old.Short()).Msg("revision in force cannot be brought back")
	}
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
	repo, err := f.find(snap.Tree)
	if err == nil && len(repo.Specs)+len(repo.Templates)+len(repo.Broken) == 0 {
		err = sources.Problem{Message: "no environment specs were found", Hint: "add a document of kind Environment, apiVersion " + environment.APIVersion}
	}
	before, _ := f.guard.inForce()
	if err == nil {
		if err := f.guard.accepted(snap.Revision); err != nil {
			f.log.Error().Err(err).Str("revision", snap.Revision.Short()).Msg("revision cannot be accepted; the last good state stays")
			snap.Close()
			return err // head stays as it is, so that it is tried again
		}
	}
	f.head, f.standing = snap.Revision.ID, err
	if err != nil && len(f.config.SharedWith) > 0 {
		return f.publish(snap, err)
	}
	if err != nil {
		f.log.Error().Err(err).Str("revision", snap.Revision.Short()).Msg("revision cannot be used; the last good state stays")
		snap.Close()
		return err
	}
	commits := f.brought(ctx, before, snap.Revision)
	f.log.Info().Str("revision", snap.Revision.Short()).Str("subject", snap.Revision.Subject).Int("commits", len(commits)).
		Int("environments", len(repo.Specs)).Int("templates", len(repo.Templates)).Int("broken", len(repo.Broken)).Msg("revision")
	f.sight.set(func(s *sight) { s.revision, s.commits = snap.Revision, commits })
	return f.put(ctx, newLease(snap), repo, t)
}

func (f *follower) release() {
	f.work <- struct{}{}
	defer func() { <-f.work }()
	f.elsewhere.close()
	if f.current != nil {
		f.current.release()
		f.current = nil
	}
	f.replaceLent(nil)
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
