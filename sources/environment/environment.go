// Package environment is the Environment spec: what a team writes in its
// repository to say that a folder is to be applied to a target.
//
// Read reads the specs of a snapshot: it parses strictly, merges what `extends`
// names, substitutes parameters in the spec's own fields, and reports everything
// that is wrong with file, line and column. It renders nothing and knows no
// cluster.
//
// The types are the documentation: their comments and tags make the JSON Schema
// under docs, and the same tags drive the decoding, so that the two cannot
// disagree.
package environment

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/substitute"
)

// APIVersion and Kind mark a document as an environment spec. KindBlueprint is a
// document of the same fields that is applied nowhere by itself and may only be
// extended.
const (
	APIVersion    = "holdfast.dev/v1alpha1"
	Kind          = "Environment"
	KindBlueprint = "Blueprint"
)

// Spec is one environment, with all that it extends merged in, parameters
// substituted and defaults filled in.
type Spec struct {
	// Name is a DNS label of at most 63 characters, unique in a daemon.
	Name string `json:"name" file:"-"`
	// File and Line say where the document starts in the snapshot.
	File string `json:"file,omitempty" file:"-"`
	Line int    `json:"line,omitempty" file:"-"`
	// Labels are what people group environments by; nothing is applied of them.
	Labels map[string]string `json:"labels,omitempty" file:"-"`
	// Layers are the documents that Extends led to, the nearest first.
	Layers []sources.Origin `json:"layers,omitempty" file:"-"`
	// Values are the parameters' values: what rendered items may refer to. It is
	// nil when no parameter is declared, and nothing is then substituted. They are
	// put into the items before Images, Replicas and Patches, in which they are
	// already, change them, so that no value is taken for a reference.
	Values substitute.Values `json:"values,omitempty" file:"-"`

	// Extends names a Blueprint or an Environment of the same repository whose
	// fields this one takes over where it sets none: mappings are merged key by
	// key, lists and all else are replaced, null removes.
	Extends string `json:"extends,omitempty"`
	// Parameters declares what may differ, by name: in the spec's own fields and
	// in what plain files and kustomizations render to, ${name} stands for the
	// value.
	Parameters map[string]Parameter `json:"parameters,omitempty"`
	// With sets parameters by name.
	With map[string]any `json:"with,omitempty"`

	// Path is the folder that is rendered, from the root of the snapshot.
	// Default: the folder of the file, or with a source of another name or ref,
	// the root.
	Path string `json:"path" check:"path"`
	// Source is where Path lies, when that is not the snapshot of the spec.
	Source *SourceRef `json:"source,omitempty"`
	// Render says how Path is read. Default: auto, which looks at what is there.
	Render RenderKind `json:"render"`

	// Target is the name of a target of the daemon's configuration. Default:
	// "default".
	Target string `json:"target"`
	// Namespace is where objects go that name none. Default: the target's.
	Namespace string `json:"namespace,omitempty" check:"label"`
	// CreateNamespace adds Namespace to what is desired.
	CreateNamespace bool `json:"createNamespace,omitempty"`
	// ServiceAccount is impersonated for everything that is read, applied and
	// deleted for this environment: "name" in Namespace, or "namespace/name". The
	// source must be granted it.
	ServiceAccount string `json:"serviceAccount,omitempty" check:"serviceAccount"`
	// CommonLabels and CommonAnnotations are added to every object's metadata;
	// selectors and templates stay as they are.
	CommonLabels      map[string]string `json:"commonLabels,omitempty" check:"labels"`
	CommonAnnotations map[string]string `json:"commonAnnotations,omitempty" check:"annotations"`

	// Images, Replicas and Patches change what was rendered, as kustomize
	// understands them.
	Images   []Image   `json:"images,omitempty"`
	Replicas []Replica `json:"replicas,omitempty"`
	Patches  []Patch   `json:"patches,omitempty"`
	// Helm says which chart is rendered, and with which values.
	Helm *Helm `json:"helm,omitempty"`
	// Decryption names the keys for encrypted files.
	Decryption *Decryption `json:"decryption,omitempty"`

	// Mode defaults to ModeApply.
	Mode Mode `json:"mode"`
	// Prune deletes what left git. Default: true.
	Prune bool `json:"prune"`
	// Deletion is what becomes of the objects when the spec leaves git. Default:
	// DeletionHold.
	Deletion Deletion `json:"deletion"`
	// Formerly names what this environment was called, so that its objects are
	// handed over instead of deleted and made again.
	Formerly []string `json:"formerly,omitempty" check:"label"`
	// AdoptFrom names the field managers (or "*") whose existing objects this
	// environment may take over; all others are conflicts.
	AdoptFrom []string `json:"adoptFrom,omitempty"`
	// DependsOn names environments that must be ready at what they were last
	// assigned before this one is applied.
	DependsOn []string `json:"dependsOn,omitempty" check:"label"`
	// After lets this environment take only a revision that has proved itself in
	// another.
	After *After `json:"after,omitempty"`
	// Rollout orders the environments of one group in waves.
	Rollout *Rollout `json:"rollout,omitempty"`
	// Health says when the environment counts as ready.
	Health Health `json:"health,omitzero"`
	// Recreate says whether an object may be deleted and made again where a field
	// that cannot be changed has to. Default: RecreateNever.
	Recreate Recreate `json:"recreate"`
	// Conflicts says what becomes of fields that another manager owns too.
	Conflicts Conflicts `json:"conflicts,omitzero"`
	// Drift says what becomes of a live value that left the desired one.
	Drift Drift `json:"drift"`
	// DeletionBudget bounds what one run may delete unasked. nil is the default.
	DeletionBudget *DeletionBudget `json:"deletionBudget,omitempty"`
	// Windows say when new revisions may be applied. Without one: always.
	Windows []Window `json:"windows,omitempty"`
	// Interval is how often everything is compared though nothing moved. Zero:
	// only what the background verification of the daemon does.
	Interval time.Duration `json:"interval,omitempty" min:"10s"`
	// Timeout bounds the applying of one run. Zero: the daemon's default.
	Timeout time.Duration `json:"timeout,omitempty" min:"1s"`
	// Preview makes the spec a template: one environment for each matching
	// branch. The engine sees only those; it is set in each of them.
	Preview *Preview `json:"preview,omitempty"`
}

