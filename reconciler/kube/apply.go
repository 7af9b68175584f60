package kube

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fluxcd/cli-utils/pkg/object"
	"github.com/fluxcd/pkg/ssa"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// crdWait bounds the wait for a CRD to be served.
const crdWait = 60 * time.Second

// application is the state of one Apply.
type application struct {
	t    *Target
	w    writer
	plan reconciler.Plan

	mu     sync.Mutex
	done   func(reconciler.Outcome)
	broken bool
}

// report tells of one operation; outcomes are told one at a time.
func (a *application) report(o reconciler.Outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.broken = a.broken || o.Err != nil
	a.done(o)
}

func (a *application) isBroken() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.broken
}

// Apply implements reconciler.Driver. Namespaces come first, then before-hooks,
// then CRDs, then what others refer to, then the rest in waves, admission
// webhooks last; deletes go in reverse after that, and after-hooks at the end, if
// all could be applied. One bad object does not stop the others of its stage.
func (t *Target) Apply(ctx context.Context, p reconciler.Plan, done func(reconciler.Outcome)) error {
	w, err := t.writer(p.Environment)
	if err != nil {
		return err
	}
	a := &application{t: t, w: w, plan: p, done: done}
	active := p.Active()
	if err := t.recordKinds(ctx, w.owner, idsOf(active)); err != nil {
		return err
	}
	var writes, deletes, before, after []reconciler.Operation
	for _, op := range active {
		n, _ := op.Live.(note)
		switch {
		case op.Kind == reconciler.OpHook && n.directives.hook == hookAfter:
			after = append(after, op)
		case op.Kind == reconciler.OpHook:
			before = append(before, op)
		case op.Kind == reconciler.OpDelete:
			deletes = append(deletes, op)
		default:
			writes = append(writes, op)
		}
	}
	spaces, writes := splitNamespaces(writes)
	a.applyWrites(ctx, spaces)
	if failed := a.runHooks(ctx, before); failed != "" {
		a.deferAll(slices.Concat(writes, deletes, after), failed)
		return endOf(ctx)
	}
	a.applyWrites(ctx, writes)
	t.watchBrought(ctx, writes)
	a.applyDeletes(ctx, deletes)
	if a.isBroken() {
		a.deferAll(after, "not run while objects of the run cannot be applied")
		return endOf(ctx)
	}
	a.runHooks(ctx, after)
	return endOf(ctx)
}

// watchBrought watches the kinds that this very run brought: nothing could be
// watched when the run was planned, and no other may come.
func (t *Target) watchBrought(ctx context.Context, writes []reconciler.Operation) {
	brought := map[schema.GroupKind]kubelive.Resource{}
	for _, op := range writes {
		n, _ := op.Live.(note)
		gk := kubelive.GroupKind(op.Object)
		if _, known := brought[gk]; known || n.resource.GVR.Resource != "" {
			continue
		}
		if r, err := t.cluster.Mapper.Peek(gk); err == nil {
			brought[gk] = r
		}
	}
	ctx, cancel := context.WithTimeout(ctx, healthWait)
	defer cancel()
	for gk, r := range brought {
		// What fails here is found out by the next comparison.
		t.cluster.Watcher.Ensure(ctx, []kubelive.Resource{r})
		if !withoutStatus[gk] {
			t.ensureHealth(ctx, r)
		}
	}
}

// splitNamespaces takes out what hooks may have to be in.
func splitNamespaces(ops []reconciler.Operation) (spaces, rest []reconciler.Operation) {
	for _, op := range ops {
		if classOf(op.Object.Kind) == classNamespace {
			spaces = append(spaces, op)
		} else {
			rest = append(rest, op)
		}
	}
	return spaces, rest
}

func endOf(ctx context.Context) error {
	if ctx.Err() != nil {
		return fmt.Errorf("apply did not get to the end: %w", context.Cause(ctx))
	}
	return nil
}

