package gitrepo

import (
	"errors"
	"fmt"
	"path"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/holdfast-gitops/holdfast/sources"
)

const (
	maxCommitBytes = 4 << 20
	// maxDepth bounds how deep folders are nested.
	maxDepth = 200
	// maxFacts bounds what is remembered of trees of older commits.
	maxFacts = 100_000
)

// facts are what is known of a tree that was proven complete.
type facts struct {
	// files counts files and folders with all that is below, at most the limit.
	files int64
	// links tells that there are symbolic links or submodules below.
	links bool
}

// verify proves that a commit and its whole tree are readable: go-git reports
// success for a download that brought nothing of use. Trees that were proven
// before are not read again, so that it costs what a commit changed. Of files
// it is enough that a pack has them; their bytes are checked when read.
func (o *objects) verify(t target, limit int64) (plumbing.Hash, sources.Revision, error) {
	content, err := o.read(t.commit, plumbing.CommitObject, maxCommitBytes)
	if err != nil {
		return plumbing.ZeroHash, sources.Revision{}, unusable(t, err)
	}
	c, err := decodeCommit(content)
	if err != nil {
		return plumbing.ZeroHash, sources.Revision{}, fmt.Errorf("%w: commit %s: %s", errBadPack, t.commit, err)
	}
	f, err := o.check(c.TreeHash, ".", limit, 0)
	if err != nil {
		return plumbing.ZeroHash, sources.Revision{}, unusable(t, err)
	}
	if f.files > limit {
		return plumbing.ZeroHash, sources.Revision{}, tooManyFiles(limit)
	}
	rev := revisionOf(t.commit, c)
	rev.Ref = t.ref
	return c.TreeHash, rev, nil
}

// unusable tells apart what a new download may mend from what it cannot.
func unusable(t target, err error) error {
	if errors.Is(err, errMissing) {
		return fmt.Errorf("%w: %w", errBadPack, err)
	}
	var known *failure
	if errors.As(err, &known) {
		return err
	}
	return fail(ErrRefNotFound, fmt.Sprintf("commit %s cannot be read: %s", t.commit, printable(err.Error(), 200)), "")
}

func decodeCommit(content []byte) (*object.Commit, error) {
	raw := &plumbing.MemoryObject{}
	raw.SetType(plumbing.CommitObject)
	if _, err := raw.Write(content); err != nil {
		return nil, err
	}
	c := &object.Commit{}
	return c, c.Decode(raw)
}

func (o *objects) check(h plumbing.Hash, at string, limit int64, depth int) (*facts, error) {
	if f := o.known(h); f != nil {
		return f, nil
	}
	if depth > maxDepth {
		return nil, fail(ErrTooLarge, fmt.Sprintf("folders are nested more than %d deep", maxDepth), "")
	}
	content, err := o.read(h, plumbing.TreeObject, maxTreeBytes)
	if err != nil {
		return nil, fmt.Errorf("folder %s: %w", printable(at, 200), err)
	}
	d, err := parseDir(content)
	if err != nil {
		return nil, fmt.Errorf("folder %s: %w", printable(at, 200), err)
	}
	f := &facts{files: int64(len(d.entries) + len(d.refused))}
	for _, e := range d.entries {
		if err := o.checkEntry(f, e, at, limit, depth); err != nil {
			return nil, err
		}
	}
	o.remember(h, f)
	return f, nil
}

func (o *objects) checkEntry(f *facts, e entry, at string, limit int64, depth int) error {
	switch e.kind {
	case kindSubmodule:
		f.links = true // what is in it, links included, is not known here
		return nil
	case kindDir:
		below, err := o.check(e.hash, path.Join(at, e.name), limit, depth+1)
		if err != nil {
			return err
		}
		f.links = f.links || below.links
		// Capped, because a tree that repeats itself on each of many levels
		// counts beyond any integer.
		f.files = min(f.files+below.files, limit+1)
		return nil
	case kindLink:
		f.links = true
	}
	if o.find(e.hash) == nil {
		return fmt.Errorf("file %s: %w", printable(path.Join(at, e.name), 200), missing(e.hash, "not found"))
	}
	return nil
}

func (o *objects) known(h plumbing.Hash) *facts {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.facts[h]
}

func (o *objects) remember(h plumbing.Hash, f *facts) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.facts) >= maxFacts {
		clear(o.facts)
	}
	o.facts[h] = f
}

func tooManyFiles(limit int64) error {
	return fail(ErrTooLarge, fmt.Sprintf("the commit has more than %d files and folders", limit),
		"raise the limit or split the repository")
}
