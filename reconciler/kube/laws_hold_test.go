package kube

import (
	"context"
	"errors"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// blind are kinds that have a generation which no change moves: what leaves no trace in
// managedFields either is found by a verification alone.
var blind = []string{"PriorityClass"}

// add has others add to the object, which is no drift, is not written over, and is told
// field by field where that is asked for.
func (l *law) add() {
	l.t.Helper()
	patch := l.foreign.Patch
	if patch == nil {
		patch = map[string]any{}
	}
	patch["metadata"] = map[string]any{
		"name":   l.id.Name,
		"labels": map[string]any{"theirs": "1"}, "annotations": map[string]any{"example.com/note": "x"},
	}
	if l.foreign.how == types.ApplyPatchType {
		patch["apiVersion"], patch["kind"] = l.live().GetAPIVersion(), l.id.Kind
	}
	send := func(body map[string]any, how types.PatchType, sub ...string) {
		if body == nil {
			return
		}
		if _, err := l.api.Patch(context.Background(), l.id.Name, how, asJSON(body), metav1.PatchOptions{FieldManager: "stranger"}, sub...); err != nil {
			l.t.Fatal(err)
		}
	}
	send(patch, l.foreign.how)
	if l.foreign.Status != nil {
		send(map[string]any{"status": l.foreign.Status}, types.MergePatchType, "status")
	}
	if l.foreign.Scale != nil {
		send(map[string]any{"spec": l.foreign.Scale}, types.MergePatchType, "scale")
	}
	l.told()
	l.eventually("what others add is looked at, and is no drift", func() bool {
		got := l.run(l.all, asked)
		l.nothing(got)
		return strings.HasPrefix(got.kinds(), "unchanged") && !strings.Contains(got.kinds(), ",")
	})
	report := l.run(l.all, asked, func(s *reconciler.Scope) { s.ReadOnly, s.Verify = true, true })
	for _, op := range report.plan.Operations {
		if op.Kind != reconciler.OpUnchanged {
			l.t.Errorf("with additions of others, a dry run says %s: %+v", op.Kind, op.Changes)
		}
	}
}

// nothing checks that a run found no drift.
func (l *law) nothing(got outcome) {
	l.t.Helper()
	for id, o := range got.done {
		if o.Err != nil || o.Class != "" || o.Persists || len(o.Changes) > 0 || !o.Noop {
			l.t.Errorf("%s: what others add is drift: %s (%s), class %q, persists %v, error %v, %+v", id, o.Operation.Kind, o.Operation.Why, o.Class, o.Persists, o.Err, o.Changes)
		}
	}
}

// told checks what is told of what others added.
func (l *law) told() {
	l.t.Helper()
	want := append([]string{".metadata.labels.theirs", `.metadata.annotations["example.com/note"]`}, l.foreign.Extra...)
	slices.Sort(want)
	var got []string
	for range 2 { // by the watch; and, if that is late or told less, by a look at everything
		f, _ := l.found.get(l.id)
		got = nil
		for _, c := range f.Changes {
			if c.Manager == "stranger" && f.Class == drift.ExtraField && !c.Desired.Present() && c.Live.Present() {
				got = append(got, c.Path)
			}
		}
		slices.Sort(got)
		if slices.Equal(got, want) {
			return
		}
		l.again(l.found)
	}
	l.t.Errorf("told of others: %q\nwant %q", got, want)
}

// reported looks at a change in mode report: it is named, stays, and nothing is written.
func (l *law) reported(p place, before, after *unstructured.Unstructured) {
	l.t.Helper()
	written := l.written.Load()
	var op reconciler.Operation
	l.eventually("reported: "+p.pointer, func() bool {
		out := l.run(l.one, partly, func(s *reconciler.Scope) { s.ReadOnly = true })
		op = out.plan.Operations[0]
		// What was there before is still told while the watch is late.
		return op.Class == drift.Changed || op.Err != nil
	})
	if op.Err != nil || op.Held == "" {
		l.t.Errorf("report %s: %s, error %v, held %q", p.pointer, op.Kind, op.Err, op.Held)
		return
	}
	if strings.HasSuffix(op.Why, "cannot be changed back") {
		before = l.asGit() // without the server's answer, this is what is desired
	}
	l.expect("report", p, before, after, op.Class, op.Changes)
	if is, _ := valueAt(l.live().Object, p.at); l.written.Load() != written || string(asJSON(is)) != string(asJSON(ignored(valueAt(after.Object, p.at)))) {
		l.t.Errorf("report %s: it was written", p.pointer)
	}
}

func ignored(v any, _ bool) any { return v }

// corrected has a change put back.
func (l *law) corrected(p place, before, after *unstructured.Unstructured) {
	l.t.Helper()
	var got reconciler.Outcome
	l.eventually("found: "+p.pointer, func() bool {
		out := l.run(l.one, partly)
		o, ok := out.done[l.id.String()]
		got = o
		return ok && (!o.Noop || o.Err != nil)
	})
	// What the server lets nobody change back is named, with what would help.
	unchangeable := got.Err != nil && isImmutableText(got.Err)
	if got.Err != nil && !unchangeable {
		l.t.Errorf("correct %s: %v", p.pointer, got.Err)
		return
	}
	if unchangeable {
		before = l.asGit()
	}
	l.expect("correct", p, before, after, got.Class, got.Changes)
	if unchangeable {
		l.remade(p, before, after)
		return
	}
	l.clean("after the correction of "+p.pointer, true)
	if is, _ := valueAt(l.live().Object, p.pointer); string(asJSON(is)) != string(asJSON(p.value)) && !p.element() && !p.list {
		l.t.Errorf("%s: put back as %v, was %v", p.pointer, is, p.value)
	}
}

// asGit is the object as git has it.
func (l *law) asGit() *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(l.one[0].Body); err != nil {
		l.t.Fatal(err)
	}
	return u
}

