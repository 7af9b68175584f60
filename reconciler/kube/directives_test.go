package kube

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

func TestAnnotationsOfOtherToolsMeanTheSame(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		notes map[string]string
		want  directives
	}{
		{map[string]string{"holdfast.dev/apply": "IfNotPresent"}, directives{apply: applyOnce}},
		{map[string]string{"holdfast.dev/apply": "Always", "kustomize.toolkit.fluxcd.io/ssa": "Ignore"}, directives{}},
		{map[string]string{"holdfast.dev/prune": "disabled", "holdfast.dev/wave": "-3"}, directives{keep: true, wave: -3}},
		{map[string]string{"kustomize.toolkit.fluxcd.io/ssa": "Merge"}, directives{apply: applyMerge}},
		{map[string]string{"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}, directives{apply: applyNever}},
		{map[string]string{"kustomize.toolkit.fluxcd.io/prune": "Disabled"}, directives{keep: true}},
		{map[string]string{"kustomize.toolkit.fluxcd.io/force": "enabled"}, directives{recreate: "allowed"}},
		{map[string]string{"kustomize.toolkit.fluxcd.io/force": "enabled", "holdfast.dev/recreate": "never"}, directives{recreate: "never"}},
		{map[string]string{"argocd.argoproj.io/sync-options": "ServerSideApply=true, Prune=false"}, directives{keep: true}},
		{map[string]string{"argocd.argoproj.io/sync-options": "Force=true", "argocd.argoproj.io/sync-wave": "5"}, directives{recreate: "allowed", wave: 5}},
		{map[string]string{"argocd.argoproj.io/compare-options": "IgnoreExtraneous"}, directives{}},
		{map[string]string{"argocd.argoproj.io/hook": "PreSync", "argocd.argoproj.io/hook-delete-policy": "HookSucceeded,BeforeHookCreation"}, directives{hook: hookBefore, hookDelete: []string{"succeeded", "before-creation"}}},
		{map[string]string{"argocd.argoproj.io/hook": "SyncFail"}, directives{hook: hookNever, hookDelete: []string{"before-creation"}}},
		{map[string]string{"helm.sh/hook": "post-install,post-upgrade", "helm.sh/hook-weight": "2", "helm.sh/hook-delete-policy": "hook-failed"}, directives{hook: hookAfter, wave: 2, hookDelete: []string{"failed"}}},
		{map[string]string{"helm.sh/hook": "test"}, directives{hook: hookNever, hookDelete: []string{"before-creation"}}},
		{map[string]string{"helm.sh/resource-policy": "keep"}, directives{keep: true}},
		{map[string]string{"holdfast.dev/hook": "before", "holdfast.dev/hook-timeout": "90s"}, directives{hook: hookBefore, hookDelete: []string{"before-creation"}, hookTimeout: 90 * time.Second}},
	} {
		if c.want.hookTimeout == 0 {
			c.want.hookTimeout = defaultHookTimeout
		}
		got, err := parseDirectives(c.notes)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v: got %+v, %v; want %+v", c.notes, got, err, c.want)
		}
	}
}

func TestWrongAnnotationsAreAllNamed(t *testing.T) {
	t.Parallel()
	_, err := parseDirectives(map[string]string{
		"holdfast.dev/apply": "Sometimes", "holdfast.dev/recreate": "yes", "holdfast.dev/wave": "first",
		"holdfast.dev/prune": "no", "holdfast.dev/hook": "during", "holdfast.dev/hook-timeout": "-1s", "holdfast.dev/hook-delete": "later",
	})
	for _, key := range []string{"apply", "recreate", "wave", "prune", "hook", "hook-timeout", "hook-delete"} {
		if err == nil || !strings.Contains(err.Error(), "annotation holdfast.dev/"+key+":") {
			t.Errorf("%s is not named in %v", key, err)
		}
	}
}

func TestApplyAnnotationsAreHeeded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const text = `
apiVersion: v1
kind: ConfigMap
metadata: {name: once, namespace: NS, annotations: {holdfast.dev/apply: IfNotPresent}}
data: {color: COLOR}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: never, namespace: NS, annotations: {kustomize.toolkit.fluxcd.io/ssa: Ignore}}
data: {color: COLOR}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: merge, namespace: NS, annotations: {holdfast.dev/apply: Merge}}
data: {color: COLOR, size: SIZE}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kept, namespace: NS, annotations: {argocd.argoproj.io/sync-options: Prune=false}}
`
	colored := func(color, size string) string {
		return strings.NewReplacer("COLOR", color, "SIZE", size).Replace(text)
	}
	w.patch(cms, "there", "others", types.ApplyPatchType, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"there"},"data":{"color":"theirs"}}`)
	there := w.items("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: there, namespace: NS, annotations: {holdfast.dev/apply: IfNotPresent}}\ndata: {color: ours}\n")
	if got := w.run(append(w.items(colored("red", "s")), there...)); got.kinds() != "create 3, unchanged 2" || got.errors() != "" {
		t.Fatalf("first: %s; errors %s", got.kinds(), got.errors())
	}
	if w.value(cms, "there", "data", "color") != "theirs" {
		t.Error("what was there already was changed")
	}
	w.patch(cms, "merge", "somebody", mergePatch, `{"data":{"color":"green"}}`)
	if got := w.run(w.items(colored("blue", "m"))); got.errors() != "" {
		t.Fatalf("second: %s; errors %s", got.kinds(), got.errors())
	}
	if w.value(cms, "once", "data", "color") != "red" || w.exists(cms, "never") {
		t.Error("IfNotPresent was changed, or Ignore was made")
	}
	if color, size := w.value(cms, "merge", "data", "color"), w.value(cms, "merge", "data", "size"); color != "green" || size != "m" {
		t.Errorf("merge: color %s, size %s; want somebody's green, and git's m", color, size)
	}
	items := w.items(colored("blue", "m"))
	if got := w.run(items); got.kinds() != "unchanged 4" {
		t.Errorf("third: %s", got.kinds())
	}
	if got := w.run(items[:1]); !strings.Contains(got.kinds(), "delete 1") || !w.exists(cms, "kept") || w.exists(cms, "merge") {
		t.Errorf("left git: %s; want merge deleted, and kept kept", got.kinds())
	}
}

func TestWavesOrderWhatIsNoInfrastructure(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(`
apiVersion: v1
kind: ConfigMap
metadata: {name: last, namespace: NS, annotations: {holdfast.dev/wave: "2"}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: middle, namespace: NS, annotations: {argocd.argoproj.io/sync-wave: "1"}}
spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: account, namespace: NS, annotations: {holdfast.dev/wave: "9"}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: first, namespace: NS, annotations: {holdfast.dev/wave: "-1"}}
`)
	var order []string
	got := w.run(items)
	for _, o := range got.order {
		order = append(order, o.Operation.Object.Name)
	}
	if text := strings.Join(order, " "); text != "account first middle last" || got.errors() != "" {
		t.Errorf("order %q; errors %s", text, got.errors())
	}
	if ready, _, _ := nestedInt(w.get(deploys, "middle"), "status", "readyReplicas"); ready != 1 {
		t.Error("the last wave did not wait for the Deployment of the one before")
	}
}
