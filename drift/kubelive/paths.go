package kubelive

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// segment is one step of a path into an object: a key of a map, or an element of
// a list, which has keys if it was named by them.
type segment struct {
	key   string
	index int
	keys  []string
	list  bool
}

// resolve follows a path as people and servers write it, such as
// `.spec.containers[name="web"].image`, through an object. A key that holds dots
// is found by trying what the object has.
func resolve(value any, path string) ([]segment, bool) {
	if path == "" {
		return nil, true
	}
	var s segment
	var rest string
	var next any
	switch v := value.(type) {
	case map[string]any:
		key, left, ok := cutKey(v, path)
		if !ok {
			return nil, false
		}
		s, rest, next = segment{key: key}, left, v[key]
	case []any:
		index, keys, left, ok := cutElement(v, path)
		if !ok {
			return nil, false
		}
		s, rest, next = segment{index: index, keys: keys, list: true}, left, v[index]
	default:
		return nil, false
	}
	more, ok := resolve(next, rest)
	return append([]segment{s}, more...), ok
}

// cutKey takes the longest key of a map that a path goes on with.
func cutKey(m map[string]any, path string) (key, rest string, ok bool) {
	if strings.HasPrefix(path, `["`) {
		quoted, err := strconv.QuotedPrefix(path[1:])
		if err != nil || !strings.HasPrefix(path[1+len(quoted):], "]") {
			return "", "", false
		}
		key, err = strconv.Unquote(quoted)
		_, ok = m[key]
		return key, path[len(quoted)+2:], ok && err == nil
	}
	if !strings.HasPrefix(path, ".") {
		return "", "", false
	}
	for k := range m {
		left, has := strings.CutPrefix(path[1:], k)
		if has && (left == "" || left[0] == '.' || left[0] == '[') && (!ok || len(k) > len(key)) {
			key, rest, ok = k, left, true
		}
	}
	return key, rest, ok
}

// cutElement finds the element of a list that a path goes on with: [3], [="v"]
// or [name="web",port=80], quotes being optional.
func cutElement(list []any, path string) (index int, keys []string, rest string, ok bool) {
	end := strings.Index(path, "]")
	if !strings.HasPrefix(path, "[") || end < 0 {
		return 0, nil, "", false
	}
	inner, rest := path[1:end], path[end+1:]
	if n, err := strconv.Atoi(inner); err == nil {
		return n, nil, rest, n >= 0 && n < len(list)
	}
	if value, isValue := strings.CutPrefix(inner, "="); isValue {
		index = slices.IndexFunc(list, func(e any) bool { return fmt.Sprint(e) == unquote(value) })
		return index, nil, rest, index >= 0
	}
	want := map[string]string{}
	for _, pair := range strings.Split(inner, ",") {
		k, v, _ := strings.Cut(pair, "=")
		want[k] = unquote(v)
		keys = append(keys, k)
	}
	index = slices.IndexFunc(list, func(e any) bool {
		m, isMap := e.(map[string]any)
		for k, v := range want {
			if !isMap || fmt.Sprint(m[k]) != v {
				return false
			}
		}
		return true
	})
	return index, keys, rest, index >= 0
}

func unquote(s string) string {
	if plain, err := strconv.Unquote(s); err == nil {
		return plain
	}
	return s
}

// Has reports whether an object has a value at a path.
func Has(object map[string]any, path string) bool {
	_, ok := resolve(object, path)
	return ok
}

// Without removes what is at a path from an object, in place.
func Without(object map[string]any, path string) {
	segments, ok := resolve(object, path)
	if !ok || len(segments) == 0 || segments[len(segments)-1].list {
		return
	}
	var at any = object
	for _, s := range segments[:len(segments)-1] {
		at = s.of(at)
	}
	delete(at.(map[string]any), segments[len(segments)-1].key)
}

func (s segment) of(value any) any {
	if s.list {
		return value.([]any)[s.index]
	}
	return value.(map[string]any)[s.key]
}

// Take copies what is at a path in from into object, with no more around it than
// it takes to say where it belongs. What from does not have is removed.
func Take(object, from map[string]any, path string) {
	segments, ok := resolve(from, path)
	if !ok {
		Without(object, path)
		return
	}
	if len(segments) > 0 {
		take(object, from, segments)
	}
}

func take(to, from map[string]any, segments []segment) {
	key := segments[0].key
	value := from[key]
	// A list whose elements have no keys belongs together.
	if len(segments) == 1 || segments[1].list && len(segments[1].keys) == 0 {
		to[key] = runtime.DeepCopyJSONValue(value)
		return
	}
	if !segments[1].list {
		next, ok := to[key].(map[string]any)
		if !ok {
			next = map[string]any{}
			to[key] = next
		}
		take(next, value.(map[string]any), segments[1:])
		return
	}
	element := segments[1].of(value).(map[string]any)
	list, _ := to[key].([]any)
	next := elementLike(list, element, segments[1].keys)
	if next == nil {
		next = map[string]any{}
		for _, k := range segments[1].keys {
			next[k] = element[k]
		}
		to[key] = append(list, next)
	}
	if len(segments) > 2 {
		take(next, element, segments[2:])
		return
	}
	for k, v := range element {
		next[k] = runtime.DeepCopyJSONValue(v)
	}
}

func elementLike(list []any, element map[string]any, keys []string) map[string]any {
	for _, e := range list {
		m, ok := e.(map[string]any)
		if ok && !slices.ContainsFunc(keys, func(k string) bool { return fmt.Sprint(m[k]) != fmt.Sprint(element[k]) }) {
			return m
		}
	}
	return nil
}

// Owns reports whether a manager's applies own what is at a path of a live
// object, by itself or with what it is part of.
func Owns(live metav1.Object, object map[string]any, manager, path string) bool {
	set, err := entryFields(ownEntry(live.GetManagedFields(), manager))
	segments, ok := resolve(object, path)
	if err != nil || set == nil || !ok {
		return false
	}
	var at any = object
	for _, s := range segments {
		if len(set.children()) == 0 {
			return true
		}
		next, ok := set.step(s, at)
		if !ok {
			return false
		}
		set, at = next, s.of(at)
	}
	return true
}

// step follows a segment through a set.
func (s fieldSet) step(seg segment, value any) (fieldSet, bool) {
	if !seg.list {
		next, ok := s["f:"+seg.key]
		return next, ok
	}
	for _, key := range s.children() {
		kind, arg, _ := strings.Cut(key, ":")
		switch kind {
		case "k":
			if at, _ := findKeyed(value, arg); at == seg.index {
				return s[key], true
			}
		case "i":
			if arg == strconv.Itoa(seg.index) {
				return s[key], true
			}
		case "v":
			if equalValue(findScalar(value, arg), seg.of(value)) {
				return s[key], true
			}
		}
	}
	return nil, false
}

// HasEntry reports whether a manager has applied anything to an object.
func HasEntry(m metav1.Object, manager string) bool {
	return ownEntry(m.GetManagedFields(), manager) != nil
}
