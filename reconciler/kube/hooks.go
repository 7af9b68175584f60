package kube

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// When a hook's object is deleted.
const (
	hookDeleteBefore    = "before-creation"
	hookDeleteSucceeded = "succeeded"
	hookDeleteFailed    = "failed"
)

// annotationHookRun is on a hook's object and names the revision it runs for, so
// that a restarted daemon waits for it instead of running it again.
const annotationHookRun = "holdfast.dev/hook-run"

// hook notes a hook for after the comparison of all else: whether it is due
// depends on that.
func (c *comparison) hook(j job) {
	if c.scope.Partial || j.directives.hook == hookNever {
		c.add(j.op(reconciler.OpUnchanged, "a hook: it is run, not kept", nil))
		return
	}
	c.hooks = append(c.hooks, j)
}

// addHooks adds the hooks that are due: those whose content is new, and all when
// the run changes anything at a revision that they have not run for. Drift alone
// runs no hook.
func (c *comparison) addHooks() {
	changes := slices.ContainsFunc(c.ops, func(op reconciler.Operation) bool {
		switch op.Kind {
		case reconciler.OpCreate, reconciler.OpUpdate, reconciler.OpAdopt, reconciler.OpDelete, reconciler.OpRecreate:
			return true
		}
		return false
	})
	revision := c.scope.Revision.ID
	for _, j := range c.hooks {
		last := c.t.hookRecord(c.owner.Environment, j.item.ID)
		if last.State == hookSucceeded && last.Digest == j.plain && (last.Revision == revision || !changes) {
			c.add(j.op(reconciler.OpUnchanged, "has run", nil))
			continue
		}
		op := j.op(reconciler.OpHook, "runs "+string(j.directives.hook)+" the other objects", nil)
		n := j.note(nil)
		n.revision = revision
		if last.State == hookFailed && last.Digest == j.plain && last.Revision == revision {
			n.hookFailure = cmp.Or(last.Message, "it failed")
		}
		op.Live = n
		c.add(op)
	}
}

// runHooks runs hooks one after the other, by wave and name, and answers why the
// run cannot go on.
func (a *application) runHooks(ctx context.Context, hooks []reconciler.Operation) (stopped string) {
	slices.SortFunc(hooks, func(x, y reconciler.Operation) int {
		return cmp.Or(waveOf(x)-waveOf(y), x.Object.Compare(y.Object))
	})
	a.markDue(ctx, hooks)
	for i, op := range hooks {
		n, _ := op.Live.(note)
		if n.directives.hook == hookAfter {
			if waits := a.t.untilWorking(ctx, a.w.owner.Environment, nil); waits != "" {
				a.deferAll(hooks[i:], "runs when the environment is ready, which waits for "+waits)
				return ""
			}
		}
		if err := a.runHook(ctx, op, n); err != nil {
			a.report(failed(op, err))
			stopped = fmt.Sprintf("hook %s failed", op.Object)
			a.deferAll(hooks[i+1:], stopped)
			return stopped
		}
		a.report(reconciler.Outcome{Operation: op})
	}
	return ""
}

// markDue writes down which hooks a run has to get to, so that one that is cut
// off does not lose those at its end.
func (a *application) markDue(ctx context.Context, hooks []reconciler.Operation) {
	for _, op := range hooks {
		n, _ := op.Live.(note)
		if n.hookFailure != "" {
			continue
		}
		r := hookRecord{Digest: n.plainDigest(op), Revision: n.revision, State: hookDue}
		a.t.tellOnce("hooks of environment "+a.w.owner.Environment, a.t.noteHook(ctx, a.w.owner.Environment, op.Object, r))
	}
}

