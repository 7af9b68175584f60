package reconciler

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
)

// slowThing makes the writing of a thing take until the returned function is called.
func (b *bench) slowThing(name string) (sources.ID, func()) {
	id, slow := thing("Thing", "web", name), make(chan struct{})
	b.shelf.slow = map[sources.ID]chan struct{}{id: slow}
	return id, func() { close(slow) }
}

func TestACorrectionThatTakesLongKeepsNoOtherWaiting(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.assign(b.assignment("1", thingItem("slow", "x"), thingItem("quick", "x")))
		slow, end := b.slowThing("slow")
		b.shelf.put(slow, "other")
		b.hint("slow")
		quick := thing("Thing", "web", "quick")
		for range 3 {
			b.shelf.put(quick, "other")
			b.hint("quick")
			if got := b.shelf.get(quick); got != "x" {
				t.Fatalf("quick is %q while another thing is being corrected", got)
			}
		}
		if got := b.shelf.get(slow); got != "other" {
			t.Fatalf("slow is %q before its write has ended", got)
		}
		end()
		synctest.Wait()
		if got := b.shelf.get(slow); got != "x" {
			t.Errorf("slow is %q in the end", got)
		}
		if s := b.status(); s.OpenDrifts != 0 || s.Corrections != 4 {
			t.Errorf("%d drifts open, %d corrected", s.OpenDrifts, s.Corrections)
		}
	})
}

func TestWhatIsHintedAtWhileItIsCorrectedIsLookedAtAgain(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.assign(b.assignment("1", thingItem("slow", "x")))
		slow, end := b.slowThing("slow")
		b.shelf.put(slow, "other")
		b.hint("slow")
		looks := b.shelf.looks
		for range 5 {
			b.hint("slow")
		}
		if b.shelf.looks != looks {
			t.Errorf("%d looks while it is being corrected", b.shelf.looks-looks)
		}
		end()
		synctest.Wait()
		if b.shelf.looks != looks+1 {
			t.Errorf("%d looks afterwards, want one", b.shelf.looks-looks)
		}
	})
}

func TestARunWaitsForWhatIsBeingCorrected(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.assign(b.assignment("1", thingItem("slow", "x"), thingItem("quick", "x")))
		slow, end := b.slowThing("slow")
		b.shelf.put(slow, "other")
		b.hint("slow")
		b.assign(b.assignment("2", thingItem("slow", "x"), thingItem("quick", "y")))
		quick := thing("Thing", "web", "quick")
		if got := b.shelf.get(quick); got != "x" {
			t.Fatalf("quick is %q: the run wrote beside a correction", got)
		}
		end()
		synctest.Wait()
		if got := b.shelf.get(quick); got != "y" {
			t.Errorf("quick is %q after the run", got)
		}
	})
}

func TestCorrectionsSideBySideAreBounded(t *testing.T) {
	withEngine(t, func(b *bench) {
		var items []sources.Item
		for i := range 2 * maxFlights {
			items = append(items, thingItem(fmt.Sprintf("t%02d", i), "x"))
		}
		b.assign(b.assignment("1", items...))
		release := make(chan struct{})
		b.shelf.slow = map[sources.ID]chan struct{}{}
		looks := b.shelf.looks
		for i, item := range items {
			b.shelf.slow[item.ID] = release
			b.shelf.put(item.ID, "other")
			b.hint(fmt.Sprintf("t%02d", i))
		}
		if got := b.shelf.looks - looks; got != maxFlights {
			t.Errorf("%d corrections are under way, want %d", got, maxFlights)
		}
		close(release)
		b.pass(time.Second)
		// What waited goes together.
		if got := b.shelf.looks - looks; got != maxFlights+1 {
			t.Errorf("%d looks in all, want %d", got, maxFlights+1)
		}
		for _, item := range items {
			if got := b.shelf.get(item.ID); got != "x" {
				t.Errorf("%s is %q", item.ID, got)
			}
		}
	})
}
