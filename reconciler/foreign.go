package reconciler

import (
	"cmp"
	"context"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/severity"
	"github.com/holdfast-gitops/holdfast/sources"
)

// Foreign is what somebody else added: fields of a thing of ours, or a thing.
type Foreign struct {
	Object sources.ID
	// Class is drift.ExtraField or drift.Unmanaged.
	Class drift.Class
	// Changes say what was added and by whom; with none it is there no more.
	Changes []drift.Change
	// Note says what else there is to know.
	Note string
}

// Survey is what was found in one environment. A complete one holds all that there
// is; any other is about single things.
type Survey struct {
	Environment string
	Found       []Foreign
	Complete    bool
}

// Surveyor is a driver that finds what others add, in environments of which a Scope
// has asked for that. It blocks until ctx ends.
type Surveyor interface {
	Survey(ctx context.Context, found func(Survey)) error
}

// Surveyed takes in what a driver found.
func (e *Engine) Surveyed(s Survey) {
	e.mu.Lock()
	w := e.workers[s.Environment]
	e.mu.Unlock()
	if w == nil {
		return
	}
	a, ok := w.assignment()
	if !ok {
		return
	}
	now := time.Now()
	there, ended := map[sources.ID]bool{}, map[sources.ID]bool{}
	grader := severity.New(a.Spec.Drift.Severity)
	for _, f := range s.Found {
		if len(f.Changes) == 0 {
			ended[f.Object] = true
			continue
		}
		there[f.Object] = true
		e.seeForeign(w, a, f, grader, now)
	}
	keep := func(id sources.ID) bool { return !ended[id] }
	if s.Complete {
		keep = func(id sources.ID) bool { return there[id] }
	}
	over := e.book.EndForeign(s.Environment, now, keep)
	if o := e.opts.Observer; o != nil {
		for _, episode := range over {
			o.DriftEnded(episode)
		}
	}
}

// seeForeign writes one into the book. Seen again as it was, it is no news.
func (e *Engine) seeForeign(w *worker, a Assignment, f Foreign, grader *severity.Grader, now time.Time) {
	managers := make([]string, len(f.Changes))
	for i := range f.Changes {
		c := &f.Changes[i]
		managers[i] = c.Manager
		c.Severity, c.SeverityRule = grader.Grade(severity.Subject{
			Environment: w.name, Labels: a.Spec.Labels, Object: f.Object, Class: f.Class, Path: c.Path, Manager: c.Manager,
		})
	}
	s := drift.Sighting{
		Environment: w.name, Target: a.Spec.Target, Object: f.Object, Class: f.Class, Changes: f.Changes,
		Revision: a.Revision.Short(), Commit: a.Revision.ID, Cause: drift.CauseOf(managers), Fate: drift.Reported,
		Next: cmp.Or(f.Note, "stays: git does not speak of it"), Seen: now, At: now,
	}
	if e.book.Touch(s) {
		return
	}
	episode, fresh := e.book.See(s)
	if fresh {
		w.logDrift(episode)
	}
	switch o := e.opts.Observer; {
	case o == nil:
	case fresh:
		o.DriftSeen(episode, 0)
	default:
		o.DriftChanged(episode)
	}
}
