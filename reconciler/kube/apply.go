package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fluxcd/cli-utils/pkg/object"
	"github.com/fluxcd/pkg/ssa"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

const (
	// crdWait bounds the wait for a CRD to be served.
	crdWait = 60 * time.Second
	// conflictTries bounds how often a delete is decided anew because the object
	// moved between our read and our write.
	conflictTries   = 4
	unchangedAction = ssa.UnchangedAction
)

var diffOptions = ssa.DefaultDiffOptions()

// manager is the library's manager under the environment's own field manager.
func (t *Target) manager(owner kubelive.Owner) *ssa.ResourceManager {
	m := ssa.NewResourceManager(t.ssa.Client(), nil, ssa.Owner{Field: owner.Manager, Group: "holdfast.dev"})
	return m
}

// Apply implements reconciler.Driver. Namespaces come first, then CRDs, then what
// others refer to, then the rest, admission webhooks last; deletes go in reverse
// after that, if all could be applied. One bad object does not stop the others of
// its stage.
func (t *Target) Apply(ctx context.Context, p reconciler.Plan, done func(reconciler.Outcome)) error {
	owner := t.owner(p.Environment)
	active := p.Active()
	if err := t.recordKinds(ctx, owner, idsOf(active)); err != nil {
		return err
	}
	var mu sync.Mutex
	broken := false
	report := func(o reconciler.Outcome) {
		mu.Lock()
		defer mu.Unlock()
		broken = broken || o.Err != nil
		done(o)
	}
	var writes, deletes []reconciler.Operation
	for _, op := range active {
		if op.Kind == reconciler.OpDelete {
			deletes = append(deletes, op)
		} else {
			writes = append(writes, op)
		}
	}
	for _, stage := range stages(writes) {
		t.applyStage(ctx, owner, stage, report)
	}
	if broken {
		// What replaces the deleted may be just what failed.
		for _, op := range deletes {
			report(reconciler.Outcome{Operation: op, Deferred: "not deleted while other objects of the run cannot be applied"})
		}
		deletes = nil
	}
	reverse := stages(deletes)
	slices.Reverse(reverse)
	for _, stage := range reverse {
		each(ctx, t, stage, func(ctx context.Context, op reconciler.Operation) { report(t.delete(ctx, owner, op)) })
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("apply did not get to the end: %w", err)
	}
	return nil
}

func idsOf(ops []reconciler.Operation) []sources.ID {
	out := make([]sources.ID, len(ops))
	for i, op := range ops {
		out[i] = op.Object
	}
	return out
}

func (t *Target) applyStage(ctx context.Context, owner kubelive.Owner, stage []reconciler.Operation, report func(reconciler.Outcome)) {
	each(ctx, t, stage, func(ctx context.Context, op reconciler.Operation) {
		report(t.applyOne(ctx, owner, op))
	})
	var crds object.ObjMetadataSet
	for _, op := range stage {
		if op.Object.Kind == "CustomResourceDefinition" {
			crds = append(crds, object.ObjMetadata{GroupKind: kubelive.GroupKind(op.Object), Name: op.Object.Name})
		}
	}
	if len(crds) == 0 {
		return
	}
	// A kind that is not established in time shows as an error of its objects.
	_ = t.ssa.WaitForSetWithContext(ctx, crds, ssa.WaitOptions{Interval: 100 * time.Millisecond, Timeout: crdWait})
	t.cluster.Mapper.Refresh()
}

// stages groups operations by the library's order of kinds: what others need
// first. Within a stage the order does not matter.
func stages(ops []reconciler.Operation) [][]reconciler.Operation {
	out := make([][]reconciler.Operation, 5)
	for _, op := range ops {
		s := stageOf(op.Object.Kind)
		out[s] = append(out[s], op)
	}
	return slices.DeleteFunc(out, func(s []reconciler.Operation) bool { return len(s) == 0 })
}

func stageOf(kind string) int {
	first := ssa.ReconcileOrder.First
	switch {
	case kind == "Namespace":
		return 0
	case kind == "CustomResourceDefinition":
		return 1
	case slices.Contains(ssa.ReconcileOrder.Last, kind):
		return 4
	case slices.Contains(first[:slices.Index(first, "RoleBinding")+1], kind):
		return 2
	}
	return 3
}

// applyOne carries out one create, update, correction or adoption.
func (t *Target) applyOne(ctx context.Context, owner kubelive.Owner, op reconciler.Operation) reconciler.Outcome {
	n, _ := op.Live.(note)
	if n.resource.GVR.Resource == "" {
		r, err := t.cluster.Mapper.Resource(kubelive.GroupKind(op.Object), op.Item.Version)
		if err != nil {
			return failed(op, notServed(kubelive.GroupKind(op.Object), op.Item.Version, err))
		}
		n.resource = r
	}
	if op.Kind == reconciler.OpCorrect {
		return t.correct(ctx, owner, op, n)
	}
	mode := patchMode{force: op.Kind != reconciler.OpCreate}
	body, err := bodyOf(op.Item, owner, op.Digest, op.UID, "")
	if err != nil {
		return failed(op, err)
	}
	t.cluster.Index.BeginWrite(op.Object)
	response, err := t.patch(ctx, n.resource, op.Object, body, owner.Manager, mode)
	if err != nil {
		t.cluster.Index.EndWrite(op.Object)
		return failed(op, err)
	}
	t.cluster.Index.Wrote(op.Object, kubelive.BaselineOf(response, owner))
	return reconciler.Outcome{Operation: op}
}

