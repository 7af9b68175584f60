package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// fewMissing is how many objects of one kind are looked for one by one; more are
// found by listing the kind's metadata.
const fewMissing = 3

// compareMissing tells apart, among items that the watch does not show, what is
// new, what lost our label, and what is somebody else's.
func (c *comparison) compareMissing(ctx context.Context, missing []job) {
	byKind := map[schema.GroupKind][]job{}
	for _, j := range missing {
		gk := kubelive.GroupKind(j.item.ID)
		byKind[gk] = append(byKind[gk], j)
	}
	var single []job
	for _, jobs := range byKind {
		if len(jobs) <= fewMissing {
			single = append(single, jobs...)
			continue
		}
		c.findByList(ctx, jobs)
	}
	each(ctx, c.t, c.owner.Environment, single, c.find)
}

func (c *comparison) find(ctx context.Context, j job) {
	live, err := c.read(ctx, j)
	switch {
	case apierrors.IsNotFound(err):
		c.gone(ctx, j)
	case err != nil:
		c.add(j.op(reconciler.OpUnknown, "", c.locate(j, err)))
	default:
		c.found(ctx, j, live)
	}
}

func (c *comparison) findByList(ctx context.Context, jobs []job) {
	there := map[sources.ID]bool{}
	listed := map[string]error{}
	resource, gk := jobs[0].resource, kubelive.GroupKind(jobs[0].item.ID)
	visit := func(m *metav1.PartialObjectMetadata) {
		there[sources.ID{Group: gk.Group, Kind: gk.Kind, Namespace: m.Namespace, Name: m.Name}] = true
	}
	for _, ns := range listNamespaces(jobs, c.t.opts.Namespaces == nil) {
		listed[ns] = c.t.cluster.ListMetadata(ctx, resource, ns, "", visit)
	}
	var present, absent []job
	for _, j := range jobs {
		err, asked := listed[j.item.ID.Namespace]
		if !asked {
			err = listed[""]
		}
		switch {
		case err != nil:
			c.add(j.op(reconciler.OpUnknown, "", c.locate(j, err)))
		case there[j.item.ID]:
			present = append(present, j)
		default:
			absent = append(absent, j)
		}
	}
	each(ctx, c.t, c.owner.Environment, absent, c.gone)
	each(ctx, c.t, c.owner.Environment, present, c.find)
}

// listNamespaces is where to list: the namespaces that are meant, or all in one
// request when they are many and the whole cluster may be read.
func listNamespaces(jobs []job, whole bool) []string {
	var out []string
	for _, j := range jobs {
		if ns := j.item.ID.Namespace; !slices.Contains(out, ns) {
			out = append(out, ns)
		}
	}
	if whole && len(out) > fewMissing {
		return []string{""}
	}
	return out
}

// found handles an object that is there without our label.
func (c *comparison) found(ctx context.Context, j job, live *unstructured.Unstructured) {
	op := j.op(reconciler.OpCorrect, "it lost the labels that mark it as ours", nil)
	op.UID, op.Live, op.Class = string(live.GetUID()), j.note(live), drift.Changed
	ours := isOurs(live, j.known.Base, c.owner)
	switch {
	case j.directives.apply == applyOnce:
		c.add(j.op(reconciler.OpUnchanged, "is there already, and is never changed: its annotations say so", nil))
		return
	case ours && live.GetDeletionTimestamp() != nil:
		c.leaving(j, live)
		return
	case ours && (c.scope.ReadOnly || c.scope.Verify):
		c.explain(ctx, j, &op, live)
		return
	case ours:
	case c.mayTake(j.item.ID, live):
		op.Kind, op.Why, op.Class = reconciler.OpAdopt, "moves here from environment "+ownedByOther(live), ""
		op.Moves = true
	case c.mayAdopt(live):
		op.Kind, op.Why, op.Class = reconciler.OpAdopt, "exists, and adoptFrom allows to take it over", ""
	default:
		op = j.op(reconciler.OpConflict, "", c.locate(j, conflict(live, c.owner)))
	}
	c.add(op)
}

// isOurs recognizes an object that is ours although labels may be gone or
// changed: our Apply entry is there, or it is the object that we last wrote, or
// one that took that one's place with our label. A label alone proves nothing.
func isOurs(live *unstructured.Unstructured, base kubelive.Baseline, owner kubelive.Owner) bool {
	if kubelive.Ours(live, owner) {
		return true
	}
	return base.PartOf == owner.ID &&
		(base.UID == live.GetUID() || live.GetLabels()[kubelive.LabelPartOf] == owner.ID)
}

// mayTake reports whether the object is proven another environment's that hands
// it over.
func (c *comparison) mayTake(id sources.ID, live *unstructured.Unstructured) bool {
	from := ownedByOther(live)
	return from != "" && from != c.owner.Environment && c.scope.MayTake != nil &&
		kubelive.Ours(live, c.t.owner(from)) && c.scope.MayTake(id, from)
}

// mayAdopt reports whether the spec names every one who wrote or tracks the
// object.
func (c *comparison) mayAdopt(live *unstructured.Unstructured) bool {
	return ownedByOther(live) == "" && len(adoptable(live, c.owner, c.scope.AdoptFrom)) == 0
}

// ownedByOther is the environment that an object is labelled with, if any.
func ownedByOther(live *unstructured.Unstructured) string {
	return live.GetLabels()[kubelive.LabelEnvironment]
}

func managersOf(live *unstructured.Unstructured) []string {
	var out []string
	for _, e := range live.GetManagedFields() {
		if e.Subresource == "" && !slices.Contains(out, e.Manager) {
			out = append(out, e.Manager)
		}
	}
	return out
}

func conflict(live *unstructured.Unstructured, owner kubelive.Owner) error {
	switch other := ownedByOther(live); other {
	case "":
	case owner.Environment:
		return sources.Problem{
			Message: "carries this environment's label and was not applied by it: it is a copy, or was applied under another state namespace or by another installation",
			Hint:    "remove its labels " + kubelive.LabelEnvironment + " and " + kubelive.LabelPartOf + ", then name its managers in adoptFrom",
		}
	default:
		return sources.Problem{
			Message: fmt.Sprintf("belongs to environment %q; two environments cannot have one object", other),
			Hint:    "remove it from one of them",
		}
	}
	managers, need := managersOf(live), adoptable(live, owner, nil)
	text := "exists and is not ours; it was written by " + strings.Join(managers, ", ")
	var by []string
	for _, k := range trackersOf(live, owner) {
		by = append(by, k.name)
	}
	if len(by) > 0 {
		text += "; it is tracked by " + strings.Join(by, ", ")
	}
	return sources.Problem{
		Message: text,
		Hint:    fmt.Sprintf("name them in the environment's adoptFrom to take it over, as in adoptFrom: [%s]", strings.Join(need, ", ")),
	}
}
