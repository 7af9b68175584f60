package manifest

import (
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// Positions are looked up only for what is wrong: a tree of nodes costs more
// than the values, and nearly all documents are right.

// parseNodes is the syntax tree of a document, nil where the text has none.
func parseNodes(text []byte) (root *yaml.Node) {
	defer func() {
		if recover() != nil {
			root = nil
		}
	}()
	var doc yaml.Node
	if yaml.Unmarshal(text, &doc) != nil || len(doc.Content) == 0 {
		return nil
	}
	return doc.Content[0]
}

// find is the line and column, in the document's text, of the deepest part of a
// path that is there.
func find(text []byte, path ...string) (line, column int) {
	n := parseNodes(text)
	if n == nil {
		return 0, 0
	}
	line, column = n.Line, n.Column
	for _, step := range path {
		key, value := child(n, step)
		if value == nil {
			break
		}
		line, column = key.Line, key.Column
		n = value
	}
	return line, column
}

// child is the node at a key or index, and the node to point at for it.
func child(n *yaml.Node, step string) (key, value *yaml.Node) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == step {
				return n.Content[i], n.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i], n.Content[i]
		}
	}
	return nil, nil
}

// entryLines are the lines, in the text, on which the entries of a List begin.
func entryLines(text []byte) []int {
	n := parseNodes(text)
	if n == nil {
		return nil
	}
	_, items := child(n, "items")
	if items == nil {
		return nil
	}
	for items.Kind == yaml.AliasNode {
		items = items.Alias
	}
	lines := make([]int, len(items.Content))
	for i, e := range items.Content {
		lines[i] = e.Line
	}
	return lines
}

type duplicate struct {
	key                 string
	line, column, first int
}

// findDuplicates lists the keys that are set twice in one mapping.
func findDuplicates(text []byte) []duplicate {
	var found []duplicate
	walk(parseNodes(text), func(n *yaml.Node) {
		if n.Kind != yaml.MappingNode {
			return
		}
		first := make(map[string]int, len(n.Content)/2)
		for i := 0; i < len(n.Content); i += 2 {
			k := n.Content[i]
			if k.Kind != yaml.ScalarNode || k.ShortTag() == "!!merge" {
				continue
			}
			if line, twice := first[k.Value]; twice {
				found = append(found, duplicate{k.Value, k.Line, k.Column, line})
				continue
			}
			first[k.Value] = k.Line
		}
	})
	slices.SortFunc(found, func(a, b duplicate) int { return a.line - b.line })
	return found
}

// findOddKey is where a mapping or a list is used as a key.
func findOddKey(text []byte) (line, column int) {
	walk(parseNodes(text), func(n *yaml.Node) {
		if n.Kind != yaml.MappingNode || line != 0 {
			return
		}
		for i := 0; i < len(n.Content); i += 2 {
			if k := n.Content[i]; k.Kind == yaml.MappingNode || k.Kind == yaml.SequenceNode {
				line, column = k.Line, k.Column
				return
			}
		}
	})
	return line, column
}

// walk visits a node and all below it, but not behind aliases: the tree is as
// large as the text.
func walk(n *yaml.Node, visit func(*yaml.Node)) {
	if n == nil {
		return
	}
	visit(n)
	for _, c := range n.Content {
		walk(c, visit)
	}
}

// Locate finds a field of the object that begins on a line of a file, or the
// deepest part of its path that is there. It gives 0 where it cannot tell.
func Locate(file []byte, object int, path ...string) (line, column int) {
	var in *Chunk
	for _, c := range Split(file) {
		if c.Line <= object {
			in = &c
		}
	}
	if in == nil || TooComplex(in.Text) {
		return 0, 0
	}
	from := object - in.Line + 1
	for i, start := range entryLines(in.Text) {
		if start == from {
			path = append([]string{"items", strconv.Itoa(i)}, path...)
			break
		}
	}
	line, column = find(in.Text, path...)
	if line == 0 {
		return 0, 0
	}
	return in.Line + line - 1, column
}
