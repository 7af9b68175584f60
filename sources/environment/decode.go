package environment

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

// decoder reads one document and collects everything that is wrong with it.
type decoder struct {
	tree sources.Tree
	file string
	// base is the line of the file on which the document's text begins.
	base     int
	problems sources.Problems
}

// fail reports a problem at a node.
func (d *decoder) fail(n *yaml.Node, message, hint string) {
	d.problems = append(d.problems, sources.Problem{
		File: d.file, Line: d.base + n.Line - 1, Column: n.Column, Message: message, Hint: hint,
	})
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// parse is the document's syntax tree, nil when there is none.
func (d *decoder) parse(text []byte) (root *yaml.Node) {
	defer func() {
		if recover() != nil {
			d.fail(&yaml.Node{Line: 1}, "the YAML parser gave up on this document", "")
			root = nil
		}
	}()
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		at, message := &yaml.Node{Line: 1}, err.Error()
		if m := yamlLine.FindStringSubmatch(message); m != nil {
			message = message[len(m[0]):]
			if n, _ := strconv.Atoi(m[1]); n > 0 {
				at.Line = n
				// The parser, other than the scanner, counts lines from 0.
				if strings.HasPrefix(message, "did not find expected") {
					at.Line++
				}
			}
		}
		d.fail(at, "is not YAML: "+message, "")
		return nil
	}
	if len(doc.Content) == 0 {
		return nil
	}
	return resolve(doc.Content[0])
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

// unnamed finds the name in a document that is no YAML, so that its environment
// can be told about it.
var unnamed = regexp.MustCompile(`(?m)(?:^ {1,8}|[{,] *)name: *["']?([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)["']?\s*(?:[},]|$)`)

// spec reads a document and says whether it is one of ours.
func (d *decoder) spec(text []byte) (spec Spec, ours bool) {
	spec = New("")
	spec.File, spec.Line, spec.Path = d.file, d.base, path.Dir(d.file)
	root := d.parse(text)
	if root == nil {
		if m := unnamed.FindSubmatch(text); m != nil {
			spec.Name = string(m[1])
		}
		// Without a problem there was nothing but comments.
		return spec, len(d.problems) > 0
	}
	spec.Line = d.base + root.Line - 1
	if root.Kind != yaml.MappingNode || !strings.HasPrefix(scalar(root, "apiVersion"), "holdfast.dev/") {
		// The marker was found in the text of some other kind's field.
		return spec, false
	}
	d.header(root)
	fields := d.mapping(root, "the document", "apiVersion", "kind", "metadata", "spec")
	d.metadata(root, fields["metadata"], &spec)
	if body := fields["spec"]; body != nil {
		d.body(body, &spec)
	}
	return spec, true
}

// scalar is the text at a key, or "".
func scalar(mapping *yaml.Node, key string) string {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if value := resolve(mapping.Content[i+1]); mapping.Content[i].Value == key && value.Kind == yaml.ScalarNode {
			return value.Value
		}
	}
	return ""
}

func (d *decoder) header(root *yaml.Node) {
	for i := 0; i+1 < len(root.Content); i += 2 {
		value := resolve(root.Content[i+1])
		switch key := root.Content[i].Value; {
		case key == "apiVersion" && value.Value != APIVersion:
			d.fail(value, fmt.Sprintf("apiVersion %q is not known", value.Value), "write "+APIVersion)
		case key == "kind" && value.Value != Kind:
			d.fail(value, fmt.Sprintf("kind %q is not known in %s", value.Value, APIVersion), "write "+Kind)
		}
	}
	if scalar(root, "kind") == "" {
		d.fail(root, "has no kind", "write kind: "+Kind)
	}
}

// mapping is the values of a mapping by key. What may not be there, or is there
// twice, is reported.
func (d *decoder) mapping(n *yaml.Node, what string, allowed ...string) map[string]*yaml.Node {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		d.fail(n, what+" must be a mapping, and is "+typeName(n), "")
		return nil
	}
	values := make(map[string]*yaml.Node, len(n.Content)/2)
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], resolve(n.Content[i+1])
		if line, twice := first[key.Value]; twice {
			d.fail(key, fmt.Sprintf("key %q is already set at line %d", key.Value, line), "")
			continue
		}
		first[key.Value] = d.base + key.Line - 1
		if allowed != nil && !slices.Contains(allowed, key.Value) {
			d.fail(key, fmt.Sprintf("unknown key %q in %s", key.Value, what), suggestion(key.Value, allowed))
			continue
		}
		values[key.Value] = value
	}
	return values
}

func suggestion(word string, words []string) string {
	if best := manifest.Closest(word, words); best != "" {
		return "did you mean " + best + "?"
	}
	return "known are " + strings.Join(words, ", ")
}

var label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

const labelHint = "at most 63 lower case letters, digits and dashes"

