package kubelive

import (
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/holdfast-gitops/holdfast/drift"
)

// Baseline is an object as the server stored it after our last apply: what a
// later state is compared with.
type Baseline struct {
	Record
	// Values is over the values at the paths that we own.
	Values Digest
}

// BaselineOf digests the response to an apply.
func BaselineOf(response *unstructured.Unstructured, owner Owner) Baseline {
	b := Baseline{Record: recordOf(response)}
	if len(response.GetManagedFields()) == 0 {
		b.Values = digestContent(response.Object)
		return b
	}
	if set, err := entryFields(ownEntry(response.GetManagedFields(), owner.Manager)); err == nil {
		b.Values = digestValues(set, response.Object, sync.OnceValue(func() []managerFields { return decodeManagers(response, owner) }))
	}
	return b
}

// Matches reports whether a live object, read in full, is what the baseline
// says: we own the same fields, they have the same values, and the metadata that
// matters is the same. It is the verdict that the index's hints are not.
func (b Baseline) Matches(live *unstructured.Unstructured, owner Owner) bool {
	now := BaselineOf(live, owner)
	return b.UID == now.UID && b.Own == now.Own && b.Values == now.Values && b.Meta == now.Meta &&
		(now.OwnsPartOf || b.Own == Digest{} && !b.OwnsPartOf && len(live.GetManagedFields()) == 0)
}

// OwnsAs reports whether we own the same fields of a live object as the baseline
// says; without a baseline, whether we own any.
func (b Baseline) OwnsAs(live *unstructured.Unstructured, owner Owner) bool {
	if b.UID == "" {
		return Ours(live, owner)
	}
	now := recordOf(live)
	return b.UID == now.UID && b.Own == now.Own
}

// Ours reports whether an object that the index does not know is nevertheless
// this owner's: its Apply entry is there, whatever became of the labels.
func Ours(m metav1.Object, owner Owner) bool {
	return ownEntry(m.GetManagedFields(), owner.Manager) != nil
}

// Compare lists how live differs from desired, which is the server's answer to
// an apply or to its dry run: at the paths that we own in desired, the order of
// keyed lists included. A sensitive object's values come out masked.
//
// Where every value is equal but fields are no longer ours, notOwned is true.
func Compare(live, desired *unstructured.Unstructured, owner Owner, sensitive bool) (changes []drift.Change, notOwned bool) {
	return compare(live, desired, owner, comparison{sensitive: sensitive, same: equalValue})
}

// CompareWritten lists how live differs from what somebody wrote, which carries the
// managedFields of a server's answer. What a server makes of a value by itself is no
// difference: another spelling of a quantity, defaults within what is ours as a whole.
func CompareWritten(live, written *unstructured.Unstructured, owner Owner, sensitive bool) []drift.Change {
	changes, _ := compare(live, written, owner, comparison{sensitive: sensitive, same: holdsWritten})
	return changes
}

func compare(live, desired *unstructured.Unstructured, owner Owner, c comparison) (changes []drift.Change, notOwned bool) {
	set, err := entryFields(ownEntry(desired.GetManagedFields(), owner.Manager))
	if err != nil || set == nil {
		return nil, false
	}
	c.live = decodeManagers(live, owner)
	c.walk(set, live.Object, desired.Object, nil)
	if len(c.changes) > 0 {
		return c.changes, false
	}
	liveSet, err := entryFields(ownEntry(live.GetManagedFields(), owner.Manager))
	return nil, err != nil || liveSet == nil || digestFields(liveSet, "") != digestFields(set, "")
}

// CompareGit is Compare for what a server keeps no managedFields of: at the paths
// that git sets, lists as a whole. Nobody knows there who changed a value.
func CompareGit(live, desired *unstructured.Unstructured, git map[string]any, sensitive bool) []drift.Change {
	c := comparison{sensitive: sensitive, same: equalValue}
	c.walk(fieldsOf(git), live.Object, desired.Object, nil)
	return c.changes
}

// CompareRefused lists how live differs from what git sets where no apply can tell,
// since the server refuses it. What a server makes of a value by itself is no
// difference. Of elements of keyed lists it knows those that somebody owns.
func CompareRefused(live *unstructured.Unstructured, git map[string]any, owner Owner, sensitive bool) []drift.Change {
	c := comparison{sensitive: sensitive, same: holdsWritten, live: decodeManagers(live, owner)}
	set := fieldsOf(git)
	for i := range live.GetManagedFields() {
		if theirs, err := entryFields(&live.GetManagedFields()[i]); err == nil {
			set = united(set, theirs)
		}
	}
	c.walk(set, live.Object, git, nil)
	return c.changes
}

