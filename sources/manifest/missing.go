package manifest

import (
	"errors"
	"io/fs"
	"path"
	"strings"

	"github.com/holdfast-gitops/holdfast/sources"
)

// Missing says what is there instead of a path that does not exist: the deepest
// folder that does, and what in it is spelt almost alike.
func Missing(tree sources.Tree, missing string) (hint string, err error) {
	dir, name := ".", ""
	for _, step := range strings.Split(path.Clean(missing), "/") {
		next := path.Join(dir, step)
		info, err := tree.Stat(next)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if err != nil || !info.IsDir() {
			name = step
			break
		}
		dir = next
	}
	entries, err := tree.ReadDir(dir)
	if err != nil {
		return "", err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	where := "the folder " + dir + " exists"
	if dir == "." {
		where = "paths begin at the root of the repository"
	}
	if best := Closest(name, names); best != "" {
		return "did you mean " + path.Join(dir, best) + "? " + where, nil
	}
	return where, nil
}

// Closest is the one of some words that is spelt most like a word, or "" when
// none is near enough to be meant.
func Closest(word string, words []string) string {
	best, distance := "", 1+max(1, (len(word)+2)/3)
	for _, w := range words {
		if d := edits(strings.ToLower(word), strings.ToLower(w)); d < distance && w != word {
			best, distance = w, d
		}
	}
	return best
}

// edits is the Levenshtein distance of two short words.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
