package kube

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// repairManager writes what an apply cannot: it owns nothing for longer than that
// takes.
const repairManager = "holdfast-repair"

// repair mends lists that keep a correction from being accepted. Where somebody
// changes the key of an element, such as the number of a Service's port, the
// element is theirs from then on; an apply adds ours beside it, and the server may
// refuse the two. So the lists that the server names are set to what git says, and
// only then it is applied. It answers the object as it is then, and whether there
// was anything to mend.
func (t *Target) repair(ctx context.Context, w writer, op reconciler.Operation, n note, live *unstructured.Unstructured, refusal error) (*unstructured.Unstructured, bool) {
	if live == nil || !apierrors.IsInvalid(refusal) || isImmutable(refusal) || isWrongUID(refusal) {
		return nil, false
	}
	steps := []jsonPatch{{Op: "replace", Path: "/metadata/resourceVersion", Value: live.GetResourceVersion()}}
	for _, l := range listsInTheWay(op.Item, live, refusal) {
		steps = append(steps, jsonPatch{Op: "replace", Path: "/" + strings.Join(l.path, "/"), Value: l.mended()})
	}
	if len(steps) == 1 {
		return nil, false
	}
	patch, err := json.Marshal(steps)
	if err != nil {
		return nil, false
	}
	after, err := w.api(n.resource, op.Object).Patch(ctx, op.Object.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: repairManager})
	return after, err == nil
}

// listInTheWay is a list that an apply cannot add to.
type listInTheWay struct {
	path       []string
	want, have []any
}

// listsInTheWay are the lists that a refusal is about and that live has otherwise than
// git says, outside other lists.
func listsInTheWay(item sources.Item, live *unstructured.Unstructured, refusal error) (out []listInTheWay) {
	var desired map[string]any
	if decode(item.Body, &desired) != nil {
		return nil
	}
	for _, named := range fieldsNamed(refusal) {
		path := named.path
		want, _, _ := unstructured.NestedFieldNoCopy(desired, path...)
		have, _, _ := unstructured.NestedFieldNoCopy(live.Object, path...)
		l := listInTheWay{path: path}
		var ok1, ok2 bool
		l.want, ok1 = want.([]any)
		l.have, ok2 = have.([]any)
		// What others have in metadata, such as their finalizers, is never in the way. A
		// list that has all that git says is so only where an element would be there
		// twice: it was given another key, of what git leaves to the server.
		if ok1 && ok2 && path[0] != "metadata" && (named.twice || !contains(l.have, l.want)) {
			out = append(out, l)
		}
	}
	return out
}

// mended is the list as git wants it. Elements keep what was added to them, unless that
// is all that differs: it may be in a key that git leaves to the server, such as the
// protocol of a port.
func (l listInTheWay) mended() []any {
	kept := keptOrWanted(l.want, l.have)
	if slices.EqualFunc(kept, l.have, func(a, b any) bool { return reflect.DeepEqual(a, b) }) {
		return l.want
	}
	return kept
}

// fieldNamed is a field that a refusal is about; twice says that it is because of
// something that would be in it twice.
type fieldNamed struct {
	path  []string
	twice bool
}

// fieldsNamed are the fields that a refusal is about, up to the first list.
func fieldsNamed(refusal error) (out []fieldNamed) {
	var status apierrors.APIStatus
	if !errors.As(refusal, &status) || status.Status().Details == nil {
		return nil
	}
	for _, cause := range status.Status().Details.Causes {
		field, _, _ := strings.Cut(cause.Field, "[")
		if field == "" {
			continue
		}
		f := fieldNamed{strings.Split(field, "."), cause.Type == metav1.CauseTypeFieldValueDuplicate}
		at := slices.IndexFunc(out, func(have fieldNamed) bool { return slices.Equal(have.path, f.path) })
		if at < 0 {
			out = append(out, f)
		} else {
			out[at].twice = out[at].twice || f.twice
		}
	}
	return out
}

// refusedChanges are what differs where even a dry run is refused because of it: the
// lists whose elements others made theirs by another key.
func refusedChanges(item sources.Item, live *unstructured.Unstructured, refusal error) (out []drift.Change) {
	if !apierrors.IsInvalid(refusal) || isWrongUID(refusal) {
		return nil
	}
	for _, l := range listsInTheWay(item, live, refusal) {
		out = append(out, drift.Change{
			Path: "." + strings.Join(l.path, "."), Desired: drift.NewValue(l.want, item.Sensitive), Live: drift.NewValue(l.have, item.Sensitive),
			Manager: drift.Unknown,
		})
	}
	return out
}

// refusedDrift is what differs where the server does not let it be put back: a list in
// which something is in the way, and otherwise what git sets and live has otherwise.
func refusedDrift(item sources.Item, live *unstructured.Unstructured, refusal error, owner kubelive.Owner) []drift.Change {
	git := &unstructured.Unstructured{}
	if git.UnmarshalJSON(item.Body) != nil {
		return nil
	}
	if !isImmutable(refusal) {
		if changes := refusedChanges(item, live, refusal); len(changes) > 0 {
			return changes
		}
	}
	return dropOurs(kubelive.CompareRefused(live, git.Object, owner, item.Sensitive))
}

// keptOrWanted is a list as git wants it, in which an element that is there
// already keeps what the server or others added to it.
func keptOrWanted(want, have []any) []any {
	out := make([]any, 0, len(want))
	for _, e := range want {
		at := slices.IndexFunc(have, func(l any) bool { return contains(l, e) })
		if at >= 0 {
			e = have[at]
		}
		out = append(out, e)
	}
	return out
}

// contains reports whether a live value has all that is wanted of it.
func contains(live, want any) bool {
	w, isMap := want.(map[string]any)
	if wl, ok := want.([]any); ok {
		ll, ok := live.([]any)
		return ok && slices.EqualFunc(ll, wl, contains)
	}
	if !isMap {
		a, err1 := json.Marshal(live)
		b, err2 := json.Marshal(want)
		return err1 == nil && err2 == nil && string(a) == string(b)
	}
	l, isMap := live.(map[string]any)
	for k, v := range w {
		if !isMap || !contains(l[k], v) {
			return false
		}
	}
	return isMap
}

// dropRepair takes what the repair wrote from its manager, so that the fields are
// ours alone; best effort, as the object is as desired either way.
func (t *Target) dropRepair(ctx context.Context, w writer, op reconciler.Operation, n note, response *unstructured.Unstructured) *unstructured.Unstructured {
	kept := slices.DeleteFunc(slices.Clone(response.GetManagedFields()), func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == repairManager
	})
	patch, err := json.Marshal(fieldsPatch(response, kept))
	if err != nil || len(kept) == 0 {
		return response
	}
	after, err := w.api(n.resource, op.Object).Patch(ctx, op.Object.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: repairManager})
	if err != nil {
		return response
	}
	return after
}
