package reconciler

import (
	"slices"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
)

// The bounds on what a run's receipt says of single objects.
const (
	maxRunChanges   = 1000
	maxChangeFields = 20
)

// Memory holds what the newest keepDetailed runs changed, if that is no more than
// keepRunChanges objects in all; of the newest run in any case. It is the ledger that
// has the others'.
const (
	keepDetailed   = 50
	keepRunChanges = 2000
)

// keepChanges notes that a run ended, and forgets what older runs changed. It
// needs e.mu.
func (e *Engine) keepChanges(h *handle) {
	if len(h.run.Changes) == 0 {
		return
	}
	e.detailed = append(e.detailed, h)
	first, kept := len(e.detailed)-1, len(h.run.Changes)
	for first > 0 && len(e.detailed)-first < keepDetailed {
		if kept += len(e.detailed[first-1].run.Changes); kept > keepRunChanges {
			break
		}
		first--
	}
	for _, old := range e.detailed[:first] {
		old.run.Changes = nil
	}
	e.detailed = slices.Delete(e.detailed, 0, first)
}

// ObjectChange is what a run did to one object, or found out about it and left.
type ObjectChange struct {
	Object sources.ID `json:"object"`
	Op     OpKind     `json:"op"`
	// Class is set where the run corrected drift.
	Class drift.Class `json:"class,omitempty"`
	// Origin is where the desired state was written down.
	Origin sources.Origin `json:"origin,omitzero"`
	// Fields are what changed. Of an update, Live is what git asked for before;
	// of a correction, what was found. Empty where that is not known.
	Fields []drift.Change `json:"fields,omitempty"`
	// More says that further fields changed.
	More bool `json:"more,omitempty"`
	// Error is why it failed.
	Error string `json:"error,omitempty"`
}

// note adds one object to a run's changes.
func (r *Run) note(c ObjectChange) {
	if len(r.Changes) == maxRunChanges {
		r.MoreChanges++
		return
	}
	if len(c.Fields) > maxChangeFields {
		c.Fields, c.More = c.Fields[:maxChangeFields], true
	}
	r.Changes = append(r.Changes, c)
}

// changeOf describes an outcome. Before is the item as it was last applied, nil if it
// was not.
func changeOf(o Outcome, before *sources.Item) ObjectChange {
	op := o.Operation
	c := ObjectChange{Object: op.Object, Op: op.Kind, Class: o.Class, Origin: op.Item.Origin, Fields: o.Changes}
	if o.Err != nil {
		c.Error = o.Err.Error()
	}
	if op.Kind == OpUpdate && len(c.Fields) == 0 && before != nil && before.Body != nil {
		c.Fields, c.More = drift.Diff(before.Body, op.Item.Body, op.Item.Sensitive || before.Sensitive, maxChangeFields)
	}
	return c
}
