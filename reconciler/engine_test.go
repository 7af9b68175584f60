package reconciler

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// shelf is a target in memory: named things with a text. It stands for any
// driver, so that what the engine promises is tested without a cluster.
type shelf struct {
	mu     sync.Mutex
	things map[sources.ID]string
	// applied is what was last written to each.
	applied map[sources.ID]string
	// owner is the environment that wrote each.
	owner map[sources.ID]string
	// states is what is kept about environments.
	states map[string]State
	// unready is what each environment waits for.
	unready map[string][]Unready
	// unproven are things of which nothing proves that they may be deleted.
	unproven map[sources.ID]bool
	// writes counts applied operations, looks comparisons; block holds up every
	// comparison.
	writes int
	looks  int
	block  chan struct{}
	fail   error
	// refuse fails the writing of one thing, and slow holds it up until it is closed.
	refuse sources.ID
	slow   map[sources.ID]chan struct{}
	// fixed is a thing that nothing changes in place; remake allows to make it again.
	fixed  sources.ID
	remake bool
}

func (s *shelf) Compare(ctx context.Context, want []sources.Item, scope Scope) ([]Operation, error) {
	if s.block != nil {
		select {
		case <-s.block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	if s.fail != nil {
		return nil, s.fail
	}
	var ops []Operation
	unwanted := maps.Clone(s.things)
	maps.DeleteFunc(unwanted, func(id sources.ID, _ string) bool { return s.owner[id] != scope.Environment })
	for _, item := range want {
		live, there := s.things[item.ID]
		delete(unwanted, item.ID)
		op := Operation{Object: item.ID, Item: item, Digest: item.Digest}
		owner := s.owner[item.ID]
		switch {
		case !there:
			op.Kind = OpCreate
		case owner != scope.Environment && owner != "" && !scope.MayTake(item.ID, owner):
			op.Kind, op.Err = OpConflict, errors.New("belongs to environment "+owner)
		case owner != scope.Environment && owner != "":
			op.Kind, op.Moves = OpAdopt, true
		case live == string(item.Body):
			op.Kind = OpUnchanged
		case s.applied[item.ID] == string(item.Body):
			op.Kind, op.Class = OpCorrect, drift.Changed
			if item.ID == s.fixed && s.remake {
				op.Kind = OpRecreate
			} else if item.ID == s.fixed {
				op.Kind, op.Err = OpConflict, errors.New("cannot be changed")
			}
		default:
			op.Kind = OpUpdate
		}
		ops = append(ops, op)
	}
	for id := range unwanted {
		if !scope.Partial {
			op := Operation{Object: id, Kind: OpDelete, Protected: id.Kind == "Vault"}
			if s.unproven[id] {
				op.Held, op.HeldBy = "nothing proves that it is ours", []GateKind{GateUnproven}
			}
			ops = append(ops, op)
		}
	}
	return ops, nil
}

func (s *shelf) Apply(ctx context.Context, p Plan, done func(Outcome)) error {
	for _, op := range p.Active() {
		if slow := s.slow[op.Object]; slow != nil {
			select {
			case <-slow:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		s.mu.Lock()
		s.writes++
		if op.Object == s.refuse {
			s.mu.Unlock()
			done(Outcome{Operation: op, Err: errors.New("refused")})
			continue
		}
		if op.Kind == OpDelete {
			delete(s.things, op.Object)
		} else {
			s.owner[op.Object] = p.Environment
			s.things[op.Object] = string(op.Item.Body)
			s.applied[op.Object] = string(op.Item.Body)
		}
		s.mu.Unlock()
		done(Outcome{Operation: op, Class: op.Class})
	}
	return nil
}

func (s *shelf) Watch(context.Context, func(Hint)) error { return nil }
func (s *shelf) Health(string) (time.Time, []string)     { return time.Now(), nil }

func (s *shelf) put(id sources.ID, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.things[id] = text
}

func (s *shelf) get(id sources.ID) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.things[id]
}

// bench is an engine over a shelf.
type bench struct {
	*testing.T
	shelf  *shelf
	engine *Engine
	// fetched counts refreshes.
	fetched int
	// known are the assignments that were ever made, by name@revision.
	known map[string]Assignment
}

func thingItem(name, text string) sources.Item {
	return sources.NewItem(thing("Thing", "web", name), "v1", sources.Origin{File: name + ".yaml", Line: 1}, []byte(text), false)
}

// withEngine runs a test in its own time.
func withEngine(t *testing.T, test func(*bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t, known: map[string]Assignment{}, shelf: &shelf{things: map[sources.ID]string{}, applied: map[sources.ID]string{}, owner: map[sources.ID]string{}, states: map[string]State{}, unready: map[string][]Unready{}}}
		b.engine = New(Options{
			Drivers: map[string]Driver{"default": b.shelf}, Log: zerolog.Nop(),
			Refresh: func(context.Context, string) error { b.fetched++; return nil },
			Reach:   func(string, string) Reach { return Reach{Namespaces: []string{"*"}} },
			At: func(_ context.Context, _, name, revision string) (Assignment, error) {
				if a, ok := b.known[name+"@"+revision]; ok {
					return a, nil
				}
				return Assignment{}, errors.New("no revision " + revision)
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = b.engine.Run(ctx) // never fails
		}()
		test(b)
		cancel()
		<-done
	})
}

func (b *bench) assignment(revision string, items ...sources.Item) Assignment {
	return Assignment{
		Spec: environment.Spec{
			Name: "prod", Path: "app", Target: "default", Mode: environment.ModeApply,
			Drift: environment.Drift{Mode: environment.DriftCorrect}, Prune: true,
		},
		Source: "shop", Revision: sources.Revision{ID: revision}, Reach: Reach{Namespaces: []string{"*"}},
		Render: func(context.Context) ([]sources.Item, error) { return items, nil },
	}
}

func (b *bench) assign(all ...Assignment) {
	for _, a := range all {
		b.known[a.Spec.Name+"@"+a.Revision.ID] = a
	}
	b.engine.Assign(b.Context(), "shop", all, true, Trigger{Reason: ReasonPoll})
	synctest.Wait()
}

// pass lets the test's own time pass, which costs none.
func (b *bench) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (b *bench) status() Status {
	s, ok := b.engine.Environment("prod")
	if !ok {
		b.Fatal("no such environment")
	}
	return s
}

func (b *bench) hint(name string) {
	b.engine.Hint(Hint{Environment: "prod", Object: thing("Thing", "web", name), Seen: time.Now()})
	synctest.Wait()
}

func TestTriggersDuringARunCauseExactlyOneMore(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.assign(b.assignment("1", thingItem("a", "blue")))
		b.shelf.block = make(chan struct{})
		first, err := b.engine.Resync(nil, Trigger{Reason: ReasonOnCall})
		if err != nil {
			b.Fatal(err)
		}
		synctest.Wait() // the run is under way now
		ids := map[string]bool{}
		for range 5 {
			runs, err := b.engine.Resync([]string{"prod"}, Trigger{Reason: ReasonOnCall})
			if err != nil {
				b.Fatal(err)
			}
			ids[runs[0].ID] = true
		}
		if len(ids) != 1 || ids[first[0].ID] {
			b.Errorf("five triggers during run %s were promised the runs %v; want one other", first[0].ID, ids)
		}
		close(b.shelf.block)
		for id := range ids {
			if run, err := b.engine.Wait(b.Context(), id); err != nil || run.Result != Unchanged {
				b.Errorf("the run after: %+v, %v", run, err)
			}
		}
		if b.fetched != 2 {
			b.Errorf("%d fetches, want one for each run", b.fetched)
		}
	})
}

func TestUnknownEnvironmentIsNamed(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.assign(b.assignment("1", thingItem("a", "blue")))
		if _, err := b.engine.Resync([]string{"prd"}, Trigger{}); err == nil || !strings.Contains(err.Error(), "there are: prod") {
			b.Errorf("got %v", err)
		}
	})
}

