package sops

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxNodes bounds a tree after aliases were expanded, maxDepth how deep it nests.
const (
	maxNodes = 200_000
	maxDepth = 100
)

// tree is the content of a file in its order, which the authentication code
// depends on.
type tree struct {
	docs []*node
	left int
}

type nodeKind int

const (
	scalar nodeKind = iota
	mapping
	list
)

type node struct {
	kind nodeKind
	// line counts from 1; 0 is unknown.
	line    int
	entries []entry
	scalar  any
}

type entry struct {
	key   string
	line  int
	value *node
}

// take removes an entry and returns its value.
func (n *node) take(key string) *node {
	for i, e := range n.entries {
		if e.key == key {
			n.entries = append(n.entries[:i:i], n.entries[i+1:]...)
			return e.value
		}
	}
	return nil
}

func parse(f format, data []byte) (t *tree, err error) {
	defer func() {
		if recover() != nil {
			t, err = nil, errors.New("the parser gave up on it")
		}
	}()
	t = &tree{left: maxNodes}
	switch f {
	case formatYAML:
		return t, t.yaml(data)
	case formatEnv:
		return t, t.env(data)
	}
	return t, t.json(data)
}

// counted says that one more node may be made.
func (t *tree) counted(depth int) error {
	if t.left--; t.left < 0 {
		return errors.New("it has too many entries")
	}
	if depth > maxDepth {
		return errors.New("it nests too deep")
	}
	return nil
}

func (t *tree) yaml(data []byte) error {
	d := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return errors.New("it is not YAML")
		}
		root := doc.Content[0]
		if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
			t.docs = append(t.docs, &node{kind: mapping, line: root.Line})
			continue
		}
		if root.Kind != yaml.MappingNode {
			return fmt.Errorf("line %d: a document must be a mapping", root.Line)
		}
		n, err := t.fromYAML(root, 0)
		if err != nil {
			return err
		}
		t.docs = append(t.docs, n)
	}
}

func (t *tree) fromYAML(y *yaml.Node, depth int) (*node, error) {
	if err := t.counted(depth); err != nil {
		return nil, err
	}
	n := &node{line: y.Line}
	switch y.Kind {
	case yaml.AliasNode:
		return t.fromYAML(y.Alias, depth+1)
	case yaml.MappingNode:
		n.kind = mapping
		seen := map[string]bool{}
		for i := 0; i+1 < len(y.Content); i += 2 {
			key := y.Content[i]
			if key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str" || seen[key.Value] {
				return nil, fmt.Errorf("line %d: a key is not text, or is there twice", key.Line)
			}
			seen[key.Value] = true
			value, err := t.fromYAML(y.Content[i+1], depth+1)
			if err != nil {
				return nil, err
			}
			n.entries = append(n.entries, entry{key.Value, key.Line, value})
		}
	case yaml.SequenceNode:
		n.kind = list
		for _, c := range y.Content {
			value, err := t.fromYAML(c, depth+1)
			if err != nil {
				return nil, err
			}
			n.entries = append(n.entries, entry{"", c.Line, value})
		}
	default:
		if err := y.Decode(&n.scalar); err != nil {
			return nil, fmt.Errorf("line %d: a value is not of the type that it says", y.Line)
		}
	}
	return n, nil
}

func (t *tree) json(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	line := func() int { return 1 + bytes.Count(data[:d.InputOffset()], []byte("\n")) }
	n, err := t.fromJSON(d, line, 0)
	if err != nil {
		return err
	}
	if n.kind != mapping {
		return errors.New("it must be a mapping")
	}
	if d.More() {
		return errors.New("text follows its end")
	}
	t.docs = []*node{n}
	return nil
}

var errJSON = errors.New("it is not JSON")

func (t *tree) fromJSON(d *json.Decoder, line func() int, depth int) (*node, error) {
	if err := t.counted(depth); err != nil {
		return nil, err
	}
	token, err := d.Token()
	if err != nil {
		return nil, errJSON
	}
	n := &node{line: line()}
	switch v := token.(type) {
	case json.Delim:
		return n, t.container(d, n, v, line, depth)
	case json.Number:
		if i, err := strconv.Atoi(v.String()); err == nil {
			n.scalar = i
		} else if n.scalar, err = v.Float64(); err != nil {
			return nil, errJSON
		}
	default:
		n.scalar = v
	}
	return n, nil
}

func (t *tree) container(d *json.Decoder, n *node, open json.Delim, line func() int, depth int) error {
	n.kind = list
	if open == '{' {
		n.kind = mapping
	}
	seen := map[string]bool{}
	for d.More() {
		var e entry
		if n.kind == mapping {
			token, err := d.Token()
			key, ok := token.(string)
			if err != nil || !ok {
				return errJSON
			}
			if seen[key] {
				return fmt.Errorf("line %d: a key is there twice", line())
			}
			seen[key] = true
			e.key = key
		}
		e.line = line()
		value, err := t.fromJSON(d, line, depth+1)
		if err != nil {
			return err
		}
		e.value = value
		n.entries = append(n.entries, e)
	}
	if _, err := d.Token(); err != nil {
		return errJSON
	}
	return nil
}

func (t *tree) env(data []byte) error {
	root := &node{kind: mapping}
	for i, text := range strings.Split(string(data), "\n") {
		if text == "" || text[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return fmt.Errorf("line %d: is not KEY=VALUE", i+1)
		}
		if err := t.counted(0); err != nil {
			return err
		}
		value = strings.ReplaceAll(value, `\n`, "\n")
		root.entries = append(root.entries, entry{key, i + 1, &node{line: i + 1, scalar: value}})
	}
	t.docs = []*node{root}
	return nil
}
