package reconciler

import (
	"slices"
	"testing"
)

// HealthChanged makes a listener one that is told verdicts.
func (l *listener) HealthChanged(v Verdict) {
	l.note(func() { l.verdicts = append(l.verdicts, v.Revision.ID+" "+string(v.Health)) })
}

func TestVerdictsAreToldOnceForEachDeployment(t *testing.T) {
	withEngine(t, func(b *bench) {
		l := &listener{}
		b.engine.watcher, b.engine.opts.Observer = l, l
		expect := func(what string, want ...string) {
			b.Helper()
			b.pass(0)
			l.note(func() {
				if !slices.Equal(l.verdicts, want) {
					b.Errorf("%s: told %v, want %v", what, l.verdicts, want)
				}
				l.verdicts = nil
			})
		}
		b.assign(b.assignment("r1", thingItem("a", "1")))
		expect("first", "r1 ready")
		b.shelf.put(thing("Thing", "web", "a"), "x")
		b.hint("a")
		expect("drift")
		b.assign(b.assignment("r2", thingItem("a", "1")))
		expect("a revision that changes nothing")
		b.assign(b.assignment("r3", thingItem("a", "2")))
		expect("a change", "r3 ready")
		l.note(func() {
			last := l.ended[len(l.ended)-1]
			if last.Before != "r2" || !last.Deploys() || l.ended[0].Before != "" || !l.ended[0].Deploys() {
				b.Errorf("runs: %+v", l.ended)
			}
		})
	})
}
