package kube

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/internal/testkit/kube"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

const faultyBefore = `
apiVersion: v1
kind: ConfigMap
metadata: {name: kept, namespace: NS}
data: {color: red}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: pruned, namespace: NS}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: NS}
spec: {replicas: 0, selector: {matchLabels: {a: web}}, template: {metadata: {labels: {a: web}}, spec: {containers: [{name: c, image: "i:1"}]}}}
`

const faultyAfter = `
apiVersion: v1
kind: ConfigMap
metadata: {name: kept, namespace: NS}
data: {color: blue}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: fresh, namespace: NS}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: NS}
spec: {selector: {a: web}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: NS}
spec: {replicas: 0, selector: {matchLabels: {a: web}}, template: {metadata: {labels: {a: web}}, spec: {containers: [{name: c, image: "i:2"}]}}}
`

// TestFaultsOfTheServerDeleteNothingAndPass: while the server misbehaves, what a
// run cannot do it says, nothing else is deleted, and when it is well again the
// next runs bring everything about.
func TestFaultsOfTheServerDeleteNothingAndPass(t *testing.T) {
	t.Parallel()
	writes := kube.Match{Verb: "write"}
	respond := func(code int, times int) func(*kube.Faults) {
		return func(f *kube.Faults) { f.Respond(writes, code, "injected").Times(times) }
	}
	for name, inject := range map[string]func(*kube.Faults){
		"conflicts":             respond(409, 3),
		"invalid":               respond(422, 3),
		"throttled":             respond(429, 3),
		"internal error":        respond(500, 3),
		"unavailable":           respond(503, 3),
		"reads fail":            func(f *kube.Faults) { f.Respond(kube.Match{Verb: "get"}, 500, "injected").Times(3) },
		"lists fail":            func(f *kube.Faults) { f.Respond(kube.Match{Verb: "list"}, 503, "injected").Times(2) },
		"a kind is forbidden":   func(f *kube.Faults) { f.Forbid("services").Times(6) },
		"connection lost":       func(f *kube.Faults) { f.Fail(writes, errors.New("connection reset")).Times(3) },
		"answers lost":          func(f *kube.Faults) { f.Lose(writes, errors.New("connection reset")).Times(3) },
		"watches end":           func(f *kube.Faults) { f.DropWatches() },
		"watches expire":        func(f *kube.Faults) { f.Respond(kube.Match{Verb: "watch"}, 410, "too old").Times(2); f.DropWatches() },
		"discovery is in parts": func(f *kube.Faults) { f.Respond(kube.Match{If: isDiscovery}, 503, "injected").Times(3) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.run(w.items(faultyBefore))
			var faults kube.Faults
			w.config = faults.Wrap(w.config)
			w.restart()
			w.run(w.items(faultyBefore))
			if name == "discovery is in parts" {
				w.restart() // what was found out before is forgotten
			}
			inject(&faults)
			after := w.items(faultyAfter)
			for range 12 {
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				out, err := w.try(ctx, after)
				cancel()
				if !w.exists(cms, "kept") || !w.exists(deploys, "web") {
					t.Fatalf("something that git asks for was deleted: %v, %s", err, out.kinds())
				}
				if err == nil && out.errors() == "" && out.kinds() == "unchanged 4" {
					break
				}
			}
			w.eventually("all is as desired", func() bool { return w.run(after).kinds() == "unchanged 4" })
			if w.exists(cms, "pruned") {
				t.Error("what left git is there")
			}
			if got := w.value(cms, "kept", "data", "color"); got != "blue" {
				t.Errorf("kept is %q", got)
			}
			if out := w.run(after, func(s *reconciler.Scope) { s.Verify = true }); out.kinds() != "unchanged 4" {
				t.Errorf("verified: %s %s", out.kinds(), out.errors())
			}
		})
	}
}

func isDiscovery(c kube.Call) bool {
	return c.Resource == "" && (strings.HasPrefix(c.Path, "/apis") || strings.HasPrefix(c.Path, "/api"))
}

// TestAServerThatHangsIsGivenUp: a request without an answer ends with its time,
// and holds up nothing that comes after.
func TestAServerThatHangsIsGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var faults kube.Faults
	w.config = faults.Wrap(w.config)
	w.restart()
	hang := faults.Hang(kube.Match{Verb: "write", Name: "fresh"})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	items := w.items(faultyAfter)
	if out, err := w.try(ctx, items); err == nil && out.errors() == "" {
		t.Error("a run with a request that hangs ended well")
	}
	hang.Remove()
	w.eventually("all is as desired", func() bool { return w.run(items).kinds() == "unchanged 4" })
}
