package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-gitops/holdfast/reconciler"
)

// leadWait bounds how long a start waits for the targets' leases before it goes
// on: what cannot be written yet then shows as such.
const leadWait = 3 * time.Second

// leading is a driver that writes only while it has its target's lease.
type leading interface {
	Lead(ctx context.Context, lead func(context.Context)) error
}

// serve runs all that a target's driver tells, in the group. Led is called as
// soon as the target may be written to.
func (g *generation) serve(ctx context.Context, group *errgroup.Group, name string, d reconciler.Driver, led func()) {
	group.Go(func() error { return d.Watch(ctx, g.engine.Hint) })
	if r, ok := d.(reconciler.ReadyDriver); ok {
		group.Go(func() error { return r.WatchReady(ctx, g.engine.ReadyChanged) })
	}
	if s, ok := d.(reconciler.Surveyor); ok {
		group.Go(func() error { return s.Survey(ctx, g.engine.Surveyed) })
	}
	if s, ok := d.(reconciler.StateWatcher); ok {
		group.Go(func() error {
			return s.WatchState(ctx, func(environment string) { g.engine.StateChanged(ctx, environment) })
		})
	}
	l, ok := d.(leading)
	if !ok {
		led()
		return
	}
	group.Go(func() error {
		defer led()
		return l.Lead(ctx, func(ctx context.Context) {
			led()
			g.engine.TargetChanged(name)
			<-ctx.Done()
			g.engine.TargetChanged(name)
		})
	})
}

// holderOf names this daemon among those that want a target's lease. The name is
// kept in the data directory, which one daemon at a time has: after a crash it is
// known again, and need not wait for its own lease to run out.
func holderOf(dataDir string) (string, error) {
	path := filepath.Join(dataDir, "holder")
	b, err := os.ReadFile(path)
	if name := strings.TrimSpace(string(b)); err == nil && name != "" {
		return name, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the daemon's name: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "holdfast"
	}
	name := host + "-" + strings.ToLower(rand.Text()[:8])
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return "", fmt.Errorf("write the daemon's name: %w", err)
	}
	if err := os.WriteFile(path, []byte(name+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write the daemon's name: %w", err)
	}
	return name, nil
}
