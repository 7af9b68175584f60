package environment

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

// document is one spec as it is written, before anything is merged into it.
type document struct {
	file string
	// line is where the document starts, last where its text ends.
	line   int
	last   int
	kind   string
	name   string
	labels map[string]string
	// spec is its field spec, an empty mapping where it has none.
	spec     *yamldoc.Node
	problems sources.Problems
}

func (doc *document) origin() sources.Origin { return sources.Origin{File: doc.file, Line: doc.line} }

func (doc *document) broken(problems sources.Problems) Broken {
	return Broken{Kind: doc.kind, Name: doc.name, File: doc.file, Line: doc.line, Problems: yamldoc.Sort(problems)}
}

// unnamed finds the name in a document that is no YAML, so that its environment
// can be told about it.
var unnamed = regexp.MustCompile(`(?m)(?:^ {1,8}|[{,] *)name: *["']?([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)["']?\s*(?:[},]|$)`)

// readDocument reads a document's head; it is nil if the document is none of ours.
func readDocument(file string, chunk manifest.Chunk) *document {
	doc := &document{file: file, line: chunk.Line, last: chunk.Line + bytes.Count(chunk.Text, []byte("\n")), kind: Kind}
	root, _, problems := yamldoc.Parse(file, chunk.Line, chunk.Text)
	if root == nil {
		if len(problems) == 0 {
			return nil // nothing but comments
		}
		if m := unnamed.FindSubmatch(chunk.Text); m != nil {
			doc.name = string(m[1])
		}
		doc.problems = problems
		return doc
	}
	doc.line = root.Line
	if root.Kind != yamldoc.Mapping || !strings.HasPrefix(root.Text("apiVersion"), "holdfast.dev/") {
		// The marker was found in the text of some other kind's field.
		return nil
	}
	d := &yamldoc.Decoder{Problems: problems}
	doc.head(d, root)
	doc.problems = d.Problems
	return doc
}

func (doc *document) head(d *yamldoc.Decoder, root *yamldoc.Node) {
	for i, key := range root.Keys {
		value := root.Values[i]
		switch key.Value {
		case "apiVersion":
			if value.Value != APIVersion {
				d.Fail(value, fmt.Sprintf("apiVersion %q is not known", value.Value), "write "+APIVersion)
			}
		case "kind":
			if value.Value != Kind && value.Value != KindBlueprint {
				d.Fail(value, fmt.Sprintf("kind %q is not known in %s", value.Value, APIVersion), "write "+kindHint(value.Value))
			} else {
				doc.kind = value.Value
			}
		case "metadata", "spec":
		default:
			d.Unknown(key, "the document", []string{"apiVersion", "kind", "metadata", "spec"})
		}
	}
	if root.Text("kind") == "" {
		d.Fail(root, "has no kind", "write kind: "+Kind)
	}
	doc.metadata(d, root, root.Get("metadata"))
	switch spec := root.Get("spec"); {
	case spec == nil || spec.IsNull():
		doc.spec = &yamldoc.Node{Kind: yamldoc.Mapping, File: root.File, Line: root.Line, Column: root.Column}
	case spec.Kind != yamldoc.Mapping:
		d.Fail(spec, "spec must be a mapping, and is "+spec.TypeName(), "")
	default:
		doc.spec = spec
	}
}

func kindHint(kind string) string {
	if best := manifest.Closest(kind, []string{Kind, KindBlueprint}); best != "" {
		return best
	}
	return Kind
}

// metadata of a document.
type metadata struct {
	Name        string            `json:"name" need:"true"`
	Labels      map[string]string `json:"labels" check:"labels"`
	Annotations map[string]string `json:"annotations" check:"annotations"`
}

func (doc *document) metadata(d *yamldoc.Decoder, root, n *yamldoc.Node) {
	if n == nil {
		d.Fail(root, "has no metadata.name", "")
		return
	}
	if n.Kind == yamldoc.Mapping && n.Get("name") == nil {
		d.Fail(n, "has no metadata.name", "")
		n = yamldoc.Merge(n, &yamldoc.Node{Kind: yamldoc.Mapping}) // a copy to add to
		n.Set(&yamldoc.Node{Value: "name"}, &yamldoc.Node{Tag: yamldoc.TagUnknown})
	}
	var m metadata
	d.Into(n, "metadata", &m, checks(nil))
	doc.labels = m.Labels
	switch name := n.Get("name"); {
	case m.Name == "":
	case !label.MatchString(m.Name):
		d.Fail(name, fmt.Sprintf("metadata.name %q is not a valid name", m.Name), labelHint)
	default:
		doc.name = m.Name
	}
}
