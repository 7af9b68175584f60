package kube

import (
	"context"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// stuckAfter is how long an object may take to go before it is named.
const stuckAfter = 2 * time.Minute

// findUnwanted adds a delete for what is proven ours and not wanted. The label
// alone is no proof: copied manifests carry it, and some controllers copy labels.
func (c *comparison) findUnwanted(ctx context.Context, want []sources.Item, p *parent) {
	wanted := make(map[sources.ID]bool, len(want))
	names := make(map[string]bool)
	for _, item := range want {
		wanted[item.ID] = true
		if isJob(item.ID) || mayBeHook(item) {
			names[item.ID.String()] = true
		}
	}
	if !c.scope.Preview {
		c.t.dropRecords(c.owner.Environment, names)
	}
	var unwanted []candidate
	for id, look := range c.t.cluster.Index.Unwanted(c.owner.Environment, func(id sources.ID) bool { return wanted[id] }) {
		live := look.Live
		switch {
		case c.unread[kubelive.GroupKind(id)] != nil:
		case look.Verdict == kubelive.Gone && !live.Deleting:
			if !c.scope.Preview {
				c.t.cluster.Index.Forget(id)
			}
		case live.PartOf != c.owner.ID || live.Controlled:
		case !live.OwnsPartOf:
			// Others copy labels; this one we did apply, or nothing can ever tell.
			if !live.Deleting && (live.Fieldless || look.Base.UID == live.UID) {
				unwanted = append(unwanted, candidate{id: id, live: live, unproven: true})
			}
		case live.Deleting && time.Since(time.Unix(live.DeletingSince, 0)) < stuckAfter:
		default:
			unwanted = append(unwanted, candidate{id: id, live: live})
		}
	}
	each(ctx, c.t, c.owner.Environment, unwanted, c.unwanted)
}

// candidate is an object that nobody wants.
type candidate struct {
	id   sources.ID
	live kubelive.Record
	// unproven: it carries our labels, and nothing says who put them there.
	unproven bool
}

// unwanted looks at one object that left git: at what its annotations say, and at
// what keeps it from going.
func (c *comparison) unwanted(ctx context.Context, u candidate) {
	gk := kubelive.GroupKind(u.id)
	r, err := c.t.cluster.Mapper.Resource(gk)
	if err != nil {
		c.addUnread(gk, err)
		return
	}
	live, err := c.t.cluster.Get(ctx, r, u.id)
	op := reconciler.Operation{Object: u.id, Kind: reconciler.OpDelete, Why: "left git", UID: string(u.live.UID)}
	switch {
	case apierrors.IsNotFound(err):
		return
	case err != nil:
		op.Kind, op.Err = reconciler.OpUnknown, problem(sources.Item{ID: u.id}, err)
	case live.GetUID() != u.live.UID:
		return // the watch is about to tell
	case live.GetDeletionTimestamp() != nil:
		op.Kind, op.Why = reconciler.OpConflict, ""
		op.Err = sources.Problem{Object: u.id.String(), Message: deletionText(live), Hint: finalizerHint}
	case keeps(live):
		op.Kind, op.Why = reconciler.OpUnchanged, "left git, and stays: its annotations say so"
	case u.unproven && kubelive.ProvenOurs(live, c.owner):
		return // the watch is about to tell
	default:
		if u.unproven {
			op.Held, op.HeldBy = unprovenText(live), []reconciler.GateKind{reconciler.GateUnproven}
		}
		op.Protected = protected[gk]
		d, _ := parseDirectives(live.GetAnnotations()) // what is wrong in them asks for nothing
		op.Live = note{resource: r, live: live, version: live.GetResourceVersion(), directives: d}
	}
	c.add(op)
}

// unprovenText says why an object that left git is not deleted, and what to do.
func unprovenText(live *unstructured.Unstructured) string {
	why := "somebody took our entry out of its managedFields"
	if len(live.GetManagedFields()) == 0 {
		why = "it has no managedFields"
	}
	return fmt.Sprintf("left git, and stays: %s, so that nothing proves that it is ours; delete it by hand, or let it be by taking its label %s off", why, kubelive.LabelEnvironment)
}

const finalizerHint = "see why the controller that has the finalizer does not remove it; without that controller, remove the finalizer by hand"

// deletionText says what an object that is being deleted waits for.
func deletionText(live *unstructured.Unstructured) string {
	at := live.GetDeletionTimestamp()
	if at == nil {
		return "it is not gone yet"
	}
	waits := "its dependents"
	if f := live.GetFinalizers(); len(f) > 0 {
		waits = "finalizers " + strings.Join(f, ", ")
	}
	return fmt.Sprintf("is being deleted since %s, and waits for %s", at.UTC().Format(time.RFC3339), waits)
}

// keeps reports whether a live object's annotations say that it is not deleted.
func keeps(live *unstructured.Unstructured) bool {
	if live == nil {
		return false
	}
	d, _ := parseDirectives(live.GetAnnotations()) // what is wrong in them asks for nothing
	return d.keep
}
