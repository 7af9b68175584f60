package environment

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
	"github.com/holdfast-gitops/holdfast/sources/substitute"
)

const (
	// maxDocuments bounds the specs of one repository.
	maxDocuments = 10_000
	// maxLayers bounds how many documents one spec is made of.
	maxLayers = 10
)

// resolver turns documents into specs: what they extend is merged in, and
// parameters are substituted.
type resolver struct {
	// tree is what paths are looked for in; nil checks none.
	tree      sources.Tree
	documents map[string]*document
}

// resolved is a document with all that it asks for.
type resolved struct {
	doc  *document
	spec Spec
	// merged is the field spec as it was decoded.
	merged *yamldoc.Node
	// decoder knows where each field of spec was written.
	decoder  *yamldoc.Decoder
	problems sources.Problems
}

// builtins are the parameters that need no declaration.
type builtins struct {
	// name replaces the document's; branch and commit are a preview's.
	name, branch, commit string
}

// resolve never fails: what is wrong is in the result's problems.
func (r *resolver) resolve(doc *document, b builtins) *resolved {
	out := &resolved{doc: doc, decoder: &yamldoc.Decoder{}, problems: doc.problems}
	if doc.spec == nil {
		return out
	}
	d := out.decoder
	layers := r.layers(d, doc)
	tree := mergeLayers(doc, layers)
	out.spec = newSpec(doc, layers, b)
	values := r.parameters(d, doc, tree, &out.spec, b)
	written := tree
	tree = substituteTree(d, tree, values)
	d.Into(tree, "spec", &out.spec, checks(r.tree))
	out.merged = tree
	c := &checker{Decoder: d, tree: r.tree, doc: doc, spec: &out.spec, written: written, at: tree}
	c.check()
	out.problems = append(slices.Clip(out.problems), d.Problems...)
	return out
}

func newSpec(doc *document, layers []*document, b builtins) Spec {
	spec := New(doc.name)
	if b.name != "" {
		spec.Name = b.name
	}
	spec.File, spec.Line, spec.Path = doc.file, doc.line, ""
	for i := len(layers) - 1; i >= 0; i-- {
		spec.addLabels(layers[i].labels)
	}
	spec.addLabels(doc.labels)
	for _, l := range layers {
		spec.Layers = append(spec.Layers, l.origin())
	}
	return spec
}

func (s *Spec) addLabels(labels map[string]string) {
	if s.Labels == nil && len(labels) > 0 {
		s.Labels = map[string]string{}
	}
	maps.Copy(s.Labels, labels)
}

// layers are the documents that a document extends, the nearest first.
func (r *resolver) layers(d *yamldoc.Decoder, doc *document) []*document {
	var layers []*document
	trail := []string{doc.name}
	for at := doc; ; {
		n := at.spec.Get("extends")
		if n == nil || n.IsNull() && at != doc {
			return layers
		}
		var name string
		if !d.Text(n, "spec.extends", &name) {
			return layers
		}
		next := r.documents[name]
		trail = append(trail, name)
		switch {
		case next == nil:
			names := slices.Sorted(maps.Keys(r.documents))
			names = slices.DeleteFunc(names, func(s string) bool { return s == doc.name || s == "" })
			hint := "it must be a Blueprint or an Environment of this repository"
			if best := manifest.Closest(name, names); best != "" {
				hint = "did you mean " + best + "?"
			}
			d.Fail(n, fmt.Sprintf("spec.extends %q is no spec of this repository", name), hint)
			return layers
		case next == doc || slices.Contains(layers, next):
			d.Fail(doc.spec.Get("extends"), "spec.extends goes in a circle: "+strings.Join(trail, " → "), "")
			return layers
		case len(layers) == maxLayers:
			d.Fail(n, fmt.Sprintf("spec.extends goes through more than %d specs", maxLayers), "")
			return layers
		case next.spec == nil || len(next.problems) > 0:
			d.Fail(n, fmt.Sprintf("spec.extends %q cannot be used: that spec is broken, at %s", name, next.origin()), "")
			return layers
		}
		layers = append(layers, next)
		at = next
	}
}

// notInherited are the fields that are about one environment alone.
var notInherited = []string{"extends", "formerly"}

