package reconciler

import (
	"context"
	"maps"
	"slices"
	"testing/synctest"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
)

// What a shelf keeps about environments, and knows of their health.

func (s *shelf) State(_ context.Context, name string) (State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.states[name]
	state.Holds = slices.Clone(state.Holds)
	return state, nil
}

func (s *shelf) SaveState(_ context.Context, name string, change func(*State) error) (State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.states[name]
	state.Holds = slices.Clone(state.Holds)
	if err := change(&state); err != nil {
		return state, err
	}
	s.states[name] = state
	return state, nil
}

func (s *shelf) Environments(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.states)), func(name string) bool { return name == "" }), nil
}

func (s *shelf) Detach(_ context.Context, name string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.owner, func(_ sources.ID, owner string) bool { return owner == name })
	return 0, nil
}

func (s *shelf) Forget(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.states, name)
	return nil
}

func (s *shelf) Ready(name string) (bool, []Unready) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.unready[name]) == 0, s.unready[name]
}

func (s *shelf) WatchReady(context.Context, func(string)) error { return nil }

// breakHealth makes a thing of an environment unready; no thing mends it.
func (b *bench) breakHealth(environment string, broken ...sources.ID) {
	b.shelf.mu.Lock()
	b.shelf.unready[environment] = nil
	for _, id := range broken {
		b.shelf.unready[environment] = append(b.shelf.unready[environment], Unready{Object: id, Why: "does not start", RootCause: "Pod web-1: ImagePullBackOff"})
	}
	b.shelf.mu.Unlock()
	b.engine.ReadyChanged(environment)
	synctest.Wait()
}

// named is an assignment of another environment.
func (b *bench) named(name, revision string, items ...sources.Item) Assignment {
	a := b.assignment(revision, items...)
	a.Spec.Name = name
	return a
}

func (b *bench) of(name string) Status {
	s, ok := b.engine.Environment(name)
	if !ok {
		b.Fatalf("no environment %s", name)
	}
	return s
}

func (b *bench) resync(name string, t Trigger) Run {
	b.Helper()
	t.Reason = ReasonOnCall
	runs, err := b.engine.Resync([]string{name}, t)
	if err != nil {
		b.Fatal(err)
	}
	run, err := b.engine.Wait(b.Context(), runs[0].ID)
	if err != nil {
		b.Fatal(err)
	}
	synctest.Wait()
	return run
}

func (b *bench) hold(r HoldRequest) Hold {
	b.Helper()
	r.Author, r.Reason = "anna", "looking into it"
	if r.Until.IsZero() {
		r.Until = time.Now().Add(2 * time.Hour)
	}
	holds, err := b.engine.Hold(b.Context(), r)
	if err != nil {
		b.Fatal(err)
	}
	synctest.Wait()
	return holds[0]
}

func (b *bench) thing(name string) string { return b.shelf.get(thing("Thing", "web", name)) }

func gateKinds(s Status) []GateKind {
	var out []GateKind
	for _, g := range s.Gates {
		out = append(out, g.Kind)
	}
	return out
}
