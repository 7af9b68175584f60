package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

func allowRecreate(s *reconciler.Scope) { s.Recreate = environment.RecreateAllowed }

func TestImmutableFieldIsNeverRecreatedUnasked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	w.run(items)
	uid := w.get(deploys, "web").GetUID()
	changed := w.items(strings.ReplaceAll(shop, "{app: web}", "{app: web, tier: front}"))
	got := w.run(changed)
	for _, want := range []string{"Deployment/" + w.namespace + "/web: ", "test.yaml:19:", "field is immutable", "holdfast.dev/recreate: allowed", "recreate: allowed in the environment's spec"} {
		if !strings.Contains(got.errors(), want) {
			t.Errorf("errors lack %q:\n%s", want, got.errors())
		}
	}
	report := w.run(changed, func(s *reconciler.Scope) { s.ReadOnly = true })
	if !strings.Contains(report.kinds(), "conflict 1") || !strings.Contains(report.errors(), "recreate: allowed") {
		t.Errorf("a dry run says %s; %s", report.kinds(), report.errors())
	}
	if w.get(deploys, "web").GetUID() != uid {
		t.Error("it was made anew")
	}
}

func TestImmutableFieldIsRecreatedWhereAllowed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		annotate string
		scope    []func(*reconciler.Scope)
		want     bool
	}{
		"by the spec":                 {"", []func(*reconciler.Scope){allowRecreate}, true},
		"by the object":               {"holdfast.dev/recreate: allowed", nil, true},
		"by Flux's annotation":        {"kustomize.toolkit.fluxcd.io/force: enabled", nil, true},
		"forbidden by the object":     {"holdfast.dev/recreate: never", []func(*reconciler.Scope){allowRecreate}, false},
		"neither asked nor forbidden": {"a: b", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.run(w.items(shop))
			uid := w.get(deploys, "web").GetUID()
			text := strings.ReplaceAll(shop, "{app: web}", "{app: web, tier: front}")
			if c.annotate != "" {
				text = strings.ReplaceAll(text, "kind: Deployment\nmetadata: {name: web, namespace: NS", "kind: Deployment\nmetadata: {name: web, namespace: NS, annotations: {"+strings.ReplaceAll(c.annotate, ": ", `: "`)+`"}`)
			}
			items := w.items(text)
			got := w.run(items, c.scope...)
			if made := strings.Contains(got.kinds(), "recreate 1"); made != c.want || c.want != (w.get(deploys, "web").GetUID() != uid) {
				t.Fatalf("%s; errors %s", got.kinds(), got.errors())
			}
			if !c.want {
				return
			}
			if got.errors() != "" || w.value(deploys, "web", "spec", "selector", "matchLabels", "tier") != "front" {
				t.Errorf("errors %s", got.errors())
			}
			if again := w.run(items, c.scope...); again.kinds() != "unchanged 4" {
				t.Errorf("afterwards: %s", again.kinds())
			}
		})
	}
}

func TestReplacementThatTheServerRefusesDeletesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run(w.items(shop))
	uid := w.get(deploys, "web").GetUID()
	// The selector matches no label of the template.
	bad := w.items(strings.ReplaceAll(shop, "selector: {matchLabels: {app: web}}", "selector: {matchLabels: {app: other}}"))
	got := w.run(bad, allowRecreate)
	if strings.Contains(got.kinds(), "recreate") || got.errors() == "" || w.get(deploys, "web").GetUID() != uid {
		t.Errorf("%s; errors %s", got.kinds(), got.errors())
	}
}

func TestProtectedKindWaitsBeforeItIsRecreated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const claim = `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: NS}
spec: {accessModes: [ReadWriteOnce], storageClassName: CLASS, resources: {requests: {storage: 1Gi}}}
`
	w.run(w.items(strings.ReplaceAll(claim, "CLASS", "slow")))
	got := w.run(w.items(strings.ReplaceAll(claim, "CLASS", "fast")), allowRecreate)
	if got.kinds() != "recreate 1" || len(got.plan.Active()) != 0 || got.plan.Operations[0].Held == "" {
		t.Errorf("%s, active %v; errors %s", got.kinds(), got.plan.Active(), got.errors())
	}
}

