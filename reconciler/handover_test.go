package reconciler

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

func TestAMoveWaitsForAnEnvironmentThatDoesNotRender(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.assign(b.named("app", "1", thingItem("a", "blue"), thingItem("m", "x")), b.named("base", "1", thingItem("b", "blue")))
		broken := b.named("base", "2")
		broken.Render = func(context.Context) ([]sources.Item, error) { return nil, sources.Problem{Message: "is broken"} }
		b.assign(b.named("app", "2", thingItem("a", "blue")), broken)
		b.pass(10 * time.Minute)
		if b.thing("m") != "x" {
			b.Error("what may move was deleted while the other environment does not render")
		}
		b.assign(b.named("app", "3", thingItem("a", "blue")), b.named("base", "3", thingItem("b", "blue"), thingItem("m", "x")))
		b.pass(time.Minute)
		if id := thing("Thing", "web", "m"); b.thing("m") != "x" || b.shelf.owner[id] != "base" {
			b.Errorf("mended: m is %q of %s", b.thing("m"), b.shelf.owner[id])
		}
	})
}

func TestAMoveWaitsForAnEnvironmentThatIsHeldBack(t *testing.T) {
	withEngine(t, func(b *bench) {
		at := func(revision string, items ...sources.Item) Assignment {
			a := b.named("base", revision, items...)
			a.Spec.Windows = []environment.Window{{Kind: environment.WindowDeny, Schedule: "0 1 * * *", Duration: time.Hour}}
			return a
		}
		b.assign(b.named("app", "1", thingItem("a", "blue"), thingItem("m", "x")), at("1", thingItem("b", "blue")))
		b.pass(90 * time.Minute) // base is in its window
		b.assign(b.named("app", "2", thingItem("a", "blue")), at("2", thingItem("b", "blue"), thingItem("m", "x")))
		b.pass(time.Minute)
		if b.thing("m") != "x" {
			b.Error("what moves was deleted while the other environment is in a window")
		}
		b.pass(time.Hour)
		if id := thing("Thing", "web", "m"); b.thing("m") != "x" || b.shelf.owner[id] != "base" {
			b.Errorf("after the window: m is %q of %s", b.thing("m"), b.shelf.owner[id])
		}
	})
}

func TestRenamingAnEnvironmentHandsItsObjectsOver(t *testing.T) {
	withEngine(t, func(b *bench) {
		old := b.named("old", "1", thingItem("a", "blue"))
		old.Spec.Deletion = environment.DeletionDelete
		b.assign(old)
		renamed := b.named("new", "2", thingItem("a", "blue"))
		renamed.Spec.Formerly = []string{"old"}
		b.shelf.writes = 0
		b.assign(renamed)
		b.pass(time.Minute)
		if id := thing("Thing", "web", "a"); b.thing("a") != "blue" || b.shelf.owner[id] != "new" || b.shelf.writes != 1 {
			b.Errorf("a is %q of %s after %d writes; want one adoption", b.thing("a"), b.shelf.owner[id], b.shelf.writes)
		}
	})
}

func TestAConfirmationIsVoidOnceTheSpecIsBack(t *testing.T) {
	withEngine(t, func(b *bench) {
		other := func(revision string) Assignment { return b.named("other", revision, thingItem("o", "x")) }
		b.assign(other("1"), b.assignment("1", thingItem("a", "blue")))
		h := b.hold(HoldRequest{Environments: []string{"prod"}})
		b.assign(other("2"))
		if _, err := b.engine.ConfirmRemoval(b.Context(), "prod", "anna"); err != nil {
			b.Fatal(err)
		}
		synctest.Wait()
		b.assign(other("3"), b.assignment("3", thingItem("a", "blue")))
		if _, err := b.engine.EndHold(b.Context(), h.ID, time.Time{}); err != nil {
			b.Fatal(err)
		}
		synctest.Wait()
		b.assign(other("4"))
		b.pass(time.Hour)
		if b.thing("a") != "blue" {
			b.Error("an old confirmation deleted what left git much later")
		}
	})
}

func TestARemovalThatIsHeldGoesOnWhenTheHoldEnds(t *testing.T) {
	withEngine(t, func(b *bench) {
		a := b.assignment("1", thingItem("a", "blue"))
		a.Spec.Deletion = environment.DeletionDelete
		b.assign(b.named("other", "1", thingItem("o", "x")), a)
		b.hold(HoldRequest{Environments: []string{"prod"}})
		b.assign(b.named("other", "2", thingItem("o", "x")))
		if b.thing("a") != "blue" {
			b.Error("deleted through the hold")
		}
		b.pass(3 * time.Hour)
		if b.thing("a") != "" {
			b.Error("still there after the hold")
		}
	})
}
