// Package drift is the neutral model of drift: what differs between what git
// asks for and what is live, who did it, since when, and how it ended.
//
// It knows no Kubernetes; drift/kubelive finds drift in a cluster, and the
// reconciler decides what becomes of it.
package drift

import (
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
)

// Class says in which way a live object differs.
type Class string

// The classes of drift.
const (
	// Changed: a field that git sets has another value.
	Changed Class = "changed"
	// Missing: the object is gone.
	Missing Class = "missing"
	// NotOwned: the value is equal, but the field is no longer ours, so that
	// the next change by others would go unseen.
	NotOwned Class = "not-owned"
)

// Cause says, as far as it can be known, what made a drift.
type Cause string

// The causes of drift.
const (
	// Manual: a manager that people use, such as kubectl.
	Manual Cause = "manual"
	// Controller: another program's manager.
	Controller Cause = "controller"
	// Admission: the value differs straight after our own apply, so something
	// in the API server's admission rewrites it.
	Admission Cause = "admission"
	// UnknownCause: nothing tells.
	UnknownCause Cause = "unknown"
)

// Unknown is the manager of a change that left no trace of who made it.
const Unknown = "unknown"

// Change is one field that differs.
type Change struct {
	// Path is the field, as in ".spec.template.spec.containers[name=web].image".
	// Empty when the whole object is meant.
	Path string `json:"path"`
	// Desired is the server's merged result of our last apply; Live what was
	// found instead.
	Desired Value `json:"desired"`
	Live    Value `json:"live"`
	// Applied, in a plan, is what was last applied, and Overwrites says that
	// somebody else changed the field since, which a run would overwrite.
	Applied    *Value `json:"applied,omitempty"`
	Overwrites bool   `json:"overwrites,omitempty"`
	// Manager is the field manager that owns the live value, or Unknown.
	Manager     string `json:"manager"`
	Operation   string `json:"operation,omitempty"`
	Subresource string `json:"subresource,omitempty"`
	// Time is when that manager last wrote, where the server says so.
	Time time.Time `json:"time,omitzero"`
}

// State is where an episode stands.
type State string

// The states of an episode.
const (
	// Open: the drift is still there.
	Open State = "open"
	// Corrected: the desired value was put back.
	Corrected State = "corrected"
	// Gone: the live value became the desired one without us.
	Gone State = "gone"
	// Persists: the desired value was applied and the same live value stayed,
	// because admission rewrites it. It is not retried until something changes.
	Persists State = "persists"
)

// Episode is one drift of one object from first seen to its end.
type Episode struct {
	ID          string     `json:"id"`
	Environment string     `json:"environment"`
	Target      string     `json:"target"`
	Object      sources.ID `json:"object"`
	Class       Class      `json:"class"`
	Cause       Cause      `json:"cause"`
	Changes     []Change   `json:"changes"`
	// Origin and Revision say where the desired value comes from.
	Origin   sources.Origin `json:"origin,omitzero"`
	Revision string         `json:"revision,omitempty"`

	State       State     `json:"state"`
	FirstSeen   time.Time `json:"firstSeen"`
	LastSeen    time.Time `json:"lastSeen"`
	Ended       time.Time `json:"ended,omitzero"`
	Occurrences int       `json:"occurrences"`
	// Next says what happens next, for people: "reverts now", "reported only".
	Next string `json:"next,omitempty"`
}
