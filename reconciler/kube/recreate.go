package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// immutableWords are how the API server, and the usual rules of CRDs, say that a
// field cannot be changed. There is no type of cause for it.
var immutableWords = []string{
	"immutable",
	"may not change once set",
	"may not be changed",
	"cannot change roleRef",
	"updates to parameters are forbidden",
	"updates to provisioner are forbidden",
	"updates to reclaimPolicy are forbidden",
	"updates to statefulset spec for fields other than",
	"pod updates may not change fields other than",
	"existing toleration can not be modified",
}

// isImmutable reports whether a write was refused because it changes fields that
// cannot be changed, and for nothing else: each cause that the server names must
// say so. A wrong UID has the same code and words, and is no reason to make an
// object anew.
func isImmutable(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	s := status.Status()
	if s.Code != http.StatusUnprocessableEntity || s.Reason != metav1.StatusReasonInvalid || s.Details == nil || len(s.Details.Causes) == 0 {
		return false
	}
	for _, cause := range s.Details.Causes {
		if strings.HasPrefix(cause.Field, "metadata.") || !saysImmutable(cause.Message) {
			return false
		}
	}
	return true
}

func saysImmutable(message string) bool {
	return slices.ContainsFunc(immutableWords, func(w string) bool { return strings.Contains(message, w) })
}

// immutableFields are the fields that a refusal names.
func immutableFields(err error) string {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return ""
	}
	var out []string
	for _, cause := range status.Status().Details.Causes {
		if !slices.Contains(out, cause.Field) {
			out = append(out, cause.Field)
		}
	}
	return strings.Join(out, ", ")
}

const immutableHint = "to have it deleted and made again, annotate it in git with " + AnnotationRecreate + ": allowed, or set recreate: allowed in the environment's spec"

// mayRecreate reports whether an object may be deleted and made again: the
// object's own word counts more than the spec's.
func (c *comparison) mayRecreate(item sources.Item, live *unstructured.Unstructured) bool {
	d, err := directivesOf(item)
	if err != nil {
		return false
	}
	if d.recreate == "" && live != nil {
		onLive, _ := parseDirectives(live.GetAnnotations()) // what is wrong there asks for nothing
		d.recreate = onLive.recreate
	}
	if d.recreate != "" {
		return d.recreate == "allowed"
	}
	return c.scope.Recreate == environment.RecreateAllowed || isFinishedJob(live)
}

// mayRemake reports whether drift may be put back by making an object again. No Job is
// run again for that.
func (c *comparison) mayRemake(item sources.Item, live *unstructured.Unstructured) bool {
	return !isJob(item.ID) && c.mayRecreate(item, live)
}

// recreate finds out by dry run whether a change needs the object to be made
// anew, and whether that would work. It is false when a plain apply will do. Drifted
// says that it is no change of git's.
func (c *comparison) recreate(ctx context.Context, j job, live *unstructured.Unstructured, drifted bool) bool {
	body, err := bodyOf(j.item, c.owner, j.digest, string(live.GetUID()), "")
	if err != nil {
		return false
	}
	_, err = c.t.patch(ctx, c.api(j), j.item.ID.Name, body, c.owner.Manager, patchMode{force: true, dryRun: true})
	if !isImmutable(err) {
		return false
	}
	op := c.recreateOp(ctx, j, live, err)
	if drifted {
		op.Changes, op.Class = refusedDrift(j.item, live, err, c.owner), drift.Changed
	}
	c.add(op)
	return true
}

// recreateOp is the operation for a refused change of immutable fields.
func (c *comparison) recreateOp(ctx context.Context, j job, live *unstructured.Unstructured, refusal error) reconciler.Operation {
	if !c.mayRecreate(j.item, live) {
		if isJob(j.item.ID) {
			refusal = sources.Problem{
				Message: "the Job still runs with its earlier content, and cannot be changed",
				Hint:    "it is replaced when it has finished; to replace it at once, annotate it with " + AnnotationRecreate + ": allowed",
			}
		}
		return j.op(reconciler.OpConflict, "", c.locate(j, refusal))
	}
	if err := c.t.dryReplace(ctx, c.api(j), j.item, c.owner, j.digest); err != nil {
		return j.op(reconciler.OpConflict, "", c.locate(j, fmt.Errorf("cannot be changed in place, and its replacement is refused: %w", err)))
	}
	op := j.op(reconciler.OpRecreate, "deleted and made again: "+immutableFields(refusal)+" cannot be changed", nil)
	op.UID = string(live.GetUID())
	op.Live = j.note(live)
	op.Protected = protected[kubelive.GroupKind(j.item.ID)] || keeps(live)
	return op
}

