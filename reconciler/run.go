package reconciler

import (
	"slices"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
)

// Result is how a run ended.
type Result string

// The results, as in the receipts.
const (
	Applied    Result = "applied"
	Partial    Result = "partial"
	Unchanged  Result = "unchanged"
	Held       Result = "held"
	Failed     Result = "failed"
	Superseded Result = "superseded"
	// Pending is the result of a run that has not ended yet.
	Pending Result = "pending"
)

// Reason is what made a run happen. The smaller, the more urgent.
type Reason int

// The reasons, in order of urgency.
const (
	ReasonOnCall Reason = iota + 1
	ReasonWebhook
	ReasonDrift
	ReasonPoll
	ReasonTimer
)

// String is the reason in lower case.
func (r Reason) String() string {
	switch r {
	case ReasonOnCall:
		return "on-call"
	case ReasonWebhook:
		return "webhook"
	case ReasonDrift:
		return "drift"
	case ReasonPoll:
		return "poll"
	case ReasonTimer:
		return "timer"
	}
	return "none"
}

// MarshalText lets the reason appear by name in JSON.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads a reason by name.
func (r *Reason) UnmarshalText(b []byte) error {
	*r = 0
	for c := ReasonOnCall; c <= ReasonTimer; c++ {
		if c.String() == string(b) {
			*r = c
		}
	}
	return nil
}

// Trigger asks for a run. It is a hint: it carries no data to act on.
type Trigger struct {
	Reason Reason `json:"reason"`
	// Actor is who asked: "signal", "socket", the name of a token.
	Actor string `json:"actor,omitempty"`
	// Verify distrusts the index and dry-runs every object.
	Verify bool `json:"verify,omitempty"`
	// Fetch asks the source's remote before the run.
	Fetch bool `json:"fetch,omitempty"`
	// Approve is the hash of the plan whose held deletions are approved.
	Approve string `json:"approve,omitempty"`
	// Through are the holds that this run passes, and Because says why it may.
	Through []string `json:"through,omitempty"`
	Because string   `json:"because,omitempty"`
	// Revert are things whose drift is put back once, whatever leaves it.
	Revert []sources.ID `json:"revert,omitempty"`
	// Origin is for traces, and nil where nothing is known for them.
	Origin *Origin `json:"-"`
}

// passes reports whether the trigger passes a hold.
func (t Trigger) passes(hold string) bool { return slices.Contains(t.Through, hold) }

// Counts is how many objects of a run had which fate.
type Counts struct {
	Created   int `json:"created"`
	Updated   int `json:"updated"`
	Corrected int `json:"corrected"`
	Adopted   int `json:"adopted"`
	Deleted   int `json:"deleted"`
	Unchanged int `json:"unchanged"`
	// Pending is what a plan-only environment would change.
	Pending int `json:"pending"`
	Held    int `json:"held"`
	Failed  int `json:"failed"`
}

