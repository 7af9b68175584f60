package gitrepo

import (
	"bytes"
	"errors"
	"io/fs"
	"path"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/internal/treefs"
)

// maxLinkBytes bounds the text of a symbolic link.
const maxLinkBytes = 4096

var (
	errSubmodule = errors.New("it is a submodule, and submodules are not read (set submodules, commit its files, or follow its repository as a source of its own)")
	errLFS       = errors.New("the file is a Git LFS pointer, and LFS is not on (set lfs: true for the source, or commit the file itself)")
)

// tree is the tree of one commit, with those of its submodules.
type tree struct {
	*treefs.FS[handle]
	blobs blobs
	root  plumbing.Hash
}

var (
	_ sources.Tree  = (*tree)(nil)
	_ fs.ReadLinkFS = (*tree)(nil)
)

func newTree(r *Repo, v *view) *tree {
	b := blobs{top: &module{repo: r, view: v}}
	b.modules = newModules(r)
	r.children.enter()
	root := handle{entry: entry{kind: kindDir, hash: v.root}, path: ".", in: b.top}
	return &tree{FS: treefs.New[handle](b, root, v.revision.Time), blobs: b, root: v.root}
}

// close ends the lease, and those of the submodules that were read.
func (t *tree) close() {
	t.blobs.modules.close()
	t.blobs.top.view.release()
	t.blobs.top.repo.children.leave()
}

// handle is an entry together with where it is.
type handle struct {
	entry
	// path is from the root of the repository that the entry is in.
	path string
	in   *module
}

// blobs reads the tree's content from the object stores. Its handles are the
// entries of git's own listings.
type blobs struct {
	top     *module
	modules *modules
}

var _ treefs.Store[handle] = blobs{}

// Lookup implements treefs.Store.
func (b blobs) Lookup(folder handle, name string) (treefs.Node[handle], error) {
	folder, d, err := b.dir(folder)
	if err != nil {
		return treefs.Node[handle]{}, err
	}
	e, ok := d.lookup(name)
	if !ok {
		return treefs.Node[handle]{}, fs.ErrNotExist
	}
	return folder.child(e), nil
}

// List implements treefs.Store.
func (b blobs) List(folder handle) ([]treefs.Node[handle], error) {
	folder, d, err := b.dir(folder)
	if err != nil {
		return nil, err
	}
	entries, err := d.list()
	if err != nil {
		return nil, err
	}
	nodes := make([]treefs.Node[handle], len(entries))
	for i, e := range entries {
		nodes[i] = folder.child(e)
	}
	return nodes, nil
}

// child is an entry as the file system sees it. A submodule is a folder there.
func (h handle) child(e entry) treefs.Node[handle] {
	n := treefs.Node[handle]{Name: e.name, Handle: handle{entry: e, path: path.Join(h.path, e.name), in: h.in}}
	switch e.kind {
	case kindExecutable:
		n.Kind = treefs.Executable
	case kindLink:
		n.Kind = treefs.Link
	case kindDir, kindSubmodule:
		n.Kind = treefs.Dir
	}
	return n
}

// dir reads a folder's listing; that of a submodule is its repository's root.
func (b blobs) dir(folder handle) (handle, *dir, error) {
	if folder.kind == kindSubmodule {
		m, err := b.modules.enter(folder)
		if err != nil {
			return folder, nil, err
		}
		folder = handle{entry: entry{kind: kindDir, hash: m.view.root}, path: ".", in: m}
	}
	d, err := folder.in.view.objects.dir(folder.hash)
	return folder, d, folder.noted(err)
}

// Size implements treefs.Store.
func (b blobs) Size(file handle) (int64, error) {
	size, err := file.in.view.objects.size(file.hash)
	if err != nil || size >= maxPointer || !file.in.repo.opts.LFS || file.kind == kindLink {
		return size, file.noted(err)
	}
	content, err := file.in.view.objects.read(file.hash, plumbing.BlobObject, maxPointer)
	if err != nil {
		return 0, file.noted(err)
	}
	if p, err := parsePointer(content); err == nil {
		return p.size, nil
	}
	return size, nil
}

// Content implements treefs.Store.
func (b blobs) Content(file handle) ([]byte, error) {
	limit := file.in.repo.opts.Limits.FileBytes
	content, err := file.in.view.objects.read(file.hash, plumbing.BlobObject, limit)
	switch {
	case err != nil:
		return nil, file.noted(err)
	case !isLFSPointer(content):
		return content, nil
	case !file.in.repo.opts.LFS:
		return nil, errLFS
	}
	return file.in.repo.large(content)
}

// Target implements treefs.Store.
func (b blobs) Target(link handle) (string, error) {
	target, err := link.in.view.objects.read(link.hash, plumbing.BlobObject, maxLinkBytes)
	if err != nil {
		return "", link.noted(err)
	}
	if len(target) == 0 || bytes.IndexByte(target, 0) >= 0 {
		return "", errors.New("the symbolic link has no valid target")
	}
	return string(target), nil
}

// noted makes the next fetch build a new generation when a commit that was
// proven readable turns out not to be.
func (h handle) noted(err error) error {
	if errors.Is(err, errMissing) {
		h.in.view.objects.damaged.Store(true)
	}
	return err
}
