package environment

import "time"

// The defaults of what a spec may leave out.
const (
	DefaultHealthTimeout   = 5 * time.Minute
	DefaultPreviewLifetime = 7 * 24 * time.Hour
	DefaultPreviewMax      = 20
	DefaultBudgetCount     = 5
	DefaultBudgetPercent   = 10
	DefaultBudgetStop      = 50
	DefaultRolloutUnready  = 1
)

// After is promotion: this environment takes a revision only when another has
// been ready with it.
type After struct {
	// Environment is the other's name.
	Environment string `json:"environment" need:"true" check:"label"`
	// Ready is for how long it must have been ready with the revision.
	Ready time.Duration `json:"ready,omitempty" min:"0s"`
	// DriftFree also asks that it had no open drift in that time.
	DriftFree bool `json:"driftFree,omitempty"`
}

// Rollout orders environments: those of one group take a revision wave by wave,
// and a failed one stops its followers.
type Rollout struct {
	// Group is any name that the environments share.
	Group string `json:"group" need:"true" check:"label"`
	// Wave is when it is this one's turn: the lowest first.
	Wave int `json:"wave,omitempty" min:"0" max:"1000"`
	// MaxUnavailable is how many of a wave may be unready at a time. Default: 1.
	MaxUnavailable int `json:"maxUnavailable,omitempty" min:"1" max:"1000"`
}

// OnFailure is what becomes of a revision that does not get ready.
type OnFailure string

// OnFailureReport says so and leaves it; OnFailureReturn applies the last ready
// revision again.
const (
	OnFailureReport OnFailure = "report"
	OnFailureReturn OnFailure = "return"
)

// Words are the values that a file may hold.
func (OnFailure) Words() []string { return words(OnFailureReport, OnFailureReturn) }

// Health says when an environment is ready, beside what is known of the built-in
// and conforming kinds.
type Health struct {
	// Timeout is how long a run waits for readiness. Default: 5m.
	Timeout time.Duration `json:"timeout,omitempty" min:"1s"`
	// OnFailure defaults to OnFailureReport.
	OnFailure OnFailure `json:"onFailure,omitempty"`
	// Checks are for kinds whose readiness has to be told.
	Checks []HealthCheck `json:"checks,omitempty"`
}

// HealthCheck tells the readiness of a kind by CEL expressions over the live
// object, which is called self.
type HealthCheck struct {
	// APIVersion and Kind are the objects'.
	APIVersion string `json:"apiVersion" need:"true"`
	Kind       string `json:"kind" need:"true"`
	// Name is one object's, or a pattern with *. Default: all.
	Name string `json:"name,omitempty"`
	// Ready is true when the object is; Failed when it will never be.
	Ready  string `json:"ready" need:"true" check:"health"`
	Failed string `json:"failed,omitempty" check:"health"`
	// Message is a CEL expression for what the object waits for, told while it is
	// not ready.
	Message string `json:"message,omitempty" check:"message"`
}

// ConflictMode is what becomes of a field that another manager owns too.
type ConflictMode string

// ConflictTake takes the field over, ConflictYield leaves it to the other, and
// ConflictFail makes it an error of the object.
const (
	ConflictTake  ConflictMode = "take"
	ConflictYield ConflictMode = "yield"
	ConflictFail  ConflictMode = "fail"
)

// Words are the values that a file may hold.
func (ConflictMode) Words() []string { return words(ConflictTake, ConflictYield, ConflictFail) }

// Conflicts says what becomes of fields that another manager owns too: the first
// rule that matches, else the default.
type Conflicts struct {
	// Default is ConflictTake where none is given.
	Default ConflictMode   `json:"default,omitempty"`
	Rules   []ConflictRule `json:"rules,omitempty"`
}

// ConflictRule is a conflict mode for some fields of some objects.
type ConflictRule struct {
	Match
	Mode ConflictMode `json:"mode" need:"true"`
}

