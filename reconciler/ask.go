package reconciler

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
)

// Plan says what a run of an environment would do, without doing any of it: at
// head, or with a revision at another one of its source.
func (e *Engine) Plan(ctx context.Context, environment, revision string) (Plan, error) {
	w, err := e.one(environment)
	if err != nil {
		return Plan{}, err
	}
	plan, _, err := e.planAt(ctx, w, revision)
	return plan, err
}

// PlanOf says what an assignment would do to the environment of its name.
func (e *Engine) PlanOf(ctx context.Context, a Assignment) (Plan, error) {
	w, err := e.one(a.Spec.Name)
	if err != nil {
		return Plan{}, err
	}
	return w.ask(ctx, func(ctx context.Context) (Plan, error) { return w.planFor(ctx, a) })
}

func (e *Engine) planAt(ctx context.Context, w *worker, revision string) (Plan, sources.Revision, error) {
	var at sources.Revision
	plan, err := w.ask(ctx, func(ctx context.Context) (Plan, error) {
		a, ok := w.assignment()
		if !ok {
			return Plan{}, sources.Problem{Object: "Environment/" + w.name, Message: "its spec is missing or cannot be used"}
		}
		if revision != "" && revision != a.Revision.ID {
			var err error
			if a, err = w.at(ctx, revision); err != nil {
				return Plan{}, err
			}
		}
		at = a.Revision
		return w.planFor(ctx, a)
	})
	return plan, at, err
}

// planFor compares and plans; it writes nothing, also where it could.
func (w *worker) planFor(ctx context.Context, a Assignment) (Plan, error) {
	driver := w.engine.opts.Drivers[a.Spec.Target]
	if driver == nil {
		return Plan{}, sources.Problem{
			File: a.Spec.File, Line: a.Spec.Line, Object: "Environment/" + w.name,
			Message: fmt.Sprintf("no target %q", a.Spec.Target), Hint: "add it to the daemon's targets",
		}
	}
	state, err := stateOf(ctx, driver, w.name)
	if err != nil {
		return Plan{}, err
	}
	items, err := a.Render(ctx)
	if err != nil {
		return Plan{}, err
	}
	if len(items) == 0 {
		return Plan{}, sources.Problem{File: a.Spec.Path, Message: "renders to nothing"}
	}
	ops, err := w.compare(ctx, driver, a, items, Scope{Preview: true, ReadOnly: true})
	if err != nil {
		return Plan{}, err
	}
	policy := w.policy(a, "")
	policy.Wanted = len(items)
	policy.Gates = w.gatesFor(a, state)
	plan := NewPlan(ops, policy)
	for i := range plan.Operations {
		w.explain(&plan.Operations[i])
	}
	return plan, nil
}

// explain adds to a change what was last applied, and says which changes of
// others a run would overwrite.
func (w *worker) explain(op *Operation) {
	before, known := w.good[op.Object]
	if !known || len(op.Changes) == 0 || op.Kind == OpDelete {
		return
	}
	applied := make(map[string]drift.Value)
	sensitive := before.Sensitive || op.Item.Sensitive
	changes, _ := drift.Diff(before.Body, op.Item.Body, sensitive, maxRunChanges)
	for _, c := range changes {
		applied[c.Path] = c.Live
	}
	for i := range op.Changes {
		c := &op.Changes[i]
		value, changed := applied[c.Path]
		if !changed {
			value = c.Desired // git asks for what it asked for before
		}
		c.Applied = &value
		c.Overwrites = value.String() != c.Live.String() || sensitive && !changed
	}
}

// errStopped answers what a worker did not get to.
var errStopped = errors.New("the daemon is stopping")

// ask lets the worker's goroutine answer, between runs.
func (w *worker) ask(ctx context.Context, answer func(context.Context) (Plan, error)) (plan Plan, err error) {
	done := make(chan struct{})
	question := func(workerCtx context.Context) {
		defer close(done)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(workerCtx, cancel)()
		if err = workerCtx.Err(); err != nil {
			err = errStopped
			return
		}
		plan, err = answer(ctx)
	}
	if !w.box.ask(question) {
		return Plan{}, errStopped
	}
	select {
	case <-done:
		return plan, err
	case <-ctx.Done():
		return Plan{}, fmt.Errorf("environment %s is busy with a run: %w", w.name, ctx.Err())
	}
}
