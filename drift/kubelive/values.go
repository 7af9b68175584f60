package kubelive

import (
	"fmt"
	"maps"

	"k8s.io/apimachinery/pkg/api/resource"
)

// withoutOthers is a value that is ours as a whole, without what others own in it. A
// map that git gives empty, such as `resources: {}`, is ours as a whole, and yet what
// others put into it is theirs. What the server keeps together, such as a selector,
// nobody owns a part of.
func withoutOthers(value any, path []string, others []managerFields) any {
	m, ok := value.(map[string]any)
	if !ok {
		return value
	}
	for _, other := range others {
		if set := other.set.at(path); len(set.children()) > 0 {
			m = withoutFields(m, set)
		}
	}
	return m
}

// at is the part of a set at a path; nil where the set does not go there.
func (s fieldSet) at(path []string) fieldSet {
	for _, key := range path {
		s = s[key]
	}
	return s
}

// withoutFields is a copy of a map without what a set has of it, and without the maps
// that are empty then.
func withoutFields(m map[string]any, set fieldSet) map[string]any {
	out := maps.Clone(m)
	for _, key := range set.children() {
		if len(key) < 2 || key[:2] != "f:" {
			continue
		}
		name := key[2:]
		inner, isMap := out[name].(map[string]any)
		if isMap && hasFields(set[key]) {
			if inner = withoutFields(inner, set[key]); len(inner) > 0 {
				out[name] = inner
				continue
			}
		}
		delete(out, name)
	}
	return out
}

// holdsWritten reports whether a live value is what somebody wrote, or what a server
// makes of that.
func holdsWritten(live, written any) bool {
	switch w := written.(type) {
	case map[string]any:
		l, ok := live.(map[string]any)
		for k, v := range w {
			if !ok || v != nil && !holdsWritten(l[k], v) {
				return false
			}
		}
		return ok
	case []any:
		l, ok := live.([]any)
		if !ok || len(l) != len(w) {
			return false
		}
		for i := range w {
			if !holdsWritten(l[i], w[i]) {
				return false
			}
		}
		return true
	}
	return equalValue(live, written) || sameQuantity(live, written)
}

func sameQuantity(a, b any) bool {
	x, err1 := quantityOf(a)
	y, err2 := quantityOf(b)
	return err1 == nil && err2 == nil && x.Cmp(y) == 0
}

func quantityOf(v any) (resource.Quantity, error) {
	switch v.(type) {
	case string, int64, float64:
		return resource.ParseQuantity(fmt.Sprint(v))
	}
	return resource.Quantity{}, resource.ErrFormatWrong
}
