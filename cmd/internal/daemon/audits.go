package daemon

import (
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/audit"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// nameFor is how long after it was last seen a drift still gets the name of who
// made it: API servers send their events in batches.
const nameFor = 10 * time.Minute

// Audited implements server.Auditor: it names the people behind the drift of the
// last minutes.
func (d *daemon) Audited(events []audit.Event) {
	now := time.Now()
	d.people.Add(events, now)
	for _, e := range d.book.List(func(e *drift.Episode) bool { return e.Person == nil && now.Sub(e.LastSeen) < nameFor }) {
		d.name(e)
	}
}

// name notes who made a drift, if that is certain.
func (d *daemon) name(e drift.Episode) {
	p, ok := d.people.Who(e)
	if !ok {
		return
	}
	if named, news := d.book.Name(e.ID, p); news {
		d.ledger.DriftChanged(named)
	}
}

// namer names a drift whose audit event came first.
type namer struct{ *daemon }

// RunEnded implements reconciler.Observer.
func (namer) RunEnded(reconciler.Run) {}

// DriftSeen implements reconciler.Observer.
func (n namer) DriftSeen(e drift.Episode, _ time.Duration) { n.name(e) }

// DriftChanged implements reconciler.Observer.
func (namer) DriftChanged(drift.Episode) {}

// DriftEnded implements reconciler.Observer.
func (namer) DriftEnded(drift.Episode) {}
