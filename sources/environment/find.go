package environment

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
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
	// Name is the environment's, where it could be read.
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

// Find reads the environment specs of a snapshot. The pattern is a folder, of
// which all files count, or a glob of files and folders in which ** stands for
// any number of folders. Both results are sorted by name, then by place. The
// error is for a pattern that names nothing and a tree that cannot be read: only
// without it do the results say what the repository asks for.
func Find(tree sources.Tree, pattern string) ([]Spec, []Broken, error) {
	w := &walker{tree: tree}
	if err := w.pattern(pattern); err != nil {
		return nil, nil, err
	}
	f := &finder{tree: tree, broken: w.broken}
	for _, file := range w.files {
		if err := f.file(file); err != nil {
			return nil, nil, err
		}
	}
	f.duplicates()
	slices.SortFunc(f.specs, func(a, b Spec) int { return strings.Compare(a.Name, b.Name) })
	slices.SortStableFunc(f.broken, func(a, b Broken) int { return strings.Compare(a.Name, b.Name) })
	return f.specs, f.broken, nil
}

type finder struct {
	tree   sources.Tree
	specs  []Spec
	broken []Broken
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
		if marker.Match(chunk.Text) {
			f.document(file, chunk)
		}
	}
	return nil
}

func (f *finder) document(file string, chunk manifest.Chunk) {
	d := &decoder{tree: f.tree, file: file, base: chunk.Line}
	spec, ours := d.spec(chunk.Text)
	switch {
	case !ours:
	case len(d.problems) > 0:
		manifest.SortProblems(d.problems)
		f.broken = append(f.broken, Broken{Name: spec.Name, File: file, Line: spec.Line, Problems: d.problems})
	default:
		f.specs = append(f.specs, spec)
	}
}

// duplicates takes out the specs of which several have one name: which of them
// is meant cannot be known.
func (f *finder) duplicates() {
	places := map[string][]sources.Origin{}
	for _, s := range f.specs {
		places[s.Name] = append(places[s.Name], sources.Origin{File: s.File, Line: s.Line})
	}
	f.specs = slices.DeleteFunc(f.specs, func(s Spec) bool {
		at := places[s.Name]
		if len(at) < 2 {
			return false
		}
		var others []string
		for _, o := range at {
			if o.File != s.File || o.Line != s.Line {
				others = append(others, o.String())
			}
		}
		f.broken = append(f.broken, Broken{Name: s.Name, File: s.File, Line: s.Line, Problems: sources.Problems{{
			File: s.File, Line: s.Line,
			Message: fmt.Sprintf("environment %q is declared twice, also at %s", s.Name, strings.Join(others, " and ")),
			Hint:    "names are unique: rename or remove one",
		}}})
		return true
	})
}

// walker collects the files that a pattern takes in, sorted, and the links with
// a file's name that lead to none.
type walker struct {
	tree   sources.Tree
	files  []string
	broken []Broken
}

// pattern visits what a pattern may match.
func (w *walker) pattern(pattern string) error {
	tree := w.tree
	pattern = path.Clean(strings.Trim(pattern, "/"))
	if !fs.ValidPath(pattern) {
		return sources.Problem{Message: fmt.Sprintf("path %q of environment specs leads out of the repository", pattern)}
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return sources.Problem{Message: fmt.Sprintf("pattern %q of environment specs: %v", pattern, err)}
	}
	start, rest := literal(pattern)
	info, err := tree.Stat(start)
	if errors.Is(err, fs.ErrNotExist) {
		hint, err := manifest.Missing(tree, start)
		if err != nil {
			return err
		}
		return sources.Problem{File: start, Message: "there is no such folder of environment specs", Hint: hint}
	}
	if err != nil {
		return fmt.Errorf("stat %s: %w", start, err)
	}
	if !info.IsDir() {
		if len(rest) > 0 {
			return sources.Problem{File: start, Message: "is a file, not a folder of environment specs"}
		}
		w.files = []string{start}
		return nil
	}
	return w.folder(start, [][]string{rest}, 0)
}

// literal cuts a pattern into the folder that it certainly lies in and the steps
// that have to be matched.
func literal(pattern string) (start string, rest []string) {
	steps := strings.Split(pattern, "/")
	for i, step := range steps {
		if strings.ContainsAny(step, `*?[\`) {
			return path.Join(append([]string{"."}, steps[:i]...)...), steps[i:]
		}
	}
	return pattern, nil
}

// maxDepth bounds how deep folders nest.
const maxDepth = 64

// folder visits a folder with the steps that are still to be matched below it,
// in all ways in which ** allows to go on. No steps left: everything counts.
func (w *walker) folder(dir string, left [][]string, depth int) error {
	if depth > maxDepth {
		return sources.Problem{File: dir, Message: "nests too deep"}
	}
	entries, err := w.tree.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	for _, e := range entries {
		full := path.Join(dir, e.Name())
		next := advance(left, e.Name())
		switch {
		case len(next) == 0 || strings.HasPrefix(e.Name(), "."):
		case e.IsDir():
			if err := w.folder(full, next, depth+1); err != nil {
				return err
			}
		case manifest.IsManifest(e.Name()) && done(next):
			w.file(full, e)
		}
	}
	return nil
}

func (w *walker) file(full string, e fs.DirEntry) {
	if e.Type()&fs.ModeSymlink == 0 {
		w.files = append(w.files, full)
		return
	}
	switch info, err := w.tree.Stat(full); {
	case err != nil:
		w.broken = append(w.broken, Broken{File: full, Problems: sources.Problems{{
			File: full, Message: "is a symbolic link that leads to no file of the repository",
		}}})
	case !info.IsDir():
		w.files = append(w.files, full)
	}
}

// advance matches a name against the next step of each way.
func advance(ways [][]string, name string) [][]string {
	var next [][]string
	add := func(way []string) {
		for _, n := range next {
			if len(n) == len(way) {
				return
			}
		}
		next = append(next, way)
	}
	for _, way := range ways {
		for len(way) > 0 && way[0] == "**" {
			add(way)
			way = way[1:]
		}
		if len(way) == 0 {
			add(nil)
			continue
		}
		if ok, _ := path.Match(way[0], name); ok {
			add(way[1:])
		}
	}
	return next
}

// done says whether one of the ways is matched to its end.
func done(ways [][]string) bool {
	return slices.ContainsFunc(ways, func(way []string) bool {
		return !slices.ContainsFunc(way, func(step string) bool { return step != "**" })
	})
}
