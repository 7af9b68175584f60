package kube

import (
	"strings"
	"testing"
	"time"
)

func TestLiveObjectIsHeldByAnnotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run(w.items(shop))
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	w.patch(cms, "settings", "kubectl-annotate", mergePatch, `{"metadata":{"annotations":{"holdfast.dev/hold-until":"`+until.Format(time.RFC3339)+`"}}}`)
	w.patch(deploys, "web", "kubectl-annotate", mergePatch, `{"metadata":{"annotations":{"holdfast.dev/hold-until":"2001-01-01T00:00:00Z"}}}`)
	w.eventually("the object is held", func() bool {
		state, err := w.target.State(t.Context(), w.name)
		return err == nil && len(state.Holds) == 1 && state.Holds[0].Object.Name == "settings" && state.Holds[0].Until.Equal(until) &&
			strings.Contains(state.Holds[0].Reason, "holdfast.dev/hold-until")
	})
	w.target.opts.NoHoldAnnotation = true
	if state, err := w.target.State(t.Context(), w.name); err != nil || len(state.Holds) != 0 {
		t.Errorf("where that is forbidden: %v, %v", state.Holds, err)
	}
}
