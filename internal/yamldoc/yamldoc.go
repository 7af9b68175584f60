// Package yamldoc reads what people write in YAML strictly: into a tree in which
// every value knows its file, line and column, and from that into Go values, with
// everything that is wrong reported at once and with a suggestion where one is
// near.
//
// A document may come from a stranger: its size after aliases, its depth and the
// time it takes are bounded.
package yamldoc

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/holdfast-gitops/holdfast/sources"
)

// Kind is the kind of a node.
type Kind int

// The kinds.
const (
	Scalar Kind = iota
	Mapping
	List
)

// The tags of scalars, as YAML's core schema resolves them.
const (
	TagText  = "!!str"
	TagBool  = "!!bool"
	TagInt   = "!!int"
	TagFloat = "!!float"
	TagNull  = "!!null"
	// TagUnknown marks a value that cannot be told yet; Into takes it for right.
	TagUnknown = "!unknown"
)

// Node is one value of a document, with aliases and merge keys resolved.
type Node struct {
	Kind Kind
	// Tag is the type of a scalar.
	Tag string
	// Value is the text of a scalar.
	Value string
	// Keys of a mapping, side by side with Values, which alone are a list's.
	Keys, Values []*Node
	// File, Line and Column say where it was written; Line and Column count from 1.
	File         string
	Line, Column int
	// Ref is the reference to a parameter that the value came from.
	Ref string

	// index finds the keys of a large mapping.
	index map[string]int
	// shape, when not nil, records what is read.
	shape *Shape
}

const (
	// maxNodes bounds a document after its aliases are resolved.
	maxNodes = 200_000
	// maxDepth bounds how deep values nest.
	maxDepth = 100
)

// yamlLine is how the parser's errors begin.
var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// Parse reads the first document of a text whose first line is the given line of
// its file. The root is nil when there is nothing in it, or nothing that could be
// read; the problems say which. After is where another document follows, or nil.
func Parse(file string, line int, text []byte) (root, after *Node, problems sources.Problems) {
	p := &parser{file: file, base: line - 1, path: map[*yaml.Node]bool{}}
	defer func() {
		if recover() != nil { // the parser panics on some broken input
			p.fail(1, 0, "the YAML parser gave up on this document")
			root, problems = nil, p.problems
		}
	}()
	var doc, next yaml.Node
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	if err := dec.Decode(&doc); err != nil {
		if err.Error() != "EOF" {
			p.syntax(err.Error())
		}
		return nil, nil, p.problems
	}
	if dec.Decode(&next) == nil {
		after = &Node{File: file, Line: p.base + next.Line, Column: next.Column}
	}
	if len(doc.Content) > 0 {
		root = p.node(doc.Content[0], 0)
	}
	return root, after, p.problems
}

// parser turns the library's nodes into ours.
type parser struct {
	file string
	base int
	// path holds the anchors that are being resolved, so that a cycle is seen.
	path     map[*yaml.Node]bool
	count    int
	problems sources.Problems
}

func (p *parser) fail(line, column int, message string) {
	p.problems = append(p.problems, sources.Problem{File: p.file, Line: p.base + line, Column: column, Message: message})
}

func (p *parser) syntax(message string) {
	line := 1
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		message = message[len(m[0]):]
		if n, _ := strconv.Atoi(m[1]); n > 0 { // no number: the parser named no line
			line = n
			// The parser, other than the scanner, counts lines from 0.
			if strings.HasPrefix(message, "did not find expected") {
				line++
			}
		}
	}
	p.fail(line, 0, "is not YAML: "+message)
}

// node is nil where the document is refused; that is reported once.
func (p *parser) node(y *yaml.Node, depth int) *Node {
	if p.count++; p.count > maxNodes {
		if p.count == maxNodes+1 {
			p.fail(y.Line, y.Column, fmt.Sprintf("holds more than %d values, its aliases counted", maxNodes))
		}
		return nil
	}
	if depth > maxDepth {
		p.fail(y.Line, y.Column, fmt.Sprintf("nests deeper than %d", maxDepth))
		p.count = maxNodes + 1 // once is enough
		return nil
	}
	if y.Kind == yaml.AliasNode {
		return p.alias(y, depth)
	}
	n := &Node{Tag: y.ShortTag(), Value: y.Value, File: p.file, Line: p.base + y.Line, Column: y.Column}
	switch y.Kind {
	case yaml.MappingNode:
		n.Kind = Mapping
		return p.mapping(n, y, depth)
	case yaml.SequenceNode:
		n.Kind = List
		for _, e := range y.Content {
			child := p.node(e, depth+1)
			if child == nil {
				return nil
			}
			n.Values = append(n.Values, child)
		}
	}
	return n
}