// dryReplace asks the server whether it would take the object if the live one
// were not there: a dry run of creating it under its own name. The server
// validates and admits an object before it finds that the name is taken, so that
// this very answer means that all is well.
func (t *Target) dryReplace(ctx context.Context, api objectAPI, item sources.Item, owner kubelive.Owner, digest string) error {
	body, err := bodyOf(item, owner, digest, "", "")
	if err != nil {
		return err
	}
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(body); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	_, err = api.Create(ctx, object, metav1.CreateOptions{FieldManager: owner.Manager, DryRun: []string{metav1.DryRunAll}})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// replace deletes an object and makes it again, after one more dry run of the
// replacement. What a crash in between leaves is an object that is not there,
// which the next run makes.
func (t *Target) replace(ctx context.Context, w writer, op reconciler.Operation) reconciler.Outcome {
	n, _ := op.Live.(note)
	api := w.api(n.resource, op.Object)
	if err := t.dryReplace(ctx, api, op.Item, w.owner, op.Digest); err != nil {
		return failed(op, fmt.Errorf("its replacement is refused: %w", err))
	}
	t.cluster.Index.BeginWrite(op.Object)
	if err := t.deleteExactly(ctx, w, op, n, metav1.DeletePropagationForeground); err != nil {
		t.cluster.Index.EndWrite(op.Object)
		return failed(op, fmt.Errorf("delete: %w", err))
	}
	t.cluster.Index.Deleted(op.Object)
	if left := t.untilGone(ctx, api, op); left != nil {
		return reconciler.Outcome{Operation: op, Deferred: "being deleted, to be made again: " + deletionText(left)}
	}
	op.UID = ""
	return t.create(ctx, w, op, n)
}

// untilGone waits a short while for an object to go; what is left of it is
// answered. A finalizer may take its time, and must not hold a worker.
func (t *Target) untilGone(ctx context.Context, api objectAPI, op reconciler.Operation) *unstructured.Unstructured {
	var again patience
	for {
		live, err := api.Get(ctx, op.Object.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && string(live.GetUID()) != op.UID {
			return nil
		}
		if !again.wait(ctx) {
			if live == nil {
				live = &unstructured.Unstructured{Object: map[string]any{}}
			}
			return live
		}
	}
}

// deleteExactly deletes the object of a UID, if it is still ours to delete when
// it moved meanwhile.
func (t *Target) deleteExactly(ctx context.Context, w writer, op reconciler.Operation, n note, policy metav1.DeletionPropagation) error {
	uid := types.UID(op.UID)
	api := w.api(n.resource, op.Object)
	var again patience
	for {
		err := api.Delete(ctx, op.Object.Name, metav1.DeleteOptions{
			Preconditions:     &metav1.Preconditions{UID: &uid, ResourceVersion: &n.version},
			PropagationPolicy: &policy,
		})
		if err == nil || apierrors.IsNotFound(err) {
			return nil
		}
		// Its status moved since the watch last told: look again whether it is
		// still ours to delete.
		if !apierrors.IsConflict(err) || !again.wait(ctx) {
			return err
		}
		live, getErr := t.cluster.Get(ctx, n.resource, op.Object)
		if apierrors.IsNotFound(getErr) {
			return nil
		}
		if getErr != nil || string(live.GetUID()) != op.UID || !kubelive.ProvenOurs(live, w.owner) {
			return err
		}
		if op.Kind == reconciler.OpDelete && keeps(live) {
			return sources.Problem{Message: "was annotated to be kept while its delete was under way", Hint: "it stays"}
		}
		n.version = live.GetResourceVersion()
	}
}
