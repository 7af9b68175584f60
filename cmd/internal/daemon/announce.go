package daemon

import (
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// announcer has targets leave word on what was put back.
type announcer struct{ *daemon }

// RunEnded implements reconciler.Observer.
func (announcer) RunEnded(reconciler.Run) {}

// DriftSeen implements reconciler.Observer.
func (announcer) DriftSeen(drift.Episode, time.Duration) {}

// DriftChanged implements reconciler.Observer.
func (announcer) DriftChanged(drift.Episode) {}

// DriftEnded implements reconciler.Observer.
func (a announcer) DriftEnded(e drift.Episode) {
	g := a.now.Load()
	if g == nil || g.targets[e.Target] == nil {
		return
	}
	if t, ok := g.targets[e.Target].driver.(interface{ Announce(drift.Episode) }); ok {
		t.Announce(e)
	}
}
