package kubelive

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fieldSet is a decoded FieldsV1: a tree whose keys are "f:name" for a field,
// "k:{…}" for the element of a keyed list, "v:…" for an element of a set, "i:N"
// for an index, and "." for the node itself. A node without children is owned as
// a whole. The format is that of structured-merge-diff's fieldpath.
type fieldSet map[string]fieldSet

// parseFields decodes a FieldsV1. An empty one is an empty set.
func parseFields(raw []byte) (fieldSet, error) {
	if len(raw) == 0 {
		return fieldSet{}, nil
	}
	var set fieldSet
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, fmt.Errorf("read managed fields: %w", err)
	}
	return set, nil
}

// fieldsOf are the fields that an object sets, as if one by one; a list is one.
func fieldsOf(value any) fieldSet {
	m, _ := value.(map[string]any)
	set := make(fieldSet, len(m))
	for k, v := range m {
		set["f:"+k] = fieldsOf(v)
	}
	return set
}

// united has what is in either of two sets.
func united(a, b fieldSet) fieldSet {
	out := make(fieldSet, len(a)+len(b))
	maps.Copy(out, a)
	for key, set := range b {
		out[key] = united(out[key], set)
	}
	return out
}

// children are the keys below a node without ".", sorted so that walks are
// deterministic.
func (s fieldSet) children() []string {
	keys := make([]string, 0, len(s))
	for k := range s {
		if k != "." {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// owns reports whether the set holds the path, or an ancestor of it as a whole.
func (s fieldSet) owns(path []string) bool {
	node := s
	for _, key := range path {
		next, ok := node[key]
		if !ok {
			return false
		}
		if len(next) == 0 {
			return true
		}
		node = next
	}
	return true
}

// absent stands for a value that is not there, as opposed to a null.
type absentValue struct{}

var absent any = absentValue{}

func isAbsent(v any) bool { _, ok := v.(absentValue); return ok }

// child finds what a path element names inside value.
func child(value any, key string) any {
	kind, arg, _ := strings.Cut(key, ":")
	switch kind {
	case "f":
		if m, ok := value.(map[string]any); ok {
			if v, ok := m[arg]; ok {
				return v
			}
		}
	case "k":
		if _, v := findKeyed(value, arg); v != nil {
			return v
		}
	case "v":
		return findScalar(value, arg)
	case "i":
		list, ok := value.([]any)
		n, err := strconv.Atoi(arg)
		if ok && err == nil && n >= 0 && n < len(list) {
			return list[n]
		}
	}
	return absent
}

// findKeyed finds the element of a keyed list, and its place in it.
func findKeyed(value any, keyJSON string) (int, any) {
	list, ok := value.([]any)
	if !ok {
		return -1, nil
	}
	want, err := decodeExact([]byte(keyJSON))
	if err != nil {
		return -1, nil
	}
	fields, ok := want.(map[string]any)
	if !ok {
		return -1, nil
	}
	for i, element := range list {
		m, ok := element.(map[string]any)
		if ok && matches(m, fields) {
			return i, m
		}
	}
	return -1, nil
}

func matches(element, fields map[string]any) bool {
	for k, v := range fields {
		if !equalValue(element[k], v) {
			return false
		}
	}
	return true
}

func findScalar(value any, scalarJSON string) any {
	list, ok := value.([]any)
	if !ok {
		return absent
	}
	want, err := decodeExact([]byte(scalarJSON))
	if err != nil {
		return absent
	}
	for _, element := range list {
		if equalValue(element, want) {
			return element
		}
	}
	return absent
}

// decodeExact decodes JSON as unstructured objects are: whole numbers as int64.
func decodeExact(b []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	return numbers(v), nil
}

func numbers(v any) any {
	switch t := v.(type) {
	case json.Number:
		if n, err := t.Int64(); err == nil {
			return n
		}
		f, _ := t.Float64() // a number JSON accepts but float64 does not stays 0 on both sides
		return f
	case map[string]any:
		for k := range t {
			t[k] = numbers(t[k])
		}
	case []any:
		for i := range t {
			t[i] = numbers(t[i])
		}
	}
	return v
}

// equalValue compares decoded JSON; 1 and 1.0 are equal.
func equalValue(a, b any) bool {
	if reflect.DeepEqual(a, b) {
		return true
	}
	x, okX := asFloat(a)
	y, okY := asFloat(b)
	return okX && okY && x == y
}

func asFloat(v any) (float64, bool) {
	switch t := v.(type) {
	case int64:
		return float64(t), true
	case float64:
		return t, true
	}
	return 0, false
}

// pathText is a path for people: ".spec.containers[name=web].image".
func pathText(path []string) string {
	var b strings.Builder
	for _, key := range path {
		kind, arg, _ := strings.Cut(key, ":")
		switch kind {
		case "f":
			if strings.ContainsAny(arg, `./[]" `) {
				b.WriteString("[" + strconv.Quote(arg) + "]")
			} else {
				b.WriteString("." + arg)
			}
		case "k":
			b.WriteString("[" + keyText(arg) + "]")
		case "v":
			b.WriteString("[=" + arg + "]")
		case "i":
			b.WriteString("[" + arg + "]")
		}
	}
	return b.String()
}

func keyText(keyJSON string) string {
	v, err := decodeExact([]byte(keyJSON))
	m, ok := v.(map[string]any)
	if err != nil || !ok {
		return keyJSON
	}
	parts := make([]string, 0, len(m))
	for k, v := range m {
		parts = append(parts, fmt.Sprintf("%s=%v", k, v))
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// ownEntry finds the entry of a manager's applies; subresources have their own.
func ownEntry(entries []metav1.ManagedFieldsEntry, manager string) *metav1.ManagedFieldsEntry {
	for i := range entries {
		e := &entries[i]
		if e.Manager == manager && e.Operation == metav1.ManagedFieldsOperationApply && e.Subresource == "" {
			return e
		}
	}
	return nil
}

// entryFields decodes an entry's set; nil for no entry.
func entryFields(e *metav1.ManagedFieldsEntry) (fieldSet, error) {
	if e == nil || e.FieldsV1 == nil {
		return nil, nil
	}
	return parseFields(e.FieldsV1.GetRawBytes())
}
