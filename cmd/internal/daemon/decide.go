package daemon

import (
	"context"
	"io"
	"time"

	"github.com/holdfast-gitops/holdfast/reconciler"
)

// The methods below implement server.Decider and server.Planner.

// Hold implements server.Decider.
func (d *daemon) Hold(ctx context.Context, r reconciler.HoldRequest) ([]reconciler.Hold, error) {
	return d.now.Load().engine.Hold(ctx, r)
}

// EndHold implements server.Decider.
func (d *daemon) EndHold(ctx context.Context, id string, until time.Time) (reconciler.Hold, error) {
	return d.now.Load().engine.EndHold(ctx, id, until)
}

// Rollback implements server.Decider.
func (d *daemon) Rollback(ctx context.Context, name string, r reconciler.RollbackRequest) (reconciler.Run, reconciler.Plan, error) {
	return d.now.Load().engine.Rollback(ctx, name, r)
}

// Release implements server.Decider.
func (d *daemon) Release(ctx context.Context, name, actor string) (reconciler.Run, error) {
	return d.now.Load().engine.Release(ctx, name, actor)
}

// Retry implements server.Decider.
func (d *daemon) Retry(ctx context.Context, name, actor string) (reconciler.Run, error) {
	return d.now.Load().engine.Retry(ctx, name, actor)
}

// ConfirmRemoval implements server.Decider.
func (d *daemon) ConfirmRemoval(ctx context.Context, name, actor string) (reconciler.Run, error) {
	return d.now.Load().engine.ConfirmRemoval(ctx, name, actor)
}

// WaitReady implements server.Decider.
func (d *daemon) WaitReady(ctx context.Context, name string) (reconciler.Status, error) {
	return d.now.Load().engine.WaitReady(ctx, name)
}

// Plan implements server.Planner.
func (d *daemon) Plan(ctx context.Context, name, revision string) (reconciler.Plan, error) {
	return d.now.Load().engine.Plan(ctx, name, revision)
}

// PlanFiles implements server.Planner.
func (d *daemon) PlanFiles(ctx context.Context, name string, archive io.Reader) (reconciler.Plan, error) {
	return d.now.Load().planFiles(ctx, name, archive)
}
