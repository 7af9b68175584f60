package reconciler

import (
	"context"
	"time"

	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// rememberTimeout bounds the writing of an environment's state after a run.
const rememberTimeout = 30 * time.Second

// remember notes in the environment's state that a revision was accepted, and
// what has to be known when the spec has left. A revision that changed nothing is
// not worth a write: the one before renders to the same.
func (w *worker) remember(ctx context.Context, d Driver, c choice, out *Run) {
	k, ok := d.(Keeper)
	if !ok {
		return
	}
	accepts := w.accepts(c, out)
	if !accepts && !c.state.outdated(c.a) {
		return
	}
	w.acceptLater = accepts
	w.accepted = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rememberTimeout)
		defer cancel()
		_, err := k.SaveState(ctx, w.name, func(s *State) error {
			if accepts {
				s.accept(c.a.Revision)
				s.Rendered = w.renderedNow(c.a)
			}
			s.describe(c.a)
			return nil
		})
		if err != nil {
			w.log.Warn().Err(err).Msg("the environment's state could not be noted; it is tried again with the next run")
			return
		}
		w.acceptLater = false
	}
}

// accepts reports whether a run's revision is to be noted as accepted.
func (w *worker) accepts(c choice, out *Run) bool {
	if (c.head != nil || len(c.waits) > 0) && !c.promoted || c.state.pinned(time.Now()) != nil || c.a.Spec.Mode == environment.ModePlan {
		return false
	}
	if c.state.Accepted.ID == c.a.Revision.ID || out.Result == Failed {
		return false
	}
	written := out.Counts.Created + out.Counts.Updated + out.Counts.Adopted + out.Counts.Deleted
	return written > 0 || c.state.Accepted.ID == "" || w.acceptLater
}

// outdated reports whether the state says something else about the assignment
// than it is, or still that the spec has left.
func (s State) outdated(a Assignment) bool {
	if s.Accepted.ID == "" && s.Removed == nil {
		return false // nothing of it is there yet
	}
	was := s
	was.describe(a)
	return s.Removed != nil || was.Source != s.Source || was.Deletion != s.Deletion || was.Identity != s.Identity || was.Mode != s.Mode
}

// describe writes down what has to be known of an assignment when its spec has
// left. A confirmation that its objects go is void: the spec is here.
func (s *State) describe(a Assignment) {
	s.Source, s.Deletion, s.Identity, s.Removed = a.Source, string(deletionOf(a.Spec)), a.Identity, nil
	s.Mode = ""
	if a.Spec.Mode == environment.ModePlan {
		s.Mode = string(environment.ModePlan)
	}
}
