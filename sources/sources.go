// Package sources holds the values that come out of a source: the revision, the
// snapshot of its files, and the items that an environment's files render to.
//
// It knows nothing of where snapshots come from (gitrepo, oci, localdir) nor of what
// becomes of the items (drift, reconciler): those packages import this one.
package sources

import (
	"io/fs"
	"strings"
	"sync"
	"time"
)

// DirtyMark is what follows the commit in the ID of a work tree with changes.
const DirtyMark = "+dirty."

// Revision names one immutable state of a source: a commit, the manifest of an
// OCI artifact, or for a local directory a digest of its content.
type Revision struct {
	// ID is the full commit hash, or "sha256:…" for an artifact and a directory.
	// For a work tree of git with changes it is the commit, "+dirty." and a digest.
	ID string `json:"id"`
	// Ref is what was followed to find it, such as refs/heads/main. Empty for a
	// directory.
	Ref string `json:"ref,omitempty"`
	// Author, Subject and Time describe the commit, or say where an artifact was
	// made from; zero for a directory.
	Author  string    `json:"author,omitempty"`
	Subject string    `json:"subject,omitempty"`
	Time    time.Time `json:"time,omitzero"`
	// Signer is whose signature was accepted, where the source requires one.
	Signer string `json:"signer,omitempty"`
}

// Short is the revision as people quote it: the ref's last part and seven
// digits of the id, as in "main@a1b2c3d" or "main@a1b2c3d+dirty".
func (r Revision) Short() string {
	id, _, dirty := strings.Cut(strings.TrimPrefix(r.ID, "sha256:"), DirtyMark)
	if len(id) > 7 {
		id = id[:7]
	}
	if dirty {
		id += "+dirty"
	}
	ref := r.Ref
	for _, prefix := range []string{"refs/heads/", "refs/tags/", "refs/"} {
		if rest, ok := strings.CutPrefix(ref, prefix); ok {
			ref = rest
			break
		}
	}
	if ref == "" || id == "" {
		return id
	}
	return ref + "@" + id
}

// Tree is the file tree of a snapshot. Paths are slash separated and relative,
// as in io/fs; "." is the root. It is safe for concurrent use.
type Tree interface {
	fs.ReadDirFS
	fs.ReadFileFS
	fs.StatFS
	// ContentID identifies the content of a file, or of a folder with all that
	// is below it: two equal ids mean equal bytes (and equal names and modes
	// below a folder). The error of a path that does not exist wraps
	// fs.ErrNotExist.
	ContentID(path string) (string, error)
}

// Snapshot is a source's files at one revision. It is a lease: its files stay
// readable until Close, whatever is fetched meanwhile.
type Snapshot struct {
	// Source is the name of the source in the daemon's configuration.
	Source   string
	Revision Revision
	Tree     Tree

	release func()
	once    sync.Once
}

// NewSnapshot wraps a tree. Release, which may be nil, is called once by the
// first Close.
func NewSnapshot(source string, rev Revision, tree Tree, release func()) *Snapshot {
	return &Snapshot{Source: source, Revision: rev, Tree: tree, release: release}
}

// Close ends the lease. It may be called more than once.
func (s *Snapshot) Close() {
	s.once.Do(func() {
		if s.release != nil {
			s.release()
		}
	})
}
