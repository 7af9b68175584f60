package kube

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// applyOne carries out one operation that leaves an object behind.
func (t *Target) applyOne(ctx context.Context, w writer, op reconciler.Operation) reconciler.Outcome {
	n, _ := op.Live.(note)
	if n.resource.GVR.Resource == "" {
		r, err := t.cluster.Mapper.Resource(kubelive.GroupKind(op.Object), op.Item.Version)
		if err != nil {
			return failed(op, notServed(kubelive.GroupKind(op.Object), op.Item.Version, err))
		}
		n.resource = r
	}
	switch op.Kind {
	case reconciler.OpCorrect:
		return t.correct(ctx, w, op, n)
	case reconciler.OpRecreate:
		out := t.replace(ctx, w, op)
		out.Class, out.Changes = op.Class, op.Changes
		return out
	case reconciler.OpAdopt:
		return t.adopt(ctx, w, op, n)
	case reconciler.OpCreate:
		return t.create(ctx, w, op, n)
	}
	return t.update(ctx, w, op, n)
}

func failed(op reconciler.Operation, err error) reconciler.Outcome {
	return reconciler.Outcome{Operation: op, Err: problem(op.Item, err)}
}

// create makes an object that is not there. What is left to other managers starts
// with git's value: it has to have one.
func (t *Target) create(ctx context.Context, w writer, op reconciler.Operation, n note) reconciler.Outcome {
	body, err := bodyOf(op.Item, w.owner, n.plainDigest(op), "", "")
	if err != nil {
		return failed(op, err)
	}
	t.cluster.Index.BeginWrite(op.Object)
	response, err := t.patch(ctx, w.api(n.resource, op.Object), op.Object.Name, body, w.owner.Manager, patchMode{})
	if err != nil {
		t.cluster.Index.EndWrite(op.Object)
		return failed(op, err)
	}
	t.cluster.Index.Wrote(op.Object, kubelive.BaselineOf(response, w.owner))
	if len(n.yields) > 0 {
		t.cluster.Index.Touch(op.Object)
	}
	return reconciler.Outcome{Operation: op}
}

// update applies what git changed.
func (t *Target) update(ctx context.Context, w writer, op reconciler.Operation, n note) reconciler.Outcome {
	t.cluster.Index.BeginWrite(op.Object)
	response, err := t.applyYielding(ctx, w, &op, n, nil, "")
	if err != nil {
		t.cluster.Index.EndWrite(op.Object)
		return failed(op, err)
	}
	if response, err = t.reclaim(ctx, w, op, n, n.live, response); err != nil {
		t.cluster.Index.EndWrite(op.Object)
		return failed(op, err)
	}
	t.cluster.Index.Wrote(op.Object, kubelive.BaselineOf(response, w.owner))
	return reconciler.Outcome{Operation: op}
}

// correct puts a drifted object back: read, decide, apply with the UID and
// resourceVersion just read. The drift is the difference between what was read
// and what the apply answered, both as the server has them.
func (t *Target) correct(ctx context.Context, w writer, op reconciler.Operation, n note) reconciler.Outcome {
	live, again := n.live, patience{}
	for {
		out, err := t.correctOnce(ctx, w, op, n, live, again.late())
		if err == nil {
			return out
		}
		if !movedOn(err) || !again.wait(ctx) {
			return refused(op, live, err, w.owner)
		}
		if live, err = t.cluster.Get(ctx, n.resource, op.Object); apierrors.IsNotFound(err) {
			live = nil
		} else if err != nil {
			return failed(op, err)
		} else if !isOurs(live, n.base, w.owner) {
			// Deleted and made again by somebody else in between.
			return failed(op, conflict(live, w.owner))
		}
	}
}

