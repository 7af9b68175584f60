package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// listWait bounds the wait for a kind's first list.
const listWait = 60 * time.Second

// protected are the kinds whose deletion takes more with it than themselves.
var protected = map[schema.GroupKind]bool{
	{Kind: "Namespace"}:                                               true,
	{Kind: "PersistentVolume"}:                                        true,
	{Kind: "PersistentVolumeClaim"}:                                   true,
	{Group: "apps", Kind: "StatefulSet"}:                              true,
	{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}: true,
}

// note is what an operation carries from comparing to applying.
type note struct {
	resource kubelive.Resource
	// live is the object as just read; nil where the index sufficed.
	live *unstructured.Unstructured
	// base is what was last known to be applied.
	base kubelive.Baseline
	// version is the resourceVersion a delete is bound to.
	version string

	directives directives
	// conflicts is what the environment's spec says of fields of others.
	conflicts environment.Conflicts
	// yields are the fields that are left to others; plain is the digest without
	// them, and prior the one that was last applied.
	yields []string
	plain  string
	prior  string
	// revision is the one that a hook runs for, hookFailure why it is not run
	// again for that.
	revision    string
	hookFailure string
	// ran is the object that a hook was run as.
	ran types.UID
}

// comparison is the state of one Compare.
type comparison struct {
	t     *Target
	owner kubelive.Owner
	// writer is for dry runs: it has the identity that writes.
	writer writer
	scope  reconciler.Scope
	// unread are the kinds that could not be listed, with the reason.
	unread map[schema.GroupKind]error

	// scalers is why autoscalers may be there that are not known.
	scalers error
	// hooks are what is run rather than kept.
	hooks []job

	mu  sync.Mutex
	ops []reconciler.Operation
}

// Compare implements reconciler.Driver.
//
// Where nothing changed it sends no request: the index answers for every item.
func (t *Target) Compare(ctx context.Context, want []sources.Item, scope reconciler.Scope) ([]reconciler.Operation, error) {
	owner := t.owner(scope.Environment)
	version := t.cluster.Index.Version(scope.Environment)
	if t.recall(want, scope, version) {
		return reconciler.Settled(), nil
	}
	p, err := t.loadParent(ctx, owner, scope)
	if err != nil {
		return nil, err
	}
	w, err := t.writerAs(scope.Environment, scope.Identity)
	if err != nil {
		return nil, err
	}
	w.lease = nil // nothing is written
	t.noteConflicts(want, scope)
	c := &comparison{
		t: t, owner: owner, writer: w, scope: scope, unread: map[schema.GroupKind]error{},
		ops: make([]reconciler.Operation, 0, len(want)),
	}
	resources := c.resolve(want)
	if !scope.Partial {
		c.addParentKinds(p, resources)
	}
	t.noteKinds(scope, resources)
	t.noteSurvey(want, scope, resources)
	c.watch(ctx, want, resources)
	c.scalers = t.watchScalers(ctx)
	t.watchHealth(ctx, c, want, resources)
	c.compareAll(ctx, want, resources)
	if !scope.Partial {
		c.findUnwanted(ctx, want, p)
		c.addHooks()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	slices.SortFunc(c.ops, func(a, b reconciler.Operation) int { return a.Object.Compare(b.Object) })
	t.settle(want, scope, version, c.ops)
	return c.ops, nil
}

// noteKinds remembers what an environment depends on, for its health.
func (t *Target) noteKinds(scope reconciler.Scope, resources map[schema.GroupKind]kubelive.Resource) {
	t.mu.Lock()
	t.identities[scope.Environment] = scope.Identity
	t.mu.Unlock()
	if scope.Partial || scope.Preview {
		return
	}
	used := make(map[schema.GroupKind]bool, len(resources))
	for gk := range resources {
		used[gk] = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.kinds) == 0 {
		defer wake(t.reactions.used)
	}
	t.kinds[scope.Environment] = used
}

// resolve finds what serves each kind. Kinds that a CRD of the same set will
// bring are left out; they are resolved when it has been applied.
func (c *comparison) resolve(want []sources.Item) map[schema.GroupKind]kubelive.Resource {
	found := map[schema.GroupKind]kubelive.Resource{}
	for _, item := range want {
		gk := kubelive.GroupKind(item.ID)
		if _, done := found[gk]; done || c.unread[gk] != nil {
			continue
		}
		r, err := c.t.cluster.Mapper.Resource(gk, item.Version)
		switch {
		case err == nil:
			found[gk] = r
		case meta.IsNoMatchError(err) && bringsKind(want, gk):
		default:
			c.unread[gk] = notServed(gk, item.Version, err)
		}
	}
	return found
}

func notServed(gk schema.GroupKind, version string, err error) error {
	if meta.IsNoMatchError(err) {
		return sources.Problem{
			Message: strings.TrimSuffix(fmt.Sprintf("the cluster does not serve kind %s in version %s", gk, version), " in version "),
			Hint:    "install its CustomResourceDefinition, or mend apiVersion and kind",
		}
	}
	return fmt.Errorf("find out what serves %s: %w", gk, err)
}

// bringsKind reports whether a CRD among the items defines the kind.
func bringsKind(want []sources.Item, gk schema.GroupKind) bool {
	for _, item := range want {
		if item.ID.Kind != "CustomResourceDefinition" || !strings.HasSuffix(item.ID.Name, "."+gk.Group) {
			continue
		}
		var crd struct {
			Spec struct {
				Names struct{ Kind string }
			}
		}
		if decode(item.Body, &crd) == nil && crd.Spec.Names.Kind == gk.Kind {
			return true
		}
	}
	return false
}

// addParentKinds adds the kinds that objects of this environment were applied
// in before: what left git may be of any of them.
func (c *comparison) addParentKinds(p *parent, resources map[schema.GroupKind]kubelive.Resource) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for gk := range p.kinds {
		if _, done := resources[gk]; done || c.unread[gk] != nil {
			continue
		}
		r, err := c.t.cluster.Mapper.Resource(gk)
		switch {
		case err == nil:
			resources[gk] = r
		case meta.IsNoMatchError(err):
			// Its CRD is gone, and with it every object.
		default:
			c.addUnread(gk, fmt.Errorf("find out what serves %s: %w", gk, err))
		}
	}
	if p.incomplete != nil {
		c.ops = append(c.ops, reconciler.Operation{
			Object: sources.ID{Kind: "(some kinds)"}, Kind: reconciler.OpUnknown,
			Why: "the kinds in use could not all be found", Err: p.incomplete,
		})
	}
}

