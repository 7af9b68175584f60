package reconciler

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// Health is how what an environment applied works, in one word.
type Health string

// The words for health.
const (
	// HealthUnknown: nothing was applied yet, or the target cannot tell.
	HealthUnknown Health = "unknown"
	// HealthReady: everything is there and works.
	HealthReady Health = "ready"
	// HealthProgressing: it is waited for.
	HealthProgressing Health = "progressing"
	// HealthFailed: it will not get ready by waiting, or took too long.
	HealthFailed Health = "failed"
)

// ReadyChanged tells that the health of an environment may have become another.
func (e *Engine) ReadyChanged(name string) {
	e.mu.Lock()
	w := e.workers[name]
	e.mu.Unlock()
	if w != nil {
		w.box.poke()
	}
}

// checkReady brings what is known of the environment's health up to date, and
// carries the consequences: those that wait for it are woken, a new ready
// revision is remembered, and a revision that does not get ready is left again
// where the spec says so.
func (w *worker) checkReady(ctx context.Context) {
	a, ok := w.assignment()
	driver := w.engine.opts.Drivers[a.Spec.Target]
	if !ok || driver == nil {
		return
	}
	ready, waiting := true, []Unready(nil)
	if d, tells := driver.(ReadyDriver); tells {
		ready, waiting = d.Ready(w.name)
	}
	became, overdue, other := w.noteReady(ready, waiting, a.Spec.Health, time.Now())
	w.tell()
	w.tellVerdict()
	switch {
	case became:
		w.touched = nil
		if group := w.rolloutGroup(); group != "" {
			w.engine.turns.done(group, w.name)
		}
		w.rememberReady(ctx, driver)
		if w.putOff() {
			w.post(Trigger{Reason: ReasonTimer, Actor: "readiness"})
		}
		w.engine.wakeFollowers(w.name)
	case other && !overdue:
		w.engine.wakeFollowers(w.name) // what they wait for is said anew
	case overdue:
		w.engine.wakeFollowers(w.name)
		w.giveUp(ctx, driver, a, waiting)
	}
}

// putOff reports whether the last run left something for when all works: hooks,
// or later waves.
func (w *worker) putOff() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last != nil && slices.ContainsFunc(w.last.Waiting, func(x Waiting) bool { return x.Gate == "" })
}

// noteReady keeps what was found, and says whether the environment just became
// ready, or just ran out of time, or waits for something else than before.
func (w *worker) noteReady(ready bool, waiting []Unready, h environment.Health, now time.Time) (became, overdue, other bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deadline.Stop()
	w.waiting = waiting
	if w.last == nil || w.applied.ID == "" {
		w.health, w.readySince = HealthUnknown, time.Time{}
		return false, false, false
	}
	why := ""
	switch {
	case w.last.Result == Failed || w.last.Result == Partial:
		why = "its last run failed"
		if len(w.last.Errors) > 0 {
			why += ": " + w.last.Errors[0].Error()
		}
	case !ready && len(waiting) > 0:
		why = "waits for " + waiting[0].text()
	case !ready:
		why = "waits for what it applied"
	}
	other = w.unready != why
	w.unready = why
	if why == "" {
		became = w.readySince.IsZero() || w.readyAt != w.applied.ID
		if became {
			w.proveReady(now)
			w.readySince, w.readyAt, w.readyRevision = now, w.applied.ID, w.applied
		}
		w.health, w.unreadySince = HealthReady, time.Time{}
		w.tellReady()
		return became, false, other
	}
	return false, w.noteUnready(waiting, h, now), other
}

// noteUnready needs w.mu.
func (w *worker) noteUnready(waiting []Unready, h environment.Health, now time.Time) (overdue bool) {
	w.proveReady(now)
	w.readySince = time.Time{}
	if w.unreadySince.IsZero() || w.unreadyAt != w.applied.ID {
		w.unreadySince, w.unreadyAt = now, w.applied.ID
	}
	timeout := h.Timeout
	if timeout <= 0 {
		timeout = environment.DefaultHealthTimeout
	}
	was := w.health
	left := w.unreadySince.Add(timeout).Sub(now)
	failed := slices.ContainsFunc(waiting, func(u Unready) bool { return u.Failed })
	if failed || left <= 0 {
		w.health = HealthFailed
		w.tellReady()
		return was != HealthFailed || w.failedAt != w.applied.ID
	}
	w.health = HealthProgressing
	w.deadline = time.AfterFunc(left+time.Millisecond, w.box.poke)
	return false
}

