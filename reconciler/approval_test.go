package reconciler

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

func TestAFirstRunTakesOverOnlyWhenApproved(t *testing.T) {
	adopt := Operation{Object: thing("A", "web", "a"), Kind: OpAdopt, UID: "1"}
	create := Operation{Object: thing("A", "web", "b"), Kind: OpCreate}
	moved := Operation{Object: thing("A", "web", "c"), Kind: OpAdopt, Moves: true}
	p := Policy{Mode: environment.ModeApply, Prune: true, Reach: Reach{Namespaces: []string{"*"}}, Wanted: 3, First: true}
	ops := []Operation{adopt, create, moved}
	plan := NewPlan(ops, p)
	if len(plan.Active()) != 2 || plan.Operations[0].HeldBy[0] != GateAdoption {
		t.Errorf("first run: %+v", plan.Operations)
	}
	p.Approve = plan.Hash
	if plan := NewPlan(ops, p); len(plan.Active()) != 3 {
		t.Errorf("approved: %+v", plan.Operations)
	}
	p.Approve, p.First = "", false
	if plan := NewPlan(ops, p); len(plan.Active()) != 3 {
		t.Errorf("a later run: %+v", plan.Operations)
	}
}

func TestATargetThatIsAppliedAsAWholeIsHeldAsAWhole(t *testing.T) {
	p := Policy{Mode: environment.ModeApply, Prune: true, Reach: Reach{Namespaces: []string{"*"}}, Wanted: 100, Whole: true}
	ops := append(deletes(1), Operation{Object: thing("A", "web", "b"), Kind: OpCreate})
	if plan := NewPlan(ops, p); len(plan.Active()) != 2 {
		t.Errorf("nothing is held: %+v", plan.Operations)
	}
	ops[0].Protected = true
	if plan := NewPlan(ops, p); len(plan.Active()) != 0 {
		t.Errorf("one is held: %+v", plan.Operations)
	}
}

func TestACommitThatDeletesVeryMuchWaitsInAllEnvironments(t *testing.T) {
	withEngine(t, func(b *bench) {
		many := func(name string, n int) (out []sources.Item) {
			for i := range n {
				out = append(out, thingItem(fmt.Sprintf("%s-%03d", name, i), "x"))
			}
			return out
		}
		b.assign(b.named("one", "1", many("one", 400)...), b.named("two", "1", many("two", 400)...))
		// Thirty of four hundred are within the budget of each.
		b.assign(b.named("one", "2", many("one", 370)...), b.named("two", "2", many("two", 370)...))
		for _, name := range []string{"one", "two"} {
			s := b.of(name)
			if s.LastRun.Counts.Deleted != 0 || !slices.Contains(gateKinds(s), GateBudget) || !strings.Contains(s.Gates[0].Why, "deletes 60 objects in 2 environments") {
				b.Errorf("%s: %+v, %+v", name, s.LastRun.Counts, s.Gates)
			}
			if run := b.resync(name, Trigger{Approve: s.LastRun.PlanHash}); run.Counts.Deleted != 30 {
				b.Errorf("%s approved: %+v %+v", name, run.Counts, run.Waiting)
			}
		}
	})
}

func TestAnotherVersionThatRendersDifferentlyWaits(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.engine.opts.Version = "v2"
		first := b.assignment("1", thingItem("a", "blue"))
		b.shelf.states["prod"] = State{Source: "shop", Accepted: rev("1"), Rendered: Rendered{Revision: "1", Version: "v1", Digest: "other"}}
		b.shelf.put(thing("Thing", "web", "a"), "rendered by v1")
		b.shelf.owner[thing("Thing", "web", "a")] = "prod"
		b.assign(first)
		s := b.of("prod")
		if b.thing("a") != "rendered by v1" || !slices.Contains(gateKinds(s), GateVersion) {
			b.Errorf("a is %q, gates %+v", b.thing("a"), s.Gates)
		}
		if b.resync("prod", Trigger{Approve: s.LastRun.PlanHash}); b.thing("a") != "blue" {
			b.Errorf("approved, a is %q", b.thing("a"))
		}
	})
}

func TestAfterAStartWithABrokenHeadTheLastAcceptedRevisionIsHealed(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.known["prod@1"] = b.assignment("1", thingItem("a", "blue"))
		b.shelf.states["prod"] = State{Source: "shop", Accepted: rev("1")}
		b.shelf.put(thing("Thing", "web", "a"), "red")
		b.shelf.owner[thing("Thing", "web", "a")] = "prod"
		b.shelf.applied[thing("Thing", "web", "a")] = "blue"
		broken := b.assignment("2")
		broken.Render = func(context.Context) ([]sources.Item, error) {
			return nil, sources.Problem{File: "a.yaml", Line: 3, Message: "is broken"}
		}
		b.assign(broken)
		if s := b.status(); b.thing("a") != "blue" || s.Sync != SyncFailed || !strings.Contains(s.Errors.Error(), "a.yaml:3: is broken") {
			b.Errorf("a is %q, %s, %v", b.thing("a"), s.Sync, s.Errors)
		}
		b.shelf.put(thing("Thing", "web", "a"), "red")
		b.hint("a")
		if b.thing("a") != "blue" {
			b.Errorf("later drift left a %q", b.thing("a"))
		}
	})
}