// Match chooses fields of objects. What is left out matches all; patterns may
// hold *, which stands for any text.
type Match struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind,omitempty"`
	Name      string `json:"name,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	// Managers are field managers, or patterns of them.
	Managers []string `json:"managers,omitempty"`
	// Paths are JSON pointers, in which a step * stands for any one key or index
	// and a last step ** for all that is below.
	Paths []string `json:"paths,omitempty" check:"pointer"`
}

// DriftMode says what becomes of a live value that left the desired one.
type DriftMode string

// The drift modes: put back, only reported, or not looked at.
const (
	DriftCorrect DriftMode = "correct"
	DriftReport  DriftMode = "report"
	DriftIgnore  DriftMode = "ignore"
)

// Words are the values that a file may hold.
func (DriftMode) Words() []string { return words(DriftCorrect, DriftReport, DriftIgnore) }

// Drift says what becomes of drift: the first rule that matches, else the mode.
type Drift struct {
	// Mode is DriftCorrect where none is given.
	Mode  DriftMode   `json:"mode"`
	Rules []DriftRule `json:"rules,omitempty"`
	// Severity grades drift: the first rule whose expression is true, else the
	// rules that are built in.
	Severity []SeverityRule `json:"severity,omitempty"`
	// ExtraFields also reports fields that others added to our objects.
	ExtraFields bool `json:"extraFields,omitempty"`
	// Unmanaged also reports objects in the environment's namespaces that belong
	// to nobody.
	Unmanaged bool `json:"unmanaged,omitempty"`
}

// DriftRule is a drift mode for some fields of some objects.
type DriftRule struct {
	Match
	Mode DriftMode `json:"mode" need:"true"`
}

// Severity is how bad a drift is.
type Severity string

// The severities, the worst last.
const (
	SeverityLow      Severity = "low"
	SeverityMedium   Severity = "medium"
	SeverityHigh     Severity = "high"
	SeverityCritical Severity = "critical"
)

// Words are the values that a file may hold.
func (Severity) Words() []string {
	return words(SeverityLow, SeverityMedium, SeverityHigh, SeverityCritical)
}

// SeverityRule grades the drifts for which a CEL expression is true. It sees
// object (group, kind, namespace, name), path, class, manager, environment and
// labels (the environment's); never values.
type SeverityRule struct {
	When     string   `json:"when" need:"true" check:"severity"`
	Severity Severity `json:"severity" need:"true"`
}

// DeletionBudget bounds what one run may delete unasked.
type DeletionBudget struct {
	// Count and Percent together: deletions wait when there are more than Count
	// and they are more than Percent of the environment. Defaults: 5 and 10.
	Count   int `json:"count" min:"0" max:"1000000"`
	Percent int `json:"percent" min:"0" max:"100"`
	// StopPercent is the part of the environment over which the whole run waits.
	// Default: 50.
	StopPercent int `json:"stopPercent" min:"0" max:"100"`
}

// WindowKind says what a window does.
type WindowKind string

// WindowAllow lets new revisions through only while it, or another of its kind,
// is open; WindowDeny stops them while it is open, and is the stronger.
const (
	WindowAllow WindowKind = "allow"
	WindowDeny  WindowKind = "deny"
)

// Words are the values that a file may hold.
func (WindowKind) Words() []string { return words(WindowAllow, WindowDeny) }

// Window is a time that comes again, in which new revisions and hooks are let
// through or stopped. Drift is corrected at all times unless the window says
// otherwise.
type Window struct {
	Kind WindowKind `json:"kind" need:"true"`
	// Schedule says when it opens: minute, hour, day of month, month, day of week.
	Schedule string `json:"schedule" need:"true" check:"cron"`
	// Duration is how long it stays open.
	Duration time.Duration `json:"duration" need:"true" min:"1m" max:"744h"`
	// Timezone is that of the schedule, such as Europe/Berlin. Default: UTC.
	Timezone string `json:"timezone,omitempty" check:"timezone"`
	// StopCorrection stops the correction of drift, too, while new revisions are
	// stopped.
	StopCorrection bool `json:"stopCorrection,omitempty"`
}

// Preview makes a spec a template over branches.
type Preview struct {
	// Branches are patterns of branches' names, in which * stands for any text
	// but a slash and ** for any text.
	Branches []string `json:"branches" need:"true" check:"branchPattern"`
	// Exclude are patterns of branches that get none.
	Exclude []string `json:"exclude,omitempty" check:"branchPattern"`
	// Lifetime is how long an environment stays after the last commit of its
	// branch. Default: 168h.
	Lifetime time.Duration `json:"lifetime,omitempty" min:"1m"`
	// Max bounds how many there are at a time; branches with the newest commits
	// come first. Default: 20.
	Max int `json:"max,omitempty" min:"1" max:"200"`

	// Template is the name of the spec that an environment was made from, and
	// Branch and Commit what it is made for.
	Template string `json:"template,omitempty" file:"-"`
	Branch   string `json:"branch,omitempty" file:"-"`
	Commit   string `json:"commit,omitempty" file:"-"`
}
