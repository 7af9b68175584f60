package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// detachedManager keeps the fields of a detached object, so that no apply of
// another removes them.
const detachedManager = "holdfast-detached"

// Detach lets an environment's objects go: their labels, our annotation and our
// field ownership are removed, and the objects and all their values stay. It
// answers how many objects were let go. Its error names every one that could not
// be, and then the parent object stays too, so that it can be tried again.
func (t *Target) Detach(ctx context.Context, environment string) (int, error) {
	w, err := t.writer(environment)
	if err != nil {
		return 0, err
	}
	ids, err := t.members(ctx, environment)
	if err != nil {
		return 0, err
	}
	var mu sync.Mutex
	var problems sources.Problems
	count := 0
	each(ctx, t, environment, ids, func(ctx context.Context, id sources.ID) {
		gone, err := t.detachOne(ctx, w, id)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			problems = append(problems, sources.ProblemsOf(problem(sources.Item{ID: id}, err))...)
		} else if gone {
			count++
		}
	})
	if err := errors.Join(problems.Err(), ctx.Err()); err != nil {
		return count, err
	}
	return count, t.dropParent(ctx, environment)
}

// members are the objects of an environment, found by full lists of every kind
// that it may have.
func (t *Target) members(ctx context.Context, environment string) ([]sources.ID, error) {
	owner := t.owner(environment)
	p, err := t.loadParent(ctx, owner, reconciler.Scope{Environment: environment})
	if err != nil {
		return nil, err
	}
	c := &comparison{t: t, owner: owner, scope: reconciler.Scope{Environment: environment}, unread: map[schema.GroupKind]error{}}
	resources := c.resolve(nil)
	c.addParentKinds(p, resources)
	c.watch(ctx, nil, resources)
	for gk, err := range c.unread {
		return nil, fmt.Errorf("find the environment's objects: %s: %w", gk, err)
	}
	for _, op := range c.ops {
		return nil, fmt.Errorf("find the environment's objects: %w", op.Err)
	}
	var ids []sources.ID
	t.cluster.Index.Each(environment, func(id sources.ID, l kubelive.Look) {
		if l.Verdict != kubelive.Gone && l.Live.PartOf == owner.ID {
			ids = append(ids, id)
		}
	})
	return ids, nil
}

// detachOne lets one object go; it is left alone when it is not proven ours.
func (t *Target) detachOne(ctx context.Context, w writer, id sources.ID) (bool, error) {
	r, err := t.cluster.Mapper.Resource(kubelive.GroupKind(id))
	if err != nil {
		return false, err
	}
	var again patience
	for {
		live, err := t.cluster.Get(ctx, r, id)
		if apierrors.IsNotFound(err) || err == nil && !kubelive.Ours(live, w.owner) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		patch, err := json.Marshal(detachPatch(live, w.owner))
		if err != nil {
			return false, err
		}
		t.cluster.Index.BeginWrite(id)
		_, err = w.api(r, id).Patch(ctx, id.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: FieldManager})
		if err == nil {
			t.cluster.Index.Deleted(id)
			return true, nil
		}
		t.cluster.Index.EndWrite(id)
		if !isStale(err) || !again.wait(ctx) {
			return false, err
		}
	}
}

// detachPatch removes what makes an object ours. Its fields go to a manager that
// nobody applies as: where an object has no manager at all, the next apply of
// anybody would take it for new.
func detachPatch(live *unstructured.Unstructured, owner kubelive.Owner) []jsonPatch {
	var steps []jsonPatch
	remove := func(field, key string, has map[string]string) {
		if _, ok := has[key]; ok {
			steps = append(steps, jsonPatch{Op: "remove", Path: "/metadata/" + field + "/" + strings.ReplaceAll(key, "/", "~1")})
		}
	}
	remove("labels", kubelive.LabelEnvironment, live.GetLabels())
	remove("labels", kubelive.LabelPartOf, live.GetLabels())
	remove("annotations", kubelive.AnnotationApplied, live.GetAnnotations())
	remove("annotations", annotationHookRun, live.GetAnnotations())
	fields := slices.Clone(live.GetManagedFields())
	for i := range fields {
		if fields[i].Manager == owner.Manager || fields[i].Manager == yieldManager(owner) {
			fields[i].Manager, fields[i].Operation = detachedManager+suffixOf(fields[i].Manager, owner), metav1.ManagedFieldsOperationUpdate
		}
	}
	return append(steps, fieldsPatch(live, fields)...)
}

// suffixOf keeps two entries of ours apart.
func suffixOf(manager string, owner kubelive.Owner) string {
	if manager == owner.Manager {
		return ""
	}
	return "-yield"
}

// dropParent deletes what the target keeps of an environment.
func (t *Target) dropParent(ctx context.Context, environment string) error {
	err := t.stateAPI().Delete(ctx, parentName(environment), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete the environment's parent object: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.parents, environment)
	delete(t.settled, environment)
	delete(t.kinds, environment)
	wake(t.reactions.used)
	return nil
}
