package oci

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/internal/treefs"
)

// tree is the tree of one artifact.
type tree struct {
	*treefs.FS[*node]
	root *node
}

var (
	_ sources.Tree  = (*tree)(nil)
	_ fs.ReadLinkFS = (*tree)(nil)
)

func newTree(c *content, when time.Time, maxFile int64) *tree {
	return &tree{FS: treefs.New[*node](nodes{c, maxFile}, c.root, when), root: c.root}
}

// ContentID implements sources.Tree. Where a link leads out of a folder, what it
// leads to counts too, for which the whole artifact stands in.
func (t *tree) ContentID(name string) (string, error) {
	n, err := t.Find("identify", name, treefs.FollowLast)
	if err != nil {
		return "", err
	}
	if n.Handle.rise > 0 && n.Handle != t.root {
		return n.Handle.id + "+" + t.root.id, nil
	}
	return n.Handle.id, nil
}

// nodes is the store of the file system.
type nodes struct {
	content *content
	maxFile int64
}

var _ treefs.Store[*node] = nodes{}

// Lookup implements treefs.Store.
func (nodes) Lookup(dir *node, name string) (treefs.Node[*node], error) {
	c := dir.child(name)
	if c == nil {
		return treefs.Node[*node]{}, fs.ErrNotExist
	}
	return treefs.Node[*node]{Name: name, Kind: c.kind, Handle: c}, nil
}

// List implements treefs.Store.
func (nodes) List(dir *node) ([]treefs.Node[*node], error) {
	list := make([]treefs.Node[*node], len(dir.children))
	for i, c := range dir.children {
		list[i] = treefs.Node[*node]{Name: c.name, Kind: c.kind, Handle: c}
	}
	return list, nil
}

// Size implements treefs.Store.
func (nodes) Size(file *node) (int64, error) { return file.size, nil }

// Content implements treefs.Store. What is not what was downloaded is an error,
// and makes the next fetch download it again.
func (s nodes) Content(file *node) ([]byte, error) {
	if file.size > s.maxFile {
		return nil, fail(ErrTooLarge, fmt.Sprintf("%d bytes exceed the limit of %d", file.size, s.maxFile), "")
	}
	b := make([]byte, file.size)
	if _, err := s.content.file.ReadAt(b, file.offset); err != nil {
		s.content.damaged.Store(true)
		return nil, fmt.Errorf("the cache is damaged: %w", err)
	}
	if sha256.Sum256(b) != file.sum {
		s.content.damaged.Store(true)
		return nil, errors.New("the cache is damaged: the file's digest does not match")
	}
	return b, nil
}

// Target implements treefs.Store.
func (nodes) Target(link *node) (string, error) { return link.link, nil }
