package reconciler

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/severity"
)

// sighting is what a comparison or a correction found to have drifted.
type sighting struct {
	op      Operation
	changes []drift.Change
	class   drift.Class
	fate    drift.Fate
	// next says the same as the fate, for people.
	next string
	seen time.Time
}

// fateOf is what becomes of a drift that is not put back, by the gate that is
// told.
func fateOf(op Operation) drift.Fate {
	if op.Accepted != nil {
		return drift.Accepted
	}
	switch {
	case op.heldFirstBy(GateFight):
		return drift.Fought
	case op.heldFirstBy(GateDrift), op.heldFirstBy(GateMode):
		return drift.Reported
	case op.heldFirstBy(GateHold), op.heldFirstBy(GateWindow):
		return drift.Held
	}
	return drift.Waits
}

// seeDrift writes a sighting into the book, and one log line for a new episode.
func (w *worker) seeDrift(s sighting, a Assignment) {
	op := s.op
	class := s.class
	if class == "" {
		class = op.Class
	}
	episode, fresh := w.engine.book.See(drift.Sighting{
		Environment: w.name, Target: a.Spec.Target, Object: op.Object, Class: class, Changes: w.graded(s, class, a),
		Origin: op.Item.Origin, Revision: a.Revision.Short(), Commit: a.Revision.ID, Author: a.Revision.Author,
		Cause: causeOf(s.changes), Next: s.next, Fate: s.fate, Decision: op.Accepted,
		Seen: s.seen, At: time.Now(),
	})
	w.mu.Lock()
	w.driftAt = time.Now()
	w.mu.Unlock()
	w.tell()
	o := w.engine.opts.Observer
	if !fresh {
		if o != nil {
			o.DriftChanged(episode)
		}
		return
	}
	w.logDrift(episode)
	if o != nil {
		o.DriftSeen(episode, time.Since(s.seen))
	}
}

// graded are the changes with what the files say and how bad each is.
func (w *worker) graded(s sighting, class drift.Class, a Assignment) []drift.Change {
	if w.grader == nil || !w.grader.Of(a.Spec.Drift.Severity) {
		w.grader = severity.New(a.Spec.Drift.Severity)
	}
	changes := slices.Clone(s.changes)
	if len(changes) == 0 {
		changes = []drift.Change{{Desired: drift.NewValue("present", false), Live: drift.Absent(), Manager: drift.Unknown}}
		if class != drift.Missing {
			changes[0].Live = drift.NewValue("present", false)
		}
	}
	for i := range changes {
		c := &changes[i]
		c.Severity, c.SeverityRule = w.grader.Grade(severity.Subject{
			Environment: w.name, Labels: a.Spec.Labels, Object: s.op.Object, Class: class, Path: c.Path, Manager: c.Manager,
		})
		if c.Path != "" && s.op.Item.Body != nil {
			git := drift.At(s.op.Item.Body, c.Path, s.op.Item.Sensitive)
			c.Git = &git
		}
	}
	return changes
}

func (w *worker) logDrift(e drift.Episode) {
	event := w.log.Info().Str("object", e.Object.String()).Str("class", string(e.Class)).Str("severity", string(e.Severity))
	for i, c := range e.Changes {
		if i == 5 {
			event = event.Int("fields", len(e.Changes))
			break
		}
		event = event.Str(fmt.Sprintf("field%d", i+1), fmt.Sprintf("%s: desired %s, live %s, by %s", c.Path, c.Desired, c.Live, c.Manager))
	}
	event.Str("next", e.Next).Msg("drift")
}

func causeOf(changes []drift.Change) drift.Cause {
	managers := make([]string, len(changes))
	for i, c := range changes {
		managers[i] = c.Manager
	}
	return drift.CauseOf(managers)
}

// addTo adds to a report what is not drift but has to be known to read it: how
// well the environment is seen, and where git is newer than what is live.
func (w *worker) addTo(r *Report) {
	s := w.status()
	d := drift.Detector{Environment: s.Name, Target: s.Target, Sight: drift.Fresh, AsOf: s.AsOf}
	if why := unsure(s); why != "" {
		if r.Unsure == nil {
			r.Unsure = map[string]string{}
		}
		r.Unsure[s.Name] = why
		d.Why, d.Sight = why, drift.Blind
		if s.Compared {
			d.Sight = drift.Stale
		}
	}
	r.Detectors = append(r.Detectors, d)
	if s.LastRun == nil {
		return
	}
	for _, wait := range s.LastRun.Waiting {
		if wait.Op == OpUpdate || wait.Op == OpCreate || wait.Op == OpRecreate {
			r.Behind = append(r.Behind, drift.Behind{
				Environment: s.Name, Object: wait.Object, Class: drift.StaleRevision, Cause: drift.GitNewer, Next: "waits: " + wait.Why,
			})
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.failed {
		r.Behind = append(r.Behind, drift.Behind{
			Environment: s.Name, Object: c.Object, Class: drift.StaleRevision, Cause: drift.Interrupted, Next: "is retried: " + c.Error,
		})
	}
}
