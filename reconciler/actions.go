package reconciler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
)

// maxHold bounds how long a hold may last: one that is forgotten must end.
const maxHold = 31 * 24 * time.Hour

// maxNote bounds the length of a reason.
const maxNote = 500

// HoldRequest asks for a hold.
type HoldRequest struct {
	// Environments to hold; none is everything, also what comes later.
	Environments []string `json:"environments,omitempty"`
	// Object limits the hold to one object of one environment.
	Object *sources.ID `json:"object,omitempty"`
	// Until is when it ends.
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`
	Author string    `json:"author,omitempty"`
}

// Hold stops writes until a time. The holds are kept with the environments, and
// count before Hold returns.
func (e *Engine) Hold(ctx context.Context, r HoldRequest) ([]Hold, error) {
	now := time.Now()
	if err := r.check(now); err != nil {
		return nil, err
	}
	h := Hold{Object: r.Object, Reason: r.Reason, Author: r.Author, Since: now, Until: r.Until}
	if len(r.Environments) == 0 {
		h.ID = newID("hold")
		return []Hold{h}, e.saveEverywhere(ctx, func(s *State) error {
			s.Holds = append(s.forgetExpired(now), h)
			return nil
		})
	}
	workers, err := e.named(r.Environments)
	if err != nil {
		return nil, err
	}
	var out []Hold
	for _, w := range workers {
		h.ID = newID("hold")
		err := w.save(ctx, func(s *State) error {
			s.Holds = append(s.forgetExpired(now), h)
			return nil
		})
		if err != nil {
			return out, err
		}
		out = append(out, h)
	}
	return out, nil
}

func (r HoldRequest) check(now time.Time) error {
	switch {
	case strings.TrimSpace(r.Reason) == "":
		return errors.New("a hold needs a reason, which others will read")
	case len(r.Reason) > maxNote:
		return fmt.Errorf("the reason is longer than %d bytes", maxNote)
	case !r.Until.After(now):
		return errors.New("the hold would end before it begins")
	case r.Until.After(now.Add(maxHold)):
		return fmt.Errorf("a hold lasts at most %d days; extend it while it does", int(maxHold.Hours()/24))
	case r.Object != nil && len(r.Environments) != 1:
		return errors.New("the hold of an object needs the one environment that the object belongs to")
	}
	return nil
}

// forgetExpired are the holds without those that ended a day ago or earlier.
func (s *State) forgetExpired(now time.Time) []Hold {
	return slices.DeleteFunc(s.Holds, func(h Hold) bool { return h.Until.Before(now.Add(-24 * time.Hour)) })
}

// errUnknownHold ends a change of a state that lacks the hold in question.
var errUnknownHold = errors.New("no such hold")

// EndHold ends a hold, or with a time moves its end.
func (e *Engine) EndHold(ctx context.Context, id string, until time.Time) (Hold, error) {
	if id == "annotation" {
		return Hold{}, errors.New("this hold is an annotation of the environment's parent object: change it there")
	}
	now := time.Now()
	if until.After(now.Add(maxHold)) {
		return Hold{}, fmt.Errorf("a hold lasts at most %d days", int(maxHold.Hours()/24))
	}
	var found Hold
	change := func(s *State) error {
		i := slices.IndexFunc(s.Holds, func(h Hold) bool { return h.ID == id })
		if i < 0 {
			return errUnknownHold
		}
		if until.IsZero() {
			found = s.Holds[i]
			found.Until = now
			s.Holds = slices.Delete(s.Holds, i, i+1)
			return nil
		}
		s.Holds[i].Until = until
		found = s.Holds[i]
		return nil
	}
	var unread []error
	for _, w := range e.all() {
		if err := w.save(ctx, change); err == nil {
			return found, nil
		} else if !errors.Is(err, errUnknownHold) {
			unread = append(unread, err)
		}
	}
	if err := e.saveEverywhere(ctx, change); err != nil {
		if len(unread) > 0 {
			return Hold{}, fmt.Errorf("hold %q was not found, and not all could be asked: %w", id, errors.Join(unread...))
		}
		if errors.Is(err, errUnknownHold) {
			return Hold{}, fmt.Errorf("there is no hold %q; `holdfast status` names those there are", id)
		}
		return Hold{}, err
	}
	return found, nil
}

// saveEverywhere changes the state that counts for all environments of each
// target. It is an error if none could be changed.
func (e *Engine) saveEverywhere(ctx context.Context, change func(*State) error) error {
	var failed []error
	done := false
	for _, name := range slices.Sorted(maps.Keys(e.opts.Drivers)) {
		k, ok := e.opts.Drivers[name].(Keeper)
		if !ok {
			continue
		}
		if _, err := k.SaveState(ctx, "", change); err != nil {
			failed = append(failed, fmt.Errorf("target %s: %w", name, err))
			continue
		}
		done = true
	}
	if len(failed) > 0 && (!done || !errors.Is(errors.Join(failed...), errUnknownHold)) {
		return errors.Join(failed...)
	}
	for _, w := range e.all() {
		w.post(Trigger{Reason: ReasonOnCall, Actor: "a hold"})
	}
	return nil
}

// RollbackRequest asks for an older revision to be brought about and kept.
type RollbackRequest struct {
	// To is a revision: the beginning of one that was applied before, or a whole
	// commit. Empty: the last ready one before the one in force, else the one
	// accepted before it.
	To string `json:"to,omitempty"`
	// Until is when it ends by itself; zero: when it is released.
	Until  time.Time `json:"until,omitzero"`
	Reason string    `json:"reason,omitempty"`
	Author string    `json:"author,omitempty"`
}

// Rollback pins an environment to an older revision and asks for a run that
// brings it about. The deletions that the plan names count as approved, but for
// protected kinds.
func (e *Engine) Rollback(ctx context.Context, environment string, r RollbackRequest) (Run, Plan, error) {
	w, err := e.one(environment)
	if err != nil {
		return Run{}, Plan{}, err
	}
	if !r.Until.IsZero() && !r.Until.After(time.Now()) {
		return Run{}, Plan{}, errors.New("the rollback would end before it begins")
	}
	state, err := w.state(ctx)
	if err != nil {
		return Run{}, Plan{}, err
	}
	to, err := rollbackTarget(state, w.status().Applied, r.To)
	if err != nil {
		return Run{}, Plan{}, err
	}
	plan, at, err := e.planAt(ctx, w, to)
	if err != nil {
		return Run{}, Plan{}, err
	}
	pin := &Pin{Revision: at, Reason: r.Reason, Author: r.Author, Since: time.Now(), Until: r.Until, Approved: plan.Hash}
	if err := w.save(ctx, func(s *State) error { s.Pin = pin; return nil }); err != nil {
		return Run{}, plan, err
	}
	return e.snapshot(w.post(Trigger{Reason: ReasonOnCall, Actor: r.Author})), plan, nil
}

// rollbackTarget finds the revision that is meant.
func rollbackTarget(s State, applied sources.Revision, to string) (string, error) {
	known := slices.Concat([]sources.Revision{s.Ready}, s.Earlier, []sources.Revision{s.Accepted, applied})
	if to == "" {
		for _, r := range known {
			if r.ID != "" && r.ID != s.Accepted.ID {
				return r.ID, nil
			}
		}
		return "", errors.New("no earlier revision is known; name one with its whole commit id")
	}
	matched := map[string]bool{}
	for _, r := range known {
		if len(to) >= 4 && strings.HasPrefix(strings.TrimPrefix(r.ID, "sha256:"), strings.ToLower(to)) {
			matched[r.ID] = true
		}
	}
	switch {
	case len(matched) == 1:
		return slices.Collect(maps.Keys(matched))[0], nil
	case len(matched) > 1:
		return "", fmt.Errorf("%q is the beginning of %d revisions; give more of it", to, len(matched))
	case len(to) >= 40:
		return strings.ToLower(to), nil
	}
	return "", fmt.Errorf("no revision that was applied before begins with %q; name another with its whole commit id", to)
}

// Release ends a rollback: the environment goes on with head.
func (e *Engine) Release(ctx context.Context, environment, actor string) (Run, error) {
	w, err := e.one(environment)
	if err != nil {
		return Run{}, err
	}
	err = w.save(ctx, func(s *State) error {
		if s.Pin == nil {
			return fmt.Errorf("environment %s is not rolled back", environment)
		}
		s.Pin = nil
		return nil
	})
	if err != nil {
		return Run{}, err
	}
	return e.snapshot(w.post(Trigger{Reason: ReasonOnCall, Actor: actor})), nil
}

// Retry tries a revision again that was left because it did not get ready.
func (e *Engine) Retry(ctx context.Context, environment, actor string) (Run, error) {
	w, err := e.one(environment)
	if err != nil {
		return Run{}, err
	}
	if err := w.save(ctx, func(s *State) error { s.Returned = ""; return nil }); err != nil {
		return Run{}, err
	}
	return e.snapshot(w.post(Trigger{Reason: ReasonOnCall, Actor: actor, Fetch: true})), nil
}

func (e *Engine) one(environment string) (*worker, error) {
	workers, err := e.named([]string{environment})
	if err != nil {
		return nil, err
	}
	return workers[0], nil
}

func (e *Engine) all() []*worker {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.SortedFunc(maps.Values(e.workers), func(a, b *worker) int { return strings.Compare(a.name, b.name) })
}

// StateChanged tells of state that somebody may have changed; "" is that of all
// environments. It costs a run only where that changes what is held.
func (e *Engine) StateChanged(ctx context.Context, environment string) {
	for _, w := range e.all() {
		if environment != "" && w.name != environment {
			continue
		}
		if state, err := w.state(ctx); err == nil && w.sawOther(state) {
			w.post(Trigger{Reason: ReasonOnCall, Actor: "changed state"})
		}
	}
}

// keeper is the driver that keeps the environment's state.
func (w *worker) keeper() (Driver, Keeper, error) {
	w.mu.Lock()
	target := w.assigned.Spec.Target
	w.mu.Unlock()
	d := w.engine.opts.Drivers[target]
	if k, ok := d.(Keeper); ok {
		return d, k, nil
	}
	return nil, nil, fmt.Errorf("target %q of environment %s keeps no state", target, w.name)
}

func (w *worker) state(ctx context.Context) (State, error) {
	d, _, err := w.keeper()
	if err != nil {
		return State{}, err
	}
	return stateOf(ctx, d, w.name)
}

// save changes the environment's state, and makes the worker look at it.
func (w *worker) save(ctx context.Context, change func(*State) error) error {
	_, k, err := w.keeper()
	if err != nil {
		return err
	}
	if _, err := k.SaveState(ctx, w.name, change); err != nil {
		return err
	}
	if state, err := w.state(ctx); err == nil {
		w.mu.Lock()
		w.decided = state.decided() // so that the watch tells nothing new
		w.mu.Unlock()
	}
	w.post(Trigger{Reason: ReasonOnCall, Actor: "changed state"})
	return nil
}

// sawOther reports whether a state holds other things than the one that the last
// run saw.
func (w *worker) sawOther(s State) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.decided != s.decided()
}

// decided is what of a state changes what a run does.
func (s State) decided() string {
	text := s.Returned
	for _, h := range s.Holds {
		text += "\x00" + h.ID + h.Until.String()
	}
	for _, d := range s.Decisions {
		text += "\x00" + d.ID + d.Until.String()
	}
	if s.Pin != nil {
		text += "\x00" + s.Pin.Revision.ID + s.Pin.Until.String()
	}
	if s.Removed != nil {
		text += "\x00" + s.Removed.Confirmed
	}
	return text
}