func (p *parser) alias(y *yaml.Node, depth int) *Node {
	if p.path[y.Alias] {
		p.fail(y.Line, y.Column, "*"+y.Value+" contains itself")
		p.count = maxNodes + 1
		return nil
	}
	p.path[y.Alias] = true
	defer delete(p.path, y.Alias)
	return p.node(y.Alias, depth+1)
}

func (p *parser) mapping(n *Node, y *yaml.Node, depth int) *Node {
	if y.Anchor != "" {
		p.path[y] = true
		defer delete(p.path, y)
	}
	first := map[string]int{}
	var merged []*Node
	for i := 0; i+1 < len(y.Content); i += 2 {
		key := y.Content[i]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		value := p.node(y.Content[i+1], depth+1)
		if value == nil {
			return nil
		}
		line, twice := first[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode:
			p.fail(y.Content[i].Line, y.Content[i].Column, "a key must be text")
		case key.ShortTag() == "!!merge":
			merged = append(merged, p.mergeable(value)...)
		case twice:
			p.fail(y.Content[i].Line, y.Content[i].Column, fmt.Sprintf("key %q is already set at line %d", key.Value, line))
		default:
			first[key.Value] = p.base + y.Content[i].Line
			n.Set(&Node{Tag: key.ShortTag(), Value: key.Value, File: p.file, Line: p.base + y.Content[i].Line, Column: y.Content[i].Column}, value)
		}
	}
	for _, m := range merged {
		for i, key := range m.Keys {
			if n.Get(key.Value) == nil {
				n.Set(key, m.Values[i])
			}
		}
	}
	return n
}

// mergeable is the mappings that a merge key names.
func (p *parser) mergeable(n *Node) []*Node {
	all := []*Node{n}
	if n.Kind == List {
		all = n.Values
	}
	for _, m := range all {
		if m.Kind != Mapping {
			p.fail(m.Line-p.base, m.Column, "<< takes mappings, and this is "+m.TypeName())
			return nil
		}
	}
	return all
}

// Set adds a key to a mapping, which must not have it.
func (n *Node) Set(key, value *Node) {
	n.Keys, n.Values = append(n.Keys, key), append(n.Values, value)
	switch {
	case n.index != nil:
		n.index[key.Value] = len(n.Keys) - 1
	case len(n.Keys) > indexFrom:
		n.index = make(map[string]int, 2*len(n.Keys))
		for i, k := range n.Keys {
			n.index[k.Value] = i
		}
	}
}

// indexFrom is how many keys are searched one by one.
const indexFrom = 32

// Get is the value at a key of a mapping, or nil.
func (n *Node) Get(key string) *Node {
	if _, value := n.Entry(key); value != nil {
		return value
	}
	return nil
}

// Entry is the key and value at a key of a mapping, or nil.
func (n *Node) Entry(key string) (k, v *Node) {
	if n == nil || n.Kind != Mapping {
		return nil, nil
	}
	i, ok := n.index[key]
	if n.index == nil {
		i = slices.IndexFunc(n.Keys, func(k *Node) bool { return k.Value == key })
		ok = i >= 0
	}
	if !ok {
		return nil, nil
	}
	return n.Keys[i], n.Values[i]
}

// Text is the scalar at a key of a mapping, or "".
func (n *Node) Text(key string) string {
	if v := n.Get(key); v != nil && v.Kind == Scalar {
		return v.Value
	}
	return ""
}

// IsNull reports whether a value is there and empty.
func (n *Node) IsNull() bool { return n.Kind == Scalar && n.Tag == TagNull }

// TypeName says what a node is, to follow "and is".
func (n *Node) TypeName() string {
	switch n.Kind {
	case Mapping:
		return "a mapping"
	case List:
		return "a list"
	}
	switch n.Tag {
	case TagNull:
		return "empty"
	case TagBool:
		return "a boolean"
	case TagInt, TagFloat:
		return "a number"
	}
	return "text"
}

// Described is a scalar's text, or what else a node is.
func (n *Node) Described() string {
	if n.Kind == Scalar && n.Value != "" {
		return strconv.Quote(n.Value)
	}
	return n.TypeName()
}
