package kube

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

const migration = `
apiVersion: batch/v1
kind: Job
metadata: {name: migrate, namespace: NS}
spec:
  backoffLimit: 0
  template: {spec: {restartPolicy: Never, containers: [{name: m, image: "m:1", command: [sh, -c, "exit 0"]}]}}
`

func (w *world) jobEnded(name string) bool {
	return w.exists(jobs, name) && isFinishedJob(w.get(jobs, name))
}

func TestFinishedJobIsDoneForItsContent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(migration)
	w.run(items)
	id := items[0].ID
	digest := w.target.owner(w.name).AppliedDigest(items[0], w.target.opts.Key)
	w.eventually("the Job's end is noted", func() bool { return w.target.isFinished(w.name, id, digest) })
	w.eventually("and written down", func() bool {
		return strings.Contains(w.value(cms, parentName(w.name), "data", recordsKey), digest)
	})
	background := metav1.DeletePropagationBackground
	if err := w.objects.Resource(jobs).Namespace(w.namespace).Delete(t.Context(), "migrate", metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		t.Fatal(err)
	}
	w.eventually("the Job is gone", func() bool { return !w.exists(jobs, "migrate") })
	expectQuiet := func(when string) {
		t.Helper()
		if got := w.run(items); got.kinds() != "unchanged 1" || w.exists(jobs, "migrate") {
			t.Errorf("%s: %s", when, got.kinds())
		}
		if ready, waiting := w.target.Ready(w.name); !ready {
			t.Errorf("%s: waits for %+v", when, waiting)
		}
	}
	expectQuiet("after its TTL")
	w.restart()
	expectQuiet("after a restart")
	changed := w.items(strings.ReplaceAll(migration, "m:1", "m:2"))
	if got := w.run(changed); got.errors() != "" || !w.exists(jobs, "migrate") {
		t.Errorf("new content: %s; %s", got.kinds(), got.errors())
	}
	w.eventually("it ran again", func() bool { return w.jobEnded("migrate") })
	again := w.items(strings.ReplaceAll(migration, "m:1", "m:3"))
	if got := w.run(again); got.kinds() != "recreate 1" || got.errors() != "" {
		t.Errorf("content changed while the finished Job is there: %s; %s", got.kinds(), got.errors())
	}
}

func TestRerunRunsAFinishedJobAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(strings.ReplaceAll(migration, "backoffLimit: 0", "backoffLimit: 0\n  ttlSecondsAfterFinished: 0"))
	w.run(items)
	w.eventually("done and gone", func() bool { return !w.exists(jobs, "migrate") && w.run(items).kinds() == "unchanged 1" })
	if err := w.target.Rerun(t.Context(), w.name, items[0].ID); err != nil {
		t.Fatal(err)
	}
	if got := w.run(items); got.errors() != "" || strings.Contains(got.kinds(), "unchanged") {
		t.Errorf("after the request: %s; %s", got.kinds(), got.errors())
	}
}

func TestRunningJobIsNotReplacedUnderItsFeet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	slow := strings.ReplaceAll(migration, "exit 0", "sleep infinity")
	w.run(w.items(slow))
	uid := w.get(jobs, "migrate").GetUID()
	got := w.run(w.items(strings.ReplaceAll(slow, "m:1", "m:2")))
	if got.kinds() != "conflict 1" || !strings.Contains(got.errors(), "the Job still runs") || w.get(jobs, "migrate").GetUID() != uid {
		t.Errorf("%s; %s", got.kinds(), got.errors())
	}
}

const hooked = `
apiVersion: batch/v1
kind: Job
metadata: {name: before, namespace: NS, annotations: {holdfast.dev/hook: before, holdfast.dev/hook-delete: "before-creation,succeeded"}}
spec:
  backoffLimit: 0
  template: {spec: {restartPolicy: Never, containers: [{name: m, image: "m:1", command: [sh, -c, "BEFORE"]}]}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: NS}
data: {color: COLOR}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: NS}
spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: after, namespace: NS, annotations: {helm.sh/hook: "post-install,post-upgrade"}}
spec:
  backoffLimit: 0
  template: {spec: {restartPolicy: Never, containers: [{name: m, image: "m:1", command: [sh, -c, "exit 0"]}]}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: rollback, namespace: NS, annotations: {helm.sh/hook: pre-rollback}}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: m, image: "m:1"}]}}}
`

