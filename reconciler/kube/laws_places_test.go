package kube

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// place is a value of a live object that an environment's manager owns, by itself or
// with the list or map around it that the server keeps together.
type place struct {
	// pointer is the value's JSON pointer, at that of what is owned, path the latter
	// for people: what a report is to name, whatever of it is changed.
	pointer, at, path string
	value             any
	// key: it names an element of a keyed list.
	key bool
	// list: what is changed is the order of its elements.
	list bool
}

// element: what is there with another value is another element of its list.
func (p place) element() bool {
	return p.key || strings.HasSuffix(p.path, "]") && strings.Contains(p.path[strings.LastIndex(p.path, "["):], "[=")
}

// in finds a place among those of now: where it is in lists may have changed.
func (p place) in(all []place) (place, bool) {
	suffix := strings.TrimPrefix(p.pointer, p.at)
	i := slices.IndexFunc(all, func(o place) bool {
		return o.path == p.path && o.key == p.key && o.list == p.list && strings.TrimPrefix(o.pointer, o.at) == suffix &&
			(p.list || string(asJSON(o.value)) == string(asJSON(p.value)))
	})
	if i < 0 {
		return p, false
	}
	return all[i], true
}

// placesOf are the places in an object that a manager's applies own, as its
// managedFields say, but for our own labels and annotation.
func placesOf(u *unstructured.Unstructured, manager string) []place {
	var out []place
	for _, e := range u.GetManagedFields() {
		var set map[string]any
		if e.Manager == manager && e.Subresource == "" && json.Unmarshal(e.FieldsV1.GetRawBytes(), &set) == nil {
			out = append(out, owned(set, u.Object, place{})...)
		}
	}
	return slices.DeleteFunc(out, func(p place) bool {
		return strings.Contains(p.path, "holdfast.dev/") || strings.Contains(p.path, "applyset.kubernetes.io/")
	})
}

func owned(set map[string]any, value any, at place) (out []place) {
	keys := slices.DeleteFunc(slices.Sorted(maps.Keys(set)), func(k string) bool { return k == "." })
	if list, ok := value.([]any); ok && len(list) > 1 && (len(keys) == 0 || strings.HasPrefix(keys[0], "k:") && len(keys) > 1) {
		out = append(out, place{pointer: at.pointer, at: at.pointer, path: at.path, value: list, list: true})
	}
	if len(keys) == 0 {
		return append(out, leavesOf(value, at)...)
	}
	for _, key := range keys {
		below, inner := at, set[key].(map[string]any)
		kind, arg, _ := strings.Cut(key, ":")
		var found any
		switch kind {
		case "f":
			found = value.(map[string]any)[arg]
			below.pointer, below.path = at.pointer+"/"+escape(arg), at.path+fieldText(arg)
		case "k":
			i, fields := findElement(value, arg)
			if i < 0 {
				continue
			}
			found, below.pointer, below.path = value.([]any)[i], fmt.Sprintf("%s/%d", at.pointer, i), at.path+"["+fields+"]"
			out = append(out, keyPlaces(found, arg, below)...)
			whole := len(inner) == 0
			maps.DeleteFunc(inner, func(k string, _ any) bool {
				return k == "." || strings.Contains(","+fields, ","+strings.TrimPrefix(k, "f:")+"=")
			})
			if !whole && len(inner) == 0 { // nothing but its key
				continue
			}
		case "v":
			i := slices.IndexFunc(value.([]any), func(e any) bool { return string(asJSON(e)) == arg })
			found, below.pointer, below.path = value.([]any)[i], fmt.Sprintf("%s/%d", at.pointer, i), at.path+"[="+arg+"]"
		}
		if found != nil {
			out = append(out, owned(inner, found, below)...)
		}
	}
	return out
}

// keyPlaces are the fields that name an element; with another key it is another one.
func keyPlaces(element any, keyJSON string, at place) (out []place) {
	var fields map[string]any
	if json.Unmarshal([]byte(keyJSON), &fields) != nil {
		return nil
	}
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		out = append(out, place{pointer: at.pointer + "/" + escape(k), at: at.pointer, path: at.path, value: element.(map[string]any)[k], key: true})
	}
	return out
}