// Drift that the server lets nobody put back is told like any other, by field and who,
// and with what would help; where that is allowed, the object is made again.
func TestDriftThatCannotBePutBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	w.run(items)
	uid := w.get(cms, "settings").GetUID()
	w.patch(cms, "settings", "kubectl-edit", mergePatch, `{"data":{"color":"red"},"immutable":true}`)
	expect := func(how string, class drift.Class, changes []drift.Change) {
		t.Helper()
		if class != drift.Changed {
			t.Errorf("%s: class %q", how, class)
		}
		w.expectChange(changes, ".data.color", `"blue" <- "red"`, "kubectl-edit")
	}
	settings := "ConfigMap/" + w.namespace + "/settings"
	w.eventually("it is reported", func() bool {
		ops := w.run(items, func(s *reconciler.Scope) { s.ReadOnly = true }).plan.Operations
		op := ops[slices.IndexFunc(ops, func(op reconciler.Operation) bool { return op.Object.Kind == "ConfigMap" })]
		if op.Class == "" && op.Err == nil {
			return false
		}
		if op.Err != nil || op.Kind != reconciler.OpCorrect {
			t.Errorf("reported as %s, error %v", op.Kind, op.Err)
		}
		expect("report", op.Class, op.Changes)
		return true
	})
	got := w.run(items).done[settings]
	if got.Err == nil || !strings.Contains(got.Err.Error(), "immutable") || !strings.Contains(fmt.Sprint(sources.ProblemsOf(got.Err)), "recreate: allowed") {
		t.Errorf("corrected: %v", got.Err)
	}
	expect("correct", got.Class, got.Changes)
	if w.get(cms, "settings").GetUID() != uid {
		t.Fatal("it was made again unasked")
	}
	got = w.run(items, allowRecreate).done[settings]
	if got.Err != nil || got.Operation.Kind != reconciler.OpRecreate {
		t.Fatalf("where it is allowed: %s, error %v", got.Operation.Kind, got.Err)
	}
	expect("make again", got.Class, got.Changes)
	live := w.get(cms, "settings")
	if _, locked := live.Object["immutable"]; locked || live.GetUID() == uid || w.value(cms, "settings", "data", "color") != "blue" {
		t.Errorf("made again as %v", live.Object)
	}
	if again := w.run(items); again.kinds() != "unchanged 4" {
		t.Errorf("afterwards: %s", again.kinds())
	}
}

func TestRecreationCutInTheMiddleConverges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run(w.items(shop))
	items := w.items(strings.ReplaceAll(shop, "{app: web}", "{app: web, tier: front}"))
	deleted := false
	cut := guard(func(r *http.Request) error {
		deleted = deleted || r.Method == http.MethodDelete
		if deleted && r.Method == http.MethodPatch {
			return errors.New("killed")
		}
		return nil
	})
	w.allow.Store(&cut)
	_, _ = w.try(context.Background(), items, allowRecreate)
	w.allow.Store(nil)
	w.restart()
	if got := w.run(items, allowRecreate); got.errors() != "" {
		t.Fatalf("after the cut: %s; %s", got.kinds(), got.errors())
	}
	if !deleted || w.value(deploys, "web", "spec", "selector", "matchLabels", "tier") != "front" {
		t.Error("it did not converge")
	}
}

func TestOnlyImmutableCausesAreTakenForThem(t *testing.T) {
	t.Parallel()
	invalid := func(causes ...metav1.StatusCause) error {
		return &apierrors.StatusError{ErrStatus: metav1.Status{
			Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid, Details: &metav1.StatusDetails{Causes: causes},
		}}
	}
	cause := func(field, message string) metav1.StatusCause {
		return metav1.StatusCause{Type: metav1.CauseTypeFieldValueInvalid, Field: field, Message: message}
	}
	for _, c := range []struct {
		name string
		err  error
		want bool
	}{
		{"selector", invalid(cause("spec.selector", "Invalid value: x: field is immutable")), true},
		{"cluster IP", invalid(cause("spec.clusterIPs[0]", "Invalid value: may not change once set")), true},
		{"role", invalid(cause("roleRef", "Invalid value: cannot change roleRef")), true},
		{"wrong UID", invalid(cause("metadata.uid", "Invalid value: field is immutable")), false},
		{"another mistake", invalid(cause("spec.replicas", "Invalid value: -1: must be greater than or equal to 0")), false},
		{"both", invalid(cause("spec.selector", "field is immutable"), cause("spec.replicas", "must be positive")), false},
		{"no causes", invalid(), false},
		{"conflict", apierrors.NewConflict(schemaOf("deployments"), "web", errors.New("field is immutable")), false},
		{"text only", errors.New("field is immutable"), false},
		{"a problem of ours", sources.Problem{Message: "immutable"}, false},
	} {
		if got := isImmutable(c.err); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
