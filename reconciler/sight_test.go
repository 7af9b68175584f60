package reconciler

import (
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/drift"
)

// Git that is newer than what is live is no drift, and a report says of each
// object whether the change waits or a run could not make it.
func TestWhereGitIsNewerTheReportSaysWhy(t *testing.T) {
	withEngine(t, func(b *bench) {
		behind := func() []drift.Behind {
			r := b.engine.Drift(Filter{})
			if len(r.Episodes) > 0 {
				b.Errorf("that is drift: %+v", r.Episodes)
			}
			return r.Behind
		}
		b.assign(b.assignment("1", thingItem("a", "blue"), thingItem("b", "blue")))
		if got := behind(); len(got) != 0 {
			b.Errorf("all is applied: %+v", got)
		}

		b.shelf.refuse = thing("Thing", "web", "a")
		b.assign(b.assignment("2", thingItem("a", "green"), thingItem("b", "green")))
		got := behind()
		if len(got) != 1 || got[0].Object.Name != "a" || got[0].Class != drift.StaleRevision || got[0].Cause != drift.Interrupted || !strings.Contains(got[0].Next, "refused") {
			b.Errorf("after a run that failed: %+v", got)
		}
		b.shelf.refuse = thing("", "", "")
		b.resync("prod", Trigger{})
		if got := behind(); len(got) != 0 {
			b.Errorf("after the retry: %+v", got)
		}

		b.hold(HoldRequest{Environments: []string{"prod"}})
		b.assign(b.assignment("3", thingItem("a", "red"), thingItem("b", "green")))
		got = behind()
		if len(got) != 1 || got[0].Object.Name != "a" || got[0].Class != drift.StaleRevision || got[0].Cause != drift.GitNewer || !strings.HasPrefix(got[0].Next, "waits: ") {
			b.Errorf("while it is held: %+v", got)
		}
	})
}
