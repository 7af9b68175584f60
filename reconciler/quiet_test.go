package reconciler

import (
	"testing"

	"github.com/holdfast-gitops/holdfast/sources"
)

// What a driver says to be settled is taken as known only after everything was
// accounted for once.
func TestSettledIsQuietOnlyOnceItWasAccountedFor(t *testing.T) {
	w := &worker{engine: &Engine{}}
	want := []sources.Item{{ID: sources.ID{Kind: "A", Name: "a"}}, {ID: sources.ID{Kind: "A", Name: "b"}}}
	full := []Operation{{Object: want[0].ID, Kind: OpUnchanged}, {Object: want[1].ID, Kind: OpUnchanged}}
	drifted := []Operation{{Object: want[0].ID, Kind: OpCorrect}, full[1]}
	for i, step := range []struct {
		ops   []Operation
		quiet bool
	}{
		{Settled(), false}, // nothing was accounted for yet
		{Settled(), true},
		{full, false},
		{Settled(), true},
		{drifted, false},
		{Settled(), false},
	} {
		if got := w.isQuiet(step.ops, choice{}); got != step.quiet {
			t.Errorf("step %d: quiet is %v, want %v", i, got, step.quiet)
		}
	}
	w.acceptLater = true
	if w.isQuiet(Settled(), choice{}) {
		t.Error("quiet though there is something to note")
	}
	got := Expand(Settled(), want)
	if len(got) != 2 || got[1].Object != want[1].ID || got[1].Kind != OpUnchanged {
		t.Errorf("expanded to %+v", got)
	}
	if got := Expand(drifted, want); len(got) != 2 || got[0].Kind != OpCorrect {
		t.Errorf("what is not settled became %+v", got)
	}
}
