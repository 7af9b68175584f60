package reconciler

import "testing"

func TestMemoryHoldsWhatTheNewestRunsChangedWithinABound(t *testing.T) {
	run := func(n int) *handle { return &handle{run: Run{Changes: make([]ObjectChange, n)}} }
	kept := func(all []*handle) (n, changes int) {
		for _, h := range all {
			if len(h.run.Changes) > 0 {
				n++
				changes += len(h.run.Changes)
			}
		}
		return n, changes
	}
	for name, c := range map[string]struct {
		each, runs, want int
	}{
		"small runs, by number":                   {each: 1, runs: keepDetailed + 10, want: keepDetailed},
		"large runs, by what they changed":        {each: maxRunChanges, runs: 10, want: keepRunChanges / maxRunChanges},
		"the newest, however much that is":        {each: keepRunChanges + 1, runs: 3, want: 1},
		"runs that changed nothing are no runs":   {each: 0, runs: 3, want: 0},
		"as many as there are, if that is little": {each: 10, runs: 3, want: 3},
	} {
		t.Run(name, func(t *testing.T) {
			e := &Engine{}
			var all []*handle
			for range c.runs {
				h := run(c.each)
				all = append(all, h)
				e.keepChanges(h)
			}
			n, changes := kept(all)
			if n != c.want {
				t.Errorf("the changes of %d runs are kept, %d in all, want those of %d runs", n, changes, c.want)
			}
			if c.want > 0 && len(all[len(all)-1].run.Changes) != c.each {
				t.Error("the newest run's are not among them")
			}
		})
	}
}
