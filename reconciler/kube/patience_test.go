package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/sources"
)

func TestLostRaceIsToldFromAnotherOwner(t *testing.T) {
	t.Parallel()
	gr := schema.GroupResource{Group: "apps", Resource: "deployments"}
	stale := apierrors.NewConflict(gr, "web", errors.New("the object has been modified; please apply your changes to the latest version"))
	owned := apierrors.NewApplyConflict([]metav1.StatusCause{{
		Type: metav1.CauseTypeFieldManagerConflict, Field: ".spec.replicas", Message: `conflict with "flux"`,
	}}, `Apply failed with 1 conflict: conflict with "flux": .spec.replicas`)
	for _, c := range []struct {
		name  string
		err   error
		stale bool
		says  string
	}{
		{"lost race", stale, true, "kept changing while it was being written"},
		{"wrapped", fmt.Errorf("delete: %w", stale), true, "kept changing"},
		{"another owner", owned, false, "another manager owns these fields"},
		{"no conflict", apierrors.NewNotFound(gr, "web"), false, "not found"},
	} {
		text := problem(sources.Item{}, c.err).Error()
		if isStale(c.err) != c.stale || !strings.Contains(text, c.says) {
			t.Errorf("%s: stale %v, says %q", c.name, isStale(c.err), text)
		}
	}
}

func TestPatienceEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p patience
		tries := 0
		for p.wait(t.Context()) {
			tries++
		}
		if tries < 20 || tries > 200 {
			t.Errorf("%d tries within %s", tries, patienceLimit)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if p = (patience{}); p.wait(ctx) {
			t.Error("goes on after the end of its context")
		}
	})
}

// A controller that reports status all the time must not keep a correction from
// succeeding.
func TestCorrectionWinsAgainstABusyWriter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	w.run(items)
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for n := 0; ctx.Err() == nil; n++ {
			_, _ = w.objects.Resource(deploys).Namespace(w.namespace).Patch(ctx, "web", types.MergePatchType,
				[]byte(fmt.Sprintf(`{"metadata":{"annotations":{"busy":"%d"}}}`, n)), metav1.PatchOptions{FieldManager: "busy"})
		}
	}()
	defer func() { cancel(); <-stopped }()
	w.patch(deploys, "web", "kubectl-scale", types.MergePatchType, `{"spec":{"replicas":5}}`)
	if got := w.correct(items, "web"); got.Err != nil {
		t.Errorf("not corrected: %v", got.Err)
	}
}
