package reconciler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
)

// maxAccept bounds how long drift may be accepted: what is to stay belongs into
// git.
const maxAccept = 92 * 24 * time.Hour

// maxDecisions bounds how many decisions count at a time for one environment,
// since they are kept in one object of the target.
const maxDecisions = 200

// AcceptRequest asks for drift to be left as it is for a time.
type AcceptRequest struct {
	Object sources.ID `json:"object"`
	// Path is a field that drifted; empty for all of the object's.
	Path   string    `json:"path,omitempty"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`
	Author string    `json:"author,omitempty"`
}

// Accept leaves an open drift as it is until a time. Then it counts as any other.
func (e *Engine) Accept(ctx context.Context, environment string, r AcceptRequest) (drift.Decision, error) {
	w, err := e.one(environment)
	if err != nil {
		return drift.Decision{}, err
	}
	now := time.Now()
	if err := r.check(now); err != nil {
		return drift.Decision{}, err
	}
	if _, err := e.openDrift(environment, r.Object, r.Path); err != nil {
		return drift.Decision{}, err
	}
	d := drift.Decision{
		ID: newID("accept"), Object: r.Object, Path: r.Path, Reason: r.Reason, Author: r.Author, Since: now, Until: r.Until,
	}
	return d, w.save(ctx, func(s *State) error {
		s.Decisions = slices.DeleteFunc(s.Decisions, func(old drift.Decision) bool {
			return old.Object == d.Object && old.Path == d.Path
		})
		if len(s.Decisions) >= maxDecisions {
			return fmt.Errorf("%d drifts of %s are accepted already; put into git what is to stay", len(s.Decisions), environment)
		}
		s.Decisions = append(s.Decisions, d)
		return nil
	})
}

func (r AcceptRequest) check(now time.Time) error {
	switch {
	case strings.TrimSpace(r.Reason) == "":
		return errors.New("accepting drift needs a reason, which others will read")
	case len(r.Reason) > maxNote:
		return fmt.Errorf("the reason is longer than %d bytes", maxNote)
	case !r.Until.After(now):
		return errors.New("it would be accepted until a time that has passed")
	case r.Until.After(now.Add(maxAccept)):
		return fmt.Errorf("drift is accepted for at most %d days; put into git what is to stay", int(maxAccept.Hours()/24))
	}
	return nil
}

// openDrift is the open episode of an object, which has to be about a field if
// one is named. Its error names what there is.
func (e *Engine) openDrift(environment string, id sources.ID, path string) (drift.Episode, error) {
	var known []string
	for _, episode := range e.book.List(func(d *drift.Episode) bool {
		return d.Environment == environment && d.Ended.IsZero() && !d.Class.Foreign()
	}) {
		if episode.Object != id {
			known = append(known, episode.Object.String())
			continue
		}
		has := func(c drift.Change) bool { return path == "" || c.Path == path }
		if slices.ContainsFunc(episode.Changes, has) {
			return episode, nil
		}
		var fields []string
		for _, c := range episode.Changes {
			fields = append(fields, c.Path)
		}
		return drift.Episode{}, sources.Problem{
			Object: id.String(), Message: fmt.Sprintf("field %s has not drifted", path), Hint: "there are: " + strings.Join(fields, ", "),
		}
	}
	hint := "nothing of the environment has drifted"
	if len(known) > 0 {
		hint = "there are: " + strings.Join(known[:min(len(known), 20)], ", ")
	}
	return drift.Episode{}, sources.Problem{Object: id.String(), Message: "has no open drift", Hint: hint}
}

// OpenDrift is the open episode of an object, which has to be about a field if one
// is named.
func (e *Engine) OpenDrift(environment string, id sources.ID, path string) (drift.Episode, error) {
	if _, err := e.one(environment); err != nil {
		return drift.Episode{}, err
	}
	return e.openDrift(environment, id, path)
}

