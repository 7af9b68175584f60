package kube

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/fluxcd/pkg/ssa"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// reclaim sets right who owns the fields of an object whose managedFields were
// cleared. An apply to such an object makes the server's placeholder the owner of
// all that was there: keys that leave git later would stay for ever, and those that
// left git with this very apply did stay. So the placeholder goes, and where it is
// known what was applied before, its fields count as ours once more and the object
// is applied again, which removes what git no longer sets. Live is the object as it
// was read, or nil. It answers the object as it is then.
func (t *Target) reclaim(ctx context.Context, w writer, op reconciler.Operation, n note, live, response *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	fields := response.GetManagedFields()
	if len(fields) == 0 {
		return response, nil // the server keeps none
	}
	kept := slices.DeleteFunc(slices.Clone(fields), func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == placeholderManager
	})
	cleared := len(kept) < len(fields) && len(kept) > 0
	forged := live != nil && !kubelive.HasEntry(live, w.owner.Manager)
	if !cleared && !forged {
		return response, nil
	}
	again := op.Before != nil && op.Before.Version == op.Item.Version
	if again {
		err := t.withBefore(ctx, w, op, n, response, kept)
		if again = err == nil; err != nil && !isRefused(err) {
			return nil, err
		}
	}
	if !again && !cleared {
		return response, nil
	}
	after, err := t.patchFields(ctx, w, op, n, response, kept)
	if err != nil {
		if again {
			return nil, err
		}
		// The object is as desired, and the next write tries again.
		return response, nil
	}
	if !again {
		return after, nil
	}
	return t.applyYielding(ctx, w, &op, n, after, after.GetResourceVersion())
}

// withBefore adds to our entry the fields that applying what was applied before
// would make ours, as a dry run says.
func (t *Target) withBefore(ctx context.Context, w writer, op reconciler.Operation, n note, response *unstructured.Unstructured, kept []metav1.ManagedFieldsEntry) error {
	body, err := bodyOf(*op.Before, w.owner, n.plainDigest(op), string(response.GetUID()), "")
	if err != nil {
		return err
	}
	merged, err := t.patch(ctx, w.api(n.resource, op.Object), op.Object.Name, body, w.owner.Manager, patchMode{force: true, dryRun: true})
	if err != nil {
		return err
	}
	before, err := entryOf(merged, w.owner.Manager)
	if err != nil || before == nil {
		return err
	}
	for i := range kept {
		e := &kept[i]
		if e.Manager != w.owner.Manager || e.Operation != metav1.ManagedFieldsOperationApply || e.Subresource != "" || e.FieldsV1 == nil {
			continue
		}
		mine, err := ssa.FieldsToSet(*e.FieldsV1)
		if err != nil {
			return err
		}
		theirs, err := ssa.FieldsToSet(*before.FieldsV1)
		if err != nil {
			return err
		}
		all, err := ssa.SetToFields(*mine.Union(&theirs))
		if err != nil {
			return err
		}
		e.FieldsV1 = &all
	}
	return nil
}

// isRefused: what was applied before would be taken no more, today or tomorrow.
func isRefused(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsForbidden(err)
}

// patchFields replaces an object's managedFields, if it has not moved since.
func (t *Target) patchFields(ctx context.Context, w writer, op reconciler.Operation, n note, response *unstructured.Unstructured, fields []metav1.ManagedFieldsEntry) (*unstructured.Unstructured, error) {
	patch, err := json.Marshal(fieldsPatch(response, fields))
	if err != nil {
		return nil, err
	}
	after, err := w.api(n.resource, op.Object).Patch(ctx, op.Object.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: FieldManager})
	if apierrors.IsInvalid(err) && strings.Contains(err.Error(), "resourceVersion") {
		err = apierrors.NewConflict(n.resource.GVR.GroupResource(), op.Object.Name, err)
	}
	return after, err
}