func (d *decoder) metadata(root, n *yaml.Node, spec *Spec) {
	if n == nil {
		d.fail(root, "has no metadata.name", "")
		return
	}
	fields := d.mapping(n, "metadata", "name", "labels")
	if fields == nil {
		return
	}
	name := fields["name"]
	if name == nil {
		d.fail(n, "has no metadata.name", "")
	} else if s, ok := d.text(name, "metadata.name"); ok {
		if label.MatchString(s) {
			spec.Name = s
		} else {
			d.fail(name, fmt.Sprintf("metadata.name %q is not a valid name", s), labelHint)
		}
	}
	if labels := fields["labels"]; labels != nil {
		values := d.mapping(labels, "metadata.labels")
		spec.Labels = make(map[string]string, len(values))
		for key, value := range values {
			if s, ok := d.text(value, "metadata.labels["+key+"]"); ok {
				spec.Labels[key] = s
			}
		}
	}
}

// body reads the part under spec.
func (d *decoder) body(n *yaml.Node, spec *Spec) {
	fields := d.mapping(n, "spec", "path", "target", "namespace", "createNamespace", "mode", "prune", "drift", "adoptFrom")
	if f := fields["path"]; f != nil {
		d.path(f, spec)
	}
	if f := fields["target"]; f != nil {
		if s, ok := d.text(f, "spec.target"); ok {
			spec.Target = s
		}
	}
	if f := fields["namespace"]; f != nil {
		if s, ok := d.text(f, "spec.namespace"); ok {
			if !label.MatchString(s) {
				d.fail(f, fmt.Sprintf("spec.namespace %q is not the name of a namespace", s), labelHint)
			}
			spec.Namespace = s
		}
	}
	d.boolean(fields["createNamespace"], "spec.createNamespace", &spec.CreateNamespace)
	d.boolean(fields["prune"], "spec.prune", &spec.Prune)
	enum(d, fields["mode"], "spec.mode", &spec.Mode, ModeApply, ModePlan)
	if f := fields["drift"]; f != nil {
		enum(d, d.mapping(f, "spec.drift", "mode")["mode"], "spec.drift.mode", &spec.Drift.Mode, DriftCorrect, DriftReport, DriftIgnore)
	}
	if f := fields["adoptFrom"]; f != nil {
		d.adoptFrom(f, spec)
	}
}

func (d *decoder) path(n *yaml.Node, spec *Spec) {
	s, ok := d.text(n, "spec.path")
	if !ok {
		return
	}
	clean := path.Clean(s)
	switch {
	case path.IsAbs(s):
		d.fail(n, fmt.Sprintf("spec.path %q is absolute", s), "paths begin at the root of the repository, without a slash")
		return
	case !fs.ValidPath(clean):
		d.fail(n, fmt.Sprintf("spec.path %q leads out of the repository", s), "paths begin at the root of the repository")
		return
	}
	info, err := d.tree.Stat(clean)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint, err := manifest.Missing(d.tree, clean)
		if err != nil {
			hint = ""
		}
		d.fail(n, fmt.Sprintf("spec.path %q does not exist", s), hint)
	case err != nil:
		d.fail(n, fmt.Sprintf("spec.path %q cannot be read: %v", s, err), "")
	case !info.IsDir():
		d.fail(n, fmt.Sprintf("spec.path %q is not a folder", s), "name the folder that holds it")
	}
	spec.Path = clean
}

func (d *decoder) adoptFrom(n *yaml.Node, spec *Spec) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n, "spec.adoptFrom must be a list, and is "+typeName(n), `write ["manager"], or ["*"] for all`)
		return
	}
	for i, e := range n.Content {
		if s, ok := d.text(resolve(e), "spec.adoptFrom["+strconv.Itoa(i)+"]"); ok {
			spec.AdoptFrom = append(spec.AdoptFrom, s)
		}
	}
}

// text is a value that must be text and not empty.
func (d *decoder) text(n *yaml.Node, what string) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		hint := "put it in quotes"
		if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
			hint = ""
		}
		d.fail(n, what+" must be text, and is "+typeName(n), hint)
		return "", false
	}
	if n.Value == "" {
		d.fail(n, what+" is empty", "")
		return "", false
	}
	return n.Value, true
}

func (d *decoder) boolean(n *yaml.Node, what string, into *bool) {
	if n == nil {
		return
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
		d.fail(n, what+" must be true or false, and is "+typeName(n), "")
		return
	}
	*into = strings.EqualFold(n.Value, "true")
}

func enum[T ~string](d *decoder, n *yaml.Node, what string, into *T, allowed ...T) {
	if n == nil {
		return
	}
	s, ok := d.text(n, what)
	if !ok {
		return
	}
	if !slices.Contains(allowed, T(s)) {
		words := make([]string, len(allowed))
		for i, a := range allowed {
			words[i] = string(a)
		}
		d.fail(n, fmt.Sprintf("%s %q is not known", what, s), "allowed are "+strings.Join(words, ", "))
		return
	}
	*into = T(s)
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