// Revert puts an object's drift back once, whatever mode, rule, decision or fight
// leaves it; what was accepted of it counts no more. Holds and mode plan keep it
// nevertheless.
func (e *Engine) Revert(ctx context.Context, environment string, id sources.ID, actor string) (Run, error) {
	w, err := e.one(environment)
	if err != nil {
		return Run{}, err
	}
	if _, err := e.openDrift(environment, id, ""); err != nil {
		return Run{}, err
	}
	t := Trigger{Reason: ReasonOnCall, Actor: actor, Revert: []sources.ID{id}}
	state, err := w.state(ctx)
	if err != nil {
		return Run{}, err
	}
	about := func(d drift.Decision) bool { return d.Object == id }
	if slices.ContainsFunc(state.Decisions, about) {
		// A field that was left has become ours at its live value: only the server
		// can tell what is to be put back.
		t.Verify = true
		if err := w.save(ctx, func(s *State) error {
			s.Decisions = slices.DeleteFunc(s.Decisions, about)
			return nil
		}); err != nil {
			return Run{}, err
		}
	}
	return e.snapshot(w.post(t)), nil
}

// IgnoreRules are the narrowest rules that leave an object's drift, or that of
// one field, alone for good. They count when they are committed.
func (e *Engine) IgnoreRules(environment string, id sources.ID, path string) ([]string, error) {
	episode, err := e.OpenDrift(environment, id, path)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, c := range episode.Changes {
		if path != "" && c.Path != path {
			continue
		}
		if c.Path == "" {
			return nil, sources.Problem{
				Object: id.String(), Message: "the whole object drifted, which no rule about a field is about",
				Hint: "hold it, or take it out of git",
			}
		}
		rule := IgnoreRule(id, c.Path)
		if c.Manager != "" && c.Manager != drift.Unknown {
			rule = strings.Replace(rule, ", mode: ", fmt.Sprintf(", managers: [%q], mode: ", c.Manager), 1)
		}
		out = append(out, rule)
	}
	return out, nil
}

// accepted are the decisions that count now, and ended those that do no more.
func (s State) accepted(now time.Time) (counting, ended []drift.Decision) {
	for _, d := range s.Decisions {
		if d.Until.After(now) {
			counting = append(counting, d)
		} else {
			ended = append(ended, d)
		}
	}
	return counting, ended
}

// dropEnded forgets decisions whose end a run has seen.
func (w *worker) dropEnded(ctx context.Context, d Driver, now time.Time) {
	k, ok := d.(Keeper)
	if !ok {
		return
	}
	if _, err := k.SaveState(ctx, w.name, func(s *State) error {
		s.Decisions, _ = s.accepted(now)
		return nil
	}); err != nil && ctx.Err() == nil {
		w.log.Warn().Err(err).Msg("decisions that have ended could not be dropped; it is tried again")
	}
}

// decisionOn is the decision about a change, nil if there is none.
func decisionOn(all []drift.Decision, id sources.ID, path string) *drift.Decision {
	for i := range all {
		if d := &all[i]; d.Object == id && (d.Path == "" || d.Path == path) {
			return d
		}
	}
	return nil
}

// holdAccepted leaves what somebody accepted: a correction that is about nothing
// else is held, any other write leaves those fields as they are.
func holdAccepted(ops []Operation, p Policy) {
	for i := range ops {
		op := &ops[i]
		if len(p.Accepted) == 0 || !op.drifted() && op.Kind != OpUpdate || slices.Contains(p.Revert, op.Object) {
			continue
		}
		var left []string
		var by *drift.Decision
		for _, c := range op.Changes {
			if d := decisionOn(p.Accepted, op.Object, c.Path); d != nil {
				left, by = append(left, c.Path), d
			}
		}
		if len(op.Changes) == 0 && op.drifted() {
			by = decisionOn(p.Accepted, op.Object, "")
		}
		switch {
		case by == nil:
		case op.Kind == OpCorrect && len(left) == len(op.Changes), op.Kind == OpRecreate:
			op.Accepted = by
			op.hold(GateDrift, fmt.Sprintf("accepted until %s by %s: %s (%s)", clock(by.Until), by.Author, by.Reason, by.ID))
		default:
			op.Leave = append(op.Leave, left...)
		}
	}
}
