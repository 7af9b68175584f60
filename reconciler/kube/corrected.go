package kube

import (
	"context"
	"encoding/json"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// corrected says what the correction changed.
func (t *Target) corrected(op reconciler.Operation, live, response *unstructured.Unstructured, owner kubelive.Owner) reconciler.Outcome {
	out := reconciler.Outcome{Operation: op, Class: drift.Missing, Changes: op.Changes}
	if live == nil {
		if len(out.Changes) == 0 {
			out.Changes = []drift.Change{{Desired: drift.NewValue("present", false), Live: drift.Absent(), Manager: drift.Unknown}}
		}
		return out
	}
	changes, notOwned := kubelive.Compare(live, response, owner, op.Item.Sensitive)
	out.Changes, out.Class = dropOurs(changes), drift.Changed
	switch {
	case len(changes) > 0:
	case notOwned:
		out.Class = drift.NotOwned
	case live.GetResourceVersion() == response.GetResourceVersion():
		// The write changed nothing: either it was as desired after all, or what
		// differs is put there by admission whatever we apply.
		out.Noop, out.Class = true, ""
		t.persists(&out, response, owner)
	default:
		out.Class = ""
	}
	return out
}

// persists notes a value that our apply does not bring back: it left what the
// last apply answered, we still own it, and applying changes nothing. Something
// in admission puts it there.
func (t *Target) persists(out *reconciler.Outcome, response *unstructured.Unstructured, owner kubelive.Owner) {
	n, _ := out.Operation.Live.(note)
	now := kubelive.BaselineOf(response, owner)
	if n.base.UID != response.GetUID() || n.base.Values == now.Values || n.base.Applied != now.Applied {
		return
	}
	wanted := &unstructured.Unstructured{}
	if wanted.UnmarshalJSON(out.Operation.Item.Body) != nil {
		return
	}
	wanted.SetManagedFields(response.GetManagedFields())
	out.Changes, _ = kubelive.Compare(response, wanted, owner, out.Operation.Item.Sensitive)
	out.Noop, out.Persists, out.Class = false, true, drift.Changed
}

// dropPlaceholder removes the entry that the server makes up for an object whose
// managedFields were cleared: it would own every field for ever, and keys that
// leave git later would stay. It is conditional on the version just written, and
// best effort: a failure leaves the object as desired, and the next write tries
// again.
func (t *Target) dropPlaceholder(ctx context.Context, w writer, r kubelive.Resource, id sources.ID, response *unstructured.Unstructured) *unstructured.Unstructured {
	fields := response.GetManagedFields()
	kept := slices.DeleteFunc(slices.Clone(fields), func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == placeholderManager
	})
	if len(kept) == len(fields) || len(kept) == 0 {
		return response
	}
	patch, err := json.Marshal(fieldsPatch(response, kept))
	if err != nil {
		return response
	}
	after, err := w.api(r, id).Patch(ctx, id.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: FieldManager})
	if err != nil {
		return response
	}
	return after
}

// placeholderManager is the server's own name for writers it does not know.
const placeholderManager = "before-first-apply"

// jsonPatch is one step of a JSON patch (RFC 6902).
type jsonPatch struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// fieldsPatch replaces an object's managedFields, if it has not moved since.
func fieldsPatch(live *unstructured.Unstructured, fields []metav1.ManagedFieldsEntry) []jsonPatch {
	return []jsonPatch{
		{Op: "replace", Path: "/metadata/managedFields", Value: fields},
		{Op: "replace", Path: "/metadata/resourceVersion", Value: live.GetResourceVersion()},
	}
}
