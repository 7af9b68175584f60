// Package environment is the Environment spec: what a team writes in its
// repository to say that a folder is to be applied to a target.
//
// It parses and validates; it renders nothing and knows no cluster.
package environment

// APIVersion and Kind mark a document as an environment spec.
const (
	APIVersion = "holdfast.dev/v1alpha1"
	Kind       = "Environment"
)

// Mode says whether an environment is written to.
type Mode string

// The modes. ModePlan compares and reports, and overrides every drift mode.
const (
	ModeApply Mode = "apply"
	ModePlan  Mode = "plan"
)

// DriftMode says what becomes of a live value that left the desired one.
type DriftMode string

// The drift modes: put back, only reported, or not looked at.
const (
	DriftCorrect DriftMode = "correct"
	DriftReport  DriftMode = "report"
	DriftIgnore  DriftMode = "ignore"
)

// Spec is one environment. The zero value of an optional field has its default
// filled in by Find.
type Spec struct {
	// Name is a DNS label of at most 63 characters, unique in a daemon.
	Name string `json:"name"`
	// File and Line say where the document starts in the snapshot.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// Labels are what people group environments by; nothing is applied of them.
	Labels map[string]string `json:"labels,omitempty"`
	// Path is the folder that is rendered, from the root of the snapshot.
	// Default: the folder of the file.
	Path string `json:"path"`
	// Target is the name of a target of the daemon's configuration. Default:
	// "default".
	Target string `json:"target"`
	// Namespace is where objects go that name none. Default: the target's.
	Namespace string `json:"namespace,omitempty"`
	// CreateNamespace adds Namespace to what is desired.
	CreateNamespace bool `json:"createNamespace,omitempty"`
	// Mode defaults to ModeApply.
	Mode Mode `json:"mode"`
	// Prune deletes what left git. Default: true.
	Prune bool `json:"prune"`
	// Drift defaults to DriftCorrect.
	Drift DriftMode `json:"drift"`
	// AdoptFrom names the field managers (or "*") whose existing objects this
	// environment may take over; all others are conflicts.
	AdoptFrom []string `json:"adoptFrom,omitempty"`
}