// leavesOf are the texts, numbers and truth values in what is owned as a whole.
func leavesOf(value any, at place) (out []place) {
	var walk func(any, string)
	walk = func(value any, pointer string) {
		switch v := value.(type) {
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(v)) {
				walk(v[k], pointer+"/"+escape(k))
			}
		case []any:
			for i, e := range v {
				walk(e, fmt.Sprintf("%s/%d", pointer, i))
			}
		case nil:
		default:
			out = append(out, place{pointer: pointer, at: at.pointer, path: at.path, value: v})
		}
	}
	walk(value, at.pointer)
	return out
}

func findElement(value any, keyJSON string) (index int, text string) {
	var fields map[string]any
	list, ok := value.([]any)
	if !ok || json.Unmarshal([]byte(keyJSON), &fields) != nil {
		return -1, ""
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		parts = append(parts, fmt.Sprintf("%s=%v", k, fields[k]))
	}
	return slices.IndexFunc(list, func(e any) bool {
		m, ok := e.(map[string]any)
		for k, v := range fields {
			ok = ok && fmt.Sprint(m[k]) == fmt.Sprint(v)
		}
		return ok
	}), strings.Join(parts, ",")
}

func asJSON(v any) []byte {
	raw, err := json.Marshal(v) // which cannot fail for what was decoded
	if err != nil {
		return []byte(err.Error())
	}
	return raw
}

func escape(key string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(key) }

func fieldText(name string) string {
	if strings.ContainsAny(name, `./[]" `) {
		return "[" + strconv.Quote(name) + "]"
	}
	return "." + name
}

// valueAt is what an object has at a JSON pointer.
func valueAt(object any, pointer string) (any, bool) {
	for _, part := range strings.Split(pointer, "/")[1:] {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		switch v := object.(type) {
		case map[string]any:
			next, ok := v[part]
			if !ok {
				return nil, false
			}
			object = next
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i >= len(v) {
				return nil, false
			}
			object = v[i]
		default:
			return nil, false
		}
	}
	return object, true
}

// swaps are other values of fields that take only some.
var swaps = map[string][]any{
	"TCP": {"UDP"}, "Always": {"IfNotPresent"}, "ClusterIP": {"NodePort"}, "Ingress": {"Egress"}, "Prefix": {"Exact"},
	"RollingUpdate": {"OnDelete"}, "Forbid": {"Replace"}, "get": {"list"}, "Retain": {"Delete"}, "Equivalent": {"Exact"},
	"Deny": {"Warn"}, "File": {"None"}, "None": {"ClientIP", "NoneOnDryRun"}, "NoneOnDryRun": {"None"}, "IfNeeded": {"Never"},
	"Never": {"IfNeeded", "OnFailure"}, "NoSchedule": {"PreferNoSchedule"}, "Exists": {"DoesNotExist"}, "ByUser": {"ByNamespace"},
	"CREATE": {"DELETE"}, "Namespaced": {"Cluster"}, "Normal": {"Warning"}, "Queue": {"Reject"}, "DoNotSchedule": {"ScheduleAnyway"},
	"In": {"NotIn"}, "FailJob": {"Ignore"}, "JSONPatch": {"ApplyConfiguration"}, "Utilization": {"AverageValue"}, "ALL": {"NET_RAW"},
	"ReadWriteOnce": {"ReadWriteMany"}, "ExactCount": {"All"}, "true": {"1 == 1"},
}

// others are values that a field may be changed to, the likeliest first.
func others(v any) []any {
	switch t := v.(type) {
	case bool:
		return []any{!t}
	case int64:
		return []any{t + 1, t + 10, t - 1}
	case float64:
		return []any{t + 0.5}
	case string:
		if o := swaps[t]; o != nil {
			return o
		}
		return []any{
			t + "x", t + "9", "9" + t, "2", "*/7 * * * *", base64.StdEncoding.EncodeToString([]byte("another")), "10.9.9.9",
			"2026-01-02T03:04:06.000000Z", t + ".x", t + " && true", "[JSONPatch{op: 'add', path: '/a', value: 'c'}]",
		}
	case []any: // another order
		reversed := slices.Clone(t)
		slices.Reverse(reversed)
		return []any{reversed}
	}
	return nil
}