func TestBrokenHeadKeepsHealingTheLastGoodState(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.assign(b.assignment("1", thingItem("a", "blue"), thingItem("b", "blue")))
		broken := b.assignment("2")
		broken.Render = func(context.Context) ([]sources.Item, error) {
			return nil, sources.Problem{File: "a.yaml", Line: 3, Message: "is broken"}
		}
		b.assign(broken)
		if s := b.status(); s.Sync != SyncFailed || s.LastRun.Result != Failed || s.Errors.Error() != "a.yaml:3: is broken" || s.Applied.ID != "1" || s.Head.ID != "2" {
			b.Errorf("status %+v", s)
		}
		b.shelf.put(thing("Thing", "web", "a"), "red")
		b.hint("a")
		if got := b.shelf.get(thing("Thing", "web", "a")); got != "blue" || len(b.shelf.things) != 2 {
			b.Errorf("a is %q of %d things; want it healed, and nothing deleted", got, len(b.shelf.things))
		}
		b.assign(b.assignment("3", thingItem("a", "green"), thingItem("b", "blue")))
		if s := b.status(); s.Sync != SyncClean || len(s.Errors) != 0 || s.Applied.ID != "3" {
			b.Errorf("mended: %+v", s)
		}
	})
}

func TestBrokenSpecAndEmptyRenderDeleteNothing(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.assign(b.assignment("1", thingItem("a", "blue")))
		b.assign(Assignment{Spec: environment.Spec{Name: "prod"}, Source: "shop", Revision: sources.Revision{ID: "2"}, Problem: sources.Problem{File: "e.yaml", Line: 2, Message: "bad"}})
		if s := b.status(); s.Sync != SyncFailed || s.Path != "app" || s.Errors.Error() != "e.yaml:2: bad" {
			b.Errorf("broken spec: %+v", s)
		}
		b.assign(b.assignment("3"))
		if s := b.status(); s.LastRun.Result != Failed || !strings.Contains(s.Errors.Error(), "renders to nothing") {
			b.Errorf("empty render: %+v", s)
		}
		b.assign()
		if s := b.status(); s.Sync != SyncRemoved {
			b.Errorf("spec left git: %+v", s)
		}
		if b.shelf.get(thing("Thing", "web", "a")) != "blue" {
			b.Error("a was deleted")
		}
	})
}

