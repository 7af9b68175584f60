package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/watch"

	"github.com/holdfast-gitops/holdfast/internal/testkit/demo/rig"
)

// bareDrift is the limit of putting drift back: a corrector that is told by a
// watch and answers by an apply, and knows beforehand what to look for. A second
// watcher tells when the correction is there.
func bareDrift(ctx context.Context, c *rig.Cluster, set string, edits []edit) (times []time.Duration, err error) {
	t := newTracker()
	stop, err := observe(ctx, c.Config, set, t.see)
	if err != nil {
		return nil, err
	}
	defer stop()
	var mu sync.Mutex
	var failed error
	var applies sync.WaitGroup
	stopCorrector, err := observe(ctx, c.Config, set, func(k objectKind, event watch.Event) {
		a := t.lookup(k, event)
		if a == nil || !a.broken(event) {
			return
		}
		applies.Go(func() {
			if err := applyOne(ctx, c.Objects, a.object); err != nil {
				mu.Lock()
				failed = err
				mu.Unlock()
			}
		})
	})
	if err != nil {
		return nil, err
	}
	times, err = timeEdits(ctx, c.Objects, t, edits)
	stopCorrector()
	applies.Wait()
	if err == nil && failed != nil {
		err = fmt.Errorf("correct: %w", failed)
	}
	return times, err
}
