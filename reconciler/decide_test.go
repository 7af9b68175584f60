package reconciler

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// drifted brings up an environment in report mode with a thing that drifted.
func drifted(b *bench, mode environment.DriftMode) sources.ID {
	a := b.assignment("1", thingItem("a", "blue"))
	a.Spec.Drift.Mode = mode
	b.assign(a)
	id := thing("Thing", "web", "a")
	b.shelf.put(id, "red")
	b.hint("a")
	return id
}

// await waits for the run of a receipt.
func (b *bench) await(run Run, err error) Run {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
	run, err = b.engine.Wait(b.Context(), run.ID)
	if err != nil {
		b.Fatal(err)
	}
	return run
}

func TestRevertPutsBackOnceAlsoInReportMode(t *testing.T) {
	withEngine(t, func(b *bench) {
		id := drifted(b, environment.DriftReport)
		if got := b.shelf.get(id); got != "red" {
			b.Fatalf("report mode made it %s", got)
		}
		run := b.await(b.engine.Revert(b.Context(), "prod", id, "ann"))
		if got := b.shelf.get(id); got != "blue" || run.Counts.Corrected != 1 {
			b.Errorf("after a revert it is %s: %+v", got, run.Counts)
		}
		b.shelf.put(id, "red")
		b.hint("a")
		if got := b.shelf.get(id); got != "red" {
			b.Errorf("a revert counts once, and put back a second time: %s", got)
		}
		if _, err := b.engine.Revert(b.Context(), "prod", thing("Thing", "web", "b"), "ann"); err == nil || !strings.Contains(err.Error(), "there are: Thing/web/a") {
			b.Errorf("reverting what has not drifted: %v", err)
		}
	})
}

func TestRevertNeverPassesAHold(t *testing.T) {
	withEngine(t, func(b *bench) {
		id := drifted(b, environment.DriftReport)
		if _, err := b.engine.Hold(b.Context(), HoldRequest{Environments: []string{"prod"}, Until: time.Now().Add(time.Hour), Reason: "looking"}); err != nil {
			b.Fatal(err)
		}
		synctest.Wait()
		b.await(b.engine.Revert(b.Context(), "prod", id, "ann"))
		if got := b.shelf.get(id); got != "red" {
			b.Errorf("it is %s", got)
		}
	})
}

func TestAcceptedDriftStaysUntilItsTime(t *testing.T) {
	withEngine(t, func(b *bench) {
		a := b.assignment("1", thingItem("a", "blue"))
		a.Spec.Drift.Mode = environment.DriftReport
		b.assign(a)
		id := thing("Thing", "web", "a")
		b.shelf.put(id, "red")
		b.hint("a")
		request := AcceptRequest{Object: id, Until: time.Now().Add(time.Hour), Reason: "is known", Author: "ann"}
		if _, err := b.engine.Accept(b.Context(), "prod", request); err != nil {
			b.Fatal(err)
		}
		// From now on the mode would put it back.
		a = b.assignment("2", thingItem("a", "blue"))
		b.assign(a)
		b.hint("a")
		r := b.engine.Drift(Filter{OpenOnly: true})
		if b.shelf.get(id) != "red" || len(r.Episodes) != 1 || r.Quiet != 1 {
			b.Fatalf("it is %s: %+v", b.shelf.get(id), r.Episodes)
		}
		if e := r.Episodes[0]; e.Fate != drift.Accepted || e.Decision == nil || e.Decision.Author != "ann" || !strings.Contains(e.Next, "accepted until") {
			b.Errorf("the report says %s %q, %+v", e.Fate, e.Next, e.Decision)
		}
		b.pass(61 * time.Minute)
		if got := b.shelf.get(id); got != "blue" {
			b.Errorf("after its time it is %s", got)
		}
		if got := b.shelf.states["prod"].Decisions; len(got) != 0 {
			b.Errorf("what has ended is still kept: %+v", got)
		}
	})
}

func TestAcceptingNeedsADriftAReasonAndAnEnd(t *testing.T) {
	withEngine(t, func(b *bench) {
		id := drifted(b, environment.DriftReport)
		soon := time.Now().Add(time.Hour)
		for want, r := range map[string]AcceptRequest{
			"reason":              {Object: id, Until: soon},
			"passed":              {Object: id, Reason: "x", Until: time.Now()},
			"at most 92 days":     {Object: id, Reason: "x", Until: soon.Add(93 * 24 * time.Hour)},
			"has no open drift":   {Object: thing("Thing", "web", "b"), Reason: "x", Until: soon},
			"field .spec.a has n": {Object: id, Path: ".spec.a", Reason: "x", Until: soon},
		} {
			if _, err := b.engine.Accept(b.Context(), "prod", r); err == nil || !strings.Contains(err.Error(), want) {
				b.Errorf("%+v: %v, want %q", r, err, want)
			}
		}
	})
}

func TestAcceptedFieldsAreLeftByOtherCorrections(t *testing.T) {
	id := thing("Thing", "web", "a")
	op := Operation{Object: id, Kind: OpCorrect, Changes: []drift.Change{{Path: ".spec.a"}, {Path: ".spec.b"}}}
	p := Policy{
		Mode: environment.ModeApply, Drift: environment.Drift{Mode: environment.DriftCorrect}, Reach: Reach{Namespaces: []string{"*"}},
		Accepted: []drift.Decision{{ID: "accept-1", Object: id, Path: ".spec.a", Until: time.Now().Add(time.Hour)}},
	}
	if got := NewPlan([]Operation{op}, p).Operations[0]; got.Held != "" || len(got.Leave) != 1 || got.Leave[0] != ".spec.a" {
		t.Errorf("held %q, leaves %v", got.Held, got.Leave)
	}
	again := op
	again.Kind, again.Class = OpRecreate, drift.Changed // which cannot leave a field
	if got := NewPlan([]Operation{again}, p).Operations[0]; got.Held == "" || got.Accepted == nil {
		t.Errorf("made again: held %q", got.Held)
	}
	p.Revert = []sources.ID{id}
	if got := NewPlan([]Operation{op}, p).Operations[0]; got.Held != "" || len(got.Leave) != 0 {
		t.Errorf("reverted: held %q, leaves %v", got.Held, got.Leave)
	}
}

func TestTheRuleThatIgnoresIsTheNarrowest(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.assign(b.assignment("1", thingItem("a", "blue")))
		id := thing("Thing", "web", "a")
		b.engine.book.See(drift.Sighting{Environment: "prod", Object: id, Changes: []drift.Change{
			{Path: ".spec.replicas", Manager: "keda"}, {Path: `.metadata.labels["a.b/c"]`, Manager: drift.Unknown},
		}})
		got, err := b.engine.IgnoreRules("prod", id, "")
		want := []string{
			`{kind: Thing, namespace: web, name: a, paths: ["/spec/replicas"], managers: ["keda"], mode: ignore}`,
			`{kind: Thing, namespace: web, name: a, paths: ["/metadata/labels/a.b~1c"], mode: ignore}`,
		}
		if err != nil || strings.Join(got, "\n") != strings.Join(want, "\n") {
			b.Errorf("got %v\n%s", err, strings.Join(got, "\n"))
		}
	})
}
