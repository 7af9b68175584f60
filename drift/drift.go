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
	// ExtraField: others added a field to an object of ours.
	ExtraField Class = "extra-field"
	// Unmanaged: an object in a namespace of ours that belongs to nobody.
	Unmanaged Class = "unmanaged"
	// StaleRevision: live is as an older revision asks for.
	StaleRevision Class = "stale-revision"
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
	// GitNewer: git has moved, and the change waits.
	GitNewer Cause = "git-newer"
	// Interrupted: a run failed or was cut before it got there.
	Interrupted Cause = "interrupted-run"
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
	// Git is what the files say, before the server's defaults and admission; nil
	// where that is not known.
	Git *Value `json:"git,omitempty"`
	// Severity is how bad it is, and SeverityRule what says so.
	Severity     Severity `json:"severity,omitempty"`
	SeverityRule string   `json:"severityRule,omitempty"`
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
	// Line is where the files say it, and who wrote that; nil where that was not
	// asked for, or is not known.
	Line *Line `json:"line,omitempty"`
}

// Line is a line of the file that an episode's Origin names, at its Commit.
type Line struct {
	Number int `json:"number"`
	// Commit is the one that last changed the line. Where that cannot be said it is
	// the one in force, and Unsure says why.
	Commit  string    `json:"commit"`
	Author  string    `json:"author,omitempty"`
	Time    time.Time `json:"time,omitzero"`
	Subject string    `json:"subject,omitempty"`
	Unsure  string    `json:"unsure,omitempty"`
}

// Short is the commit as people write it.
func (l Line) Short() string { return l.Commit[:min(7, len(l.Commit))] }

// Foreign reports whether a class is of what others added: it is told where that is
// asked for, is never put back, and is no drift of what git says.
func (c Class) Foreign() bool { return c == ExtraField || c == Unmanaged }

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
	// Commit is that revision in full, and Author who wrote its newest commit.
	Commit string `json:"commit,omitempty"`
	Author string `json:"author,omitempty"`
	// Severity is the worst of its changes, and SeverityRule what says so.
	Severity     Severity `json:"severity,omitempty"`
	SeverityRule string   `json:"severityRule,omitempty"`
	// Person is who did it, where audit events say so.
	Person *Person `json:"person,omitempty"`

	State       State     `json:"state"`
	FirstSeen   time.Time `json:"firstSeen"`
	LastSeen    time.Time `json:"lastSeen"`
	Ended       time.Time `json:"ended,omitzero"`
	Occurrences int       `json:"occurrences"`
	// Next says what happens next, for people: "reverts now", "reported only".
	Next string `json:"next,omitempty"`
	// Fate is the same in one word.
	Fate Fate `json:"fate,omitempty"`
	// Decision is what somebody decided about it; nil where nobody did.
	Decision *Decision `json:"decision,omitempty"`
}

// Fate is what becomes of a drift.
type Fate string

// The fates.
const (
	// Reverts: it is put back at once.
	Reverts Fate = "reverts"
	// Retried: putting it back failed, and is tried again.
	Retried Fate = "retried"
	// Held: it is put back when a hold or a window ends.
	Held Fate = "held"
	// Reported: the mode or a rule leaves it.
	Reported Fate = "reported"
	// Waits: something has to be approved first.
	Waits Fate = "waits"
	// Accepted: somebody accepted it for a time.
	Accepted Fate = "accepted"
	// Fought: another writer never gives up, so it is left alone.
	Fought Fate = "fight"
	// Rewritten: admission puts it there after every apply.
	Rewritten Fate = "admission"
)

// Quiet reports whether nobody has to be told of it again.
func (f Fate) Quiet() bool { return f == Accepted || f == Fought }

// Decision is what somebody decided about drift.
type Decision struct {
	ID string `json:"id"`
	// Object and Path are what it is about; with no path it is every field.
	Object sources.ID `json:"object"`
	Path   string     `json:"path,omitempty"`
	Reason string     `json:"reason"`
	Author string     `json:"author"`
	Since  time.Time  `json:"since"`
	// Until is when it counts no more.
	Until time.Time `json:"until"`
}

// Person is who made a change, as the target's audit events say.
type Person struct {
	// User is the name; As is whom the user impersonated, if anybody.
	User string `json:"user"`
	As   string `json:"as,omitempty"`
	// Verb is what was done, and At when.
	Verb string    `json:"verb,omitempty"`
	At   time.Time `json:"at,omitzero"`
}

// String is "ann", or "ann as system:admin".
func (p Person) String() string {
	if p.As == "" {
		return p.User
	}
	return p.User + " as " + p.As
}

// Severity is how bad a drift is.
type Severity string

// The severities, the worst last.
const (
	Low      Severity = "low"
	Medium   Severity = "medium"
	High     Severity = "high"
	Critical Severity = "critical"
)

// Severities are all, the worst first.
var Severities = []Severity{Critical, High, Medium, Low}

// rank orders severities; an unknown one comes before all.
func (s Severity) rank() int {
	switch s {
	case Critical:
		return 4
	case High:
		return 3
	case Medium:
		return 2
	case Low:
		return 1
	}
	return 0
}

// Worst is the worse of two.
func Worst(a, b Severity) Severity {
	if b.rank() > a.rank() {
		return b
	}
	return a
}