func TestFailedRunsAreRetriedWithBackoff(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.shelf.fail = errors.New("target is away")
		b.assign(b.assignment("1", thingItem("a", "blue")))
		if s := b.status(); s.LastRun.Result != Failed {
			b.Fatalf("status %+v", s)
		}
		b.shelf.mu.Lock()
		b.shelf.fail = nil
		b.shelf.mu.Unlock()
		b.pass(7 * time.Second)
		if s := b.status(); s.LastRun.Result != Applied || s.LastRun.Trigger.Reason != ReasonTimer {
			b.Errorf("after the backoff: %+v", s.LastRun)
		}
	})
}

func TestFightingWriterSlowsCorrectionsDown(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.assign(b.assignment("1", thingItem("a", "blue")))
		for range 50 {
			b.shelf.put(thing("Thing", "web", "a"), "red")
			b.hint("a")
		}
		b.shelf.mu.Lock()
		got := b.shelf.writes
		b.shelf.mu.Unlock()
		if got < 5 || got > 8 {
			b.Errorf("%d writes against 50 foreign ones at once; want the first few only", got)
		}
		b.pass(10 * time.Minute)
		if got := b.shelf.get(thing("Thing", "web", "a")); got != "blue" {
			b.Errorf("a is %q long after the fight; want it corrected", got)
		}
	})
}

func TestOneNameFromTwoSourcesIsRefused(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.assign(b.assignment("1", thingItem("a", "blue")))
		other := b.assignment("9", thingItem("z", "black"))
		other.Source = "copy"
		b.engine.Assign(b.Context(), "copy", []Assignment{other}, true, Trigger{Reason: ReasonPoll})
		synctest.Wait()
		if s := b.status(); s.Source != "shop" || !strings.Contains(s.Errors.Error(), `sources "shop" and "copy" both have an environment of this name`) {
			b.Errorf("status %+v", s)
		}
		if b.shelf.get(thing("Thing", "web", "z")) != "" {
			b.Error("the second source's environment was applied")
		}
	})
}

