package kubelive

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
)

// maxAdditions bounds how many fields of one object are told.
const maxAdditions = 50

// Addition is a field that somebody else added to an object of ours, or an element
// of a list.
type Addition struct {
	// Path is the field for people, as in ".metadata.annotations.note".
	Path string
	// Manager owns it, by Operation, and last wrote at Time, where that is known.
	Manager   string
	Operation string
	Time      time.Time

	keys []string
}

// Value is what a live object has there; ok is false where it has nothing.
func (a Addition) Value(object map[string]any) (value any, ok bool) {
	value = object
	for _, key := range a.keys {
		if value = child(value, key); isAbsent(value) {
			return nil, false
		}
	}
	return value, true
}

// In reports whether what git says has the field, whoever owns it on the server now:
// then it has drifted, and nobody added it. Keys of a list's elements that git leaves
// to the server's defaults do not count.
func (a Addition) In(git map[string]any) bool {
	var value any = git
	for _, key := range a.keys {
		if arg, keyed := strings.CutPrefix(key, "k:"); keyed {
			value = findMeant(value, arg)
		} else {
			value = child(value, key)
		}
		if isAbsent(value) {
			return false
		}
	}
	return true
}

// findMeant finds the element of a list in git that an element on the server came from:
// of the fields that name it, git may leave some to defaults, but not all.
func findMeant(value any, keyJSON string) any {
	list, _ := value.([]any)
	want, err := decodeExact([]byte(keyJSON))
	fields, ok := want.(map[string]any)
	if err != nil || !ok {
		return absent
	}
	for _, element := range list {
		m, _ := element.(map[string]any)
		said := maps.Clone(fields)
		maps.DeleteFunc(said, func(name string, _ any) bool { _, has := m[name]; return !has })
		if len(said) > 0 && matches(m, said) {
			return m
		}
	}
	return absent
}

// systemManagers are those of the cluster's own controllers: what they write is
// how the cluster works.
var systemManagers = []string{"kube-controller-manager", "kube-scheduler", "kubelet", "kube-apiserver", "cloud-controller-manager", "kube-proxy"}

// Additions are the fields of an object that its managedFields give to others and
// not to the owner's applies. Status is nobody's addition, nor is what the
// cluster's own controllers write.
func Additions(m metav1.Object, owner Owner) []Addition {
	ours, err := entryFields(ownEntry(m.GetManagedFields(), owner.Manager))
	if err != nil || ours == nil {
		return nil // without an entry of ours nothing tells what is added
	}
	var out []Addition
	seen := map[string]bool{}
	for i := range m.GetManagedFields() {
		e := &m.GetManagedFields()[i]
		if e.Subresource == "status" || isOwn(e.Manager) || slices.Contains(systemManagers, e.Manager) {
			continue
		}
		theirs, err := entryFields(e)
		if err != nil {
			continue // what cannot be read tells nothing
		}
		a := Addition{Manager: e.Manager, Operation: string(e.Operation)}
		if e.Manager == "" || isPlaceholder(e.Manager) {
			a.Manager = drift.Unknown
		}
		if e.Time != nil {
			a.Time = e.Time.Time
		}
		walkAdded(theirs, ours, nil, func(path []string) {
			text := pathText(path)
			if len(out) < maxAdditions && !seen[text] && !expected(text) {
				seen[text] = true
				one := a
				one.Path, one.keys = text, slices.Clone(path)
				out = append(out, one)
			}
		})
	}
	slices.SortFunc(out, func(a, b Addition) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// isPlaceholder reports whether a manager is what the server calls those whose name
// it does not know.
func isPlaceholder(manager string) bool {
	return manager == "before-first-apply" || manager == "ancient-changes"
}

// isOwn reports whether a manager is one of Holdfast's, of whatever environment.
func isOwn(manager string) bool {
	return manager == "holdfast" || strings.HasPrefix(manager, "holdfast:") || strings.HasPrefix(manager, "holdfast-")
}

// expected are fields that are put there to be there: what holds an object, and
// what goes by itself.
func expected(path string) bool {
	return path == `.metadata.annotations["`+AnnotationHoldUntil+`"]` || path == `.metadata.annotations["`+AnnotationHoldReason+`"]` || path == ".status"
}

// walkAdded calls found for what is in theirs and not in ours: of maps each field,
// of lists each element as a whole.
func walkAdded(theirs, ours fieldSet, path []string, found func([]string)) {
	for _, key := range theirs.children() {
		below := append(path, key)
		mine, known := ours[key]
		switch {
		case known && len(mine) == 0 && len(theirs[key].children()) == 0:
			// Ours as a whole. An empty map of ours is not: what is in it is theirs.
		case known:
			walkAdded(withoutKey(theirs[key], key), mine, below, found)
		case strings.HasPrefix(key, "f:") && hasFields(theirs[key]):
			walkAdded(theirs[key], nil, below, found)
		default:
			found(below)
		}
	}
}

// withoutKey is what somebody owns in an element of a keyed list without the fields
// that name it, which everybody owns who says anything of it.
func withoutKey(set fieldSet, key string) fieldSet {
	var fields map[string]any
	arg, keyed := strings.CutPrefix(key, "k:")
	if !keyed || json.Unmarshal([]byte(arg), &fields) != nil {
		return set
	}
	out := maps.Clone(set)
	for name := range fields {
		delete(out, "f:"+name)
	}
	return out
}

// hasFields reports whether what is below a field are fields by name.
func hasFields(set fieldSet) bool {
	keys := set.children()
	return len(keys) > 0 && strings.HasPrefix(keys[0], "f:")
}

// digestAdditions is over what others added; it is zero where that is nothing.
func digestAdditions(m metav1.Object, manager string) (d Digest) {
	all := Additions(m, Owner{Manager: manager})
	if len(all) == 0 {
		return d
	}
	parts := make([]string, 0, 2*len(all))
	for _, a := range all {
		parts = append(parts, a.Path, a.Manager)
	}
	return digestTexts(parts)
}

// additions is what the index knows of what others added, of environments that
// want to be told.
type additions struct {
	mu    sync.Mutex
	wants map[string]bool
	seen  map[sources.ID]Digest
	tell  func(Hint)
}

// TellAdditions sets who is told when what others added to an object changes, in
// environments that WantAdditions names. It must not block.
func (x *Index) TellAdditions(tell func(Hint)) {
	x.additions.mu.Lock()
	defer x.additions.mu.Unlock()
	x.additions.tell = tell
}

// WantAdditions says whether what others add in an environment is to be told. Where
// nobody wants it, it costs nothing.
func (x *Index) WantAdditions(environment string, want bool) {
	x.additions.mu.Lock()
	defer x.additions.mu.Unlock()
	if want {
		x.additions.wants[environment] = true
		return
	}
	delete(x.additions.wants, environment)
	if len(x.additions.wants) == 0 {
		clear(x.additions.seen)
	}
}

// noteAdditions looks at a state that a watch brought.
func (x *Index) noteAdditions(id sources.ID, m metav1.Object, r Record) {
	a := &x.additions
	a.mu.Lock()
	wanted := a.wants[r.Environment]
	a.mu.Unlock()
	if !wanted {
		return
	}
	digest := digestAdditions(m, managerOf(r.PartOf))
	a.mu.Lock()
	news := a.seen[id] != digest
	if digest == (Digest{}) {
		delete(a.seen, id)
	} else {
		a.seen[id] = digest
	}
	tell := a.tell
	a.mu.Unlock()
	if news && tell != nil {
		tell(Hint{Environment: r.Environment, Object: id})
	}
}