// mergeLayers lays a document over what it extends.
func mergeLayers(doc *document, layers []*document) *yamldoc.Node {
	if len(layers) == 0 {
		return doc.spec
	}
	merged := without(layers[len(layers)-1].spec, notInherited...)
	for i := len(layers) - 2; i >= 0; i-- {
		merged = yamldoc.Merge(merged, without(layers[i].spec, notInherited...))
	}
	return yamldoc.Merge(merged, doc.spec)
}

// without is a mapping that lacks some keys.
func without(n *yamldoc.Node, keys ...string) *yamldoc.Node {
	out := n.Empty()
	for i, key := range n.Keys {
		if !slices.Contains(keys, key.Value) {
			out.Set(key, n.Values[i])
		}
	}
	return out
}

// asWritten are the fields in which nothing is substituted, since parameters are
// made of them or a template's environments are.
var asWritten = []string{"extends", "parameters", "with", "preview"}

// substituteTree puts values into the scalars of a spec.
func substituteTree(d *yamldoc.Decoder, tree *yamldoc.Node, values substitute.Values) *yamldoc.Node {
	out := tree.Empty()
	for i, key := range tree.Keys {
		value := tree.Values[i]
		if !slices.Contains(asWritten, key.Value) {
			value = substituteNode(d, value, values, "spec."+key.Value)
		}
		out.Set(key, value)
	}
	return out
}

func substituteNode(d *yamldoc.Decoder, n *yamldoc.Node, values substitute.Values, what string) *yamldoc.Node {
	if n.Kind == yamldoc.Scalar {
		if n.Tag != yamldoc.TagText || !substitute.Refers(n.Value) {
			return n
		}
		if isPatch(what) {
			return substitutePatch(d, n, values)
		}
		return replace(d, n, values)
	}
	out := *n
	out.Values = make([]*yamldoc.Node, len(n.Values))
	for i, v := range n.Values {
		step := "[]"
		if n.Kind == yamldoc.Mapping {
			step = "." + n.Keys[i].Value
		}
		out.Values[i] = substituteNode(d, v, values, what+step)
	}
	return &out
}

// replace is a scalar with its references replaced.
func replace(d *yamldoc.Decoder, n *yamldoc.Node, values substitute.Values) *yamldoc.Node {
	value, faults := values.Text(n.Value)
	for _, f := range faults {
		d.Fail(n, f.Message, f.Hint)
	}
	if len(faults) > 0 || value == substitute.Unknown {
		return &yamldoc.Node{Tag: yamldoc.TagUnknown, Value: n.Value, File: n.File, Line: n.Line, Column: n.Column}
	}
	out := n.With(value)
	if n.Tag != out.Tag || out.Kind != yamldoc.Scalar {
		out.Ref = n.Value
	}
	return out
}

func isPatch(what string) bool { return what == "spec.patches[].patch" }

// substitutePatch puts values into a patch that is written as text: into its
// scalars, so that a value can add nothing to it.
func substitutePatch(d *yamldoc.Decoder, n *yamldoc.Node, values substitute.Values) *yamldoc.Node {
	var texts []string
	for _, chunk := range manifest.Split([]byte(n.Value)) {
		root, _, problems := yamldoc.Parse(n.File, 1, chunk.Text)
		for _, p := range problems {
			d.Fail(n, "the patch "+p.Message, "")
		}
		if root == nil {
			continue
		}
		inner := &yamldoc.Decoder{}
		root = substituteNode(inner, root, values, "")
		for _, p := range inner.Problems {
			d.Fail(n, p.Message, p.Hint)
		}
		if holdsUnknown(root) {
			return &yamldoc.Node{Tag: yamldoc.TagUnknown, Value: n.Value, File: n.File, Line: n.Line, Column: n.Column}
		}
		text, err := root.JSON()
		if err != nil {
			d.Fail(n, "the patch cannot be written with its parameters put in", "")
			continue
		}
		texts = append(texts, string(text))
	}
	return n.With(strings.Join(texts, "\n---\n"))
}

func holdsUnknown(n *yamldoc.Node) bool {
	return n.Tag == yamldoc.TagUnknown || slices.ContainsFunc(n.Values, holdsUnknown)
}

// defaultPath is where an environment's files lie when it does not say.
func (s *Spec) defaultPath() string {
	if s.Source != nil {
		return "."
	}
	return path.Dir(s.File)
}
