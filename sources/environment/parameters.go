package environment

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
	"github.com/holdfast-gitops/holdfast/sources/substitute"
)

const (
	// maxParameters bounds how many one spec declares.
	maxParameters = 256
	// maxParameterText bounds one value, and maxParameterList one list.
	maxParameterText = 64 << 10
	maxParameterList = 1000
)

// given are the parameters that need no declaration; those but the first are
// known in previews only.
var given = []string{"environment", "branch", "branchSlug", "commit"}

// Defaults implements yamldoc.Defaults.
func (p *Parameter) Defaults() { p.Type = substitute.String }

var parameterName = regexp.MustCompile(`^` + substitute.NamePattern + `$`)

// parameters reads what a merged spec declares and sets, and returns the values
// for the spec's own fields. It fills in spec.Values.
func (r *resolver) parameters(d *yamldoc.Decoder, doc *document, tree *yamldoc.Node, spec *Spec, b builtins) substitute.Values {
	preview := tree.Get("preview") != nil
	p := &parameters{d: d, values: b.values(spec.Name, preview, doc.kind)}
	for _, key := range []string{"parameters", "with"} {
		if n := tree.Get(key); n != nil && n.Kind != yamldoc.Mapping {
			return p.values // told when the field is decoded
		}
	}
	declared, with := tree.Get("parameters"), tree.Get("with")
	if declared != nil && len(declared.Keys) > maxParameters {
		d.Fail(declared, fmt.Sprintf("spec.parameters declares %d parameters, and at most %d are allowed", len(declared.Keys), maxParameters), "")
		return p.values
	}
	p.declare(declared, with, setPlace(tree, with), doc.kind == KindBlueprint)
	p.undeclared(declared, with)
	if preview || declared != nil && len(declared.Keys) > 0 {
		spec.Values = p.values
	}
	return p.values
}

// setPlace is where a value that is missing would be set.
func setPlace(tree, with *yamldoc.Node) *yamldoc.Node {
	if with != nil {
		return with
	}
	if extends := tree.Get("extends"); extends != nil {
		return extends
	}
	return tree
}

func (b builtins) values(name string, preview bool, kind string) substitute.Values {
	v := substitute.Values{"environment": name}
	if !preview {
		if kind == KindBlueprint {
			v = substitute.Values{}
			for _, g := range given {
				v[g] = substitute.Unknown
			}
		}
		return v
	}
	if b.branch == "" {
		for _, g := range given {
			v[g] = substitute.Unknown
		}
		return v
	}
	v["branch"], v["branchSlug"], v["commit"] = b.branch, BranchSlug(b.branch), b.commit
	return v
}

type parameters struct {
	d      *yamldoc.Decoder
	values substitute.Values
}

// declare reads the declarations and takes each value from with or from the
// default. What was declared wrongly has an unknown value, so that its use is no
// second problem. Lenient: what is not set is no problem.
func (p *parameters) declare(declared, with, place *yamldoc.Node, lenient bool) {
	if declared == nil {
		return
	}
	fixed := maps.Clone(p.values)
	for i, key := range declared.Keys {
		name, what := key.Value, "spec.parameters["+key.Value+"]"
		switch {
		case slices.Contains(given, name):
			p.d.Fail(key, fmt.Sprintf("parameter %q cannot be declared", name), "Holdfast gives it a value by itself")
			continue
		case !parameterName.MatchString(name):
			p.d.Fail(key, fmt.Sprintf("%q is no name for a parameter", name), "use a letter, then at most 62 letters, digits and _")
			continue
		}
		p.values[name] = substitute.Unknown
		decl := Parameter{}
		decl.Defaults()
		before := len(p.d.Problems)
		inner := &yamldoc.Decoder{} // its problems come when the field is decoded
		if inner.Into(declared.Values[i], what, &decl, checks(nil)); len(inner.Problems) > 0 {
			continue
		}
		check := &valueCheck{d: p.d, decl: decl, fixed: fixed}
		def := declared.Values[i].Get("default")
		value, ok := check.value(def, what+".default")
		p.enum(declared.Values[i].Get("enum"), decl, what)
		if len(p.d.Problems) > before {
			continue
		}
		if decl.Required {
			ok = false
		}
		if set := with.Get(name); set != nil {
			value, ok = check.value(set, "spec.with["+name+"]")
			if !ok {
				continue // told, or unknown
			}
		}
		switch {
		case ok:
			p.values[name] = value
		case def == nil && !lenient || decl.Required && !lenient:
			p.d.Fail(place, fmt.Sprintf("parameter %q is not set", name), strings.TrimSuffix("set it under spec.with: "+decl.Description, ": "))
		}
	}
}

func (p *parameters) enum(n *yamldoc.Node, decl Parameter, what string) {
	if n == nil {
		return
	}
	decl.Enum = nil
	check := &valueCheck{d: p.d, decl: decl}
	for i, e := range n.Values {
		check.value(e, fmt.Sprintf("%s.enum[%d]", what, i))
	}
}