func hookItems(w *world, before, color string) []sources.Item {
	return w.items(strings.NewReplacer("BEFORE", before, "COLOR", color).Replace(hooked))
}

func revision(id string) func(*reconciler.Scope) {
	return func(s *reconciler.Scope) { s.Revision = sources.Revision{ID: id} }
}

func namesOf(order []reconciler.Outcome) string {
	var out []string
	for _, o := range order {
		out = append(out, o.Operation.Object.Name)
	}
	return strings.Join(out, " ")
}

func TestHooksRunOncePerRevisionThatChangesSomething(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := hookItems(w, "exit 0", "red")
	got := w.run(first, revision("r1"))
	if order := namesOf(got.order); !strings.HasPrefix(order, "before ") || !strings.HasSuffix(order, " after") || got.errors() != "" {
		t.Fatalf("order %q; errors %s", order, got.errors())
	}
	if w.exists(jobs, "before") && w.get(jobs, "before").GetDeletionTimestamp() == nil || !w.jobEnded("after") || w.exists(jobs, "rollback") {
		t.Error("want before deleted, after kept and ended, and no rollback hook")
	}
	for _, id := range []string{"r1", "r2"} {
		if got := w.run(first, revision(id)); got.kinds() != "unchanged 5" {
			t.Errorf("at %s: %s", id, got.kinds())
		}
	}
	uid := w.get(jobs, "after").GetUID()
	second := hookItems(w, "exit 0", "blue")
	if got := w.run(second, revision("r3")); !strings.Contains(got.kinds(), "hook 2") || got.errors() != "" || w.get(jobs, "after").GetUID() == uid {
		t.Errorf("at a changed revision: %s; %s", got.kinds(), got.errors())
	}
	w.restart()
	if got := w.run(second, revision("r3")); got.kinds() != "unchanged 5" {
		t.Errorf("after a restart: %s", got.kinds())
	}
	// Drift runs no hook.
	w.patch(cms, "settings", "kubectl-edit", mergePatch, `{"data":{"color":"green"}}`)
	<-w.hints
	if got := w.run(second, revision("r4")); !strings.Contains(got.kinds(), "correct 1") || strings.Contains(got.kinds(), "hook") {
		t.Errorf("drift: %s", got.kinds())
	}
}

func TestFailedHookStopsTheRunWithItsReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bad := hookItems(w, "exit 3", "red")
	got := w.run(bad, revision("r1"))
	for _, want := range []string{"test.yaml:2: Job.batch/" + w.namespace + "/before: hook: ", "BackoffLimitExceeded", "Pod before-", "exited with code 3"} {
		if !strings.Contains(got.errors(), want) {
			t.Errorf("errors lack %q: %s", want, got.errors())
		}
	}
	if w.exists(deploys, "web") || w.exists(cms, "settings") || got.done["ConfigMap/"+w.namespace+"/settings"].Deferred == "" {
		t.Error("the run went on")
	}
	uid := w.get(jobs, "before").GetUID()
	if got := w.run(bad, revision("r1")); !strings.Contains(got.errors(), "is not run again") || w.get(jobs, "before").GetUID() != uid {
		t.Errorf("a retry: %s", got.errors())
	}
	if got := w.run(hookItems(w, "exit 0", "red"), revision("r2")); got.errors() != "" || !w.exists(deploys, "web") {
		t.Errorf("mended: %s; %s", got.kinds(), got.errors())
	}
}

func TestHookThatTakesTooLongFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	text := strings.ReplaceAll(hooked, "holdfast.dev/hook: before,", "holdfast.dev/hook: before, holdfast.dev/hook-timeout: 1s,")
	got := w.run(w.items(strings.NewReplacer("BEFORE", "sleep infinity", "COLOR", "red").Replace(text)), revision("r1"))
	if !strings.Contains(got.errors(), "the hook took longer than 1s") || w.exists(cms, "settings") {
		t.Errorf("errors %s", got.errors())
	}
}
