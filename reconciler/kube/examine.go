package kube

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/fluxcd/pkg/ssa"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// examine reads an object in full and gives the verdict.
func (c *comparison) examine(ctx context.Context, j job) {
	live, err := c.read(ctx, j)
	switch {
	case apierrors.IsNotFound(err):
		c.gone(ctx, j)
		return
	case err != nil:
		c.add(j.op(reconciler.OpUnknown, "", c.locate(j, err)))
		return
	}
	if !isOurs(live, j.known.Base, c.owner) {
		c.found(ctx, j, live)
		return
	}
	base := j.known.Base
	applied := live.GetAnnotations()[kubelive.AnnotationApplied]
	same := base.UID != "" && base.Matches(live, c.owner)
	if same && applied == j.digest && !c.scope.Verify {
		fresh := kubelive.BaselineOf(live, c.owner)
		c.t.cluster.Index.Verified(j.item.ID, fresh)
		c.add(j.op(reconciler.OpUnchanged, "", nil))
		return
	}
	op := j.op(reconciler.OpCorrect, "live differs from what was applied", nil)
	op.UID, op.Live = string(live.GetUID()), j.note(live)
	if live.GetDeletionTimestamp() != nil {
		c.leaving(j, live)
		return
	}
	if base.Applied != "" && base.Applied != j.digest || base.UID == "" && applied != j.digest {
		op.Kind, op.Why = reconciler.OpUpdate, "git changed"
	}
	if c.scope.ReadOnly || c.scope.Verify {
		c.explain(ctx, j, &op, live)
		return
	}
	drifted := op.Kind == reconciler.OpCorrect
	again := isJob(j.item.ID) || c.mayRecreate(j.item, live)
	if drifted {
		again = c.mayRemake(j.item, live)
	}
	if again && c.recreate(ctx, j, live, drifted) {
		return
	}
	c.add(op)
}

// read reads an object in full. What a watch has just told of may come from the
// server's cache; a verification distrusts that, too.
func (c *comparison) read(ctx context.Context, j job) (*unstructured.Unstructured, error) {
	if c.scope.Verify {
		return c.t.cluster.Get(ctx, j.resource, j.item.ID)
	}
	return c.t.cluster.GetSince(ctx, j.resource, j.item.ID, j.known.Since)
}

// leaving handles a wanted object that somebody deletes: it cannot be brought
// back before it is gone.
func (c *comparison) leaving(j job, live *unstructured.Unstructured) {
	if time.Since(live.GetDeletionTimestamp().Time) < stuckAfter {
		c.add(j.op(reconciler.OpUnchanged, deletionText(live)+"; made again when it is gone", nil))
		return
	}
	c.add(j.op(reconciler.OpConflict, "", c.locate(j, sources.Problem{Message: deletionText(live), Hint: finalizerHint})))
}

// explain finds out by dry run what an apply would change.
func (c *comparison) explain(ctx context.Context, j job, op *reconciler.Operation, live *unstructured.Unstructured) {
	op.UID = string(live.GetUID())
	body, err := j.note(live).body(*op, c.owner, live, j.yields, "")
	if err != nil {
		c.add(j.op(reconciler.OpUnknown, "", c.locate(j, err)))
		return
	}
	if c.scope.Verify && !c.writer.impersonates && j.known.Base.OwnsAs(live, c.owner) && c.unchangedByDryRun(ctx, body) {
		c.t.cluster.Index.Verified(j.item.ID, kubelive.BaselineOf(live, c.owner))
		c.add(j.op(reconciler.OpUnchanged, "verified", nil))
		return
	}
	merged, err := c.t.patch(ctx, c.api(j), j.item.ID.Name, body, c.owner.Manager, patchMode{force: true, dryRun: true})
	if isImmutable(err) {
		c.unchangeable(ctx, j, op, live, err)
		return
	}
	if op.Kind == reconciler.OpCorrect {
		if op.Changes = refusedChanges(j.item, live, err); len(op.Changes) > 0 {
			op.Class = drift.Changed
			c.add(*op)
			return
		}
	}
	if err != nil {
		c.add(j.op(reconciler.OpUnknown, "", c.locate(j, err)))
		return
	}
	changes, notOwned := compared(live, merged, c.owner, j.item)
	changes = slices.DeleteFunc(changes, func(ch drift.Change) bool {
		return j.note(live).mode(j.item.ID, ch.Path, ch.Manager) == environment.ConflictYield && ch.Manager != drift.Unknown
	})
	op.Changes, op.Class = dropOurs(changes), drift.Changed
	switch {
	case len(changes) == 0 && !notOwned:
		c.t.cluster.Index.Verified(j.item.ID, kubelive.BaselineOf(live, c.owner))
		c.add(j.op(reconciler.OpUnchanged, "", nil))
		return
	case len(changes) == 0:
		op.Class = drift.NotOwned
	}
	c.add(*op)
}