// refused is a correction that the server does not take. What has drifted is told
// nevertheless, as far as it can be without the server's answer.
func refused(op reconciler.Operation, live *unstructured.Unstructured, err error, owner kubelive.Owner) reconciler.Outcome {
	out := failed(op, err)
	if live != nil && (apierrors.IsInvalid(err) || apierrors.IsForbidden(err)) {
		out.Class, out.Changes = drift.Changed, refusedDrift(op.Item, live, err, owner)
	}
	return out
}

// movedOn reports whether a write failed because the object is not what was
// read. A wrong UID is answered as an invalid, immutable field.
func movedOn(err error) bool {
	return isStale(err) || apierrors.IsNotFound(err) || isWrongUID(err)
}

// correctOnce applies once. With late it is bound to the object's UID alone:
// where somebody writes without end, what is reported as drift may lack what
// came in the last moment, but the object is as desired.
func (t *Target) correctOnce(ctx context.Context, w writer, op reconciler.Operation, n note, live *unstructured.Unstructured, late bool) (reconciler.Outcome, error) {
	if live == nil {
		return t.remake(ctx, w, op, n)
	}
	version := live.GetResourceVersion()
	if late {
		version = ""
	}
	op.UID = string(live.GetUID())
	t.cluster.Index.BeginWrite(op.Object)
	response, err := t.applyYielding(ctx, w, &op, n, live, version)
	if mended, ok := t.repair(ctx, w, op, n, live, err); ok {
		if response, err = t.applyYielding(ctx, w, &op, n, mended, mended.GetResourceVersion()); err == nil {
			response = t.dropRepair(ctx, w, op, n, response)
		}
	}
	if err == nil {
		response, err = t.reclaim(ctx, w, op, n, live, response)
	}
	if err != nil {
		t.cluster.Index.EndWrite(op.Object)
		return reconciler.Outcome{}, err
	}
	t.cluster.Index.Wrote(op.Object, kubelive.BaselineOf(response, w.owner))
	return t.corrected(op, live, response, w.owner), nil
}

// remake makes an object that was deleted.
func (t *Target) remake(ctx context.Context, w writer, op reconciler.Operation, n note) (reconciler.Outcome, error) {
	body, err := bodyOf(op.Item, w.owner, n.plainDigest(op), "", "")
	if err != nil {
		return reconciler.Outcome{}, err
	}
	t.cluster.Index.BeginWrite(op.Object)
	response, err := t.patch(ctx, w.api(n.resource, op.Object), op.Object.Name, body, w.owner.Manager, patchMode{})
	if err != nil {
		t.cluster.Index.EndWrite(op.Object)
		return reconciler.Outcome{}, err
	}
	t.cluster.Index.Wrote(op.Object, kubelive.BaselineOf(response, w.owner))
	if len(n.yields) > 0 {
		t.cluster.Index.Touch(op.Object)
	}
	return t.corrected(op, nil, response, w.owner), nil
}

// patchMode is how an apply is sent.
type patchMode struct{ force, dryRun bool }

// patch sends a server-side apply and returns the server's merged object.
func (t *Target) patch(ctx context.Context, api objectAPI, name string, body []byte, manager string, mode patchMode) (*unstructured.Unstructured, error) {
	o := metav1.PatchOptions{FieldManager: manager, Force: &mode.force}
	if mode.dryRun {
		o.DryRun = []string{metav1.DryRunAll}
	}
	return api.Patch(ctx, name, types.ApplyPatchType, body, o)
}

// delete removes an object, if it is still the one that was planned.
func (t *Target) delete(ctx context.Context, w writer, op reconciler.Operation) reconciler.Outcome {
	n, _ := op.Live.(note)
	t.cluster.Index.BeginWrite(op.Object)
	if err := t.deleteExactly(ctx, w, op, n, metav1.DeletePropagationBackground); err != nil {
		t.cluster.Index.EndWrite(op.Object)
		return reconciler.Outcome{Operation: op, Err: problem(sources.Item{ID: op.Object}, fmt.Errorf("delete: %w", err))}
	}
	t.cluster.Index.Deleted(op.Object)
	return reconciler.Outcome{Operation: op}
}
