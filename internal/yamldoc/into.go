package yamldoc

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Words is a text type of which a file may hold only some values.
type Words interface{ Words() []string }

// Defaults is a struct that has defaults where a file names it.
type Defaults interface{ Defaults() }

// Check looks at one text that was read. What is its name for people.
type Check func(d *Decoder, n *Node, what, text string)

// Checks are the checks by the name in a field's tag `check`.
type Checks struct {
	// Text checks texts, of a list each entry.
	Text map[string]Check
	// Map checks whole mappings.
	Map map[string]func(d *Decoder, n *Node, what string)
}

// Into reads a mapping into the struct that into points to, by its fields' tags:
//
//	json   the key; without one, or with file:"-", no key of a file
//	need   "true": the key must be there
//	check  the name of a check
//	min    the least, and max the greatest, number or duration
//
// What the struct holds before is the default. A null is a problem: who wants the
// default leaves the key out. A value with TagUnknown is passed over.
func (d *Decoder) Into(n *Node, what string, into any, checks Checks) {
	r := &reader{d: d, checks: checks}
	r.structure(n, what, reflect.ValueOf(into).Elem())
}

// StructField is a key that a struct takes from a file.
type StructField struct {
	Key   string
	Index []int
	reflect.StructField
}

// Fields are the keys that a struct takes from a file, in its order, with those
// of embedded structs in their place.
func Fields(t reflect.Type) []StructField {
	var out []StructField
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Tag.Get("file") == "-" {
			continue
		}
		if f.Anonymous && f.Tag.Get("json") == "" {
			for _, inner := range Fields(f.Type) {
				inner.Index = append([]int{i}, inner.Index...)
				out = append(out, inner)
			}
			continue
		}
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if key != "" && key != "-" && f.IsExported() {
			out = append(out, StructField{Key: key, Index: []int{i}, StructField: f})
		}
	}
	return out
}

type reader struct {
	d      *Decoder
	checks Checks
}

func (r *reader) structure(n *Node, what string, into reflect.Value) {
	if n.Kind != Mapping {
		r.d.Fail(n, what+" must be a mapping, and is "+n.TypeName(), "")
		return
	}
	fields := Fields(into.Type())
	for i, key := range n.Keys {
		j := slices.IndexFunc(fields, func(f StructField) bool { return f.Key == key.Value })
		if j < 0 {
			known := make([]string, len(fields))
			for i, f := range fields {
				known[i] = f.Key
			}
			r.d.Unknown(key, what, known)
			continue
		}
		field := into.FieldByIndex(fields[j].Index)
		r.d.remember(field.Addr().Interface(), n.Values[i])
		r.value(n.Values[i], what+"."+key.Value, field, fields[j].Tag)
	}
	for _, f := range fields {
		if f.Tag.Get("need") == "true" && n.Get(f.Key) == nil {
			r.d.Fail(n, what+" has no "+f.Key, "")
		}
	}
}

var durationType = reflect.TypeFor[time.Duration]()

func (r *reader) value(n *Node, what string, into reflect.Value, tag reflect.StructTag) {
	if n.Tag == TagUnknown {
		return
	}
	switch into.Kind() {
	case reflect.Pointer:
		fresh := reflect.New(into.Type().Elem())
		if x, ok := fresh.Interface().(Defaults); ok {
			x.Defaults()
		}
		r.value(n, what, fresh.Elem(), tag)
		into.Set(fresh)
	case reflect.Struct:
		r.structure(n, what, into)
	case reflect.Slice:
		r.list(n, what, into, tag)
	case reflect.Map:
		r.mapping(n, what, into, tag)
	case reflect.Interface:
		if n.IsNull() {
			r.d.Fail(n, what+" is empty", "")
			return
		}
		into.Set(reflect.ValueOf(n.Any()))
	case reflect.String:
		r.text(n, what, into, tag)
	case reflect.Bool:
		v := into.Bool()
		r.d.Bool(n, what, &v)
		into.SetBool(v)
	case reflect.Int, reflect.Int64:
		r.number(n, what, into, tag)
	default:
		panic("yamldoc: no way to read a " + into.Type().String())
	}
}

func (r *reader) text(n *Node, what string, into reflect.Value, tag reflect.StructTag) {
	var s string
	if w, ok := into.Interface().(Words); ok {
		if r.d.Word(n, what, &s, w.Words()...) {
			into.SetString(s)
		}
		return
	}
	if !r.d.Text(n, what, &s) {
		return
	}
	into.SetString(s)
	if name := tag.Get("check"); name != "" {
		r.checks.Text[name](r.d, n, what, s)
	}
}

func (r *reader) number(n *Node, what string, into reflect.Value, tag reflect.StructTag) {
	if into.Type() == durationType {
		v := time.Duration(into.Int())
		least, most := bound(tag, "min"), bound(tag, "max")
		r.d.Duration(n, what, least, most, &v)
		into.SetInt(int64(v))
		return
	}
	least, most := int64(math.MinInt64), int64(math.MaxInt64)
	if s := tag.Get("min"); s != "" {
		least, _ = strconv.ParseInt(s, 10, 64)
	}
	if s := tag.Get("max"); s != "" {
		most, _ = strconv.ParseInt(s, 10, 64)
	}
	v := into.Int()
	r.d.Number(n, what, least, most, &v)
	into.SetInt(v)
}

func bound(tag reflect.StructTag, name string) time.Duration {
	d, err := time.ParseDuration(tag.Get(name))
	if err != nil && tag.Get(name) != "" {
		panic("yamldoc: " + err.Error())
	}
	return d
}

func (r *reader) list(n *Node, what string, into reflect.Value, tag reflect.StructTag) {
	if n.Kind != List {
		hint := ""
		if into.Type().Elem().Kind() == reflect.String {
			hint = "write it as a list: [" + example(n) + "]"
		}
		r.d.Fail(n, what+" must be a list, and is "+n.TypeName(), hint)
		return
	}
	out := reflect.MakeSlice(into.Type(), len(n.Values), len(n.Values))
	for i, e := range n.Values {
		if x, ok := out.Index(i).Addr().Interface().(Defaults); ok {
			x.Defaults()
		}
		r.value(e, fmt.Sprintf("%s[%d]", what, i), out.Index(i), tag)
	}
	into.Set(out)
}

func example(n *Node) string {
	if n.Kind == Scalar && n.Value != "" {
		return n.Value
	}
	return "…"
}

func (r *reader) mapping(n *Node, what string, into reflect.Value, tag reflect.StructTag) {
	if n.Kind != Mapping {
		r.d.Fail(n, what+" must be a mapping, and is "+n.TypeName(), "")
		return
	}
	check := r.checks.Map[tag.Get("check")]
	out := reflect.MakeMapWithSize(into.Type(), len(n.Keys))
	for i, key := range n.Keys {
		value := reflect.New(into.Type().Elem()).Elem()
		if x, ok := value.Addr().Interface().(Defaults); ok {
			x.Defaults()
		}
		switch {
		case value.Kind() == reflect.Interface && n.Values[i].IsNull():
			// A null in a free mapping is a value.
		case value.Kind() == reflect.String && n.Values[i].Kind == Scalar && n.Values[i].Tag == TagText && n.Values[i].Value == "":
			// The empty text is a value of a label, too.
		default:
			r.value(n.Values[i], what+"["+key.Value+"]", value, "")
		}
		out.SetMapIndex(reflect.ValueOf(key.Value), value)
	}
	into.Set(out)
	if check != nil {
		check(r.d, n, what)
	}
}
