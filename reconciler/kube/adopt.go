package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/fluxcd/pkg/ssa"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// tracker is a tool that marks the objects which it looks after. Two of them on
// one object would fight.
type tracker struct {
	// name is what adoptFrom calls it.
	name string
	// labels and annotations are its marks; one is enough to know it by.
	labels      []string
	annotations []string
	// managers are its field managers; a * at the end stands for any text.
	managers []string
}

var trackers = []tracker{
	{
		name:        "argocd",
		labels:      []string{"argocd.argoproj.io/instance"},
		annotations: []string{"argocd.argoproj.io/tracking-id", "argocd.argoproj.io/installation-id"},
		managers:    []string{"argocd-controller", "argocd-application-controller", "argocd*"},
	},
	{
		name: "flux",
		labels: []string{
			"kustomize.toolkit.fluxcd.io/name", "kustomize.toolkit.fluxcd.io/namespace",
			"helm.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/namespace",
		},
		managers: []string{"kustomize-controller", "helm-controller", "flux"},
	},
	{
		name:        "helm",
		annotations: []string{"meta.helm.sh/release-name", "meta.helm.sh/release-namespace"},
		managers:    []string{"helm", "Helm"},
	},
	{name: "applyset", labels: []string{kubelive.LabelPartOf}, managers: []string{"kubectl-applyset"}},
}

// kubectlManagers are the writers that adoptFrom calls kubectl.
var kubectlManagers = []string{"kubectl*", placeholderManager}

const (
	lastApplied    = "kubectl.kubernetes.io/last-applied-configuration"
	managedByLabel = "app.kubernetes.io/managed-by"
)

// trackersOf are the tools whose marks an object carries.
func trackersOf(live *unstructured.Unstructured, owner kubelive.Owner) []tracker {
	var out []tracker
	for _, k := range trackers {
		marked := slices.ContainsFunc(k.labels, func(l string) bool {
			v, ok := live.GetLabels()[l]
			return ok && v != owner.ID
		}) || slices.ContainsFunc(k.annotations, func(a string) bool {
			_, ok := live.GetAnnotations()[a]
			return ok
		})
		if marked {
			out = append(out, k)
		}
	}
	return out
}

// adoptable says what is missing in adoptFrom for an object to be taken over:
// the tools that track it, by name, and everybody who wrote it. "*" stands for
// all who wrote it, and for no tool.
func adoptable(live *unstructured.Unstructured, owner kubelive.Owner, adoptFrom []string) (missing []string) {
	found := trackersOf(live, owner)
	for _, k := range found {
		if !slices.Contains(adoptFrom, k.name) {
			missing = append(missing, k.name)
		}
	}
	if slices.Contains(adoptFrom, "*") {
		return missing
	}
	managers := managersOf(live)
	if len(managers) == 0 && len(found) == 0 {
		// Whoever made it set no field, so that nobody can be named.
		return []string{`"*"`}
	}
	for _, m := range managers {
		if !slices.ContainsFunc(adoptFrom, func(named string) bool { return names(named, m) }) && !slices.ContainsFunc(found, func(k tracker) bool {
			return slices.Contains(missing, k.name) && matchesAny(k.managers, m)
		}) {
			missing = append(missing, m)
		}
	}
	return missing
}

// names reports whether a word of adoptFrom means a field manager: by its name, as
// one of a tool's, or as kubectl in any of its forms.
func names(word, manager string) bool {
	if word == manager || word == "*" {
		return true
	}
	if word == "kubectl" {
		return matchesAny(kubectlManagers, manager)
	}
	for _, k := range trackers {
		if k.name == word {
			return matchesAny(k.managers, manager)
		}
	}
	return false
}

func matchesAny(patterns []string, manager string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		prefix, open := strings.CutSuffix(p, "*")
		return manager == p || open && strings.HasPrefix(manager, prefix)
	})
}

// adopt takes over an object that others wrote. First, in one patch, the fields
// that we are about to apply are made ours alone, and the marks of the tools that
// are left go; then it is applied. So nothing is lost that git does not set, a pod
// template changes only where git differs, and what leaves git later goes. What a
// crash in between leaves is ours and is applied by the next run.
func (t *Target) adopt(ctx context.Context, w writer, op reconciler.Operation, n note) reconciler.Outcome {
	var again patience
	live := n.live
	for {
		out, err := t.adoptOnce(ctx, w, op, n, live)
		if err == nil {
			return out
		}
		if !isStale(err) || !again.wait(ctx) {
			return failed(op, err)
		}
		if live, err = t.cluster.Get(ctx, n.resource, op.Object); err != nil {
			return failed(op, err)
		}
		if string(live.GetUID()) != op.UID || claimed(n.live, live, w.owner) {
			return failed(op, conflict(live, w.owner))
		}
	}
}

// claimed reports whether a tool or an environment has laid hands on an object
// since the adoption was planned.
func claimed(before, now *unstructured.Unstructured, owner kubelive.Owner) bool {
	if before == nil || ownedByOther(before) != ownedByOther(now) {
		return true
	}
	had := trackersOf(before, owner)
	return slices.ContainsFunc(trackersOf(now, owner), func(k tracker) bool {
		return !slices.ContainsFunc(had, func(h tracker) bool { return h.name == k.name })
	})
}

