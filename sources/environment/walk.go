package environment

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

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
