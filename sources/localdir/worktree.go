package localdir

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/go-git/go-billy/v5"
	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"github.com/go-git/go-git/v5/storage/filesystem/dotgit"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/internal/treefs"
)

const (
	// maxParents bounds how far up a work tree is looked for.
	maxParents = 64
	// maxPointerFile bounds the small files in which git names folders.
	maxPointerFile = 4096
	// gitCache bounds what is kept of git's objects while a commit is read.
	gitCache = 1 * cache.MiByte
	// dirtyDigits are those of the digest that tells changes apart.
	dirtyDigits = 16
)

// workTree is the repository that a folder belongs to.
type workTree struct {
	// git is where the objects are, and refs where HEAD is: another folder for a
	// work tree that was added to a repository.
	git, refs string
	// below is the folder's path in the work tree, empty for its root.
	below string
}

// committed is what HEAD says of the folder.
type committed struct {
	revision sources.Revision
	// tree is the folder in that commit.
	tree plumbing.Hash
}

// findWorkTree looks for the work tree that a folder is in. It answers nil when
// there is none; then the content alone identifies a revision.
func findWorkTree(dir string) *workTree {
	at, err := filepath.EvalSymlinks(dir)
	if err == nil {
		at, err = filepath.Abs(at)
	}
	if err != nil {
		return nil
	}
	below := ""
	for range maxParents {
		dot := filepath.Join(at, ".git")
		if info, err := os.Lstat(dot); err == nil {
			w := &workTree{below: below}
			switch {
			case info.IsDir():
				w.git, w.refs = dot, dot
			case !info.Mode().IsRegular() || !w.linked(dot):
				return nil
			}
			return w
		}
		parent := filepath.Dir(at)
		if parent == at {
			return nil
		}
		below = filepath.ToSlash(filepath.Join(filepath.Base(at), below))
		at = parent
	}
	return nil
}

// linked follows the file .git of a work tree that was added by git worktree. It
// is believed only where the repository knows of this work tree, so that a file
// in the folder cannot lead anywhere else.
func (w *workTree) linked(dot string) bool {
	target, ok := strings.CutPrefix(readLine(dot), "gitdir: ")
	if !ok {
		return false
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(dot), target)
	}
	back := readLine(filepath.Join(target, "gitdir"))
	if !filepath.IsAbs(back) {
		back = filepath.Join(target, back)
	}
	if !sameFile(back, dot) {
		return false
	}
	common := readLine(filepath.Join(target, "commondir"))
	if common == "" {
		return false
	}
	if !filepath.IsAbs(common) {
		common = filepath.Join(target, common)
	}
	w.git, w.refs = common, target
	return true
}

func sameFile(a, b string) bool {
	first, err := os.Stat(a)
	if err != nil {
		return false
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second)
}

// readLine reads a small file of one line; empty when it is not one.
func readLine(name string) string {
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPointerFile+1))
	if err != nil || len(b) > maxPointerFile {
		return ""
	}
	return strings.TrimRight(string(b), "\r\n")
}

var errNotCommitted = errors.New("the folder is not in the commit")

// head reads what is checked out. Nothing beyond the repository's own folder is
// read, so one that borrows objects from another is not understood.
func (w *workTree) head() (*committed, error) {
	var fs billy.Filesystem = osfs.New(w.refs, osfs.WithBoundOS())
	if w.git != w.refs {
		fs = dotgit.NewRepositoryFilesystem(fs, osfs.New(w.git, osfs.WithBoundOS()))
	}
	store := filesystem.NewStorage(fs, cache.NewObjectLRU(gitCache))
	defer store.Close() // was only read
	head, err := store.Reference(plumbing.HEAD)
	if err != nil {
		return nil, err
	}
	at, err := storer.ResolveReference(store, plumbing.HEAD)
	if err != nil {
		return nil, err
	}
	commit, err := object.GetCommit(store, at.Hash())
	if err != nil {
		return nil, err
	}
	out := &committed{tree: commit.TreeHash, revision: describe(commit)}
	if head.Type() == plumbing.SymbolicReference {
		out.revision.Ref = string(head.Target())
	}
	for name := range strings.SplitSeq(w.below, "/") {
		if name == "" {
			continue
		}
		tree, err := object.GetTree(store, out.tree)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(tree.Entries, func(e object.TreeEntry) bool { return e.Name == name })
		if i < 0 || tree.Entries[i].Mode.IsFile() {
			return nil, errNotCommitted
		}
		out.tree = tree.Entries[i].Hash
	}
	return out, nil
}

func describe(c *object.Commit) sources.Revision {
	subject, _, _ := strings.Cut(strings.TrimLeft(c.Message, "\n"), "\n")
	return sources.Revision{
		ID: c.Hash.String(), Author: plain(c.Author.Name, 100), Subject: plain(subject, 200), Time: c.Committer.When.UTC(),
	}
}

// plain makes a text fit for one line of a terminal.
func plain(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(s, "�"))
	s = strings.TrimSpace(s)
	if runes := []rune(s); len(runes) > limit {
		return string(runes[:limit]) + "…"
	}
	return s
}

// identify is the revision of a folder whose content has a digest: the commit
// where it is just as committed, the commit with a mark where it is not, and the
// digest alone where there is no commit.
func (w *workTree) identify(top *node, digest string) sources.Revision {
	if w == nil {
		return sources.Revision{ID: digest}
	}
	head, err := w.head()
	if err != nil { // no commit yet, or a repository that is not understood
		return sources.Revision{ID: digest}
	}
	rev := head.revision
	if id, ok := gitTree(top); !ok || id != head.tree {
		rev.ID += sources.DirtyMark + strings.TrimPrefix(digest, "sha256:")[:dirtyDigits]
	}
	return rev
}

// gitTree is the id that git would give a folder; not ok for one that it cannot
// hold. An empty folder has none.
func gitTree(n *node) (id plumbing.Hash, ok bool) {
	type line struct {
		sort, text string
	}
	var lines []line
	for _, c := range n.children {
		mode, id, sort := "100644", plumbing.ZeroHash, c.name
		switch {
		case c.err != nil:
			return id, false
		case c.kind == treefs.Dir:
			if empty(c) {
				continue
			}
			if id, ok = gitTree(c); !ok {
				return id, false
			}
			mode, sort = "40000", c.name+"/"
		case c.kind == treefs.Executable:
			mode, id = "100755", plumbing.ComputeHash(plumbing.BlobObject, c.content)
		case c.kind == treefs.Link:
			mode, id = "120000", plumbing.ComputeHash(plumbing.BlobObject, c.content)
		default:
			id = plumbing.ComputeHash(plumbing.BlobObject, c.content)
		}
		lines = append(lines, line{sort, mode + " " + c.name + "\x00" + string(id[:])})
	}
	slices.SortFunc(lines, func(a, b line) int { return strings.Compare(a.sort, b.sort) })
	var b bytes.Buffer
	for _, l := range lines {
		b.WriteString(l.text)
	}
	h := sha1.New()
	fmt.Fprintf(h, "tree %d\x00", b.Len())
	h.Write(b.Bytes())
	return plumbing.Hash(h.Sum(nil)), true
}

// empty tells whether a folder has no files, which git does not record.
func empty(n *node) bool {
	return !slices.ContainsFunc(n.children, func(c *node) bool { return c.kind != treefs.Dir || !empty(c) })
}
