package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

// The annotations by which an object is a hook: an object that is not kept but
// run. HookAnnotation is "before" or "after" the others are applied, or both with
// a comma; those of lower weight run first.
const (
	HookAnnotation             = "holdfast.dev/hook"
	HookWeightAnnotation       = "holdfast.dev/hook-weight"
	HookDeletePolicyAnnotation = "holdfast.dev/hook-delete-policy"
)

const (
	helmHook         = "helm.sh/hook"
	helmHookWeight   = "helm.sh/hook-weight"
	helmHookDeletion = "helm.sh/hook-delete-policy"
)

// helmHooks are ours for Helm's. Those of deletes, rollbacks and tests are never
// applied: objects are deleted one by one, a rollback is a run like any other, and
// tests are somebody's to start.
var helmHooks = map[string]string{
	"pre-install": "before", "pre-upgrade": "before", "post-install": "after", "post-upgrade": "after",
	"pre-delete": "", "post-delete": "", "pre-rollback": "", "post-rollback": "", "test": "", "test-success": "", "test-failure": "",
	// Helm 2's way to bring a CRD: an object like any other now.
	"crd-install": "none",
}

// helmPolicies are ours for Helm's deletion policies.
var helmPolicies = map[string]string{
	"before-hook-creation": "before-creation", "hook-succeeded": "succeeded", "hook-failed": "failed",
}

// hook translates the annotations of a chart's hook. It says whether the item is
// applied at all.
func hook(item sources.Item, skip bool) (out sources.Item, keep bool, problem *sources.Problem) {
	if !bytes.Contains(item.Body, []byte(helmHook)) {
		return item, true, nil
	}
	var object struct {
		Metadata struct{ Annotations map[string]string }
	}
	if json.Unmarshal(item.Body, &object) != nil {
		return item, true, nil // annotations of another type were a problem before
	}
	annotations := object.Metadata.Annotations
	kinds, is := annotations[helmHook]
	if !is {
		return item, true, nil
	}
	fail := func(message string) *sources.Problem {
		return &sources.Problem{File: item.Origin.File, Line: item.Origin.Line, Object: item.ID.String(), Message: message}
	}
	phases, unknown := hookPhases(kinds)
	switch {
	case unknown != "":
		return item, false, fail(fmt.Sprintf("%s: there is no hook %q", helmHook, unknown))
	case slices.Contains(phases, "none"):
		return item, true, nil
	case skip || len(phases) == 0:
		return item, false, nil
	}
	add := map[string]string{HookAnnotation: strings.Join(phases, ",")}
	if w := strings.TrimSpace(annotations[helmHookWeight]); w != "" {
		if _, err := strconv.Atoi(w); err != nil {
			return item, false, fail(helmHookWeight + " is not a number")
		}
		add[HookWeightAnnotation] = w
	}
	var policies []string
	for p := range strings.SplitSeq(annotations[helmHookDeletion], ",") {
		if ours := helmPolicies[strings.TrimSpace(p)]; ours != "" {
			policies = append(policies, ours)
		}
	}
	if len(policies) > 0 {
		add[HookDeletePolicyAnnotation] = strings.Join(policies, ",")
	}
	out, err := manifest.WithMetadata(item, nil, add)
	if err != nil {
		return item, false, fail(err.Error())
	}
	return out, true, nil
}

// hookPhases are our words for a list of Helm's.
func hookPhases(kinds string) (phases []string, unknown string) {
	for kind := range strings.SplitSeq(kinds, ",") {
		kind = strings.ToLower(strings.TrimSpace(kind))
		phase, known := helmHooks[kind]
		if !known {
			return nil, kind
		}
		if phase != "" && !slices.Contains(phases, phase) {
			phases = append(phases, phase)
		}
	}
	return phases, ""
}
