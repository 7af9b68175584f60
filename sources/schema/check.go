package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

// maxSteps bounds the work for one object: a schema comes from a repository, and
// alternatives of alternatives multiply. maxFaults bounds what is told of one.
const (
	maxSteps  = 500_000
	maxFaults = 50
)

// checker checks one object.
type checker struct {
	kubernetes map[string]*node
	left       int
	// lenient is inside of alternatives, which say nothing about which fields
	// there are.
	lenient bool
	faults  []Fault
}

func (c *checker) fail(path []string, message, hint string) {
	if len(c.faults) < maxFaults {
		c.faults = append(c.faults, Fault{slices.Clone(path), message, hint})
	}
}

// custom checks an object of a custom kind, whose schema says nothing of
// metadata.
func (c *checker) custom(n *node, object map[string]any) {
	spec := maps.Clone(object)
	for _, key := range []string{"apiVersion", "kind", "metadata", "status"} {
		delete(spec, key)
	}
	root := *n
	root.Required = slices.DeleteFunc(slices.Clone(n.Required), func(f string) bool {
		return f == "apiVersion" || f == "kind" || f == "metadata" || f == "status"
	})
	if root.Type == "" {
		root.Type = "object"
	}
	c.value(&root, spec, nil)
	c.value(c.kubernetes[objectMeta], object["metadata"], []string{"metadata"})
}

// value checks a value against a schema.
func (c *checker) value(n *node, value any, path []string) {
	if c.left--; c.left < 0 || n == nil || value == nil {
		// A null is a field that is not there, for all that can be told here.
		return
	}
	if n.Ref != "" {
		c.value(c.kubernetes[n.Ref[strings.LastIndexByte(n.Ref, '/')+1:]], value, path)
		return
	}
	if !c.typed(n, value, path) {
		return
	}
	switch v := value.(type) {
	case map[string]any:
		c.object(n, v, path)
	case []any:
		c.list(n, v, path)
	case string:
		c.text(n, v, path)
	case json.Number:
		c.number(n, v, path)
	}
	if len(n.Enum) > 0 && !slices.ContainsFunc(n.Enum, func(e any) bool { return sameValue(e, value) }) {
		c.fail(path, "must be one of "+words(n.Enum), "")
	}
	c.combined(n, value, path)
}

// combined checks what other schemas say of the same value.
func (c *checker) combined(n *node, value any, path []string) {
	for _, sub := range n.AllOf {
		if sub.Ref != "" {
			c.value(sub, value, path)
			continue
		}
		// Without a reference it is a further condition, not the structure.
		was := c.lenient
		c.lenient = true
		c.value(sub, value, path)
		c.lenient = was
	}
	if n.intOrString() {
		return
	}
	if len(n.AnyOf) > 0 && c.matching(n.AnyOf, value) == 0 {
		c.fail(path, "fits none of the alternatives that its schema allows", "")
	}
	if len(n.OneOf) > 0 && c.matching(n.OneOf, value) != 1 {
		c.fail(path, "must fit exactly one of the alternatives that its schema allows", "")
	}
	if n.Not != nil && c.matching([]*node{n.Not}, value) == 1 {
		c.fail(path, "is what its schema rules out", "")
	}
}

// matching counts the alternatives that a value fits.
func (c *checker) matching(all []*node, value any) (count int) {
	for _, n := range all {
		try := &checker{kubernetes: c.kubernetes, left: c.left, lenient: true}
		try.value(n, value, nil)
		c.left = try.left
		if len(try.faults) == 0 {
			count++
		}
	}
	return count
}

func (n *node) intOrString() bool { return n.IntOrString || n.Format == "int-or-string" }

// typed checks the type.
func (c *checker) typed(n *node, value any, path []string) bool {
	is, ok := typeOf(value), true
	want := n.Type
	switch {
	case n.intOrString():
		ok = is == "integer" || is == "string"
		want = "number or string"
	case n.Type == "number":
		ok = is == "number" || is == "integer"
	case n.Type != "":
		ok = is == n.Type
	}
	if !ok {
		hint := ""
		if n.Type == "string" && (is == "integer" || is == "number" || is == "boolean") {
			hint = "put it in quotes"
		}
		if (n.Type == "integer" || n.Type == "boolean") && is == "string" {
			hint = "take off the quotes"
		}
		c.fail(path, "must be "+named(want)+", and is "+named(is), hint)
	}
	return ok
}