// New is a spec with every default filled in.
func New(name string) Spec {
	return Spec{
		Name: name, Path: ".", Target: "default", Render: RenderAuto,
		Mode: ModeApply, Prune: true, Deletion: DeletionHold, Recreate: RecreateNever,
		Health:    Health{Timeout: DefaultHealthTimeout, OnFailure: OnFailureReport},
		Conflicts: Conflicts{Default: ConflictTake},
		Drift:     Drift{Mode: DriftCorrect},
	}
}

// Equal reports whether two specs ask for the same. Where they stand, and what
// people group them by, does not count.
func (s Spec) Equal(other Spec) bool {
	for _, x := range []*Spec{&s, &other} {
		x.File, x.Line, x.Labels, x.Layers = "", 0, nil, nil
	}
	return reflect.DeepEqual(s, other)
}

// RenderKey tells apart specs that render differently from the same files.
func (s Spec) RenderKey() string {
	key := Spec{
		Name: s.Name, Values: s.Values, Path: s.Path, Render: s.Render, Target: s.Target,
		Namespace: s.Namespace, CreateNamespace: s.CreateNamespace,
		CommonLabels: s.CommonLabels, CommonAnnotations: s.CommonAnnotations,
		Images: s.Images, Replicas: s.Replicas, Patches: s.Patches, Helm: s.Helm, Decryption: s.Decryption,
	}
	text, err := json.Marshal(key)
	if err != nil { // a spec is made of what JSON can hold
		text = []byte(err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Mode says whether an environment is written to.
type Mode string

// The modes. ModePlan compares and reports, and overrides every drift mode.
const (
	ModeApply Mode = "apply"
	ModePlan  Mode = "plan"
)

// Words are the values that a file may hold.
func (Mode) Words() []string { return words(ModeApply, ModePlan) }

// Deletion is what becomes of an environment's objects when its spec left git.
type Deletion string

// The ways: wait until someone confirms, delete, or leave the objects without
// our labels and field ownership.
const (
	DeletionHold   Deletion = "hold"
	DeletionDelete Deletion = "delete"
	DeletionOrphan Deletion = "orphan"
)

// Words are the values that a file may hold.
func (Deletion) Words() []string { return words(DeletionHold, DeletionDelete, DeletionOrphan) }

// Recreate says whether objects may be deleted and made again.
type Recreate string

// RecreateAllowed permits it where the server names an immutable field and a dry
// run of the replacement passes.
const (
	RecreateNever   Recreate = "never"
	RecreateAllowed Recreate = "allowed"
)

// Words are the values that a file may hold.
func (Recreate) Words() []string { return words(RecreateNever, RecreateAllowed) }

func words[T ~string](all ...T) []string {
	out := make([]string, len(all))
	for i, w := range all {
		out[i] = string(w)
	}
	return out
}