func TestTriggerDuringTheFetchIsNotSwallowed(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.assign(b.assignment("1", thingItem("a", "blue")))
		fetching, fetched := make(chan struct{}), make(chan struct{})
		b.engine.opts.Refresh = func(context.Context, string) error {
			fetching <- struct{}{}
			<-fetched
			return nil
		}
		first, _ := b.engine.Resync(nil, Trigger{Reason: ReasonOnCall})
		<-fetching
		second, _ := b.engine.Resync(nil, Trigger{Reason: ReasonOnCall, Verify: true})
		fetched <- struct{}{}
		<-fetching // the second run fetches for itself
		fetched <- struct{}{}
		one, _ := b.engine.Wait(b.Context(), first[0].ID)
		two, _ := b.engine.Wait(b.Context(), second[0].ID)
		if one.Trigger.Verify || !two.Trigger.Verify || !two.Started.After(one.Started) && two.Started != one.Finished {
			b.Errorf("runs %+v and %+v", one, two)
		}
	})
}

func TestReportedDriftStaysOpenOverRunsAndHints(t *testing.T) {
	withEngine(t, func(b *bench) {
		a := b.assignment("1", thingItem("a", "blue"))
		b.assign(a)
		b.shelf.put(thing("Thing", "web", "a"), "red")
		a.Spec.Drift.Mode = environment.DriftReport
		b.assign(a)
		b.hint("a")
		runs, _ := b.engine.Resync(nil, Trigger{Reason: ReasonOnCall})
		if _, err := b.engine.Wait(b.Context(), runs[0].ID); err != nil {
			b.Fatal(err)
		}
		if got := b.shelf.get(thing("Thing", "web", "a")); got != "red" {
			b.Errorf("report mode wrote: a is %q", got)
		}
		if s := b.status(); s.Sync != SyncDrifted || s.OpenDrifts != 1 || len(b.engine.Drift(Filter{OpenOnly: true}).Episodes) != 1 {
			b.Errorf("status %+v; want one open drift", s)
		}
	})
}

func TestFailingCorrectionIsRetriedSparingly(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.assign(b.assignment("1", thingItem("a", "blue")))
		b.shelf.mu.Lock()
		b.shelf.fail = errors.New("target is away")
		b.shelf.things[thing("Thing", "web", "a")] = "red"
		b.shelf.mu.Unlock()
		for range 20 {
			b.hint("a")
		}
		b.shelf.mu.Lock()
		before := b.shelf.looks
		b.shelf.mu.Unlock()
		b.pass(10 * time.Minute)
		b.shelf.mu.Lock()
		if retries := b.shelf.looks - before; retries < 1 || retries > 5 {
			b.Errorf("%d retries of one thing in ten minutes", retries)
		}
		b.shelf.fail = nil
		b.shelf.mu.Unlock()
		b.pass(6 * time.Minute)
		if got := b.shelf.get(thing("Thing", "web", "a")); got != "blue" {
			b.Errorf("a is %q when the target is back; want it corrected", got)
		}
	})
}

// Drift that cannot be put back in place is known as such, and made again where that is
// allowed; that is a correction.
func TestDriftThatNothingPutsBackInPlace(t *testing.T) {
	withEngine(t, func(b *bench) {
		id := thing("Thing", "web", "a")
		b.assign(b.assignment("1", thingItem("a", "blue")))
		b.shelf.fixed = id
		b.shelf.put(id, "by hand")
		b.hint("a")
		open := b.engine.Drift(Filter{OpenOnly: true}).Episodes
		if len(open) != 1 || open[0].Object != id || open[0].Fate != drift.Retried || !strings.Contains(open[0].Next, "cannot be changed") {
			b.Fatalf("told: %+v", open)
		}
		b.shelf.mu.Lock()
		b.shelf.remake = true
		b.shelf.mu.Unlock()
		b.resync("prod", Trigger{})
		all := b.engine.Drift(Filter{}).Episodes
		if len(all) != 1 || all[0].ID != open[0].ID || all[0].State != drift.Corrected || b.shelf.get(id) != "blue" {
			b.Errorf("afterwards: %+v, live %q", all, b.shelf.get(id))
		}
	})
}

func TestWhatLeftGitIsNotHealed(t *testing.T) {
	withEngine(t, func(b *bench) {
		a := b.assignment("1", thingItem("a", "blue"), thingItem("b", "blue"))
		b.assign(a)
		b.shelf.mu.Lock()
		delete(b.shelf.things, thing("Thing", "web", "b"))
		b.shelf.mu.Unlock()
		b.assign(b.assignment("2", thingItem("a", "blue")))
		b.hint("b")
		if got := b.shelf.get(thing("Thing", "web", "b")); got != "" {
			b.Error("b left git and was made again")
		}
	})
}
