package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/holdfast-gitops/holdfast/sources"
)

const (
	helmHook       = "helm.sh/hook"
	helmHookWeight = "helm.sh/hook-weight"
)

// helmHooks says which of Helm's hooks are applied: the driver runs them before
// or after the other objects. Those of deletes, rollbacks and tests never are:
// objects are deleted one by one, a rollback is a run like any other, and tests
// are somebody's to start. Neither are those that only Helm 2 knew.
var helmHooks = map[string]bool{
	"pre-install": true, "post-install": true, "pre-upgrade": true, "post-upgrade": true,
	"pre-delete": false, "post-delete": false, "pre-rollback": false, "post-rollback": false,
	"test": false, "test-success": false, "test-failure": false, "crd-install": false,
}

// hook looks at the annotations of a chart's object, and says whether it is
// applied. Skip leaves all hooks out.
func hook(item sources.Item, skip bool) (keep bool, problem *sources.Problem) {
	if !bytes.Contains(item.Body, []byte(helmHook)) {
		return true, nil
	}
	var object struct {
		Metadata struct{ Annotations map[string]string }
	}
	if json.Unmarshal(item.Body, &object) != nil {
		return true, nil // annotations of another type were a problem before
	}
	annotations := object.Metadata.Annotations
	kinds, is := annotations[helmHook]
	if !is {
		return true, nil
	}
	fail := func(message string) *sources.Problem {
		return &sources.Problem{File: item.Origin.File, Line: item.Origin.Line, Object: item.ID.String(), Message: message}
	}
	for kind := range strings.SplitSeq(kinds, ",") {
		kind = strings.TrimSpace(kind)
		applied, known := helmHooks[kind]
		if !known {
			return false, fail(fmt.Sprintf("%s: there is no hook %q", helmHook, kind))
		}
		keep = keep || applied
	}
	if w, is := annotations[helmHookWeight]; is {
		if _, err := strconv.Atoi(strings.TrimSpace(w)); err != nil {
			return false, fail(helmHookWeight + " is not a whole number")
		}
	}
	return keep && !skip, nil
}