func (t *Target) adoptOnce(ctx context.Context, w writer, op reconciler.Operation, n note, live *unstructured.Unstructured) (reconciler.Outcome, error) {
	api := w.api(n.resource, op.Object)
	body, err := n.body(op, w.owner, live, n.yields, "")
	if err != nil {
		return reconciler.Outcome{}, err
	}
	merged, err := t.patch(ctx, api, op.Object.Name, body, w.owner.Manager, patchMode{force: true, dryRun: true})
	if err != nil {
		return reconciler.Outcome{}, err
	}
	patch, err := handover(live, merged, op, w.owner)
	if err != nil {
		return reconciler.Outcome{}, err
	}
	t.cluster.Index.BeginWrite(op.Object)
	_, err = api.Patch(ctx, op.Object.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: FieldManager})
	if err != nil {
		t.cluster.Index.EndWrite(op.Object)
		if apierrors.IsInvalid(err) && strings.Contains(err.Error(), "resourceVersion") {
			err = apierrors.NewConflict(n.resource.GVR.GroupResource(), op.Object.Name, err)
		}
		return reconciler.Outcome{}, fmt.Errorf("hand its fields over: %w", err)
	}
	response, err := t.patch(ctx, api, op.Object.Name, body, w.owner.Manager, patchMode{force: true})
	if err != nil {
		t.cluster.Index.EndWrite(op.Object)
		return reconciler.Outcome{}, err
	}
	t.cluster.Index.Wrote(op.Object, kubelive.BaselineOf(response, w.owner))
	return reconciler.Outcome{Operation: op}, nil
}

// handover is the patch that makes the fields that a dry run gives us ours alone,
// and removes the marks of other tools that git does not set.
func handover(live, merged *unstructured.Unstructured, op reconciler.Operation, owner kubelive.Owner) ([]byte, error) {
	ours, err := entryOf(merged, owner.Manager)
	if err != nil || ours == nil {
		return nil, fmt.Errorf("hand its fields over: the server names none as ours: %w", err)
	}
	mine, err := ssa.FieldsToSet(*ours.FieldsV1)
	if err != nil {
		return nil, fmt.Errorf("hand its fields over: %w", err)
	}
	fields := []metav1.ManagedFieldsEntry{*ours}
	if fields[0].FieldsV1, err = withFormer(&mine, live, owner); err != nil {
		return nil, fmt.Errorf("hand its fields over: %w", err)
	}
	for _, e := range live.GetManagedFields() {
		if e.FieldsV1 == nil || (e.Manager == owner.Manager || e.Manager == formerManager(live, owner)) && e.Operation == metav1.ManagedFieldsOperationApply && e.Subresource == "" {
			continue
		}
		if e.Subresource == "" {
			theirs, err := ssa.FieldsToSet(*e.FieldsV1)
			if err != nil {
				return nil, fmt.Errorf("hand its fields over: %w", err)
			}
			left := theirs.Leaves().Difference(mine.Leaves())
			if left.Empty() {
				continue
			}
			if *e.FieldsV1, err = ssa.SetToFields(*left); err != nil {
				return nil, fmt.Errorf("hand its fields over: %w", err)
			}
		}
		fields = append(fields, e)
	}
	steps := append(unmark(live, op, owner), fieldsPatch(live, fields)...)
	return json.Marshal(steps)
}

// formerManager is the field manager of the environment of ours that an object is
// taken over from; empty when it is none of ours.
func formerManager(live *unstructured.Unstructured, owner kubelive.Owner) string {
	part := live.GetLabels()[kubelive.LabelPartOf]
	if part == "" || part == owner.ID || ownedByOther(live) == "" {
		return ""
	}
	return "holdfast:" + part
}

// withFormer adds to our fields those that the former environment applied, so
// that the apply that follows removes what git no longer sets.
func withFormer(mine *fieldpath.Set, live *unstructured.Unstructured, owner kubelive.Owner) (*metav1.FieldsV1, error) {
	former, err := entryOf(live, formerManager(live, owner))
	if err != nil {
		return nil, err
	}
	if former != nil {
		theirs, err := ssa.FieldsToSet(*former.FieldsV1)
		if err != nil {
			return nil, err
		}
		mine = mine.Union(&theirs)
	}
	fields, err := ssa.SetToFields(*mine)
	return &fields, err
}

func entryOf(u *unstructured.Unstructured, manager string) (*metav1.ManagedFieldsEntry, error) {
	for _, e := range u.GetManagedFields() {
		if e.Manager == manager && e.Operation == metav1.ManagedFieldsOperationApply && e.Subresource == "" && e.FieldsV1 != nil {
			return &e, nil
		}
	}
	return nil, nil
}

// unmark removes from the live object what other tools know it by.
func unmark(live *unstructured.Unstructured, op reconciler.Operation, owner kubelive.Owner) []jsonPatch {
	var wanted struct {
		Metadata struct{ Labels, Annotations map[string]string }
	}
	_ = decode(op.Item.Body, &wanted) // it was decoded before
	var steps []jsonPatch
	remove := func(field, key string, has, keep map[string]string) {
		_, there := has[key]
		if _, kept := keep[key]; there && !kept {
			steps = append(steps, jsonPatch{Op: "remove", Path: "/metadata/" + field + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key)})
		}
	}
	found := trackersOf(live, owner)
	for _, k := range found {
		for _, l := range k.labels {
			if l != kubelive.LabelPartOf {
				remove("labels", l, live.GetLabels(), wanted.Metadata.Labels)
			}
		}
		for _, a := range k.annotations {
			remove("annotations", a, live.GetAnnotations(), wanted.Metadata.Annotations)
		}
		if k.name == "helm" && live.GetLabels()[managedByLabel] == "Helm" {
			remove("labels", managedByLabel, live.GetLabels(), wanted.Metadata.Labels)
		}
	}
	remove("annotations", lastApplied, live.GetAnnotations(), wanted.Metadata.Annotations)
	return steps
}
