// Package codify changes the files of a source so that git says what is live.
//
// It does not reason about kustomize, Helm or parameters. It looks for the few
// places in the files that could be where a value comes from, changes one, renders
// everything before and after, and believes nothing but that: exactly the wanted
// fields of the one object have to move to the live values, and nothing else in
// any environment. Where no single place does that, it refuses. Comments and the
// formatting of everything else stay, since it edits text.
package codify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
)

// The bounds of a search. Each try is a render, of which most come from a cache.
const (
	maxTries     = 40
	maxFiles     = 300
	maxFileBytes = 1 << 20
	maxFields    = 20
)

// Request says what is to be codified.
type Request struct {
	// Tree are the source's files; Roots are the folders and files in which the
	// value may be written down, the likeliest first.
	Tree  sources.Tree
	Roots []string
	// Render renders every environment that reads the tree, by name.
	Render func(ctx context.Context, tree sources.Tree) (map[string][]sources.Item, error)
	// Environment and Object are what drifted, and Changes the fields of it.
	Environment string
	Object      sources.ID
	Changes     []drift.Change
}

// Patch is a change of the source's files.
type Patch struct {
	// Diff is in unified form, as git apply takes it.
	Diff  string   `json:"diff"`
	Files []string `json:"files"`
	// Fields are the paths that move.
	Fields []string `json:"fields"`
	// Contents are the files as they become.
	Contents map[string][]byte `json:"-"`
}

// Codify finds the change. Its error is a sources.Problem that says why there is
// none.
func Codify(ctx context.Context, r Request) (Patch, error) {
	refuse := func(format string, args ...any) error {
		return sources.Problem{Object: r.Object.String(), Message: "cannot be codified: " + fmt.Sprintf(format, args...), Hint: "change the files by hand, or accept or ignore the drift"}
	}
	if r.Object.Group == "" && r.Object.Kind == "Secret" {
		return Patch{}, refuse("secrets are never written into files")
	}
	if len(r.Changes) == 0 || len(r.Changes) > maxFields {
		return Patch{}, refuse("%d fields are to move, and from 1 to %d can", len(r.Changes), maxFields)
	}
	before, err := r.Render(ctx, r.Tree)
	if err != nil {
		return Patch{}, fmt.Errorf("render the files as they are: %w", err)
	}
	s := search{Request: r, tree: &overlay{Tree: r.Tree, changed: map[string][]byte{}}, rendered: before}
	if s.files, err = s.list(); err != nil {
		return Patch{}, err
	}
	out := Patch{Contents: map[string][]byte{}}
	for _, c := range r.Changes {
		if err := s.move(ctx, c); err != nil {
			return Patch{}, refuse("%s: %v", field(c), err)
		}
		out.Fields = append(out.Fields, c.Path)
	}
	for _, name := range s.tree.names() {
		old, err := fs.ReadFile(r.Tree, name)
		if err != nil {
			return Patch{}, fmt.Errorf("read %s: %w", name, err)
		}
		out.Files = append(out.Files, name)
		out.Contents[name] = s.tree.changed[name]
		out.Diff += unified(name, string(old), string(s.tree.changed[name]))
	}
	if holdsSecret(out.Diff, before) || holdsSecret(out.Diff, s.rendered) {
		return Patch{}, refuse("the lines around it hold secrets, which a patch would show")
	}
	return out, nil
}

func field(c drift.Change) string {
	if c.Path == "" {
		return "the whole object"
	}
	return c.Path
}

// search is the state of one Codify.
type search struct {
	Request
	// tree holds what was changed so far, and rendered what that renders to.
	tree     *overlay
	rendered map[string][]sources.Item
	files    []string
	tries    int
}

// list are the YAML files below the roots, each once.
func (s *search) list() ([]string, error) {
	var out []string
	add := func(name string) {
		if ext := path.Ext(name); (ext == ".yaml" || ext == ".yml") && !slices.Contains(out, name) && len(out) < maxFiles {
			out = append(out, name)
		}
	}
	for _, root := range s.Roots {
		info, err := s.Tree.Stat(root)
		if err != nil {
			continue // a layer of another source, or nothing at all
		}
		if !info.IsDir() {
			add(root)
			continue
		}
		if err := fs.WalkDir(s.Tree, root, func(name string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				add(name)
			}
			return err
		}); err != nil {
			return nil, fmt.Errorf("list %s: %w", root, err)
		}
	}
	return out, nil
}

