package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

// decoder reads a file's syntax tree into values and collects everything that is
// wrong, rather than the first of it.
type decoder struct {
	file string
	// dir is what relative paths in the file begin at.
	dir      string
	problems sources.Problems
	// at remembers, by the field that was read, where its value stands, for the
	// checks that need more than one value.
	at map[any]*yaml.Node
}

// field is one key of a mapping and what reads its value.
type field struct {
	key  string
	read func(*yaml.Node)
}

func (d *decoder) fail(n *yaml.Node, message, hint string) {
	d.problems = append(d.problems, sources.Problem{
		File: d.file, Line: n.Line, Column: n.Column, Message: message, Hint: hint,
	})
}

// yamlLine is how the parser's errors begin. It counts the lines of some of its
// errors from 0.
var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// parse is the file's syntax tree, nil when there is none.
func (d *decoder) parse(text []byte) (root *yaml.Node) {
	defer func() {
		if recover() != nil { // the parser panics on some broken input
			d.fail(&yaml.Node{Line: 1}, "the YAML parser gave up on this file", "")
			root = nil
		}
	}()
	var doc, more yaml.Node
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	err := dec.Decode(&doc)
	switch {
	case err != nil && len(strings.TrimSpace(string(text))) > 0 && err.Error() != "EOF":
		d.failSyntax(err.Error())
		return nil
	case len(doc.Content) == 0 || isNull(resolve(doc.Content[0])):
		d.fail(&yaml.Node{Line: 1}, "is empty", "at least one source is needed")
		return nil
	}
	if err := dec.Decode(&more); err == nil {
		d.fail(&more, "holds a second document", "the daemon's file is one document")
	}
	return doc.Content[0]
}

func (d *decoder) failSyntax(message string) {
	at := &yaml.Node{Line: 1}
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		message = message[len(m[0]):]
		if n, _ := strconv.Atoi(m[1]); n > 0 { // no number: the parser named no line
			at.Line = n
			if strings.HasPrefix(message, "did not find expected") {
				at.Line++
			}
		}
	}
	d.fail(at, "is not YAML: "+message, "")
}

// resolve follows aliases to what they stand for.
func resolve(n *yaml.Node) *yaml.Node {
	for range 10 {
		if n.Kind != yaml.AliasNode {
			break
		}
		n = n.Alias
	}
	return n
}

// mapping reads a mapping. A key that is unknown or there twice is a problem; one
// without a value is left at its default.
func (d *decoder) mapping(n *yaml.Node, what string, fields ...field) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		d.fail(n, what+" must be a mapping, and is "+typeName(n), "")
		return
	}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], resolve(n.Content[i+1])
		if line, twice := first[key.Value]; twice {
			d.fail(key, fmt.Sprintf("key %q is already set at line %d", key.Value, line), "")
			continue
		}
		first[key.Value] = key.Line
		j := slices.IndexFunc(fields, func(f field) bool { return f.key == key.Value })
		switch {
		case j < 0:
			d.fail(key, fmt.Sprintf("unknown key %q in %s", key.Value, what), suggestion(key.Value, fields))
		case !isNull(value):
			fields[j].read(value)
		}
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func suggestion(key string, fields []field) string {
	known := make([]string, len(fields))
	for i, f := range fields {
		known[i] = f.key
	}
	if best := manifest.Closest(key, known); best != "" {
		return "did you mean " + best + "?"
	}
	return "known are " + strings.Join(known, ", ")
}

// list is the entries of a list.
func (d *decoder) list(n *yaml.Node, what string) []*yaml.Node {
	if n.Kind != yaml.SequenceNode {
		d.fail(n, what+" must be a list, and is "+typeName(n), "")
		return nil
	}
	out := make([]*yaml.Node, len(n.Content))
	for i, e := range n.Content {
		out[i] = resolve(e)
	}
	return out
}

// text reads a text that is not empty, and reports whether it did.
func (d *decoder) text(n *yaml.Node, what string, into *string) bool {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		hint := ""
		if n.Kind == yaml.ScalarNode && !isNull(n) {
			hint = "put it in quotes"
		}
		d.fail(n, what+" must be text, and is "+typeName(n), hint)
		return false
	}
	if n.Value == "" {
		d.fail(n, what+" is empty", "")
		return false
	}
	*into, d.at[into] = n.Value, n
	return true
}

func (d *decoder) textField(key, what string, into *string) field {
	return field{key, func(n *yaml.Node) { d.text(n, what+key, into) }}
}

func (d *decoder) boolField(key, what string, into *bool) field {
	return field{key, func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
			d.fail(n, what+key+" must be true or false, and is "+typeName(n), "")
			return
		}
		*into = strings.EqualFold(n.Value, "true")
	}}
}

func (d *decoder) countField(key, what string, limit int, into *int) field {
	return field{key, func(n *yaml.Node) {
		v, err := strconv.Atoi(n.Value)
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || err != nil || v < 1 || v > limit {
			d.fail(n, fmt.Sprintf("%s must be a number from 1 to %d, and is %s", what+key, limit, described(n)), "")
			return
		}
		*into = v
	}}
}

func (d *decoder) durationField(key, what string, least time.Duration, into *time.Duration) field {
	return field{key, func(n *yaml.Node) {
		v, err := time.ParseDuration(n.Value)
		switch {
		case n.Kind != yaml.ScalarNode || err != nil:
			d.fail(n, fmt.Sprintf("%s must be a duration, and is %s", what+key, described(n)), "write it with a unit, such as 30s or 5m")
		case v < least || v <= 0:
			d.fail(n, fmt.Sprintf("%s is %s, and must be at least %s", what+key, n.Value, least), "")
		default:
			*into = v
		}
	}}
}

// wordField reads one of a few words.
func (d *decoder) wordField(key, what string, into *string, words ...string) field {
	return field{key, func(n *yaml.Node) {
		var s string
		if !d.text(n, what+key, &s) {
			return
		}
		if !slices.Contains(words, s) {
			d.fail(n, fmt.Sprintf("%s %q is not known", what+key, s), "allowed are "+strings.Join(words, ", "))
			return
		}
		*into = s
	}}
}

// pathField reads the path of a file, which is relative to the daemon's own.
func (d *decoder) pathField(key, what string, into *string) field {
	return field{key, func(n *yaml.Node) {
		if d.text(n, what+key, into) {
			*into = absolute(d.dir, *into)
		}
	}}
}

// described is a scalar's text, or what else a node is.
func described(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode && n.Value != "" {
		return strconv.Quote(n.Value)
	}
	return typeName(n)
}

// typeName says what a node is.
func typeName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "empty"
	case "!!bool":
		return "a boolean"
	case "!!int", "!!float":
		return "a number"
	}
	return "text"
}