// runHook runs one hook and waits for its end.
func (a *application) runHook(ctx context.Context, op reconciler.Operation, n note) error {
	const hint = "commit a change, or ask for another try"
	if n.hookFailure != "" {
		return sources.Problem{Message: "the hook failed at this revision, and is not run again: " + n.hookFailure, Hint: hint}
	}
	bounded, cancel := context.WithTimeoutCause(ctx, n.directives.hookTimeout, fmt.Errorf("the hook took longer than %s", n.directives.hookTimeout))
	defer cancel()
	err := a.tryHook(bounded, op, &n)
	record := hookRecord{Digest: n.plainDigest(op), Revision: n.revision, State: hookSucceeded}
	policy := hookDeleteSucceeded
	if err != nil {
		if ctx.Err() != nil || !isFinal(err) {
			return err // not the hook's failure: it is tried again
		}
		record.State, record.Message, policy = hookFailed, err.Error(), hookDeleteFailed
		err = sources.Problem{Message: "hook: " + err.Error(), Hint: hint}
	}
	if noted := a.t.noteHook(ctx, a.w.owner.Environment, op.Object, record); noted != nil {
		return noted
	}
	if slices.Contains(n.directives.hookDelete, policy) {
		a.dropHook(ctx, op, n)
	}
	return err
}

// hookFailure is a hook that ran and failed, or ran out of time.
type hookFailure struct{ why string }

func (f hookFailure) Error() string { return f.why }

func isFinal(err error) bool { _, ok := err.(hookFailure); return ok }

// tryHook makes the hook's object, unless it is at work already, and waits.
func (a *application) tryHook(ctx context.Context, op reconciler.Operation, n *note) error {
	if n.resource.GVR.Resource == "" {
		r, err := a.t.cluster.Mapper.Resource(kubelive.GroupKind(op.Object), op.Item.Version)
		if err != nil {
			return notServed(kubelive.GroupKind(op.Object), op.Item.Version, err)
		}
		n.resource = r
	}
	api := a.w.api(n.resource, op.Object)
	live, err := api.Get(ctx, op.Object.Name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	if err == nil && !isOurs(live, kubelive.Baseline{}, a.w.owner) {
		return conflict(live, a.w.owner)
	}
	running := err == nil && live.GetAnnotations()[annotationHookRun] == n.revision &&
		live.GetAnnotations()[kubelive.AnnotationApplied] == n.plainDigest(op) && live.GetDeletionTimestamp() == nil
	if running {
		n.ran = live.GetUID()
	} else {
		if err == nil && slices.Contains(n.directives.hookDelete, hookDeleteBefore) {
			if err := a.clearHook(ctx, op, *n, live); err != nil {
				return err
			}
		}
		if err := a.startHook(ctx, op, n); err != nil {
			return err
		}
	}
	return a.waitHook(ctx, op, *n)
}

// clearHook deletes the object of an earlier run.
func (a *application) clearHook(ctx context.Context, op reconciler.Operation, n note, live *unstructured.Unstructured) error {
	if !kubelive.ProvenOurs(live, a.w.owner) {
		return conflict(live, a.w.owner)
	}
	op.UID, n.version = string(live.GetUID()), live.GetResourceVersion()
	a.t.cluster.Index.BeginWrite(op.Object)
	if err := a.t.deleteExactly(ctx, a.w, op, n, metav1.DeletePropagationBackground); err != nil {
		a.t.cluster.Index.EndWrite(op.Object)
		return fmt.Errorf("delete the hook's earlier object: %w", err)
	}
	a.t.cluster.Index.Deleted(op.Object)
	if left := a.t.untilGone(ctx, a.w.api(n.resource, op.Object), op); left != nil {
		return fmt.Errorf("the hook's earlier object %s", deletionText(left))
	}
	return nil
}

// startHook makes the hook's object, and notes which it is.
func (a *application) startHook(ctx context.Context, op reconciler.Operation, n *note) error {
	body, err := bodyOf(op.Item, a.w.owner, n.plainDigest(op), "", "", annotationHookRun, n.revision)
	if err != nil {
		return err
	}
	a.t.cluster.Index.BeginWrite(op.Object)
	response, err := a.t.patch(ctx, a.w.api(n.resource, op.Object), op.Object.Name, body, a.w.owner.Manager, patchMode{force: true})
	if err != nil {
		a.t.cluster.Index.EndWrite(op.Object)
		return err
	}
	a.t.cluster.Index.Wrote(op.Object, kubelive.BaselineOf(response, a.w.owner))
	n.ran = response.GetUID()
	return nil
}

// hookLook is how often a running hook is looked at.
const hookLook = 500 * time.Millisecond

// hookBlind is for how long a hook may go unseen before its deadline means that
// we do not know, instead of that it failed.
const hookBlind = 5 * time.Second

// waitHook waits for the end of a hook, or for its deadline.
func (a *application) waitHook(ctx context.Context, op reconciler.Operation, n note) error {
	api := a.w.api(n.resource, op.Object)
	tick := time.NewTicker(hookLook)
	defer tick.Stop()
	var last string
	seen := time.Now()
	for {
		live, err := api.Get(ctx, op.Object.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err) && a.t.isFinished(a.w.owner.Environment, op.Object, n.plainDigest(op)):
			return nil // its TTL was shorter than our look
		case apierrors.IsNotFound(err):
			return hookFailure{"its object was deleted while it ran"}
		case err == nil && live.GetUID() != n.ran:
			return hookFailure{"its object was replaced by another while it ran"}
		case err == nil:
			done, failure := a.t.hookEnd(ctx, live)
			if failure != "" {
				return hookFailure{failure}
			}
			if done {
				return nil
			}
			last, seen = statusText(live), time.Now()
		}
		select {
		case <-ctx.Done():
			if time.Since(seen) > hookBlind {
				// It may well have succeeded: the next run looks again.
				return fmt.Errorf("the hook could not be watched until its end: %w", err)
			}
			if cause := a.t.rootCause(context.WithoutCancel(ctx), op.Object); cause != "" {
				last = cause
			}
			return hookFailure{fmt.Sprintf("%v; %s", context.Cause(ctx), last)}
		case <-tick.C:
		}
	}
}