// move finds the one edit that moves a field to its live value.
func (s *search) move(ctx context.Context, c drift.Change) error {
	item, ok := find(s.rendered[s.Environment], s.Object)
	switch {
	case !ok:
		return fmt.Errorf("the files do not render to this object")
	case item.Sensitive:
		return fmt.Errorf("its values are sensitive")
	case c.Path == "":
		return fmt.Errorf("the object is gone, or was never there")
	}
	live, exact := c.Live.Exact()
	if c.Live.Present() && !exact {
		return fmt.Errorf("its live value is sensitive, or too large for a report")
	}
	git, exact := drift.At(item.Body, c.Path, false).Exact()
	if !exact {
		return fmt.Errorf("the files do not set it")
	}
	if bytes.Equal(git, live) {
		return nil // an earlier edit has moved it
	}
	wanted, err := moved(item.Body, c.Path, live)
	if err != nil {
		return err
	}
	found, err := s.tryAll(ctx, s.edits(item, c.Path, git, live), wanted)
	if err != nil {
		return err
	}
	s.tree, s.rendered = found.tree, found.rendered
	return nil
}

// proof is an edit that did what it had to.
type proof struct {
	tree     *overlay
	rendered map[string][]sources.Item
	where    string
}

// tryAll renders with each edit. Exactly one must do; of edits that add something
// the first is taken, after those that change what is there.
func (s *search) tryAll(ctx context.Context, edits []edit, wanted []byte) (proof, error) {
	var proofs []proof
	others := ""
	for _, e := range edits {
		if s.tries++; s.tries > maxTries {
			return proof{}, fmt.Errorf("it could come from too many places")
		}
		if err := ctx.Err(); err != nil {
			return proof{}, err
		}
		if e.adds && len(proofs) > 0 {
			break
		}
		tree := s.tree.with(e.file, e.content)
		after, err := s.Render(ctx, tree)
		if err != nil {
			continue // the edit breaks something: it is the wrong one
		}
		switch why := s.differs(after, wanted); why {
		case "":
			proofs = append(proofs, proof{tree, after, fmt.Sprintf("%s:%d", e.file, e.line)})
			if e.adds {
				return proofs[0], nil
			}
		default:
			others = fmt.Sprintf("; %s:%d would also change %s", e.file, e.line, why)
		}
	}
	switch len(proofs) {
	case 0:
		return proof{}, fmt.Errorf("no single place in the files was found that sets just this%s", others)
	case 1:
		return proofs[0], nil
	}
	return proof{}, fmt.Errorf("it is not certain where it comes from: %s or %s", proofs[0].where, proofs[1].where)
}

// differs says what else than the one field of the one object would move; empty
// if that is all.
func (s *search) differs(after map[string][]sources.Item, wanted []byte) string {
	for name, items := range s.rendered {
		now := after[name]
		if len(now) != len(items) {
			return "the objects of environment " + name
		}
		for i := range items {
			own := name == s.Environment && items[i].ID == s.Object
			switch {
			case own && now[i].ID == items[i].ID && equalJSON(now[i].Body, wanted):
			case own:
				return "other fields of the object, or not this one"
			case now[i].ID != items[i].ID || now[i].Digest != items[i].Digest:
				return fmt.Sprintf("%s of environment %s", items[i].ID, name)
			}
		}
	}
	if len(after) != len(s.rendered) {
		return "which environments there are"
	}
	return ""
}

func find(items []sources.Item, id sources.ID) (sources.Item, bool) {
	i := slices.IndexFunc(items, func(item sources.Item) bool { return item.ID == id })
	if i < 0 {
		return sources.Item{}, false
	}
	return items[i], true
}

func equalJSON(a, b []byte) bool {
	x, errA := decode(a)
	y, errB := decode(b)
	return errA == nil && errB == nil && reflect.DeepEqual(x, y)
}

func decode(raw []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	err := dec.Decode(&v)
	return v, err
}

// moved is a body with one field at another value; without it, if the value is
// nil.
func moved(body []byte, at string, value json.RawMessage) ([]byte, error) {
	root, err := decode(body)
	if err != nil {
		return nil, fmt.Errorf("decode the object: %w", err)
	}
	steps := drift.PathSteps(at)
	last := steps[len(steps)-1]
	var parent any = root
	for _, step := range steps[:len(steps)-1] {
		if parent = drift.Below(parent, step); parent == nil {
			return nil, fmt.Errorf("the files do not set it")
		}
	}
	m, ok := parent.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("entries of lists are not added or removed")
	}
	if delete(m, last); value != nil {
		if m[last], err = decode(value); err != nil {
			return nil, fmt.Errorf("decode the live value: %w", err)
		}
	}
	return json.Marshal(root)
}

// isImage reports whether a path is a container's image, and of which repository.
func isImage(at string, git json.RawMessage) (repository string, ok bool) {
	steps := drift.PathSteps(at)
	var text string
	if len(steps) == 0 || steps[len(steps)-1] != "image" || json.Unmarshal(git, &text) != nil {
		return "", false
	}
	name, _, _ := splitImage(text)
	return name, name != ""
}

// splitImage parts "registry:5000/a/b:tag" or "a@sha256:…" from its tag or digest.
func splitImage(image string) (name, mark, tag string) {
	if i := strings.IndexByte(image, '@'); i >= 0 {
		return image[:i], "@", image[i+1:]
	}
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		return image[:i], ":", image[i+1:]
	}
	return image, "", ""
}
