package kubelive

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"hash"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Digest is the first half of a SHA-256: enough to tell two states apart, and
// half the index. It never leaves the process but for the baseline file.
type Digest [16]byte

func sum(h hash.Hash) (d Digest) {
	copy(d[:], h.Sum(nil))
	return d
}

// digestTexts is over texts in their order.
func digestTexts(texts []string) Digest {
	h := sha256.New()
	for _, t := range texts {
		put(h, t)
	}
	return sum(h)
}

// put writes a string with its length, so that no two sequences collide.
func put(h hash.Hash, s string) {
	var n [4]byte
	binary.LittleEndian.PutUint32(n[:], uint32(len(s)))
	h.Write(n[:])
	h.Write([]byte(s))
}

// digestFields is over the set of owned fields, whatever order they come in.
func digestFields(set fieldSet, version string) Digest {
	h := sha256.New()
	put(h, version)
	hashSet(h, set)
	return sum(h)
}

func hashSet(h hash.Hash, set fieldSet) {
	if _, self := set["."]; self {
		put(h, ".")
	}
	for _, key := range set.children() {
		put(h, key)
		hashSet(h, set[key])
	}
	put(h, "}")
}

// digestMeta is over what a foreign hand may change in metadata without taking
// a field from us: label values, finalizers, owner references, a pending
// deletion, our annotation, and the values of annotations that are ours: admission
// rewrites these during another's write without a trace in the generation or in
// who owns them.
func digestMeta(m metav1.Object, owned fieldSet) Digest {
	h := sha256.New()
	labels := m.GetLabels()
	keys := make([]string, 0, len(labels))
	for k := range labels {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		put(h, k)
		put(h, labels[k])
	}
	put(h, "|")
	for _, f := range m.GetFinalizers() {
		put(h, f)
	}
	put(h, "|")
	for _, o := range m.GetOwnerReferences() {
		put(h, string(o.UID))
	}
	if m.GetDeletionTimestamp() != nil {
		put(h, "deleting")
	}
	put(h, m.GetAnnotations()[AnnotationApplied])
	for _, field := range owned["f:metadata"]["f:annotations"].children() {
		if key := strings.TrimPrefix(field, "f:"); key != AnnotationApplied {
			put(h, key)
			put(h, m.GetAnnotations()[key])
		}
	}
	return sum(h)
}

// digestValues is over the values at the paths of set in a live object, and over
// the order of the owned elements of keyed lists, which no set of fields tells.
// What others own is left out of it, also where it is inside an empty map of ours.
func digestValues(set fieldSet, object map[string]any, others func() []managerFields) Digest {
	v := valueHash{h: sha256.New(), others: others}
	v.add(set, object, make([]string, 0, 16))
	return sum(v.h)
}

// digestContent is over all of an object but its status and what only a server
// sets: where nothing tells what is ours, any change is worth a look.
func digestContent(object map[string]any) Digest {
	h := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if key != "status" && key != "metadata" {
			put(h, key)
			hashValue(h, object[key])
		}
	}
	meta, _ := object["metadata"].(map[string]any)
	hashValue(h, meta["labels"])
	hashValue(h, meta["annotations"])
	return sum(h)
}

type valueHash struct {
	h      hash.Hash
	others func() []managerFields
}

func (v valueHash) add(set fieldSet, value any, path []string) {
	keys := set.children()
	if len(keys) == 0 {
		if m, ok := value.(map[string]any); ok && len(m) > 0 {
			value = withoutOthers(value, path, v.others())
		}
		hashValue(v.h, value)
		return
	}
	for _, key := range keys {
		put(v.h, key)
		next := child(value, key)
		if isAbsent(next) {
			put(v.h, "absent")
			continue
		}
		v.add(set[key], next, append(path, key))
	}
	for _, key := range keyedOrder(keys, value) {
		put(v.h, key)
	}
}

func hashValue(h hash.Hash, value any) {
	raw, err := json.Marshal(value) // sorts keys; decoded JSON always encodes
	if err != nil {
		raw = []byte(err.Error())
	}
	put(h, string(raw))
}

// keyedOrder is the owned elements of a keyed list in their live order; empty
// where the order can mean nothing.
func keyedOrder(keys []string, value any) []string {
	type place struct {
		at  int
		key string
	}
	var places []place
	for _, key := range keys {
		if len(key) < 2 || key[:2] != "k:" {
			return nil
		}
		if at, found := findKeyed(value, key[2:]); found != nil {
			places = append(places, place{at, key})
		}
	}
	if len(places) < 2 {
		return nil
	}
	slices.SortFunc(places, func(a, b place) int { return a.at - b.at })
	order := make([]string, len(places))
	for i, p := range places {
		order[i] = p.key
	}
	return order
}

// Record is all that the index keeps of a live object.
type Record struct {
	UID             types.UID
	ResourceVersion string
	Generation      int64
	// Environment and PartOf are the values of our labels.
	Environment string
	PartOf      string
	// Applied is the value of AnnotationApplied.
	Applied string
	// Own is over our entry's fields, Meta over the rest that matters.
	Own  Digest
	Meta Digest
	// OwnsPartOf: our Apply entry owns the part-of label, which copied labels
	// do not bring with them.
	OwnsPartOf bool
	// Fieldless: it has no managedFields at all, as on a server that keeps none.
	Fieldless bool
	// Controlled: a controller owner reference exists, so something else made
	// it and will make it again.
	Controlled bool
	Deleting   bool
	// DeletingSince is when its deletion was asked for, in Unix seconds.
	DeletingSince int64
	// HeldUntil is the time of AnnotationHoldUntil in Unix seconds, or 0.
	HeldUntil int64
}

var partOfPath = []string{"f:metadata", "f:labels", "f:" + LabelPartOf}

// recordOf digests an object's metadata. Managed fields that cannot be read
// count as not ours, which can only make us look closer and delete less.
func recordOf(m metav1.Object) Record {
	labels := m.GetLabels()
	r := Record{
		UID: m.GetUID(), ResourceVersion: m.GetResourceVersion(), Generation: m.GetGeneration(),
		Environment: labels[LabelEnvironment], PartOf: labels[LabelPartOf],
		Applied:    m.GetAnnotations()[AnnotationApplied],
		Fieldless:  len(m.GetManagedFields()) == 0,
		Controlled: metav1.GetControllerOf(m) != nil, Deleting: m.GetDeletionTimestamp() != nil,
	}
	if at := m.GetDeletionTimestamp(); at != nil {
		r.DeletingSince = at.Unix()
	}
	if until, err := time.Parse(time.RFC3339, m.GetAnnotations()[AnnotationHoldUntil]); err == nil {
		r.HeldUntil = until.Unix()
	}
	entry := ownEntry(m.GetManagedFields(), managerOf(r.PartOf))
	set, err := entryFields(entry)
	r.Meta = digestMeta(m, set)
	if entry == nil || err != nil {
		return r
	}
	r.Own = digestFields(set, entry.APIVersion)
	r.OwnsPartOf = set.owns(partOfPath)
	return r
}

func managerOf(applySetID string) string { return "holdfast:" + applySetID }

// ProvenOurs reports whether an object is an owner's to delete: its Apply entry
// owns its part-of label, and no controller made the object.
func ProvenOurs(m metav1.Object, owner Owner) bool {
	r := recordOf(m)
	return r.PartOf == owner.ID && r.OwnsPartOf && !r.Controlled
}
