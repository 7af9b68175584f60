package environment

import (
	"fmt"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
)

// shown is a spec as it is printed.
type shown struct {
	doc    *document
	spec   *yamldoc.Node
	labels map[string]string
}

// Names are the specs that Show knows: environments and templates, sorted.
func (r *Repository) Names() []string {
	var out []string
	for name := range r.shown {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Show is a spec with what it extends merged in and its parameters put in, as
// YAML. A value that was written in another document has a comment that says
// where. It is nil for a name that Names does not have.
func (r *Repository) Show(name string) []byte {
	s, ok := r.shown[name]
	if !ok {
		return nil
	}
	return s.text(name)
}

func (s shown) text(name string) []byte {
	labels := &yamldoc.Node{Kind: yamldoc.Mapping}
	for _, key := range sortedKeys(s.labels) {
		labels.Set(text(key), text(s.labels[key]))
	}
	meta := &yamldoc.Node{Kind: yamldoc.Mapping}
	meta.Set(text("name"), text(name))
	if len(s.labels) > 0 {
		meta.Set(text("labels"), labels)
	}
	root := &yamldoc.Node{Kind: yamldoc.Mapping}
	root.Set(text("apiVersion"), text(APIVersion))
	root.Set(text("kind"), text(Kind))
	root.Set(text("metadata"), meta)
	root.Set(text("spec"), without(s.spec, "extends"))
	out, err := yaml.Marshal(s.print(root))
	if err != nil { // it was made of YAML
		return []byte("# cannot be printed: " + err.Error() + "\n")
	}
	return out
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func text(s string) *yamldoc.Node { return &yamldoc.Node{Tag: yamldoc.TagText, Value: s} }

// oldBool is what YAML 1.1 takes for a boolean, and YAML 1.2 for text.
var oldBool = regexp.MustCompile(`^(?i:y|n|yes|no|on|off)$`)

// print is a node for the encoder.
func (s shown) print(n *yamldoc.Node) *yaml.Node {
	out := &yaml.Node{Kind: yaml.ScalarNode, Tag: n.Tag, Value: n.Value}
	switch n.Kind {
	case yamldoc.Mapping:
		out.Kind, out.Tag = yaml.MappingNode, ""
		for i, key := range n.Keys {
			k, v := &yaml.Node{Kind: yaml.ScalarNode, Tag: yamldoc.TagText, Value: key.Value}, s.print(n.Values[i])
			s.comment(k, v, key, n.Values[i])
			out.Content = append(out.Content, k, v)
		}
	case yamldoc.List:
		out.Kind, out.Tag = yaml.SequenceNode, ""
		for _, e := range n.Values {
			out.Content = append(out.Content, s.print(e))
		}
	default:
		if n.Tag == yamldoc.TagUnknown {
			out.Tag = yamldoc.TagText
		}
		if n.Tag == yamldoc.TagText && len(n.Value) > 60 {
			out.Style = yaml.LiteralStyle
		}
		if n.Tag == yamldoc.TagText && oldBool.MatchString(n.Value) {
			out.Style = yaml.DoubleQuotedStyle
		}
	}
	return out
}

// comment says where a value was written: at a scalar itself, at the key of a
// list, and of a mapping at what is in it.
func (s shown) comment(k, v *yaml.Node, key, value *yamldoc.Node) {
	if key.File == "" || value.File == s.doc.file && value.Line >= s.doc.line && s.within(value) || value.Kind == yamldoc.Mapping {
		return
	}
	at := v
	if value.Kind == yamldoc.List || v.Style == yaml.LiteralStyle {
		at = k
	}
	at.LineComment = fmt.Sprintf("%s:%d", key.File, key.Line)
}

// within reports whether a value of the document's file is the document's own.
func (s shown) within(value *yamldoc.Node) bool { return value.Line <= s.doc.last }
