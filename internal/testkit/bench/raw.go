package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/holdfast-gitops/holdfast/internal/testkit/demo/rig"
)

// atATime is how many requests the raw measure has under way, as Holdfast does.
const atATime = 20

// rawManager is the field manager of what is applied raw.
const rawManager = "bench"

func applyOne(ctx context.Context, c dynamic.Interface, o object) error {
	force := true
	_, err := c.Resource(o.GroupVersionResource).Namespace(o.namespace).
		Patch(ctx, o.name, types.ApplyPatchType, o.body(), metav1.PatchOptions{FieldManager: rawManager, Force: &force})
	if err != nil {
		return fmt.Errorf("apply %s %s/%s: %w", o.kind, o.namespace, o.name, err)
	}
	return nil
}

// applyAll is the limit of a cold apply: the namespaces, then the objects, with
// nothing decided and nothing looked at.
func applyAll(ctx context.Context, c dynamic.Interface, set string, spaces int, objects []object) (time.Duration, error) {
	began := time.Now()
	for _, stage := range [][]object{namespaces(set, spaces), objects} {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(atATime)
		for _, o := range stage {
			group.Go(func() error { return applyOne(ctx, c, o) })
		}
		if err := group.Wait(); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// settle waits until the control plane's controllers have done what follows from
// the last applies, so that it does not fall into the next measure.
func settle(ctx context.Context, c *rig.Cluster) error {
	const (
		quiet   = 3                      // looks in a row without much happening
		pause   = 500 * time.Millisecond // between looks
		few     = 3                      // requests in a pause that do not count
		patient = 2 * time.Minute
	)
	ctx, cancel := context.WithTimeoutCause(ctx, patient, fmt.Errorf("the control plane did not come to rest within %s", patient))
	defer cancel()
	before, err := c.Requests(ctx)
	if err != nil {
		return err
	}
	for calm := 0; calm < quiet; {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
		now, err := c.Requests(ctx)
		if err != nil {
			return err
		}
		if calm++; now.Since(before).Total() > few {
			calm = 0
		}
		before = now
	}
	return nil
}