func isImmutableText(err error) bool {
	var p sources.Problem
	return errors.As(err, &p) && p.Hint == immutableHint
}

// remade has the object made again, which is how a change is put back that the server
// does not let anybody undo; what others added is gone with the old one.
func (l *law) remade(p place, before, after *unstructured.Unstructured) {
	l.t.Helper()
	got := l.run(l.one, partly, allowRecreate).done[l.id.String()]
	if got.Err != nil || got.Operation.Kind != reconciler.OpRecreate {
		l.t.Errorf("make again for %s: %s, error %v", p.pointer, got.Operation.Kind, got.Err)
		return
	}
	l.expect("make again", p, before, after, got.Class, got.Changes)
	l.clean("after it was made again for "+p.pointer, true)
	l.add()
}

// andBack undoes what a hand did, by the hand: no value differs then.
func (l *law) andBack(p place, before *unstructured.Unstructured) {
	l.t.Helper()
	l.eventually("open: "+p.pointer, func() bool {
		out := l.run(l.one, partly, func(s *reconciler.Scope) { s.ReadOnly = true })
		return len(out.plan.Operations[0].Changes) == 1
	})
	if l.byHand(l.live(), p, []any{p.value}) == nil {
		l.t.Errorf("%s cannot be changed back", p.pointer)
	}
	var op reconciler.Operation
	l.eventually("changed back: "+p.pointer, func() bool {
		op = l.run(l.one, partly, func(s *reconciler.Scope) { s.ReadOnly = true }).plan.Operations[0]
		return len(op.Changes) == 0
	})
	if op.Kind != reconciler.OpUnchanged && op.Class != drift.NotOwned || op.Err != nil {
		l.t.Errorf("changed back, %s: %s, class %q, error %v", p.pointer, op.Kind, op.Class, op.Err)
	}
}

