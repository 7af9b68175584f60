package drift

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Diff lists the fields in which two encoded things differ, as changes whose
// Live is the value in before and whose Desired is that in after. Entries of a
// list are matched by their name where all have one, else the list is compared
// as a whole. At most limit changes are returned; more says that there are more.
func Diff(before, after []byte, sensitive bool, limit int) (changes []Change, more bool) {
	a, errA := decode(before)
	b, errB := decode(after)
	if errA != nil || errB != nil {
		return nil, false
	}
	d := differ{sensitive: sensitive, limit: limit}
	d.values("", a, b)
	return d.out, d.more
}

func decode(body []byte) (any, error) {
	if len(body) == 0 {
		return map[string]any{}, nil
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v any
	err := dec.Decode(&v)
	return v, err
}

type differ struct {
	sensitive bool
	limit     int
	out       []Change
	more      bool
}

func (d *differ) values(path string, a, b any) {
	if am, ok := a.(map[string]any); ok {
		if bm, ok := b.(map[string]any); ok {
			d.maps(path, am, bm, func(key string) string { return path + fieldStep(key) })
			return
		}
	}
	al, aok := a.([]any)
	bl, bok := b.([]any)
	if am, ok := byName(al); ok && aok && bok {
		if bm, ok := byName(bl); ok {
			d.maps(path, am, bm, func(key string) string { return path + "[name=" + key + "]" })
			return
		}
	}
	if !reflect.DeepEqual(a, b) {
		d.add(Change{Path: path, Live: NewValue(a, d.sensitive), Desired: NewValue(b, d.sensitive)})
	}
}

func (d *differ) maps(path string, a, b map[string]any, step func(string) string) {
	keys := slices.Collect(maps.Keys(a))
	for key := range b {
		if _, both := a[key]; !both {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		av, inA := a[key]
		bv, inB := b[key]
		switch {
		case inA && inB:
			d.values(step(key), av, bv)
		case inA:
			d.add(Change{Path: step(key), Live: NewValue(av, d.sensitive), Desired: Absent()})
		default:
			d.add(Change{Path: step(key), Live: Absent(), Desired: NewValue(bv, d.sensitive)})
		}
	}
}

func (d *differ) add(c Change) {
	if len(d.out) >= d.limit {
		d.more = true
		return
	}
	d.out = append(d.out, c)
}

// byName is a list's entries by their name; not ok if any has none, or two have
// the same.
func byName(list []any) (map[string]any, bool) {
	out := make(map[string]any, len(list))
	for _, e := range list {
		m, _ := e.(map[string]any)
		name, _ := m["name"].(string)
		if name == "" {
			return nil, false
		}
		if _, twice := out[name]; twice {
			return nil, false
		}
		out[name] = e
	}
	return out, true
}

// fieldStep is one step of a path: ".key", or `["a.key"]` where it would be
// ambiguous.
func fieldStep(key string) string {
	if key == "" || strings.ContainsAny(key, `./[]"=`) {
		return fmt.Sprintf("[%s]", strconv.Quote(key))
	}
	return "." + key
}