func (a *application) deferAll(ops []reconciler.Operation, why string) {
	for _, op := range ops {
		a.report(reconciler.Outcome{Operation: op, Deferred: why})
	}
}

func (a *application) applyWrites(ctx context.Context, writes []reconciler.Operation) {
	staged := stages(writes)
	for i, stage := range staged {
		a.applyStage(ctx, stage)
		if i+1 == len(staged) || waveOf(stage[0]) == waveOf(staged[i+1][0]) {
			continue
		}
		if waits := a.t.untilWorking(ctx, a.w.owner.Environment, stage); waits != "" {
			for _, later := range staged[i+1:] {
				a.deferAll(later, fmt.Sprintf("waits for wave %d: %s", waveOf(stage[0]), waits))
			}
			a.mu.Lock()
			a.broken = true
			a.mu.Unlock()
			return
		}
	}
}

func (a *application) applyDeletes(ctx context.Context, deletes []reconciler.Operation) {
	if a.isBroken() {
		// What replaces the deleted may be just what failed.
		a.deferAll(deletes, "not deleted while other objects of the run cannot be applied")
		return
	}
	reverse := stages(deletes)
	slices.Reverse(reverse)
	for _, stage := range reverse {
		each(ctx, a.t, a.w.owner.Environment, stage, func(ctx context.Context, op reconciler.Operation) { a.report(a.t.delete(ctx, a.w, op)) })
	}
}

func idsOf(ops []reconciler.Operation) []sources.ID {
	out := make([]sources.ID, len(ops))
	for i, op := range ops {
		out[i] = op.Object
	}
	return out
}

func (a *application) applyStage(ctx context.Context, stage []reconciler.Operation) {
	each(ctx, a.t, a.w.owner.Environment, stage, func(ctx context.Context, op reconciler.Operation) {
		a.report(a.t.applyOne(ctx, a.w, op))
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
	_ = a.t.ssa.WaitForSetWithContext(ctx, crds, ssa.WaitOptions{Interval: 100 * time.Millisecond, Timeout: crdWait})
	a.t.cluster.Mapper.Refresh()
}

// stage is a place in the order of a run.
type stage struct{ class, wave int }

// The classes of kinds, in the order in which they are applied. Waves order
// within the last two.
const (
	classNamespace = iota
	classDefinition
	classReference
	classRest
	classWebhook
)

// stages groups operations by what others need first: by class, and for what is
// no infrastructure by wave, in which webhooks come last. Within a stage the order
// does not matter.
func stages(ops []reconciler.Operation) [][]reconciler.Operation {
	groups := map[stage][]reconciler.Operation{}
	for _, op := range ops {
		s := stage{class: classOf(op.Object.Kind)}
		if s.class >= classRest {
			s.wave = waveOf(op)
		}
		groups[s] = append(groups[s], op)
	}
	order := make([]stage, 0, len(groups))
	for s := range groups {
		order = append(order, s)
	}
	slices.SortFunc(order, func(a, b stage) int {
		if a.class >= classRest && b.class >= classRest && a.wave != b.wave {
			return a.wave - b.wave
		}
		return a.class - b.class
	})
	out := make([][]reconciler.Operation, len(order))
	for i, s := range order {
		out[i] = groups[s]
	}
	return out
}

// waveOf is the wave an operation's object is in; infrastructure is in none.
func waveOf(op reconciler.Operation) int {
	if classOf(op.Object.Kind) < classRest {
		return 0
	}
	n, _ := op.Live.(note)
	return n.directives.wave
}

func classOf(kind string) int {
	first := ssa.ReconcileOrder.First
	switch {
	case kind == "Namespace":
		return classNamespace
	case kind == "CustomResourceDefinition":
		return classDefinition
	case slices.Contains(ssa.ReconcileOrder.Last, kind):
		return classWebhook
	case slices.Contains(first[:slices.Index(first, "RoleBinding")+1], kind):
		return classReference
	}
	return classRest
}
