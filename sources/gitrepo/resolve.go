package gitrepo

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
)

// target is what a ref stands for.
type target struct {
	// ref is the full name; empty for a ref that is a commit's id.
	ref string
	// object is what the ref points at: the commit, or an annotated tag.
	object plumbing.Hash
	commit plumbing.Hash
}

// resolve finds the ref among those listed.
func (l *listing) resolve(ref string) (target, error) {
	if hash, ok := pinned(ref); ok {
		return target{object: hash, commit: hash}, nil
	}
	if ref == "" {
		return l.head()
	}
	names := []string{"refs/heads/" + ref, "refs/tags/" + ref}
	if strings.HasPrefix(ref, "refs/") {
		names = []string{ref}
	}
	for _, name := range names {
		if t, ok := l.named(name); ok {
			return t, nil
		}
	}
	return target{}, fail(ErrRefNotFound, fmt.Sprintf("there is no branch or tag %q", printable(ref, 100)), l.suggest(ref))
}

func (l *listing) named(name string) (target, bool) {
	object, ok := l.adv.References[name]
	if !ok {
		return target{}, false
	}
	t := target{ref: name, object: object, commit: object}
	if commit, ok := l.adv.Peeled[name]; ok {
		t.commit = commit
	}
	// go-git makes zeros of an id that is none.
	return t, !t.object.IsZero() && !t.commit.IsZero()
}

// head finds the repository's default branch.
func (l *listing) head() (target, error) {
	for _, symref := range l.adv.Capabilities.Get(capability.SymRef) {
		if name, ok := strings.CutPrefix(symref, "HEAD:"); ok {
			if t, ok := l.named(name); ok {
				return t, nil
			}
		}
	}
	if l.adv.Head != nil && !l.adv.Head.IsZero() {
		return target{ref: "HEAD", object: *l.adv.Head, commit: *l.adv.Head}, nil
	}
	return target{}, fail(ErrRefNotFound, "the repository's default branch does not exist",
		"name a branch; "+l.suggest("main"))
}

// suggest names the refs that resemble the one that is missing.
func (l *listing) suggest(ref string) string {
	type candidate struct {
		name     string
		distance int
	}
	wanted := shortRef(ref)
	var found []candidate
	for name := range l.adv.References {
		if short := shortRef(name); short != name {
			found = append(found, candidate{short, distance(wanted, short)})
		}
	}
	if len(found) == 0 {
		return "the repository has no branches or tags"
	}
	slices.SortFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.name, b.name))
	})
	var names []string
	for _, c := range found[:min(3, len(found))] {
		names = append(names, fmt.Sprintf("%q", printable(c.name, 100)))
	}
	return "nearest are " + strings.Join(names, ", ")
}

func shortRef(name string) string {
	for _, prefix := range []string{"refs/heads/", "refs/tags/"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			return rest
		}
	}
	return name
}

// distance is the number of edits between two names, with a bound on their
// length because a server may list anything.
func distance(a, b string) int {
	const bound = 64
	a, b = a[:min(len(a), bound)], b[:min(len(b), bound)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
