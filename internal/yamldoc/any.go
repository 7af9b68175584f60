package yamldoc

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Any is a node as a plain value: map[string]any, []any, string, bool, int64,
// float64 or nil. What YAML 1.1 alone takes for a number or a date is text.
func (n *Node) Any() any {
	switch n.Kind {
	case Mapping:
		out := make(map[string]any, len(n.Keys))
		for i, key := range n.Keys {
			out[key.Value] = n.Values[i].Any()
		}
		return out
	case List:
		out := make([]any, len(n.Values))
		for i, v := range n.Values {
			out[i] = v.Any()
		}
		return out
	}
	return n.scalar()
}

func (n *Node) scalar() any {
	switch n.Tag {
	case TagNull:
		return nil
	case TagBool:
		return strings.EqualFold(n.Value, "true")
	case TagInt:
		if v, err := strconv.ParseInt(strings.ReplaceAll(n.Value, "_", ""), 0, 64); err == nil {
			return v
		}
	case TagFloat:
		if v, err := strconv.ParseFloat(strings.ReplaceAll(n.Value, "_", ""), 64); err == nil && !math.IsInf(v, 0) && !math.IsNaN(v) {
			return v
		}
	}
	return n.Value
}

// With is a node at the same place with another value, of the kinds that Any
// gives, except mappings.
func (n *Node) With(value any) *Node {
	out := &Node{File: n.File, Line: n.Line, Column: n.Column}
	switch v := value.(type) {
	case []any:
		out.Kind, out.Tag = List, "!!seq"
		for _, e := range v {
			out.Values = append(out.Values, n.With(e))
		}
	case string:
		out.Tag, out.Value = TagText, v
	case bool:
		out.Tag, out.Value = TagBool, strconv.FormatBool(v)
	case int64:
		out.Tag, out.Value = TagInt, strconv.FormatInt(v, 10)
	case float64:
		out.Tag, out.Value = TagFloat, strconv.FormatFloat(v, 'g', -1, 64)
	case nil:
		out.Tag, out.Value = TagNull, "null"
	default:
		panic(fmt.Sprintf("no node for a %T", value))
	}
	return out
}

// Empty is a mapping or list at the same place with nothing in it.
func (n *Node) Empty() *Node {
	return &Node{Kind: n.Kind, Tag: n.Tag, File: n.File, Line: n.Line, Column: n.Column}
}

// Merge lays a node over another: mappings are merged key by key, everything
// else is replaced, and null removes. Neither is changed, and every value keeps
// its place. A nil base is nothing.
func Merge(base, over *Node) *Node {
	if over.Kind != Mapping {
		return over
	}
	if base == nil || base.Kind != Mapping {
		base = &Node{Kind: Mapping}
	}
	out := over.Empty()
	for i, key := range base.Keys {
		if k, v := over.Entry(key.Value); v == nil {
			out.Set(key, base.Values[i])
		} else if !v.IsNull() {
			out.Set(k, Merge(base.Values[i], v))
		}
	}
	for i, key := range over.Keys {
		if base.Get(key.Value) == nil && !over.Values[i].IsNull() {
			out.Set(key, Merge(nil, over.Values[i]))
		}
	}
	return out
}

// JSON is a node as JSON, with the keys in their order.
func (n *Node) JSON() ([]byte, error) {
	switch n.Kind {
	case Mapping:
		return join('{', '}', len(n.Keys), func(i int) ([]byte, error) {
			key, err := json.Marshal(n.Keys[i].Value)
			if err != nil {
				return nil, err
			}
			value, err := n.Values[i].JSON()
			return append(append(key, ':'), value...), err
		})
	case List:
		return join('[', ']', len(n.Values), func(i int) ([]byte, error) { return n.Values[i].JSON() })
	}
	return json.Marshal(n.scalar())
}

func join(begin, end byte, count int, part func(int) ([]byte, error)) ([]byte, error) {
	out := []byte{begin}
	for i := range count {
		if i > 0 {
			out = append(out, ',')
		}
		text, err := part(i)
		if err != nil {
			return nil, err
		}
		out = append(out, text...)
	}
	return append(out, end), nil
}
