package reconciler

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
)

// listener keeps what a Watcher is told.
type listener struct {
	mu             sync.Mutex
	told           bool
	began, ended   []Run
	opened, closed int
	verdicts       []string
}

func (l *listener) note(what func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	what()
}

func (l *listener) RunBegan(r Run)                         { l.note(func() { l.began = append(l.began, r) }) }
func (l *listener) RunEnded(r Run)                         { l.note(func() { l.ended = append(l.ended, r) }) }
func (l *listener) StatusChanged(string)                   { l.note(func() { l.told = true }) }
func (l *listener) DriftSeen(drift.Episode, time.Duration) { l.note(func() { l.opened++ }) }
func (l *listener) DriftChanged(drift.Episode)             {}
func (l *listener) DriftEnded(drift.Episode)               { l.note(func() { l.closed++ }) }

func (s *shelf) failWith(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

// TestWhoeverWatchesIsToldWheneverTheStatusChanges goes through what happens to an
// environment, and holds every status that differs from the one before to have been
// told of.
func TestWhoeverWatchesIsToldWheneverTheStatusChanges(t *testing.T) {
	withEngine(t, func(b *bench) {
		l := &listener{}
		b.engine.watcher, b.engine.opts.Observer = l, l
		before, changes := "", 0
		step := func(what string, do func()) {
			b.Helper()
			l.note(func() { l.told = false })
			do()
			b.pass(0)
			s, _ := b.engine.Environment("prod")
			s.AsOf = time.Time{} // which moves by itself
			now := fmt.Sprintf("%+v running %v", s, s.Running != nil)
			l.note(func() {
				if now != before && !l.told {
					b.Errorf("%s: nobody was told\nfrom %s\nto   %s", what, before, now)
				}
			})
			if now != before {
				changes++
			}
			before = now
		}
		ctx, id := b.Context(), thing("Thing", "web", "a")
		good := b.assignment("r1", thingItem("a", "1"))
		step("first run", func() { b.assign(good) })
		step("drift corrected", func() { b.shelf.put(id, "x"); b.hint("a") })
		reported := b.assignment("r2", thingItem("a", "1"))
		reported.Spec.Drift.Mode = "report"
		step("report mode", func() { b.assign(reported) })
		step("drift reported", func() { b.shelf.put(id, "y"); b.hint("a") })
		step("drift went", func() { b.shelf.put(id, "1"); b.hint("a") })
		step("hold", func() {
			if _, err := b.engine.Hold(ctx, HoldRequest{Environments: []string{"prod"}, Reason: "x", Until: time.Now().Add(time.Hour)}); err != nil {
				b.Fatal(err)
			}
		})
		step("a held revision", func() { b.assign(b.assignment("r3", thingItem("a", "2"))) })
		step("hold ended by itself", func() { b.pass(2 * time.Hour) })
		step("source fails", func() { b.engine.SourceState("shop", errors.New("no route")) })
		step("source is back", func() { b.engine.SourceState("shop", nil) })
		step("target fails", func() {
			b.shelf.failWith(errors.New("no target"))
			if _, err := b.engine.Resync([]string{"prod"}, Trigger{Reason: ReasonOnCall}); err != nil {
				b.Fatal(err)
			}
		})
		step("target is back", func() { b.shelf.failWith(nil); b.pass(10 * time.Minute) })
		broken := b.assignment("r4", thingItem("a", "2"))
		broken.Problem = errors.New("broken spec")
		step("broken spec", func() { b.assign(broken) })
		block := make(chan struct{})
		b.shelf.mu.Lock()
		b.shelf.block = block
		b.shelf.mu.Unlock()
		step("a run under way", func() { b.assign(b.assignment("r5", thingItem("a", "5"))) })
		step("it ended", func() { close(block) })
		step("left git", func() { b.assign() })
		if changes < 12 {
			b.Errorf("only %d of the steps changed anything", changes)
		}
		if len(l.began) == 0 || len(l.began) != len(l.ended) || l.began[0].ID != l.ended[0].ID || l.opened == 0 || l.opened != l.closed {
			b.Errorf("%d runs began, %d ended; %d drifts opened, %d ended", len(l.began), len(l.ended), l.opened, l.closed)
		}
	})
}