// addUnread notes a kind that is unreadable though nothing wanted is of it.
func (c *comparison) addUnread(gk schema.GroupKind, err error) {
	c.add(reconciler.Operation{
		Object: sources.ID{Group: gk.Group, Kind: gk.Kind}, Kind: reconciler.OpUnknown, Err: err,
	})
}

// watch sees that every kind is watched and has been listed in full.
func (c *comparison) watch(ctx context.Context, want []sources.Item, resources map[schema.GroupKind]kubelive.Resource) {
	wanted := map[schema.GroupKind]bool{}
	for _, item := range want {
		wanted[kubelive.GroupKind(item.ID)] = true
	}
	list := make([]kubelive.Resource, 0, len(resources))
	for _, r := range resources {
		list = append(list, r)
	}
	ctx, cancel := context.WithTimeout(ctx, listWait)
	defer cancel()
	for gk, err := range c.t.cluster.Watcher.Ensure(ctx, list) {
		if apierrors.IsNotFound(err) && c.isUnserved(gk) {
			// Its CRD is gone, and with it every object.
			delete(resources, gk)
			err = notServed(gk, "", &meta.NoKindMatchError{GroupKind: gk})
			if !wanted[gk] {
				continue
			}
		}
		c.unread[gk] = err
	}
}

// isUnserved asks the cluster anew whether it serves a kind.
func (c *comparison) isUnserved(gk schema.GroupKind) bool {
	c.t.cluster.Mapper.Refresh()
	_, err := c.t.cluster.Mapper.Resource(gk)
	return meta.IsNoMatchError(err)
}

func (c *comparison) compareAll(ctx context.Context, want []sources.Item, resources map[schema.GroupKind]kubelive.Resource) {
	var look, missing []job
	unread := map[schema.GroupKind]bool{}
	for _, item := range want {
		gk := kubelive.GroupKind(item.ID)
		j := c.job(item, resources[gk])
		if err := c.unread[gk]; err != nil {
			unread[gk] = true
			c.add(j.op(reconciler.OpUnknown, "", c.locate(j, err)))
			continue
		}
		if j.resource.GVR.Resource != "" {
			j.known = c.t.cluster.Index.Look(item.ID)
		}
		switch {
		case j.isQuiet(c.scope) && !mayBeHook(item):
			// The path of a run in which nothing changed: no more than is counted.
			c.ops = append(c.ops, reconciler.Operation{Object: item.ID, Kind: reconciler.OpUnchanged, Item: item})
			continue
		case !c.heed(&j):
			continue
		case c.scalers != nil && strings.Contains(j.known.Live.Applied, yieldMark):
			// What was left to an autoscaler is not taken back because it cannot be
			// asked for.
			c.add(j.op(reconciler.OpUnknown, "", c.locate(j, c.scalers)))
		case j.resource.GVR.Resource == "":
			c.add(j.op(reconciler.OpCreate, "new, of a kind that this run brings", nil))
		case j.isMissing():
			missing = append(missing, j)
		case c.appliesBlindly(j):
			c.add(j.op(reconciler.OpUpdate, j.whyUpdate(), nil))
		default:
			look = append(look, j)
		}
	}
	for gk, err := range c.unread {
		if !unread[gk] {
			c.addUnread(gk, err)
		}
	}
	each(ctx, c.t, c.owner.Environment, look, c.examine)
	c.compareMissing(ctx, missing)
}