// forged changes a place and writes managedFields back as if nobody had.
func (l *law) forged(p place) {
	l.t.Helper()
	before := l.live()
	after := l.byHand(before, p, others(p.value))
	if after == nil {
		return
	}
	text := asJSON(before.GetManagedFields())
	if _, err := l.api.Patch(context.Background(), l.id.Name, types.MergePatchType, []byte(`{"metadata":{"managedFields":`+string(text)+`}}`), metav1.PatchOptions{FieldManager: "forger"}); err != nil {
		l.t.Fatal(err)
	}
	got := l.run(l.one, partly, func(s *reconciler.Scope) { s.ReadOnly, s.Verify = true, true }).plan.Operations[0]
	if len(got.Changes) != 1 || got.Changes[0].Path != p.path || got.Changes[0].Manager != drift.Unknown {
		l.t.Errorf("forged %s: %s, class %q, %+v", p.pointer, got.Kind, got.Class, got.Changes)
	}
	verify := slices.Contains(blind, l.id.Kind) && !strings.HasPrefix(p.path, ".metadata")
	l.eventually("forged, and found: "+p.pointer, func() bool {
		out := l.run(l.one, partly, func(s *reconciler.Scope) { s.Verify = verify })
		o, ok := out.done[l.id.String()]
		return ok && !o.Noop && o.Err == nil
	})
	l.clean("after the forged change of "+p.pointer, true)
}

// fieldsCleared clears managedFields: no value differs, what is ours is ours again, and
// what others added stays.
func (l *law) fieldsCleared() {
	l.t.Helper()
	if _, err := l.api.Patch(context.Background(), l.id.Name, types.MergePatchType, []byte(`{"metadata":{"managedFields":[{}]}}`), metav1.PatchOptions{FieldManager: "hand"}); err != nil {
		l.t.Fatal(err)
	}
	var got reconciler.Outcome
	l.eventually("cleared managedFields are found", func() bool {
		o, ok := l.run(l.one, partly).done[l.id.String()]
		got = o
		return ok && (!o.Noop || o.Err != nil)
	})
	if got.Err != nil || got.Class != drift.NotOwned || len(got.Changes) != 0 {
		l.t.Errorf("cleared managedFields: class %q, error %v, %+v", got.Class, got.Err, got.Changes)
	}
	l.clean("after cleared managedFields", true)
}

// theirsStay checks that nothing of what others added was taken away.
func (l *law) theirsStay() {
	l.t.Helper()
	live := l.live()
	if live.GetLabels()["theirs"] != "1" || live.GetAnnotations()["example.com/note"] != "x" {
		l.t.Errorf("what others added is gone: %v, %v", live.GetLabels(), live.GetAnnotations())
	}
	if l.foreign.Patch == nil || l.id.Kind == "Service" { // whose ports were set right
		return
	}
	// Sent once more, it changes nothing, but maybe an order.
	o := metav1.PatchOptions{FieldManager: "stranger", DryRun: []string{metav1.DryRunAll}}
	after, err := l.api.Patch(context.Background(), l.id.Name, l.foreign.how, asJSON(l.foreign.Patch), o)
	if err != nil || string(asJSON(withoutTraces(after))) != string(asJSON(withoutTraces(live))) {
		l.t.Errorf("of what others added something is gone (%v):\n%s\n%s", err, asJSON(withoutTraces(after)), asJSON(withoutTraces(live)))
	}
}

// withoutTraces is an object without what every write moves, its status, and the order
// of lists.
func withoutTraces(u *unstructured.Unstructured) any {
	c := u.DeepCopy()
	c.SetManagedFields(nil)
	c.SetResourceVersion("")
	c.SetGeneration(0)
	delete(c.Object, "status")
	return sortedLists(c.Object)
}

func sortedLists(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for k := range v {
			v[k] = sortedLists(v[k])
		}
	case []any:
		for i := range v {
			v[i] = sortedLists(v[i])
		}
		slices.SortFunc(v, func(a, b any) int { return strings.Compare(string(asJSON(a)), string(asJSON(b))) })
	}
	return value
}
