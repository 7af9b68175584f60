package environment

import "github.com/holdfast-gitops/holdfast/sources/substitute"

// SourceRef names a source of the daemon's configuration, and one of its refs.
type SourceRef struct {
	// Name is the source's. Default: that of the spec.
	Name string `json:"name,omitempty" check:"label"`
	// Ref is a branch, a tag, a full ref name or a commit. Default: the source's.
	Ref string `json:"ref,omitempty" check:"ref"`
}

// RenderKind says how a folder is read.
type RenderKind string

// The kinds. RenderAuto takes a folder with a kustomization for one, one with a
// Chart.yaml (or a spec with helm) for a chart, and all others for plain files.
const (
	RenderAuto      RenderKind = "auto"
	RenderPlain     RenderKind = "plain"
	RenderKustomize RenderKind = "kustomize"
	RenderHelm      RenderKind = "helm"
)

// Words are the values that a file may hold.
func (RenderKind) Words() []string {
	return words(RenderAuto, RenderPlain, RenderKustomize, RenderHelm)
}

// Parameter declares one parameter.
type Parameter struct {
	// Type is that of the value. Default: string.
	Type substitute.Type `json:"type"`
	// Description is for people who set it.
	Description string `json:"description,omitempty"`
	// Default is the value where none is set.
	Default any `json:"default,omitempty"`
	// Required makes it an error to set none; a parameter without a default is
	// required anyhow.
	Required bool `json:"required,omitempty"`
	// Enum lists the values that are allowed.
	Enum []any `json:"enum,omitempty"`
	// Pattern is a regular expression that the whole text must match.
	Pattern string `json:"pattern,omitempty" check:"regexp"`
}

// Image replaces an image's name, tag or digest in all objects.
type Image struct {
	// Name is the image as it is written, without tag or digest.
	Name    string `json:"name" need:"true"`
	NewName string `json:"newName,omitempty"`
	NewTag  string `json:"newTag,omitempty"`
	// Digest is sha256:… and takes the place of a tag.
	Digest string `json:"digest,omitempty" check:"digest"`
}

// Replica sets the number of replicas of workloads of one name.
type Replica struct {
	Name  string `json:"name" need:"true"`
	Count int64  `json:"count" need:"true" min:"0" max:"100000"`
}

// Patch is a strategic merge patch or a list of JSON patch operations.
type Patch struct {
	// Patch is the patch itself, as YAML text.
	Patch string `json:"patch,omitempty"`
	// Path is a file of the snapshot that holds it, from the root.
	Path string `json:"path,omitempty" check:"path"`
	// Target chooses the objects; a strategic merge patch may name its own.
	Target *PatchTarget `json:"target,omitempty"`
	// Options allow a patch to change what identifies an object.
	Options *PatchOptions `json:"options,omitempty"`
}

// PatchTarget chooses objects by regular expressions, anchored at both ends, and
// selectors. What is left out matches all.
type PatchTarget struct {
	Group              string `json:"group,omitempty"`
	Version            string `json:"version,omitempty"`
	Kind               string `json:"kind,omitempty"`
	Name               string `json:"name,omitempty"`
	Namespace          string `json:"namespace,omitempty"`
	LabelSelector      string `json:"labelSelector,omitempty"`
	AnnotationSelector string `json:"annotationSelector,omitempty"`
}

// PatchOptions are those of kustomize.
type PatchOptions struct {
	AllowNameChange bool `json:"allowNameChange,omitempty"`
	AllowKindChange bool `json:"allowKindChange,omitempty"`
}

// Helm says which chart is rendered: the one in the spec's path, or one of a
// repository. Values are merged in this order, the later over the earlier: the
// chart's own, ValuesFiles in their order, Values, ValuesFrom in its order.
type Helm struct {
	// Repo is the https:// address of a chart repository, or an oci:// one. The
	// daemon's configuration must allow it. Empty: the chart is in the path.
	Repo string `json:"repo,omitempty" check:"chartRepo"`
	// Chart is the chart's name in Repo.
	Chart string `json:"chart,omitempty"`
	// Version is an exact version in Repo.
	Version string `json:"version,omitempty"`
	// ReleaseName is what templates see as .Release.Name. Default: the name of
	// the environment.
	ReleaseName string `json:"releaseName,omitempty" check:"releaseName"`
	// Values are merged over the files.
	Values map[string]any `json:"values,omitempty"`
	// ValuesFiles are files of the snapshot, from its root.
	ValuesFiles []string `json:"valuesFiles,omitempty" check:"path"`
	// ValuesFrom sets single values from parameters.
	ValuesFrom []ValueFrom `json:"valuesFrom,omitempty"`
	// IgnoreMissingValuesFiles skips what ValuesFiles names and is not there.
	IgnoreMissingValuesFiles bool `json:"ignoreMissingValuesFiles,omitempty"`
	// SkipCRDs leaves out what is in the chart's folder crds.
	SkipCRDs bool `json:"skipCRDs,omitempty"`
	// SkipHooks leaves out the chart's hooks.
	SkipHooks bool `json:"skipHooks,omitempty"`
	// SkipSchemaValidation does not check the values against the chart's schema.
	SkipSchemaValidation bool `json:"skipSchemaValidation,omitempty"`
	// KubeVersion and APIVersions are what templates see of the cluster where
	// there is none to ask. Default: what the target serves.
	KubeVersion string   `json:"kubeVersion,omitempty" check:"kubeVersion"`
	APIVersions []string `json:"apiVersions,omitempty"`
}

// ValueFrom sets one value of a chart from a parameter.
type ValueFrom struct {
	// Parameter is the name of a declared parameter.
	Parameter string `json:"parameter" need:"true"`
	// Path is where the value goes, keys separated by dots.
	Path string `json:"path" need:"true" check:"valuePath"`
}

// Decryption says with what encrypted files are read.
type Decryption struct {
	SOPS *SOPS `json:"sops,omitempty"`
}

// SOPS names keys of the daemon's configuration for files encrypted with SOPS.
type SOPS struct {
	// Keys are names under decryption.sops.keys of the daemon's configuration;
	// the source must be granted them.
	Keys []string `json:"keys" need:"true" check:"label"`
}