// unchangeable handles what a plain apply cannot change. Drift is told as such, whether
// or not it can be put back.
func (c *comparison) unchangeable(ctx context.Context, j job, op *reconciler.Operation, live *unstructured.Unstructured, refusal error) {
	if op.Kind != reconciler.OpCorrect {
		c.add(c.recreateOp(ctx, j, live, refusal))
		return
	}
	op.Changes, op.Class = refusedDrift(j.item, live, refusal, c.owner), drift.Changed
	op.Why += ", and " + immutableFields(refusal) + " cannot be changed back"
	if !c.scope.ReadOnly && c.mayRemake(j.item, live) {
		again := c.recreateOp(ctx, j, live, refusal)
		again.Changes, again.Class = op.Changes, op.Class
		op = &again
	}
	c.add(*op)
}

// unchangedByDryRun asks the library whether an apply would change the object's
// content. Anything but a clear "unchanged" is looked into by ourselves, since it
// ignores the error of its own read.
func (c *comparison) unchangedByDryRun(ctx context.Context, body []byte) bool {
	object := &unstructured.Unstructured{}
	if object.UnmarshalJSON(body) != nil {
		return false
	}
	manager := ssa.NewResourceManager(c.t.ssa.Client(), nil, ssa.Owner{Field: c.owner.Manager, Group: "holdfast.dev"})
	entry, _, _, err := manager.Diff(ctx, object, ssa.DefaultDiffOptions())
	return err == nil && entry.Action == ssa.UnchangedAction
}

// gone handles an object that the index or a hint knew and that is not there.
func (c *comparison) gone(ctx context.Context, j job) {
	op := j.op(reconciler.OpCreate, "new", nil)
	op.UID = ""
	if j.known.Base.UID != "" {
		op.Kind, op.Why, op.Class = reconciler.OpCorrect, "the object is gone", drift.Missing
		op.Changes = []drift.Change{{Desired: drift.NewValue("present", false), Live: drift.Absent(), Manager: drift.Unknown}}
	}
	if c.scope.Verify {
		if err := c.dryCreate(ctx, j); err != nil {
			c.add(j.op(reconciler.OpUnknown, "", c.locate(j, err)))
			return
		}
	}
	c.add(op)
}

// dryCreate says what the server would answer to creating the object.
func (c *comparison) dryCreate(ctx context.Context, j job) error {
	body, err := bodyOf(j.item, c.owner, j.digest, "", "")
	if err != nil {
		return err
	}
	_, err = c.t.patch(ctx, c.api(j), j.item.ID.Name, body, c.owner.Manager, patchMode{dryRun: true})
	if apierrors.IsNotFound(err) {
		return nil // its namespace is to be created by the same plan
	}
	return err
}

// dropOurs leaves out the change of our own annotation, which says nothing that
// the other changes do not.
func dropOurs(changes []drift.Change) []drift.Change {
	if len(changes) < 2 {
		return changes
	}
	return slices.DeleteFunc(changes, func(c drift.Change) bool {
		return strings.Contains(c.Path, kubelive.AnnotationApplied)
	})
}