// hookEnd says whether a hook's object has done its work.
func (t *Target) hookEnd(ctx context.Context, live *unstructured.Unstructured) (done bool, failure string) {
	if isFinishedJob(live) {
		succeeded, why, _ := jobEnd(live)
		if succeeded {
			return true, ""
		}
		id := idOf(live)
		if cause := t.rootCause(ctx, id); cause != "" {
			why += "; " + cause
		}
		return false, why
	}
	if live.GetKind() == "Job" {
		return false, ""
	}
	if live.GetKind() == "Pod" {
		phase, _, _ := unstructured.NestedString(live.Object, "status", "phase")
		if phase == "Failed" {
			return false, podCause(live)
		}
		return phase == "Succeeded", ""
	}
	r, err := status.Compute(live)
	if err != nil {
		return false, ""
	}
	if r.Status == status.FailedStatus {
		return false, r.Message
	}
	return r.Status == status.CurrentStatus, ""
}

func statusText(live *unstructured.Unstructured) string {
	r, err := status.Compute(live)
	if err != nil {
		return ""
	}
	return r.Message
}

func idOf(u *unstructured.Unstructured) sources.ID {
	gvk := u.GroupVersionKind()
	return sources.ID{Group: gvk.Group, Kind: gvk.Kind, Namespace: u.GetNamespace(), Name: u.GetName()}
}

// dropHook deletes the object of a hook that has ended: the very one that was run,
// and only while it is proven ours. What has taken its name since stays. One of
// ours that stays is deleted before its next run.
func (a *application) dropHook(ctx context.Context, op reconciler.Operation, n note) {
	live, err := a.w.api(n.resource, op.Object).Get(ctx, op.Object.Name, metav1.GetOptions{})
	if err != nil || live.GetUID() != n.ran || !kubelive.ProvenOurs(live, a.w.owner) {
		return
	}
	op.UID, n.version = string(live.GetUID()), live.GetResourceVersion()
	a.t.cluster.Index.BeginWrite(op.Object)
	if a.t.deleteExactly(ctx, a.w, op, n, metav1.DeletePropagationBackground) != nil {
		a.t.cluster.Index.EndWrite(op.Object)
		return
	}
	a.t.cluster.Index.Deleted(op.Object)
}