// tellReady wakes all that wait for a verdict. It needs w.mu.
func (w *worker) tellReady() {
	if w.health == HealthFailed {
		w.failedAt = w.applied.ID
	}
	close(w.verdict)
	w.verdict = make(chan struct{})
}

// text is one thing that is waited for.
func (u Unready) text() string {
	s := u.Object.String() + ": " + u.Why
	if u.RootCause != "" {
		s = u.Object.String() + ": " + u.RootCause
	}
	return s
}

// rememberReady notes the ready revision in the environment's state. One that
// changed nothing against the one before is not worth a write.
func (w *worker) rememberReady(ctx context.Context, d Driver) {
	k, ok := d.(Keeper)
	if !ok {
		return
	}
	state, err := k.State(ctx, w.name)
	// Only what the gates let through is a revision to return to.
	if err != nil || state.Accepted.ID == "" || state.Ready.ID == state.Accepted.ID {
		return
	}
	_, err = k.SaveState(ctx, w.name, func(s *State) error {
		s.Ready = s.Accepted
		return nil
	})
	if err != nil && ctx.Err() == nil {
		w.log.Warn().Err(err).Msg("the ready revision could not be noted")
	}
}

// maxNamed is how many objects the log names that do not get ready.
const maxNamed = 10

// giveUp says that a revision did not get ready, and returns to the last one
// that was, if the spec says so, there is one, and it is objects of this
// revision's change that fail.
func (w *worker) giveUp(ctx context.Context, d Driver, a Assignment, waiting []Unready) {
	for _, u := range waiting[:min(len(waiting), maxNamed)] {
		w.log.Error().Str("object", u.Object.String()).Str("why", u.Why).Str("rootCause", u.RootCause).Msg("not ready")
	}
	if more := len(waiting) - maxNamed; more > 0 {
		w.log.Error().Int("objects", more).Msg("not ready either")
	}
	k, ok := d.(Keeper)
	if !ok || a.Spec.Health.OnFailure != environment.OnFailureReturn || !w.changedBy(waiting) {
		return
	}
	w.mu.Lock()
	applied := w.applied // what is in force, which head need not be
	w.mu.Unlock()
	_, err := k.SaveState(ctx, w.name, func(s *State) error {
		if s.Ready.ID == "" || s.Ready.ID == applied.ID || s.Accepted.ID != applied.ID || s.Pin != nil {
			return errNoReturn
		}
		s.Returned, s.Accepted = applied.ID, s.Ready
		return nil
	})
	if err != nil {
		w.log.Warn().Err(err).Msg("the revision that does not get ready stays")
		return
	}
	w.log.Warn().Str("revision", applied.Short()).Msg("returning to the last ready revision")
	w.post(Trigger{Reason: ReasonDrift, Actor: "return to the last ready revision"})
}

var errNoReturn = fmt.Errorf("no earlier revision was ready")

// changedBy reports whether the last run changed one of the things.
func (w *worker) changedBy(waiting []Unready) bool {
	for _, u := range waiting {
		if w.touched[u.Object] {
			return true
		}
	}
	return false
}

// WaitReady returns an environment's status when there is a verdict on its
// health, or as it is when ctx ends.
func (e *Engine) WaitReady(ctx context.Context, name string) (Status, error) {
	w, err := e.one(name)
	if err != nil {
		return Status{}, err
	}
	for {
		w.mu.Lock()
		settled, verdict := w.health == HealthReady || w.health == HealthFailed, w.verdict
		w.mu.Unlock()
		if settled {
			return w.status(), nil
		}
		select {
		case <-verdict:
		case <-ctx.Done():
			return w.status(), nil
		}
	}
}
