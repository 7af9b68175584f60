package reconciler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
)

// GateKind names what can keep a change from being made.
type GateKind string

// The gates, in the order in which they count: of several that hold an
// operation, the first is the one that is told. All that are active are shown.
const (
	// GateUnproven: it left git, and the target cannot prove that it is ours. Nothing
	// lifts it.
	GateUnproven GateKind = "unproven"
	// GateMode: mode plan; nothing is ever written.
	GateMode GateKind = "mode"
	// GateLease: another daemon writes to the target, and this one stands by.
	GateLease GateKind = "lease"
	// GateHold: somebody holds the object, the environment or everything.
	GateHold GateKind = "hold"
	// GatePin: a rollback chose the revision. It holds nothing back by itself.
	GatePin GateKind = "pin"
	// GateReturned: the revision did not get ready, and was left again.
	GateReturned GateKind = "returned"
	// GateSource: the source holds its head, unsigned or rewound.
	GateSource GateKind = "source"
	// GateAfter, GateDependsOn and GateRollout: another environment is not there
	// yet.
	GateAfter     GateKind = "after"
	GateDependsOn GateKind = "dependsOn"
	GateRollout   GateKind = "rollout"
	// GateWindow: new revisions are stopped at this time.
	GateWindow GateKind = "window"
	// GateFailing: other objects of the run fail, so nothing is deleted.
	GateFailing GateKind = "failing"
	// GateUnread: something could not be read, so nothing is deleted.
	GateUnread GateKind = "unread"
	// GateAdoption: a first run that takes over what exists waits for an approval.
	GateAdoption GateKind = "adoption"
	// GateVersion: the same inputs render to something else under this version of
	// Holdfast.
	GateVersion GateKind = "version"
	// GateProtected and GateBudget: deletions that wait for an approval.
	GateProtected GateKind = "protected"
	GateBudget    GateKind = "budget"
	// GateDrift: the drift mode leaves drift where it is, or a decision does.
	GateDrift GateKind = "drift"
	// GateTransfer: the object moves, or may move, to another environment.
	GateTransfer GateKind = "transfer"
	// GateFight: another writer puts its value back every time.
	GateFight GateKind = "fight"
	// GateRemoval: the spec left git, and nobody confirmed that its objects go.
	GateRemoval GateKind = "removal"
)

// gateOrder is the order above.
var gateOrder = []GateKind{
	GateUnproven, GateMode, GateLease, GateHold, GatePin, GateReturned, GateSource, GateAfter, GateDependsOn, GateRollout,
	GateWindow, GateRemoval, GateVersion, GateTransfer, GateFailing, GateUnread, GateAdoption, GateProtected, GateBudget, GateDrift, GateFight,
}

// Gate is one thing that holds changes back now.
type Gate struct {
	Kind GateKind `json:"kind"`
	// ID names a hold, for those that extend or end it.
	ID string `json:"id,omitempty"`
	// Object is set where only one object is held.
	Object *sources.ID `json:"object,omitempty"`
	// Why is a sentence for people.
	Why string `json:"why"`
	// By is who asked for it; Since and Until where they are known.
	By    string    `json:"by,omitempty"`
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// StopsCorrection: drift is left alone, too.
	StopsCorrection bool `json:"stopsCorrection,omitempty"`
}

// String is the sentence.
func (g Gate) String() string { return g.Why }

// gate is the gate that a hold is.
func (h Hold) gate() Gate {
	what := "held"
	if h.Object != nil {
		what = h.Object.String() + " is held"
	}
	return Gate{
		Kind: GateHold, ID: h.ID, Object: h.Object, By: h.Author, Since: h.Since, Until: h.Until,
		Why:             fmt.Sprintf("%s until %s by %s: %s (%s)", what, clock(h.Until), h.Author, h.Reason, h.ID),
		StopsCorrection: true,
	}
}

// gate is the gate that a rollback is.
func (p Pin) gate() Gate {
	why := fmt.Sprintf("rolled back to %s by %s", p.Revision.Short(), p.Author)
	if p.Reason != "" {
		why += ": " + p.Reason
	}
	if !p.Until.IsZero() {
		why += ", until " + clock(p.Until)
	}
	return Gate{Kind: GatePin, By: p.Author, Since: p.Since, Until: p.Until, Why: why}
}

// clock is a time as people compare it: UTC, to the minute.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// sortGates puts gates into their order, the earliest end first among equals,
// and drops those that say the same.
func sortGates(gates []Gate) []Gate {
	slices.SortStableFunc(gates, func(a, b Gate) int {
		if d := slices.Index(gateOrder, a.Kind) - slices.Index(gateOrder, b.Kind); d != 0 {
			return d
		}
		if d := a.Until.Compare(b.Until); d != 0 {
			return d
		}
		return strings.Compare(a.Why, b.Why)
	})
	return slices.CompactFunc(gates, func(a, b Gate) bool { return a.Kind == b.Kind && a.Why == b.Why })
}

// withoutWaits leaves out the gates that are about a revision which is not the
// one in question, but for what they say about correcting drift.
func withoutWaits(gates, waits []Gate) []Gate {
	var out []Gate
	for _, g := range gates {
		if g.StopsCorrection || !slices.ContainsFunc(waits, func(v Gate) bool { return v.Kind == g.Kind && v.Why == g.Why }) {
			out = append(out, g)
		}
	}
	return out
}
