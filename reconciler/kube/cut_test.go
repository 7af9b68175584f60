package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

const cutBefore = `
apiVersion: v1
kind: ConfigMap
metadata: {name: changed, namespace: NS}
data: {color: red}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: pruned, namespace: NS}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: NS}
spec: {replicas: 0, selector: {matchLabels: {a: old}}, template: {metadata: {labels: {a: old}}, spec: {containers: [{name: c, image: i}]}}}
`

const cutAfter = `
apiVersion: v1
kind: ConfigMap
metadata: {name: changed, namespace: NS}
data: {color: blue}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: fresh, namespace: NS}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: foreign, namespace: NS}
data: {mine: now}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: NS}
spec: {replicas: 0, selector: {matchLabels: {a: new}}, template: {metadata: {labels: {a: new}}, spec: {containers: [{name: c, image: i}]}}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: check, namespace: NS, annotations: {holdfast.dev/hook: before, holdfast.dev/hook-timeout: 10s}}
spec: {backoffLimit: 0, template: {spec: {restartPolicy: Never, containers: [{name: m, image: "m:1", command: ["true"]}]}}}
`

// A run that creates, updates, recreates, prunes, adopts and runs a hook is cut at
// its N-th request, as by a kill; the restarted daemon brings about the rest, and
// touches nothing that is not its own.
func TestRunOfEveryKindOfOperationCutAtAnyRequestConverges(t *testing.T) {
	t.Parallel()
	cuts := []int{6, 14, 22}
	if os.Getenv("HOLDFAST_LONG") != "" {
		cuts = cuts[:0]
		for n := range 60 {
			cuts = append(cuts, n)
		}
	}
	for _, n := range cuts {
		t.Run(fmt.Sprintf("at %d", n), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			scope := func(s *reconciler.Scope) {
				s.AdoptFrom, s.Recreate, s.Revision = []string{"kubectl"}, environment.RecreateAllowed, sources.Revision{ID: "r1"}
			}
			w.run(w.items(cutBefore), scope)
			for _, name := range []string{"foreign", "stranger"} {
				w.patch(cms, name, "kubectl", types.ApplyPatchType, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"`+name+`"},"data":{"theirs":"stays"}}`)
			}
			left := n
			cut := guard(func(r *http.Request) error {
				if r.URL.Query().Get("watch") != "" {
					return nil
				}
				if left--; left < 0 {
					return errors.New("killed")
				}
				return nil
			})
			w.allow.Store(&cut)
			items := w.items(cutAfter)
			next := func(s *reconciler.Scope) { scope(s); s.Revision.ID = "r2" }
			_, _ = w.try(context.Background(), items, next) // the error is the cut
			w.allow.Store(nil)
			w.restart()
			w.untilQuiet(items, next)
			w.expectCut(n)
			w.stop()
		})
	}
}

// untilQuiet runs until nothing is left to do.
func (w *world) untilQuiet(items []sources.Item, scope func(*reconciler.Scope)) {
	w.t.Helper()
	last := ""
	defer func() {
		if w.t.Failed() {
			w.t.Log(last)
		}
	}()
	w.eventually("the restarted daemon is done", func() bool {
		got := w.run(items, scope)
		last = got.kinds() + "; " + got.errors()
		return last == "unchanged 5; "
	})
}

func (w *world) expectCut(n int) {
	w.t.Helper()
	if w.value(cms, "changed", "data", "color") != "blue" || !w.exists(cms, "fresh") || w.exists(cms, "pruned") {
		w.t.Errorf("cut at %d: not as git says", n)
	}
	if w.value(deploys, "web", "spec", "selector", "matchLabels", "a") != "new" || !w.jobEnded("check") {
		w.t.Errorf("cut at %d: not recreated, or the hook did not run", n)
	}
	foreign := w.get(cms, "foreign")
	if w.value(cms, "foreign", "data", "theirs") != "stays" || w.value(cms, "foreign", "data", "mine") != "now" || w.value(cms, "stranger", "data", "theirs") != "stays" {
		w.t.Errorf("cut at %d: what others wrote is lost: %v", n, foreign.Object["data"])
	}
	if strings.Contains(string(mustJSON(w.get(cms, "stranger"))), "holdfast.dev") {
		w.t.Errorf("cut at %d: the stranger was touched", n)
	}
}
