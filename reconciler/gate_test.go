package reconciler

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// TestEveryPairOfGates: of two gates that hold the same operation, the one that
// comes first in the order is told, and both are named.
func TestEveryPairOfGates(t *testing.T) {
	// Each gate, as it is set up in a policy and among the operations.
	gate := func(kind GateKind) func(*Policy, *[]Operation) {
		return func(p *Policy, _ *[]Operation) {
			p.Gates = append(p.Gates, Gate{Kind: kind, Why: "by " + string(kind)})
		}
	}
	setups := map[GateKind]func(*Policy, *[]Operation){
		GateMode: func(p *Policy, _ *[]Operation) { p.Mode = environment.ModePlan },
		GateHold: func(p *Policy, _ *[]Operation) {
			p.Gates = append(p.Gates, Hold{ID: "hold-1", Author: "anna", Reason: "why"}.gate())
		},
		GateReturned: gate(GateReturned), GateSource: gate(GateSource), GateAfter: gate(GateAfter),
		GateDependsOn: gate(GateDependsOn), GateRollout: gate(GateRollout), GateWindow: gate(GateWindow),
		GateRemoval: gate(GateRemoval),
		GateUnread: func(_ *Policy, ops *[]Operation) {
			*ops = append(*ops, Operation{Object: thing("Secret", "", ""), Kind: OpUnknown, Err: errors.New("forbidden")})
		},
		GateProtected: func(_ *Policy, ops *[]Operation) { (*ops)[0].Protected = true },
		GateBudget:    func(p *Policy, _ *[]Operation) { p.Budget = &environment.DeletionBudget{} },
	}
	for i, first := range gateOrder {
		for _, second := range gateOrder[i+1:] {
			a, b := setups[first], setups[second]
			if a == nil || b == nil {
				continue // these hold no deletes, or are set before the plan
			}
			t.Run(fmt.Sprintf("%s before %s", first, second), func(t *testing.T) {
				p := Policy{Mode: environment.ModeApply, Prune: true, Reach: Reach{Namespaces: []string{"*"}, Cluster: true}, Wanted: 1}
				ops := deletes(1)
				b(&p, &ops)
				a(&p, &ops)
				op := NewPlan(ops, p).Operations[0]
				if !slices.Contains(op.HeldBy, first) || !slices.Contains(op.HeldBy, second) || op.HeldBy[0] != first {
					t.Errorf("held by %v (%s), want %s then %s", op.HeldBy, op.Held, first, second)
				}
			})
		}
	}
}

func TestRevisionGatesLetDriftBeCorrected(t *testing.T) {
	for _, kind := range []GateKind{GateAfter, GateDependsOn, GateWindow, GateReturned} {
		p := Policy{Mode: environment.ModeApply, Prune: true, Reach: Reach{Namespaces: []string{"*"}}, Gates: []Gate{{Kind: kind, Why: "x"}}}
		plan := NewPlan([]Operation{{Object: thing("A", "web", "a"), Kind: OpCorrect}, {Object: thing("A", "web", "b"), Kind: OpUpdate}}, p)
		if a := plan.Active(); len(a) != 1 || a[0].Kind != OpCorrect {
			t.Errorf("%s: active are %+v, want the correction alone", kind, a)
		}
	}
}

func TestAHoldStopsWritesAndEndsByItself(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.assign(b.assignment("1", thingItem("a", "blue")))
		h := b.hold(HoldRequest{Environments: []string{"prod"}})
		b.assign(b.assignment("2", thingItem("a", "green")))
		b.shelf.put(thing("Thing", "web", "a"), "red")
		b.hint("a")
		if got := b.thing("a"); got != "red" {
			b.Errorf("a is %q while it is held", got)
		}
		s := b.of("prod")
		if !slices.Contains(gateKinds(s), GateHold) || !strings.Contains(s.Gates[0].Why, "anna: looking into it ("+h.ID+")") {
			b.Errorf("gates %+v", s.Gates)
		}
		if run := b.resync("prod", Trigger{}); run.Result != Held {
			b.Errorf("a resync of it ended %s", run.Result)
		}
		b.pass(2*time.Hour + time.Minute)
		if got := b.thing("a"); got != "green" {
			b.Errorf("a is %q after the hold", got)
		}
		if s := b.of("prod"); len(s.Gates) != 0 || s.Sync != SyncClean {
			b.Errorf("after the hold: %s, %+v", s.Sync, s.Gates)
		}
	})
}

