package gitrepo

import (
	"bytes"
	"errors"
	"io/fs"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/internal/treefs"
)

// maxLinkBytes bounds the text of a symbolic link.
const maxLinkBytes = 4096

var (
	errSubmodule = errors.New("submodule is not supported (commit its files, or follow its repository as a source of its own)")
	errLFS       = errors.New("the file is a Git LFS pointer, and LFS is not supported (commit the file itself)")
)

// tree is the tree of one commit.
type tree struct {
	*treefs.FS[entry]
	blobs blobs
	root  plumbing.Hash
}

var (
	_ sources.Tree  = (*tree)(nil)
	_ fs.ReadLinkFS = (*tree)(nil)
)

func newTree(o *objects, root plumbing.Hash, when time.Time, maxFile int64) *tree {
	b := blobs{objects: o, maxFile: maxFile}
	return &tree{
		FS:    treefs.New[entry](b, entry{kind: kindDir, hash: root}, when),
		blobs: b, root: root,
	}
}

// blobs reads the tree's content from the object store. Its handles are the
// entries of git's own listings.
type blobs struct {
	objects *objects
	maxFile int64
}

var _ treefs.Store[entry] = blobs{}

// Lookup implements treefs.Store.
func (b blobs) Lookup(folder entry, name string) (treefs.Node[entry], error) {
	if folder.kind == kindSubmodule {
		return treefs.Node[entry]{}, errSubmodule
	}
	d, err := b.objects.dir(folder.hash)
	if err != nil {
		return treefs.Node[entry]{}, b.noted(err)
	}
	e, ok := d.lookup(name)
	if !ok {
		return treefs.Node[entry]{}, fs.ErrNotExist
	}
	return e.node(), nil
}

// List implements treefs.Store.
func (b blobs) List(folder entry) ([]treefs.Node[entry], error) {
	if folder.kind == kindSubmodule {
		return nil, errSubmodule
	}
	d, err := b.objects.dir(folder.hash)
	if err != nil {
		return nil, b.noted(err)
	}
	entries, err := d.list()
	if err != nil {
		return nil, err
	}
	nodes := make([]treefs.Node[entry], len(entries))
	for i, e := range entries {
		nodes[i] = e.node()
	}
	return nodes, nil
}

// Size implements treefs.Store.
func (b blobs) Size(file entry) (int64, error) {
	size, err := b.objects.size(file.hash)
	return size, b.noted(err)
}

// Content implements treefs.Store.
func (b blobs) Content(file entry) ([]byte, error) {
	content, err := b.objects.read(file.hash, plumbing.BlobObject, b.maxFile)
	if err != nil {
		return nil, b.noted(err)
	}
	if isLFSPointer(content) {
		return nil, errLFS
	}
	return content, nil
}

// Target implements treefs.Store.
func (b blobs) Target(link entry) (string, error) {
	target, err := b.objects.read(link.hash, plumbing.BlobObject, maxLinkBytes)
	if err != nil {
		return "", b.noted(err)
	}
	if len(target) == 0 || bytes.IndexByte(target, 0) >= 0 {
		return "", errors.New("the symbolic link has no valid target")
	}
	return string(target), nil
}

// noted makes the next fetch build a new generation when a commit that was
// proven readable turns out not to be.
func (b blobs) noted(err error) error {
	if errors.Is(err, errMissing) {
		b.objects.damaged.Store(true)
	}
	return err
}

// isLFSPointer recognizes what Git LFS commits in place of a file. Taking it
// for the file itself would apply garbage.
func isLFSPointer(b []byte) bool {
	return len(b) < 1024 && bytes.HasPrefix(b, []byte("version https://git-lfs.github.com/spec/"))
}
