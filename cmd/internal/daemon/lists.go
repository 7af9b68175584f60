package daemon

import (
	"context"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// The methods below implement server.Lists.

// Objects implements server.Lists.
func (d *daemon) Objects(environment string) (iter.Seq[reconciler.Object], bool) {
	return d.now.Load().engine.Objects(environment)
}

// Tree implements server.Lists.
func (d *daemon) Tree(ctx context.Context, environment string, id sources.ID) (reconciler.Tree, error) {
	return d.now.Load().engine.Tree(ctx, environment, id)
}

// Decided implements server.Lists.
func (d *daemon) Decided(ctx context.Context) reconciler.Decided {
	return d.now.Load().engine.Decided(ctx)
}

// Episode implements server.Lists.
func (d *daemon) Episode(id string) (drift.Episode, bool) {
	found := d.book.List(func(e *drift.Episode) bool { return e.ID == id })
	if len(found) == 0 {
		return drift.Episode{}, false
	}
	return found[0], true
}

// Targets implements server.Lists.
func (d *daemon) Targets() []api.Target {
	g, now := d.now.Load(), time.Now()
	count, objects := map[string]int{}, map[string]int{}
	for _, s := range g.engine.Environments() {
		count[s.Target]++
		objects[s.Target] += s.Objects
	}
	out := []api.Target{}
	for _, name := range slices.Sorted(maps.Keys(g.targets)) {
		t := g.targets[name]
		one := api.Target{Name: name, Namespace: t.namespace, Environments: count[name]}
		if r, ok := t.driver.(reconciler.Reporter); ok {
			one.TargetReport = r.Report()
		}
		if one.Objects == 0 {
			one.Objects = objects[name]
		}
		for _, w := range one.Watches {
			if !w.Heard.IsZero() {
				one.LagSeconds = max(one.LagSeconds, now.Sub(w.Heard).Seconds())
			}
		}
		out = append(out, one)
	}
	return out
}

// Working implements server.Lists.
func (d *daemon) Working() api.RunsHealth {
	waiting, oldest := d.now.Load().engine.Queue()
	out := api.RunsHealth{Waiting: waiting, OldestSeconds: oldest.Seconds()}
	for _, s := range d.now.Load().engine.Environments() {
		if s.Running != nil && !s.Running.Started.IsZero() {
			out.Running++
		}
	}
	// Those that wait for their turn have begun, too.
	out.Running = max(0, out.Running-waiting)
	return out
}

// NotificationsWaiting implements server.Lists.
func (d *daemon) NotificationsWaiting() map[string]int { return d.notifier.Waiting() }
