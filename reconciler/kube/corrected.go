package kube

import (
	"reflect"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// corrected says what the correction changed.
func (t *Target) corrected(op reconciler.Operation, live, response *unstructured.Unstructured, owner kubelive.Owner) reconciler.Outcome {
	out := reconciler.Outcome{Operation: op, Class: drift.Missing, Changes: op.Changes}
	if live == nil {
		if len(out.Changes) == 0 {
			out.Changes = []drift.Change{{Desired: drift.NewValue("present", false), Live: drift.Absent(), Manager: drift.Unknown}}
		}
		return out
	}
	changes, notOwned := compared(live, response, owner, op.Item)
	out.Changes, out.Class = dropOurs(changes), drift.Changed
	switch {
	case len(changes) > 0:
	case notOwned:
		out.Class = drift.NotOwned
	case live.GetResourceVersion() == response.GetResourceVersion() || onlyTimes(live, response):
		// The write changed nothing: either it was as desired after all, or what
		// differs is put there by admission whatever we apply.
		out.Noop, out.Class = true, ""
		t.persists(&out, response, owner)
	default:
		out.Class = ""
	}
	return out
}

// onlyTimes reports whether nothing but times in managedFields, and with them its order,
// makes the difference. A server that fills defaults into a list of a custom kind that
// is ours as a whole takes each apply for a change, and writes when it was.
func onlyTimes(live, response *unstructured.Unstructured) bool {
	bare := func(u *unstructured.Unstructured) (any, []string) {
		c := u.DeepCopy()
		var entries []string
		for _, e := range c.GetManagedFields() {
			e.Time = nil
			entries = append(entries, e.String())
		}
		slices.Sort(entries)
		c.SetManagedFields(nil)
		c.SetResourceVersion("")
		return c.Object, entries
	}
	a, ofA := bare(live)
	b, ofB := bare(response)
	return slices.Equal(ofA, ofB) && reflect.DeepEqual(a, b)
}

// compared is how live differs from the server's answer to an apply, or to its dry
// run, and whether fields are no longer ours though they are equal. Some servers keep
// no managedFields; what git sets has to do there.
func compared(live, answer *unstructured.Unstructured, owner kubelive.Owner, item sources.Item) ([]drift.Change, bool) {
	if len(answer.GetManagedFields()) > 0 {
		return kubelive.Compare(live, answer, owner, item.Sensitive)
	}
	var git map[string]any
	if decode(item.Body, &git) != nil {
		return nil, false
	}
	return kubelive.CompareGit(live, answer, git, item.Sensitive), false
}

// persists notes a value that our apply does not bring back: it left what the
// last apply answered, we still own it, and applying changes nothing. Something
// in admission puts it there.
func (t *Target) persists(out *reconciler.Outcome, response *unstructured.Unstructured, owner kubelive.Owner) {
	n, _ := out.Operation.Live.(note)
	now := kubelive.BaselineOf(response, owner)
	if len(response.GetManagedFields()) == 0 || n.base.UID != response.GetUID() || n.base.Values == now.Values || n.base.Applied != now.Applied {
		return
	}
	wanted := &unstructured.Unstructured{}
	if wanted.UnmarshalJSON(out.Operation.Item.Body) != nil {
		return
	}
	wanted.SetManagedFields(response.GetManagedFields())
	if out.Changes = kubelive.CompareWritten(response, wanted, owner, out.Operation.Item.Sensitive); len(out.Changes) == 0 {
		// It was rewritten to what counts as the same.
		out.Changes, _ = kubelive.Compare(response, wanted, owner, out.Operation.Item.Sensitive)
	}
	out.Noop, out.Persists, out.Class = false, true, drift.Changed
}

// placeholderManager is the server's own name for writers it does not know.
const placeholderManager = "before-first-apply"

// jsonPatch is one step of a JSON patch (RFC 6902).
type jsonPatch struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// fieldsPatch replaces an object's managedFields, if it has not moved since.
func fieldsPatch(live *unstructured.Unstructured, fields []metav1.ManagedFieldsEntry) []jsonPatch {
	return []jsonPatch{
		{Op: "replace", Path: "/metadata/managedFields", Value: fields},
		{Op: "replace", Path: "/metadata/resourceVersion", Value: live.GetResourceVersion()},
	}
}