func named(kind string) string {
	switch kind {
	case "object":
		return "a mapping"
	case "array":
		return "a list"
	case "string":
		return "text"
	case "integer":
		return "a whole number"
	case "number":
		return "a number"
	case "boolean":
		return "a boolean"
	}
	return "a whole number or text"
}

func typeOf(value any) string {
	switch v := value.(type) {
	case map[string]any:
		return "object"
	case []any:
		return "array"
	case string:
		return "string"
	case bool:
		return "boolean"
	case json.Number:
		if f, err := v.Float64(); err == nil && f == math.Trunc(f) {
			return "integer"
		}
	}
	return "number"
}

func (c *checker) object(n *node, object map[string]any, path []string) {
	for _, key := range n.Required {
		if _, there := object[key]; !there && n.defaulted(key) {
			continue
		} else if !there {
			c.fail(path, fmt.Sprintf("the required field %s is missing", key), "")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		at := append(path[:len(path):len(path)], key)
		switch sub := n.Properties[key]; {
		case sub != nil:
			c.value(sub, object[key], at)
		case n.Additional != nil && n.Additional.allowed:
			c.value(n.Additional.node, object[key], at)
		case n.Embedded && (key == "apiVersion" || key == "kind" || key == "metadata"):
		case n.closed() && !c.lenient:
			hint := ""
			if best := manifest.Closest(key, slices.Sorted(maps.Keys(n.Properties))); best != "" {
				hint = "did you mean " + best + "?"
			}
			c.fail(at, "there is no such field", hint)
		}
	}
	c.count(len(object), n.MinProperties, n.MaxProperties, "entries", path)
}

// closed says whether a schema names all the fields that there may be.
func (n *node) closed() bool { return len(n.Properties) > 0 && !n.Preserve }

// defaulted says whether a server fills in a field.
func (n *node) defaulted(key string) bool {
	sub := n.Properties[key]
	return sub != nil && len(sub.Default) > 0
}

func (c *checker) list(n *node, list []any, path []string) {
	for i, e := range list {
		c.value(n.Items, e, append(path[:len(path):len(path)], strconv.Itoa(i)))
	}
	c.count(len(list), n.MinItems, n.MaxItems, "entries", path)
}

func (c *checker) text(n *node, s string, path []string) {
	c.count(utf8.RuneCountInString(s), n.MinLength, n.MaxLength, "characters", path)
	if n.Pattern == "" {
		return
	}
	// A pattern that is no Go expression is a server's to judge.
	if re, err := regexp.Compile(n.Pattern); err == nil && !re.MatchString(s) {
		c.fail(path, "does not match "+bounded(n.Pattern), "")
	}
}

func (c *checker) number(n *node, v json.Number, path []string) {
	f, err := v.Float64()
	if err != nil {
		return
	}
	if n.Minimum != nil && (f < *n.Minimum || n.ExclusiveMinimum && f == *n.Minimum) {
		c.fail(path, fmt.Sprintf("must not be less than %v", *n.Minimum), "")
	}
	if n.Maximum != nil && (f > *n.Maximum || n.ExclusiveMaximum && f == *n.Maximum) {
		c.fail(path, fmt.Sprintf("must not be more than %v", *n.Maximum), "")
	}
	if n.Format == "int32" && (f < math.MinInt32 || f > math.MaxInt32) {
		c.fail(path, "is too large for a number of 32 bits", "")
	}
}

func (c *checker) count(n int, least, most *int, what string, path []string) {
	if least != nil && n < *least {
		c.fail(path, fmt.Sprintf("must have at least %d %s", *least, what), "")
	}
	if most != nil && n > *most {
		c.fail(path, fmt.Sprintf("must have at most %d %s", *most, what), "")
	}
}

// sameValue compares a value of a schema with one of an object.
func sameValue(a, b any) bool {
	x, ok := b.(json.Number)
	if !ok {
		return a == b
	}
	f, err := x.Float64()
	return err == nil && a == f
}

// words lists what is allowed, as far as anybody reads.
func words(values []any) string {
	const most = 12
	var out []string
	for i, v := range values {
		if i == most {
			out = append(out, "…")
			break
		}
		out = append(out, bounded(fmt.Sprint(v)))
	}
	return strings.Join(out, ", ")
}

func bounded(s string) string {
	const most = 120
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