// managerFields is another manager's entry, decoded.
type managerFields struct {
	entry metav1.ManagedFieldsEntry
	set   fieldSet
}

func decodeManagers(live *unstructured.Unstructured, owner Owner) []managerFields {
	var out []managerFields
	for _, e := range live.GetManagedFields() {
		if e.Manager == owner.Manager && e.Operation == metav1.ManagedFieldsOperationApply {
			continue
		}
		if set, err := entryFields(&e); err == nil && set != nil {
			out = append(out, managerFields{entry: e, set: set})
		}
	}
	return out
}

type comparison struct {
	live      []managerFields
	sensitive bool
	// same says whether a live value is as it was desired.
	same    func(live, desired any) bool
	changes []drift.Change
}

func (c *comparison) walk(set fieldSet, live, desired any, path []string) {
	keys := set.children()
	if len(keys) == 0 {
		if !c.same(live, desired) {
			c.add(path, live, desired, c.managerOf(path))
		}
		return
	}
	for _, key := range keys {
		here := append(slices.Clip(path), key)
		l, d := child(live, key), child(desired, key)
		switch {
		case isAbsent(d):
			// Owned but dropped by the server, as a null is: nothing to compare.
		case isAbsent(l) && !(strings.HasPrefix(key, "f:") && set[key].onlyFields()):
			c.add(here, l, d, nil) // a field that is gone leaves no trace of who removed it
		default:
			c.walk(set[key], l, d, here)
		}
	}
	c.walkOrder(keys, live, desired, path)
}

// onlyFields: the node is a map whose fields are owned one by one, so that what
// is missing from it can be named one by one, too.
func (s fieldSet) onlyFields() bool {
	keys := s.children()
	for _, key := range keys {
		if !strings.HasPrefix(key, "f:") {
			return false
		}
	}
	return len(keys) > 0
}

// walkOrder reports a keyed list whose elements are all there in another order.
func (c *comparison) walkOrder(keys []string, live, desired any, path []string) {
	l, d := keyedOrder(keys, live), keyedOrder(keys, desired)
	if len(l) != len(d) || slices.Equal(l, d) {
		return
	}
	c.add(path, orderText(l), orderText(d), nil) // an order is nobody's in managedFields
}

func orderText(keys []string) any {
	names := make([]any, len(keys))
	for i, k := range keys {
		names[i] = keyText(strings.TrimPrefix(k, "k:"))
	}
	return names
}

func (c *comparison) add(path []string, live, desired any, by *metav1.ManagedFieldsEntry) {
	change := drift.Change{
		Path: pathText(path), Desired: c.value(path, desired), Live: c.value(path, live),
		Manager: drift.Unknown,
	}
	if by != nil && !isAbsent(live) {
		change.Manager = by.Manager
		change.Operation = string(by.Operation)
		change.Subresource = by.Subresource
		if by.Time != nil {
			change.Time = by.Time.Time
		}
	}
	c.changes = append(c.changes, change)
}

func (c *comparison) value(path []string, v any) drift.Value {
	if isAbsent(v) {
		return drift.Absent()
	}
	return drift.NewValue(v, c.sensitive && secretPath(path))
}

// secretPath says which parts of a sensitive object are masked: all but its
// type, labels and the like. Annotations are masked, since they can hold a copy
// of the whole object.
func secretPath(path []string) bool {
	if len(path) == 0 {
		return true
	}
	switch path[0] {
	case "f:type", "f:immutable":
		return false
	case "f:metadata":
		return len(path) < 2 || path[1] == "f:annotations"
	}
	return true
}

// managerOf is the other manager that owns a path, the newest if several do.
// "before-first-apply" and "ancient-changes" are the server's own placeholders
// for writers it does not know.
func (c *comparison) managerOf(path []string) *metav1.ManagedFieldsEntry {
	var newest *metav1.ManagedFieldsEntry
	for i := range c.live {
		m := &c.live[i]
		if !m.set.owns(path) || isPlaceholder(m.entry.Manager) {
			continue
		}
		if newest == nil || entryTime(newest).Before(entryTime(&m.entry)) {
			newest = &m.entry
		}
	}
	return newest
}

func entryTime(e *metav1.ManagedFieldsEntry) time.Time {
	if e.Time == nil {
		return time.Time{}
	}
	return e.Time.Time
}