func (c *comparison) job(item sources.Item, r kubelive.Resource) job {
	j := job{item: item, resource: r, plain: c.owner.AppliedDigest(item, c.t.opts.Key), conflicts: c.scope.Conflicts}
	j.yields = c.t.yieldsOf(item)
	j.digest = digestWith(j.plain, j.yields)
	return j
}

// heed reads what an object's annotations ask for. It is false when that settles
// what is to be done.
func (c *comparison) heed(j *job) bool {
	var err error
	if j.directives, err = directivesOf(j.item); err != nil {
		c.add(j.op(reconciler.OpConflict, "", c.locate(*j, err)))
		return false
	}
	switch d := j.directives; {
	case d.hook != "":
		c.hook(*j)
	case d.apply == applyNever:
		c.add(j.op(reconciler.OpUnchanged, "left alone: its annotations say so", nil))
	case d.apply == applyOnce && !j.isMissing() && j.resource.GVR.Resource != "":
		c.add(j.op(reconciler.OpUnchanged, "made once, and never changed: its annotations say so", nil))
	case isJob(j.item.ID) && j.isMissing() && c.t.isFinished(c.owner.Environment, j.item.ID, j.plain):
		c.add(j.op(reconciler.OpUnchanged, "finished, and gone since", nil))
	default:
		return true
	}
	return false
}

// isQuiet: the object is as it was applied, and that is what is wanted.
func (j job) isQuiet(scope reconciler.Scope) bool {
	return !scope.Verify && j.known.Verdict == kubelive.Clean && j.known.Live.Applied == j.digest
}

// appliesBlindly: git changed, and nothing has to be known of the live object
// but that it is ours.
func (c *comparison) appliesBlindly(j job) bool {
	return !c.scope.ReadOnly && !c.scope.Verify && c.isOurs(j.known.Live) && !j.known.Live.Deleting &&
		j.known.Live.Applied != j.digest && j.known.Base.Applied != j.digest &&
		!isJob(j.item.ID) && !c.mayRecreate(j.item, nil)
}

func (j job) whyUpdate() string {
	if before, _, _ := strings.Cut(j.known.Live.Applied, yieldMark); before == j.plain {
		return "fields are left to other managers, or taken back"
	}
	return "git changed"
}

// isOurs: the watch shows the object with this environment's labels, which our
// apply put there.
func (c *comparison) isOurs(r kubelive.Record) bool {
	return r.Environment == c.owner.Environment && r.PartOf == c.owner.ID && r.OwnsPartOf
}

// job is one item on its way through the comparison.
type job struct {
	item     sources.Item
	resource kubelive.Resource
	digest   string
	known    kubelive.Look

	directives directives
	conflicts  environment.Conflicts
	yields     []string
	plain      string
}

// isMissing: nothing of ours is there as far as the watch can tell. It may be
// there without our label.
func (j job) isMissing() bool {
	return j.known.Verdict == kubelive.Unseen || j.known.Verdict == kubelive.Gone
}

func (j job) op(kind reconciler.OpKind, why string, err error) reconciler.Operation {
	return reconciler.Operation{
		Object: j.item.ID, Kind: kind, Why: why, Item: j.item, Digest: j.digest,
		UID: string(j.known.Live.UID), Live: j.note(nil), Err: err,
	}
}

// note is what applying needs to know; live is the object if it was read.
func (j job) note(live *unstructured.Unstructured) note {
	n := note{
		resource: j.resource, live: live, base: j.known.Base, directives: j.directives,
		conflicts: j.conflicts, yields: j.yields, plain: j.plain, prior: j.known.Live.Applied,
	}
	if live != nil {
		n.prior, n.version = live.GetAnnotations()[kubelive.AnnotationApplied], live.GetResourceVersion()
	}
	return n
}

// api is the client by which dry runs are made of an item.
func (c *comparison) api(j job) objectAPI { return c.writer.api(j.resource, j.item.ID) }

func (c *comparison) add(op reconciler.Operation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops = append(c.ops, op)
}

// locate ties an error to the object, and the file and line it was written in.
func (c *comparison) locate(j job, err error) error { return problem(j.item, err) }
