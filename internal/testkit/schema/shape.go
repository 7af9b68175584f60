package schema

import (
	"maps"
	"reflect"
	"strings"

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
)

// Shape is the schema of what a decoder's code reads. The type, with the defaults
// in its value, is where that goes; it gives the descriptions, and may be invalid
// where the file has keys of its own.
func (m *Maker) Shape(s *yamldoc.Shape, into reflect.Value) Object {
	if into.IsValid() && into.Kind() == reflect.Pointer {
		into = reflect.Zero(into.Type().Elem())
	}
	out := Object{}
	switch s.Type {
	case "object":
		properties := Object{}
		for _, key := range s.Keys {
			properties[key] = m.property(s.Fields[key], key, into)
		}
		out["properties"], out["additionalProperties"] = properties, false
	case "array":
		var element reflect.Value
		if into.IsValid() && into.Kind() == reflect.Slice {
			element = reflect.Zero(into.Type().Elem())
		}
		out["items"] = m.Shape(s.Items, element)
	case "integer":
		out["minimum"], out["maximum"] = s.Least, s.Most
	case "string":
		if s.Duration {
			out = maps.Clone(duration)
		} else if s.Words != nil {
			words := []any{}
			for _, w := range s.Words {
				words = append(words, w)
			}
			out["enum"] = words
		}
	}
	if s.Type != "" {
		out["type"] = s.Type
	}
	if s.Number {
		out["type"] = []any{"string", "integer"}
	}
	return out
}

func (m *Maker) property(s *yamldoc.Shape, key string, into reflect.Value) Object {
	var value reflect.Value
	text := ""
	if into.IsValid() && into.Kind() == reflect.Struct {
		for _, f := range yamldoc.Fields(into.Type()) {
			if f.Key == key {
				value, text = into.FieldByIndex(f.Index), m.Comments.field(into.Type(), f)
			}
		}
	}
	out := m.Shape(s, value)
	if text = strings.TrimSpace(text); text != "" {
		out["description"] = text
	}
	if value.IsValid() {
		if d := plain(value); d != nil && key != "dataDir" {
			out["default"] = d
		}
	}
	if m.Nulls {
		if t, ok := out["type"].(string); ok && out["enum"] == nil {
			out["type"] = []any{t, "null"}
		}
	}
	return out
}
