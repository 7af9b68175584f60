package environment

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

// maxFileBytes bounds a file that may hold specs; larger ones are looked at only
// to say that they are too large.
const maxFileBytes = 4 << 20

// Broken is a document that is meant as a spec and cannot be used. The others
// stay usable, and an environment that already runs keeps what it has.
type Broken struct {
	// Kind is Kind or KindBlueprint, as far as it could be read.
	Kind string
	// Name is the document's, where it could be read.
	Name string
	// File and Line say where the document starts.
	File string
	Line int
	// Problems is everything that is wrong with it.
	Problems sources.Problems
}

// Error is the problems, one a line.
func (b Broken) Error() string { return b.Problems.Error() }

// Unwrap lets sources.ProblemsOf find the problems.
func (b Broken) Unwrap() error { return b.Problems.Err() }

// Repository is what the specs of a snapshot ask for.
type Repository struct {
	// Specs are the environments, by name.
	Specs []Spec
	// Templates are the specs of preview environments, by name.
	Templates []Template
	// Broken is what cannot be used, by name, then by place.
	Broken []Broken

	shown map[string]shown
}

// Read reads the environment specs of a snapshot. The pattern is a folder, of
// which all files count, or a glob of files and folders in which ** stands for
// any number of folders. The error is for a pattern that names nothing and a tree
// that cannot be read: only without it does the result say what the repository
// asks for.
func Read(tree sources.Tree, pattern string) (*Repository, error) {
	w := &walker{tree: tree}
	if err := w.pattern(pattern); err != nil {
		return nil, err
	}
	f := &finder{tree: tree, broken: w.broken}
	for _, file := range w.files {
		if err := f.file(file); err != nil {
			return nil, err
		}
	}
	f.duplicates()
	return f.resolve(), nil
}

type finder struct {
	tree      sources.Tree
	documents []*document
	broken    []Broken
}

// marker finds documents of our own kinds without parsing: repositories are full
// of files that are no YAML at all, such as the templates of charts.
var marker = regexp.MustCompile(`apiVersion["']?\s*:\s*["']?holdfast\.dev/`)

func (f *finder) file(file string) error {
	data, err := f.tree.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	if !marker.Match(data) {
		return nil
	}
	if len(data) > maxFileBytes {
		f.broken = append(f.broken, Broken{File: file, Line: 1, Problems: sources.Problems{{
			File: file, Message: fmt.Sprintf("is %d bytes, too large for a file with environment specs", len(data)),
			Hint: "give the specs a file of their own",
		}}})
		return nil
	}
	for _, chunk := range manifest.Split(data) {
		if p := chunk.Problem(file); p.Message != "" {
			f.broken = append(f.broken, Broken{File: file, Line: p.Line, Problems: sources.Problems{p}})
		}
		if !marker.Match(chunk.Text) {
			continue
		}
		if doc := readDocument(file, chunk); doc != nil {
			f.documents = append(f.documents, doc)
		}
	}
	if len(f.documents) > maxDocuments {
		return sources.Problem{File: file, Message: fmt.Sprintf("is where the repository holds more than %d environment specs", maxDocuments)}
	}
	return nil
}

// duplicates takes out the documents of which several have one name: which of
// them is meant cannot be known.
func (f *finder) duplicates() {
	places := map[string][]sources.Origin{}
	for _, doc := range f.documents {
		if doc.name != "" {
			places[doc.name] = append(places[doc.name], doc.origin())
		}
	}
	f.documents = slices.DeleteFunc(f.documents, func(doc *document) bool {
		at := places[doc.name]
		if len(at) < 2 {
			return false
		}
		var others []string
		for _, o := range at {
			if o != doc.origin() {
				others = append(others, o.String())
			}
		}
		problems := append(doc.problems, sources.Problem{
			File: doc.file, Line: doc.line,
			Message: fmt.Sprintf("%s %q is declared twice, also at %s", strings.ToLower(doc.kind), doc.name, strings.Join(others, " and ")),
			Hint:    "names are unique: rename or remove one",
		})
		f.broken = append(f.broken, doc.broken(problems))
		return true
	})
}

// resolve turns documents into what they ask for.
func (f *finder) resolve() *Repository {
	r := &resolver{tree: f.tree, documents: map[string]*document{}}
	for _, doc := range f.documents {
		r.documents[doc.name] = doc
	}
	out := &Repository{shown: map[string]shown{}}
	var all []*resolved
	for _, doc := range f.documents {
		if x := r.resolve(doc, builtins{}); doc.kind != KindBlueprint || len(x.problems) > 0 {
			all = append(all, x)
		}
	}
	relate(all)
	for _, x := range all {
		switch {
		case len(x.problems) > 0:
			f.broken = append(f.broken, x.doc.broken(x.problems))
			continue
		case x.spec.Preview != nil:
			x.spec.Values = nil // they are each branch's
			out.Templates = append(out.Templates, Template{Spec: x.spec, doc: x.doc, resolver: &resolver{documents: r.documents}})
		default:
			out.Specs = append(out.Specs, x.spec)
		}
		out.shown[x.spec.Name] = shown{doc: x.doc, spec: x.merged, labels: x.spec.Labels}
	}
	slices.SortFunc(out.Specs, func(a, b Spec) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(out.Templates, func(a, b Template) int { return strings.Compare(a.Spec.Name, b.Spec.Name) })
	slices.SortStableFunc(f.broken, func(a, b Broken) int { return strings.Compare(a.Name, b.Name) })
	out.Broken = f.broken
	return out
}
