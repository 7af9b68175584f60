// Package schema makes JSON Schemas of Go types: of their fields, tags and
// comments, as internal/yamldoc reads them. The schemas are checked in; tests hold
// that they are current.
package schema

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
)

// Dialect is the version of JSON Schema that is written.
const Dialect = "https://json-schema.org/draft/2020-12/schema"

// Object is a part of a schema.
type Object = map[string]any

// Maker turns types into definitions.
type Maker struct {
	// Comments describe types and fields.
	Comments Comments
	// Checks are what a field's tag `check` adds.
	Checks map[string]Object
	// References allows a reference to a parameter for every scalar, outside the
	// fields of types in Literal.
	References bool
	Literal    []reflect.Type
	// Nulls allows null for what need not be there.
	Nulls bool
	// Defs are the definitions made, by the name of the type.
	Defs Object
}

// duration is what a duration looks like.
var duration = Object{"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`, "examples": []any{"30s", "5m", "1h30m"}}

// Struct is the schema of a struct, whose values are the defaults. Strict asks
// for the fields that are needed; where parts of an object may come from
// elsewhere, they are not asked for.
func (m *Maker) Struct(v reflect.Value, strict bool) Object {
	t := v.Type()
	properties, required := Object{}, []any{}
	for _, f := range yamldoc.Fields(t) {
		p := m.field(v.FieldByIndex(f.Index), f, slices.Contains(m.Literal, t))
		if text := m.Comments.field(t, f); text != "" {
			p["description"] = text
		}
		need := f.Tag.Get("need") == "true" && strict
		if need {
			required = append(required, f.Key)
		}
		if m.Nulls && !need {
			p = nullable(p)
		}
		properties[f.Key] = p
	}
	out := Object{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

func (m *Maker) field(v reflect.Value, f yamldoc.StructField, literal bool) Object {
	key := f.Key
	literal = literal || slices.Contains([]string{"extends", "parameters", "with", "preview"}, key)
	p := m.value(v, f.Tag, literal)
	if d := plain(v); d != nil {
		p["default"] = d
	}
	return p
}

// plain is a default worth telling.
func plain(v reflect.Value) any {
	if v.IsZero() {
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		return v.String()
	case reflect.Bool:
		return v.Bool()
	case reflect.Int, reflect.Int64:
		if v.Type() == reflect.TypeFor[time.Duration]() {
			return v.Interface().(time.Duration).String()
		}
		return v.Int()
	}
	return nil
}

func (m *Maker) value(v reflect.Value, tag reflect.StructTag, literal bool) Object {
	t := v.Type()
	switch t.Kind() {
	case reflect.Pointer:
		return m.value(filled(t.Elem()), tag, literal)
	case reflect.Struct:
		return m.reference(v, false, literal)
	case reflect.Slice:
		element := filled(t.Elem())
		if element.Kind() == reflect.Struct {
			return Object{"type": "array", "items": m.reference(element, true, literal)}
		}
		return m.orReference(Object{"type": "array", "items": m.value(element, tag, literal)}, literal)
	case reflect.Map:
		return m.mapping(t, tag, literal)
	case reflect.Interface:
		return Object{}
	}
	return m.orReference(m.scalar(t, tag), literal)
}

func (m *Maker) mapping(t reflect.Type, tag reflect.StructTag, literal bool) Object {
	element := filled(t.Elem())
	out := Object{"type": "object"}
	switch element.Kind() {
	case reflect.Interface:
	case reflect.Struct:
		out["additionalProperties"] = m.reference(element, true, literal)
	default:
		entry := m.scalar(element.Type(), "")
		for key, keyword := range m.Checks[tag.Get("check")] {
			entry[key] = keyword
		}
		entry = m.orReference(entry, literal)
		if m.Nulls {
			entry = nullable(entry)
		}
		out["additionalProperties"] = entry
	}
	return out
}

func (m *Maker) scalar(t reflect.Type, tag reflect.StructTag) Object {
	if t == reflect.TypeFor[time.Duration]() {
		return maps.Clone(duration)
	}
	out := Object{}
	switch t.Kind() {
	case reflect.Bool:
		out["type"] = "boolean"
	case reflect.Int, reflect.Int64:
		out["type"] = "integer"
		for tagName, keyword := range map[string]string{"min": "minimum", "max": "maximum"} {
			if n, err := strconv.ParseInt(tag.Get(tagName), 10, 64); err == nil {
				out[keyword] = n
			}
		}
	default:
		out["type"] = "string"
		if w, ok := reflect.Zero(t).Interface().(yamldoc.Words); ok {
			words := []any{}
			for _, word := range w.Words() {
				words = append(words, word)
			}
			out["enum"] = words
			break
		}
		if check := m.Checks[tag.Get("check")]; check != nil {
			maps.Copy(out, check)
		} else if tag.Get("json") != "" {
			out["minLength"] = 1
		}
	}
	return out
}

// reference defines a struct once and refers to it. Entries of lists are never
// merged, so that they are strict.
func (m *Maker) reference(v reflect.Value, strict, literal bool) Object {
	name := v.Type().Name()
	if _, done := m.Defs[name]; !done {
		m.Defs[name] = Object{} // ends a circle
		if literal && !slices.Contains(m.Literal, v.Type()) {
			m.Literal = append(m.Literal, v.Type())
		}
		def := m.Struct(v, strict)
		if text := m.Comments.typ(v.Type()); text != "" {
			def["description"] = text
		}
		m.Defs[name] = def
	}
	return Object{"$ref": "#/$defs/" + name}
}

// filled is a zero value with what Defaults sets.
func filled(t reflect.Type) reflect.Value {
	v := reflect.New(t)
	if x, ok := v.Interface().(yamldoc.Defaults); ok {
		x.Defaults()
	}
	return v.Elem()
}

// orReference allows a reference to a parameter instead.
func (m *Maker) orReference(o Object, literal bool) Object {
	free := o["type"] == "string" && o["pattern"] == nil && o["enum"] == nil
	if !m.References || literal || free {
		return o
	}
	m.Defs["reference"] = Object{"type": "string", "pattern": `\$\{`, "description": "A text with ${name} in it, which stands for a parameter's value."}
	return Object{"anyOf": []any{o, Object{"$ref": "#/$defs/reference"}}}
}

func nullable(o Object) Object {
	description, value := o["description"], o["default"]
	delete(o, "description")
	delete(o, "default")
	out := Object{"anyOf": []any{o, Object{"type": "null"}}}
	if any, ok := o["anyOf"].([]any); ok && len(o) == 1 {
		out["anyOf"] = append(slices.Clone(any), Object{"type": "null"})
	}
	if description != nil {
		out["description"] = description
	}
	if value != nil {
		out["default"] = value
	}
	return out
}

// Text is a schema as it is checked in.
func Text(o Object) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(o); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
