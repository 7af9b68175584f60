package reconciler

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
)

// State is what people decided about an environment, and what has to survive
// the loss of the data directory. It lives in the target, beside the
// environment: whoever wipes the daemon's disk undoes no hold and no rollback.
type State struct {
	// Holds stop writes. Those that have expired stay until they are noticed.
	Holds []Hold `json:"holds,omitempty"`
	// Decisions are the drifts that somebody accepted for a time.
	Decisions []drift.Decision `json:"decisions,omitempty"`
	// Pin, when not nil, chooses the revision.
	Pin *Pin `json:"pin,omitempty"`
	// Accepted is the newest revision that passed every gate and was applied;
	// Ready the newest at which everything became healthy. Earlier are those
	// accepted before, the newest first.
	Accepted sources.Revision   `json:"accepted,omitzero"`
	Ready    sources.Revision   `json:"ready,omitzero"`
	Earlier  []sources.Revision `json:"earlier,omitempty"`
	// Returned is the revision that an automatic return left, which is not tried
	// again until somebody says so or git moves.
	Returned string `json:"returned,omitempty"`
	// Rendered is what the accepted revision rendered to, and under which version.
	Rendered Rendered `json:"rendered,omitzero"`
	// Removed says what is to become of the environment's objects now that its
	// spec left git; nil while it has one.
	Removed *Removal `json:"removed,omitempty"`
	// Deletion, Source, Identity and Mode are the assignment's, for the time after the
	// spec left.
	Deletion string `json:"deletion,omitempty"`
	Source   string `json:"source,omitempty"`
	Identity string `json:"identity,omitempty"`
	Mode     string `json:"mode,omitempty"`
}

// Rendered tells whether the same inputs render to the same under another version
// of Holdfast.
type Rendered struct {
	Revision string `json:"revision,omitempty"`
	Version  string `json:"version,omitempty"`
	Digest   string `json:"digest,omitempty"`
}

// Removal is an environment whose spec left git.
type Removal struct {
	// Since is when that was noticed.
	Since time.Time `json:"since"`
	// Confirmed is who confirmed that its objects go; empty: they stay.
	Confirmed string `json:"confirmed,omitempty"`
}

// Hold is a pause of applying. Detection goes on meanwhile.
type Hold struct {
	ID string `json:"id"`
	// Object limits the hold to one object; nil is the whole environment.
	Object *sources.ID `json:"object,omitempty"`
	Reason string      `json:"reason"`
	Author string      `json:"author"`
	Since  time.Time   `json:"since"`
	Until  time.Time   `json:"until"`
}

// Pin is a rollback: it chooses the revision until it ends.
type Pin struct {
	Revision sources.Revision `json:"revision"`
	Reason   string           `json:"reason,omitempty"`
	Author   string           `json:"author"`
	Since    time.Time        `json:"since"`
	// Until is zero for a pin that lasts until it is released.
	Until time.Time `json:"until,omitzero"`
	// Approved is the hash of the plan whose deletions were shown when the
	// rollback was asked for.
	Approved string `json:"approved,omitempty"`
}

// activeHolds are those that count at a time.
func (s State) activeHolds(now time.Time) []Hold {
	var out []Hold
	for _, h := range s.Holds {
		if h.Until.After(now) {
			out = append(out, h)
		}
	}
	return out
}

// pinned is the pin that counts at a time, or nil.
func (s State) pinned(now time.Time) *Pin {
	if s.Pin == nil || !s.Pin.Until.IsZero() && !s.Pin.Until.After(now) {
		return nil
	}
	return s.Pin
}

// keepEarlier bounds how many revisions are remembered for a rollback.
const keepEarlier = 10

// accept notes a revision that was applied.
func (s *State) accept(r sources.Revision) {
	if s.Accepted.ID == r.ID {
		return
	}
	if s.Accepted.ID != "" {
		s.Earlier = slices.DeleteFunc(s.Earlier, func(e sources.Revision) bool { return e.ID == s.Accepted.ID })
		s.Earlier = slices.Insert(s.Earlier, 0, s.Accepted)
		s.Earlier = s.Earlier[:min(len(s.Earlier), keepEarlier)]
	}
	s.Accepted = r
}

// Keeper is a driver that keeps the state of its target's environments. The
// environment "" stands for all of them together.
type Keeper interface {
	// State reads an environment's state; one that was never written is empty.
	State(ctx context.Context, environment string) (State, error)
	// SaveState changes it. Change is called with the newest state, more than
	// once if somebody else writes at the same time; its error ends the attempt.
	SaveState(ctx context.Context, environment string, change func(*State) error) (State, error)
}

// Leader is a driver that may write only while it has its target's lease.
type Leader interface {
	// Leader says who has the lease, as far as it is known, and whether that is
	// this daemon.
	Leader() (holder string, ours bool)
}

// standsBy is the gate of a driver that may not write; nil if it may.
func standsBy(d Driver) *Gate {
	l, ok := d.(Leader)
	if !ok {
		return nil
	}
	holder, ours := l.Leader()
	if ours {
		return nil
	}
	why := "waits for the target's lease"
	if holder != "" {
		why = "stands by: " + holder + " has the target's lease"
	} else if p, ok := d.(interface{ LeaseProblem() string }); ok && p.LeaseProblem() != "" {
		why += ": " + p.LeaseProblem()
	}
	return &Gate{Kind: GateLease, Why: why, StopsCorrection: true}
}

// TargetChanged makes the environments of a target look again whose last run saw
// the lease otherwise.
func (e *Engine) TargetChanged(target string) {
	ours := standsBy(e.opts.Drivers[target]) == nil
	for _, w := range e.all() {
		w.mu.Lock()
		concerned := w.assigned.Spec.Target == target && w.standby == ours
		w.mu.Unlock()
		if concerned {
			w.post(Trigger{Reason: ReasonTimer, Actor: "the target's lease"})
		}
	}
}

// StateWatcher is a Keeper that tells of state changed by others, such as
// another replica or somebody with kubectl.
type StateWatcher interface {
	// WatchState calls changed with an environment's name, until ctx ends.
	WatchState(ctx context.Context, changed func(environment string)) error
}

// stateOf reads what counts for an environment: its own state, and the holds on
// everything.
func stateOf(ctx context.Context, d Driver, environment string) (State, error) {
	k, ok := d.(Keeper)
	if !ok {
		return State{}, nil
	}
	all, err := k.State(ctx, "")
	if err != nil {
		return State{}, fmt.Errorf("read what is held: %w", err)
	}
	own, err := k.State(ctx, environment)
	if err != nil {
		return State{}, fmt.Errorf("read the environment's state: %w", err)
	}
	own.Holds = slices.Concat(all.Holds, own.Holds)
	return own, nil
}

// newID makes a short random name, such as "hold-1f2e3d".
func newID(prefix string) string {
	var b [4]byte
	rand.Read(b[:]) // never fails, says its documentation
	return prefix + "-" + hex.EncodeToString(b[:])
}