// undeclared reports values for what no one declared.
func (p *parameters) undeclared(declared, with *yamldoc.Node) {
	if with == nil {
		return
	}
	var names []string
	if declared != nil {
		for _, key := range declared.Keys {
			names = append(names, key.Value)
		}
	}
	for _, key := range with.Keys {
		if slices.Contains(names, key.Value) {
			continue
		}
		hint := "declare it under spec.parameters"
		if best := manifest.Closest(key.Value, names); best != "" {
			hint = "did you mean " + best + "?"
		} else if len(names) > 0 {
			hint = "declared are " + strings.Join(names, ", ")
		}
		p.d.Fail(key, fmt.Sprintf("there is no parameter %q to set", key.Value), hint)
		p.values[key.Value] = substitute.Unknown
	}
}

// valueCheck reads values of one parameter.
type valueCheck struct {
	d    *yamldoc.Decoder
	decl Parameter
	// fixed are the values that a value may refer to itself.
	fixed substitute.Values
}

// value reads a value and reports whether it is there, right and known.
func (c *valueCheck) value(n *yamldoc.Node, what string) (any, bool) {
	if n == nil {
		return nil, false
	}
	before := len(c.d.Problems)
	value, ok := c.typed(n, what)
	if !ok || len(c.d.Problems) > before {
		return nil, false
	}
	c.allowed(n, what, value)
	return value, len(c.d.Problems) == before
}

var typeNames = map[substitute.Type]string{
	substitute.String: "text", substitute.Int: "a whole number", substitute.Number: "a number",
	substitute.Bool: "true or false", substitute.List: "a list of text, numbers or booleans",
}

func (c *valueCheck) typed(n *yamldoc.Node, what string) (any, bool) {
	wrong := func(hint string) (any, bool) {
		c.d.Fail(n, fmt.Sprintf("%s must be %s, and is %s", what, typeNames[c.decl.Type], n.TypeName()), hint)
		return nil, false
	}
	if n.Kind == yamldoc.List && c.decl.Type == substitute.List {
		return c.list(n, what)
	}
	if n.Kind != yamldoc.Scalar || c.decl.Type == substitute.List {
		return wrong("")
	}
	value := n.Any()
	switch v := value.(type) {
	case string:
		if c.decl.Type == substitute.String {
			return c.text(n, what, v)
		}
		return wrong(unquote(v, c.decl.Type))
	case bool:
		if c.decl.Type == substitute.Bool {
			return v, true
		}
	case int64:
		switch c.decl.Type {
		case substitute.Int, substitute.Number:
			return v, true
		}
	case float64:
		if c.decl.Type == substitute.Number {
			return v, true
		}
	}
	if c.decl.Type == substitute.String && !n.IsNull() {
		return wrong("put it in quotes")
	}
	return wrong("")
}

// unquote is the hint for a text that would be right without its quotes.
func unquote(s string, t substitute.Type) string {
	_, isInt := strconv.ParseInt(s, 10, 64)
	if t == substitute.Bool && (s == "true" || s == "false") || (t == substitute.Int || t == substitute.Number) && isInt == nil {
		return "leave the quotes out"
	}
	return ""
}

// text may refer to what Holdfast gives.
func (c *valueCheck) text(n *yamldoc.Node, what, s string) (any, bool) {
	if len(s) > maxParameterText {
		c.d.Fail(n, fmt.Sprintf("%s is %d bytes, and at most %d are allowed", what, len(s), maxParameterText), "")
		return nil, false
	}
	if !substitute.Refers(s) {
		return s, true
	}
	value, faults := c.fixed.Text(s)
	for _, f := range faults {
		c.d.Fail(n, what+": "+f.Message, "values may refer to "+strings.Join(slices.Sorted(maps.Keys(c.fixed)), ", ")+" alone")
	}
	return value, len(faults) == 0 && value != substitute.Unknown
}

func (c *valueCheck) list(n *yamldoc.Node, what string) (any, bool) {
	if len(n.Values) > maxParameterList {
		c.d.Fail(n, fmt.Sprintf("%s has %d entries, and at most %d are allowed", what, len(n.Values), maxParameterList), "")
		return nil, false
	}
	out := make([]any, len(n.Values))
	for i, e := range n.Values {
		if e.Kind != yamldoc.Scalar || e.IsNull() {
			c.d.Fail(e, fmt.Sprintf("%s[%d] must be text, a number or a boolean, and is %s", what, i, e.TypeName()), "")
			return nil, false
		}
		out[i] = e.Any()
	}
	return out, true
}

// allowed checks a value against the declaration's enum and pattern.
func (c *valueCheck) allowed(n *yamldoc.Node, what string, value any) {
	entries := []any{value}
	if list, ok := value.([]any); ok {
		entries = list
	}
	for _, v := range entries {
		text, _ := substitute.AsText(v)
		if len(c.decl.Enum) > 0 && !slices.Contains(c.decl.Enum, v) {
			c.d.Fail(n, fmt.Sprintf("%s %q is not allowed", what, text), "allowed are "+join(c.decl.Enum))
		}
		if c.decl.Pattern == "" {
			continue
		}
		if re, err := regexp.Compile(`^(?:` + c.decl.Pattern + `)$`); err == nil && !re.MatchString(text) {
			c.d.Fail(n, fmt.Sprintf("%s %q does not match %s", what, text, c.decl.Pattern), c.decl.Description)
		}
	}
}

func join(values []any) string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i], _ = substitute.AsText(v)
	}
	return strings.Join(out, ", ")
}