// Run is one reconciliation of one environment at one revision: the receipt that
// every trigger gets.
type Run struct {
	ID          string           `json:"id"`
	Environment string           `json:"environment"`
	Trigger     Trigger          `json:"trigger"`
	Revision    sources.Revision `json:"revision,omitzero"`
	// Before is the revision that was in force when the run began, where that is
	// another and known.
	Before string `json:"before,omitempty"`
	Result Result `json:"result"`
	// Trace is the id of the run's trace, where there is one.
	Trace string `json:"trace,omitempty"`
	// PlanHash names the plan that was carried out.
	PlanHash string    `json:"planHash,omitempty"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	// Seconds is how long it took.
	Seconds float64 `json:"seconds"`
	Counts  Counts  `json:"counts"`
	// Errors are all of them, each with its object, file and line where known.
	Errors sources.Problems `json:"errors,omitempty"`
	// Waiting names what was held, and why.
	Waiting []Waiting `json:"waiting,omitempty"`
	// Changes are what became of each object that was not simply as desired, up
	// to 1,000 of them; MoreChanges counts the others.
	Changes     []ObjectChange `json:"changes,omitempty"`
	MoreChanges int            `json:"moreChanges,omitempty"`
	// Health and Unready are those of the environment, in the receipt of whoever
	// waited until it is ready.
	Health  Health    `json:"health,omitempty"`
	Unready []Unready `json:"unready,omitempty"`
}

// Deploys reports whether the run wrote something because of its revision, and not
// only to put drift back.
func (r Run) Deploys() bool {
	c := r.Counts
	return r.Revision.ID != "" && c.Created+c.Updated+c.Adopted+c.Deleted > 0
}

// Waiting is one operation that a gate holds back.
type Waiting struct {
	Object sources.ID `json:"object"`
	Op     OpKind     `json:"op"`
	Why    string     `json:"why"`
	// Gate is what holds it; empty where it is only put off.
	Gate GateKind `json:"gate,omitempty"`
}

// Sync is how an environment stands, in one word.
type Sync string

// The words for how an environment stands.
const (
	// SyncPending: no run has ended yet.
	SyncPending Sync = "pending"
	// SyncVerifying: the live state is not fully known yet.
	SyncVerifying Sync = "verifying"
	// SyncClean: live equals desired at the revision shown.
	SyncClean Sync = "clean"
	// SyncDrifted: open drift.
	SyncDrifted Sync = "drifted"
	// SyncChanges: git asks for what was not applied: mode plan, or held.
	SyncChanges Sync = "changes"
	// SyncFailed: the last run failed, wholly or in part, or its source, spec or
	// target cannot be read; the last good state stays.
	SyncFailed Sync = "failed"
	// SyncStale: the watches are silent, so that nothing can be said.
	SyncStale Sync = "stale"
	// SyncStandby: another daemon has the target's lease, and looks after it.
	SyncStandby Sync = "standby"
	// SyncRemoved: its spec left git; its objects stay until that is confirmed.
	SyncRemoved Sync = "removed"
)

// Status is what is known of an environment now.
type Status struct {
	Name   string `json:"name"`
	Source string `json:"source"`
	Target string `json:"target"`
	Path   string `json:"path"`
	Mode   string `json:"mode"`
	Drift  string `json:"drift"`
	// Labels are those of its spec.
	Labels  map[string]string `json:"labels,omitempty"`
	Sync    Sync              `json:"sync"`
	Objects int               `json:"objects"`
	// Head is the newest revision seen; Applied the one last applied in full.
	Head    sources.Revision `json:"head,omitzero"`
	Applied sources.Revision `json:"applied,omitzero"`
	// Health is how what was applied works; Unready what is waited for, and
	// ReadySince from when on everything has been ready.
	Health     Health    `json:"health"`
	Unready    []Unready `json:"unready,omitempty"`
	ReadySince time.Time `json:"readySince,omitzero"`
	// Running is the run under way, LastRun the last that ended.
	Running *Run `json:"running,omitempty"`
	LastRun *Run `json:"lastRun,omitempty"`
	// Earlier is the last run on record from before the daemon started, as long as
	// LastRun is none.
	Earlier *Run `json:"earlierRun,omitempty"`
	// Errors are what stands in the way now: of the source, the spec, the render
	// or the last run.
	Errors sources.Problems `json:"errors,omitempty"`
	// Gates are all that hold something back now, in their order.
	Gates []Gate `json:"gates,omitempty"`
	// OpenDrifts and Corrections count episodes that are open, and corrections
	// since the daemon started.
	OpenDrifts  int `json:"openDrifts"`
	Corrections int `json:"corrections"`
	// Compared: live was compared with desired since the daemon started, so that
	// its drift is known.
	Compared bool `json:"compared"`
	// AsOf is when the watches last said anything, so that a stale verdict shows.
	AsOf time.Time `json:"asOf,omitzero"`
}

// Filter chooses episodes. A zero field does not limit.
type Filter struct {
	Environment string
	// OpenOnly leaves out what has ended.
	OpenOnly bool
	Since    time.Time
}

// Report is the answer to "what drifted".
type Report = drift.Report