func TestAResyncPassesAHoldOnlyByItsName(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.assign(b.assignment("1", thingItem("a", "blue")))
		h := b.hold(HoldRequest{})
		b.assign(b.assignment("2", thingItem("a", "green")))
		if b.resync("prod", Trigger{Through: []string{"hold-other"}}); b.thing("a") != "blue" {
			b.Error("passed with another hold's name")
		}
		if b.resync("prod", Trigger{Through: []string{h.ID}, Because: "urgent"}); b.thing("a") != "green" {
			b.Error("did not pass with the hold's name")
		}
		if _, err := b.engine.EndHold(b.Context(), h.ID, time.Time{}); err != nil {
			b.Fatal(err)
		}
		synctest.Wait()
		if s := b.of("prod"); len(s.Gates) != 0 {
			b.Errorf("after its end: %+v", s.Gates)
		}
		if _, err := b.engine.EndHold(b.Context(), h.ID, time.Time{}); err == nil {
			b.Error("a hold that has ended could be ended again")
		}
	})
}

func TestAHoldOfAnObjectLetsOthersBe(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.assign(b.assignment("1", thingItem("a", "blue"), thingItem("b", "blue")))
		id := thing("Thing", "web", "a")
		b.hold(HoldRequest{Environments: []string{"prod"}, Object: &id})
		b.assign(b.assignment("2", thingItem("a", "green"), thingItem("b", "green")))
		if b.thing("a") != "blue" || b.thing("b") != "green" {
			b.Errorf("a is %q, b %q", b.thing("a"), b.thing("b"))
		}
	})
}

func TestBadHoldsAreRefused(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.assign(b.assignment("1", thingItem("a", "blue")))
		id := thing("Thing", "web", "a")
		until := time.Now().Add(time.Hour)
		for _, r := range []HoldRequest{
			{Until: until}, {Reason: "x", Until: time.Now()}, {Reason: "x", Until: time.Now().Add(40 * 24 * time.Hour)},
			{Reason: "x", Until: until, Object: &id}, {Reason: "x", Until: until, Environments: []string{"nope"}},
		} {
			if _, err := b.engine.Hold(b.Context(), r); err == nil {
				b.Errorf("%+v was accepted", r)
			}
		}
		if s := b.of("prod"); len(s.Gates) != 0 {
			b.Errorf("gates %+v", s.Gates)
		}
	})
}

func TestRollbackBringsAnOlderRevisionBackAndKeepsIt(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.assign(b.assignment("1", thingItem("a", "blue")))
		b.assign(b.assignment("2", thingItem("a", "green")))
		run, plan, err := b.engine.Rollback(b.Context(), "prod", RollbackRequest{Author: "anna", Reason: "errors"})
		if err != nil {
			b.Fatal(err)
		}
		if len(plan.Operations) != 1 || plan.Operations[0].Kind != OpUpdate || plan.Revision.ID != "1" {
			b.Errorf("plan %+v", plan)
		}
		if run, _ = b.engine.Wait(b.Context(), run.ID); run.Revision.ID != "1" || b.thing("a") != "blue" {
			b.Errorf("run at %s, a is %q", run.Revision.ID, b.thing("a"))
		}
		b.assign(b.assignment("3", thingItem("a", "yellow")))
		b.shelf.put(thing("Thing", "web", "a"), "red")
		b.hint("a")
		if got := b.thing("a"); got != "blue" {
			b.Errorf("a is %q; want it healed against the revision rolled back to", got)
		}
		if s := b.of("prod"); !slices.Contains(gateKinds(s), GatePin) {
			b.Errorf("gates %+v", s.Gates)
		}
		if _, err := b.engine.Release(b.Context(), "prod", "anna"); err != nil {
			b.Fatal(err)
		}
		synctest.Wait()
		if got := b.thing("a"); got != "yellow" {
			b.Errorf("a is %q after the release", got)
		}
		if _, err := b.engine.Release(b.Context(), "prod", "anna"); err == nil {
			b.Error("what is not rolled back could be released")
		}
	})
}

func TestRollbackNeedsARevisionThatIsKnown(t *testing.T) {
	state := State{Accepted: rev("aaaa1111"), Ready: rev("bbbb2222"), Earlier: []sources.Revision{rev("bbbb2222"), rev("bbbb3333")}}
	for to, want := range map[string]string{"": "bbbb2222", "bbbb3": "bbbb3333", "aaaa": "aaaa1111", "bbbb": "", "cccc": "", "bb": ""} {
		got, err := rollbackTarget(state, sources.Revision{}, to)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q leads to %q, error %v; want %q", to, got, err, want)
		}
	}
}

func rev(id string) sources.Revision { return sources.Revision{ID: id} }
