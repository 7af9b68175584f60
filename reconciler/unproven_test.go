package reconciler

import (
	"fmt"
	"slices"
	"testing"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// TestWhatLeftGitAndIsNotProvenOursIsTold: the receipt and the status name it, no
// approval lets it go, and what is proven goes without it, within its budget.
func TestWhatLeftGitAndIsNotProvenOursIsTold(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.shelf.unproven = map[sources.ID]bool{}
		items := []sources.Item{thingItem("a", "blue"), thingItem("proven", "blue")}
		for i := range 10 {
			items = append(items, thingItem(fmt.Sprint(i), "blue"))
			b.shelf.unproven[items[i+2].ID] = true
		}
		b.assign(b.assignment("1", items...))
		b.assign(b.assignment("2", items[0]))
		s := b.status()
		run := s.LastRun
		if run.Result != Held || run.Counts.Held != 10 || run.Counts.Deleted != 1 || b.thing("proven") != "" {
			t.Fatalf("result %s, counts %+v", run.Result, run.Counts)
		}
		for i := range 10 {
			want := Waiting{Object: items[i+2].ID, Op: OpDelete, Why: "nothing proves that it is ours", Gate: GateUnproven}
			if !slices.Contains(run.Waiting, want) || b.thing(fmt.Sprint(i)) != "blue" {
				t.Errorf("%s: it is %q, and the receipt says %+v", items[i+2].ID, b.thing(fmt.Sprint(i)), run.Waiting)
			}
		}
		if s.Sync != SyncChanges || !slices.Equal(gateKinds(s), []GateKind{GateUnproven}) || s.Gates[0].Why == "" {
			t.Errorf("the status is %s, gates %+v", s.Sync, s.Gates)
		}
		again, err := b.engine.Resync([]string{"prod"}, Trigger{Reason: ReasonOnCall, Approve: run.PlanHash})
		if err != nil {
			t.Fatal(err)
		}
		b.pass(0)
		if s = b.status(); s.LastRun.ID != again[0].ID || s.LastRun.Result != Held || s.LastRun.Counts.Deleted != 0 || b.thing("7") != "blue" {
			t.Errorf("approved: %s, counts %+v", s.LastRun.Result, s.LastRun.Counts)
		}
		// Drift is put back as ever.
		b.shelf.put(items[0].ID, "red")
		b.hint("a")
		if b.thing("a") != "blue" {
			t.Errorf("a drifted and is %q", b.thing("a"))
		}
		b.shelf.mu.Lock()
		for id := range b.shelf.unproven {
			delete(b.shelf.things, id)
		}
		b.shelf.mu.Unlock()
		if _, err := b.engine.Resync([]string{"prod"}, Trigger{Reason: ReasonOnCall}); err != nil {
			t.Fatal(err)
		}
		b.pass(0)
		if s = b.status(); s.Sync != SyncClean || len(s.Gates) != 0 || s.Applied.ID != "2" {
			t.Errorf("deleted by hand: %s at %s, gates %+v", s.Sync, s.Applied.ID, s.Gates)
		}
	})
}

func TestWithoutPruningNothingIsSaidOfProof(t *testing.T) {
	op := deletes(1)[0]
	op.Held, op.HeldBy = "nothing proves that it is ours", []GateKind{GateUnproven}
	plan := NewPlan([]Operation{op}, Policy{
		Mode: environment.ModeApply, Drift: environment.Drift{Mode: environment.DriftCorrect}, Reach: Reach{Namespaces: []string{"*"}},
	})
	if got := plan.Operations[0]; got.Kind != OpUnchanged || got.Held != "" || len(got.HeldBy) != 0 || got.Class != drift.Class("") {
		t.Errorf("%+v", got)
	}
}