func failed(op reconciler.Operation, err error) reconciler.Outcome {
	return reconciler.Outcome{Operation: op, Err: problem(op.Item, err)}
}

// correct puts a drifted object back: read, decide, apply with the UID and
// resourceVersion just read. The drift is the difference between what was read
// and what the apply answered, both as the server has them.
func (t *Target) correct(ctx context.Context, owner kubelive.Owner, op reconciler.Operation, n note) reconciler.Outcome {
	live, again := n.live, patience{}
	for {
		out, err := t.correctOnce(ctx, owner, op, n.resource, live, again.late())
		if err == nil {
			return out
		}
		if !movedOn(err) || !again.wait(ctx) {
			return failed(op, err)
		}
		if live, err = t.cluster.Get(ctx, n.resource, op.Object); apierrors.IsNotFound(err) {
			live = nil
		} else if err != nil {
			return failed(op, err)
		} else if !isOurs(live, n.base, owner) {
			// Deleted and made again by somebody else in between.
			return failed(op, conflict(live, owner))
		}
	}
}

// movedOn reports whether a write failed because the object is not what was
// read. A wrong UID is answered as an invalid, immutable field.
func movedOn(err error) bool {
	return isStale(err) || apierrors.IsNotFound(err) || isWrongUID(err)
}

// correctOnce applies once. With late it is bound to the object's UID alone:
// where somebody writes without end, what is reported as drift may lack what
// came in the last moment, but the object is as desired.
func (t *Target) correctOnce(ctx context.Context, owner kubelive.Owner, op reconciler.Operation, r kubelive.Resource, live *unstructured.Unstructured, late bool) (reconciler.Outcome, error) {
	uid, version := "", ""
	if live != nil {
		uid, version = string(live.GetUID()), live.GetResourceVersion()
	}
	if late {
		version = ""
	}
	body, err := bodyOf(op.Item, owner, op.Digest, uid, version)
	if err != nil {
		return reconciler.Outcome{}, err
	}
	t.cluster.Index.BeginWrite(op.Object)
	response, err := t.patch(ctx, r, op.Object, body, owner.Manager, patchMode{force: live != nil})
	if err != nil {
		t.cluster.Index.EndWrite(op.Object)
		return reconciler.Outcome{}, err
	}
	response = t.dropPlaceholder(ctx, r, op.Object, live, response, owner)
	t.cluster.Index.Wrote(op.Object, kubelive.BaselineOf(response, owner))
	return t.corrected(op, live, response, owner), nil
}

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
// best effort: a failure leaves the object as desired.
func (t *Target) dropPlaceholder(ctx context.Context, r kubelive.Resource, id sources.ID, live, response *unstructured.Unstructured, owner kubelive.Owner) *unstructured.Unstructured {
	if live == nil || kubelive.Ours(live, owner) {
		return response
	}
	fields := response.GetManagedFields()
	kept := slices.DeleteFunc(slices.Clone(fields), func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == "before-first-apply"
	})
	if len(kept) == len(fields) || len(kept) == 0 {
		return response
	}
	patch, err := json.Marshal([]map[string]any{
		{"op": "replace", "path": "/metadata/managedFields", "value": kept},
		{"op": "replace", "path": "/metadata/resourceVersion", "value": response.GetResourceVersion()},
	})
	if err != nil {
		return response
	}
	after, err := t.cluster.API(r, id).Patch(ctx, id.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: FieldManager})
	if err != nil {
		return response
	}
	return after
}

// patchMode is how an apply is sent.
type patchMode struct{ force, dryRun bool }

// patch sends a server-side apply and returns the server's merged object.
func (t *Target) patch(ctx context.Context, r kubelive.Resource, id sources.ID, body []byte, manager string, mode patchMode) (*unstructured.Unstructured, error) {
	o := metav1.PatchOptions{FieldManager: manager, Force: &mode.force}
	if mode.dryRun {
		o.DryRun = []string{metav1.DryRunAll}
	}
	return t.cluster.API(r, id).Patch(ctx, id.Name, types.ApplyPatchType, body, o)
}

// delete removes an object, if it is still the one that was planned.
func (t *Target) delete(ctx context.Context, owner kubelive.Owner, op reconciler.Operation) reconciler.Outcome {
	n, _ := op.Live.(note)
	out := reconciler.Outcome{Operation: op}
	uid, policy := types.UID(op.UID), metav1.DeletePropagationBackground
	t.cluster.Index.BeginWrite(op.Object)
	var err error
	for try := 1; ; try++ {
		err = t.cluster.API(n.resource, op.Object).Delete(ctx, op.Object.Name, metav1.DeleteOptions{
			Preconditions:     &metav1.Preconditions{UID: &uid, ResourceVersion: &n.version},
			PropagationPolicy: &policy,
		})
		// Its status moved since the watch last told: look again whether it is
		// still ours to delete.
		if !apierrors.IsConflict(err) || try == conflictTries {
			break
		}
		live, getErr := t.cluster.Get(ctx, n.resource, op.Object)
		if getErr != nil || string(live.GetUID()) != op.UID || !kubelive.ProvenOurs(live, owner) {
			break
		}
		n.version = live.GetResourceVersion()
	}
	if err != nil && !apierrors.IsNotFound(err) {
		t.cluster.Index.EndWrite(op.Object)
		out.Err = problem(sources.Item{ID: op.Object}, fmt.Errorf("delete: %w", err))
		return out
	}
	t.cluster.Index.Deleted(op.Object)
	return out
}
