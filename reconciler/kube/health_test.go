package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"

	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

const ailing = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: NS}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: NS}
spec: {replicas: 2, selector: {matchLabels: {a: web}}, template: {metadata: {labels: {a: web}}, spec: {containers: [{name: c, image: "IMAGE"}]}}}
`

// waits is what an environment waits for, in words.
func (w *world) waits() string {
	_, waiting := w.target.Ready(w.name)
	var out []string
	for _, u := range waiting {
		out = append(out, u.Object.String()+": "+u.Why+" | "+u.RootCause)
	}
	return strings.Join(out, "\n")
}

func TestReadinessNamesTheRootCauseAndRecovers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if ready, waiting := w.target.Ready(w.name); ready || len(waiting) != 1 {
		t.Errorf("before the first comparison: %v %v", ready, waiting)
	}
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.target.WatchReady(ctx, func(name string) {
			if name == w.name {
				select {
				case told <- struct{}{}:
				default:
				}
			}
		})
	}()
	defer func() { cancel(); <-done }()
	// until waits by event, never by polling.
	until := func(what string, is func() bool) {
		t.Helper()
		for !is() {
			select {
			case <-told:
			case <-w.after(30):
				t.Fatalf("not in time: %s; waits for %s", what, w.waits())
			}
		}
	}
	ready := func() bool { ok, _ := w.target.Ready(w.name); return ok }

	w.run(w.items(strings.ReplaceAll(ailing, "IMAGE", "good:1")))
	until("ready", ready)
	w.run(w.items(strings.ReplaceAll(ailing, "IMAGE", "bad:broken")))
	if ready() {
		t.Error("ready straight after an apply")
	}
	until("the cause is named", func() bool {
		return strings.Contains(w.waits(), "Deployment/"+w.namespace+"/web: ") && strings.Contains(w.waits(), "| Pod web-") && strings.Contains(w.waits(), "ImagePullBackOff: ")
	})
	before := w.sent.Load()
	w.run(w.items(strings.ReplaceAll(ailing, "IMAGE", "good:2")))
	until("ready again", ready)
	if sent := w.sent.Load() - before; sent > 12 {
		t.Errorf("getting ready took %d requests", sent)
	}
}

func TestFailedJobKeepsTheEnvironmentUnready(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run(w.items(strings.ReplaceAll(migration, "exit 0", "exit 4")))
	w.eventually("it failed", func() bool {
		_, waiting := w.target.Ready(w.name)
		return len(waiting) == 1 && waiting[0].Failed && strings.Contains(waiting[0].Why, "BackoffLimitExceeded") && strings.Contains(waiting[0].RootCause, "exited with code 4")
	})
}

func TestHealthChecksOfTheSpecDecide(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	t.Cleanup(func() { w.dropWidgets() })
	items := w.items(widgets)
	check := environment.HealthCheck{
		APIVersion: w.namespace + ".example.com/v1", Kind: "Widget",
		Ready: `self.spec.size > 5`, Failed: `self.spec.size > 50`, Message: `"size is " + string(self.spec.size)`,
	}
	with := func(checks ...environment.HealthCheck) func(*reconciler.Scope) {
		return func(s *reconciler.Scope) { s.Checks = checks }
	}
	w.run(items, with(check))
	w.eventually("not ready by the check", func() bool { return strings.HasSuffix(w.waits(), "/a: size is 3 | ") })
	w.run(w.items(strings.ReplaceAll(widgets, "size: 3", "size: 9")), with(check))
	w.eventually("ready by the check", func() bool { ok, _ := w.target.Ready(w.name); return ok })
	w.run(w.items(strings.ReplaceAll(widgets, "size: 3", "size: 99")), with(check))
	w.eventually("failed by the check", func() bool {
		_, waiting := w.target.Ready(w.name)
		return len(waiting) == 1 && waiting[0].Failed && waiting[0].Why == "size is 99"
	})
	// A changed check judges again what did not change.
	check.Failed = ""
	items = w.items(strings.ReplaceAll(widgets, "size: 3", "size: 99"))
	w.target.forgetSettled(w.name)
	w.run(items, with(check))
	w.eventually("judged again", func() bool { ok, _ := w.target.Ready(w.name); return ok })
	check.Ready = `self.status.nothing == 1`
	w.target.forgetSettled(w.name)
	w.run(items, with(check))
	w.eventually("an expression without a value is not ready", func() bool {
		_, waiting := w.target.Ready(w.name)
		return len(waiting) == 1 && !waiting[0].Failed
	})
}

func (w *world) dropWidgets() {
	_ = w.objects.Resource(crds).Delete(context.Background(), "widgets."+w.namespace+".example.com", deleteNow)
}

func TestUnschedulablePodIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	text := strings.ReplaceAll(strings.ReplaceAll(ailing, "IMAGE", "good:1"), "containers:", "nodeSelector: {no: node}, containers:")
	w.run(w.items(text))
	w.eventually("the scheduler's words", func() bool { return strings.Contains(w.waits(), "Unschedulable") })
}

// Of many that do not work, the cause is looked for of some: where it stays so,
// the requests do not grow with their number.
func TestCausesAreLookedForOfSome(t *testing.T) {
	t.Parallel()
	h := newHealth()
	id := func(i int) sources.ID {
		return sources.ID{Group: "apps", Kind: "Deployment", Namespace: "web", Name: fmt.Sprintf("d%03d", i)}
	}
	unready := func(s status.Status) *condition { return &condition{environment: "prod", status: s} }
	for i := range 100 {
		h.put(id(i), unready(status.InProgressStatus), "")
		h.put(sources.ID{Kind: "Service", Namespace: "web", Name: id(i).Name}, unready(status.InProgressStatus), "")
	}
	later := time.Now().Add(2 * firstLook)
	due, _, _ := h.due(later)
	if len(due) != maxCauses {
		t.Errorf("the cause of %d is looked for, want %d", len(due), maxCauses)
	}
	h.put(id(70), unready(status.FailedStatus), "")
	if due, _, _ = h.due(later.Add(firstLook)); !slices.Contains(due, id(70)) {
		t.Errorf("not of the one that failed: %v", due)
	}
	for i := range 99 {
		h.put(id(i), unready(status.CurrentStatus), "")
	}
	if due, _, _ = h.due(later); len(due) != 1 || due[0] != id(99) {
		t.Errorf("when all but one are well: %v", due)
	}
	h.drop(id(99))
	if due, _, any := h.due(later); len(due) != 0 || any || len(h.ailing) != 0 {
		t.Errorf("when the last is gone: %v, %v, %v", due, any, h.ailing)
	}
}
