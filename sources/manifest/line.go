package manifest

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// LineOf is the line on which a file sets a field of the object that begins on a
// line of it; 0 when it does not, or not in the open. The steps are those of a
// path of drift: keys, and for entries of lists "key=value" or "=value". Without
// steps it is the object's first line.
func LineOf(content []byte, begins int, steps []string) int {
	var c Chunk
	for _, next := range Split(content) {
		if next.Line > begins && c.Text != nil {
			break
		}
		c = next
	}
	root := parseNodes(c.Text)
	if root == nil {
		return 0
	}
	if len(steps) == 0 {
		return begins
	}
	n, line := inList(root, begins-c.Line+1), 0
	for _, step := range steps {
		key, value := child(n, step)
		if value == nil {
			key, value = keyed(n, step)
		}
		if value == nil {
			return 0
		}
		n, line = value, key.Line
	}
	if n.Kind == yaml.ScalarNode && n.Line > 0 && n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0 {
		line = n.Line // a value may stand below its key, or where an alias leads to
	}
	return c.Line + line - 1
}

// inList is the entry of a List that begins on a line, or the object itself.
func inList(root *yaml.Node, begins int) *yaml.Node {
	_, kind := child(root, "kind")
	_, items := child(root, "items")
	if kind == nil || items == nil || !strings.HasSuffix(kind.Value, "List") || items.Kind != yaml.SequenceNode {
		return root
	}
	for _, entry := range items.Content {
		if entry.Line == begins {
			return entry
		}
	}
	return root
}

// keyed is the entry of a list with a key of a certain value. An entry need not
// have each key: a default may stand for it.
func keyed(n *yaml.Node, step string) (key, value *yaml.Node) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.SequenceNode {
		return nil, nil
	}
	for _, entry := range n.Content {
		if hasKeys(entry, step) {
			return entry, entry
		}
	}
	return nil, nil
}

func hasKeys(entry *yaml.Node, step string) bool {
	for entry.Kind == yaml.AliasNode {
		entry = entry.Alias
	}
	if entry.Kind != yaml.MappingNode {
		return entry.Kind == yaml.ScalarNode && entry.Value == strings.TrimPrefix(step, "=")
	}
	matches := false
	for pair := range strings.SplitSeq(step, ",") {
		key, want, isPair := strings.Cut(pair, "=")
		_, have := child(entry, key)
		if !isPair || have != nil && have.Value != want {
			return false
		}
		matches = matches || have != nil
	}
	return matches
}
