package oci

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/holdfast-gitops/holdfast/sources/internal/treefs"
)

// node is one file, folder or symbolic link.
type node struct {
	name string
	kind treefs.Kind
	// offset, size and sum say where a file's bytes are and what they must be.
	offset, size int64
	sum          [sha256.Size]byte
	link         string
	children     []*node // sorted by name
	id           string
	// rise is how many folders above its own a link leads, and for a folder, the
	// links below it: above 0, they lead out of the folder.
	rise int

	byName map[string]*node // while the tree is built
}

func (n *node) child(name string) *node {
	i, ok := slices.BinarySearchFunc(n.children, name, func(c *node, name string) int { return strings.Compare(c.name, name) })
	if !ok {
		return nil
	}
	return n.children[i]
}

// builder puts a tree together, name by name, and refuses what an honest archive
// does not hold.
type builder struct {
	root  *node
	limit int
	count int
}

func newBuilder(limit int) *builder {
	return &builder{root: &node{kind: treefs.Dir}, limit: limit}
}

// add puts a node at a path.
func (b *builder) add(name string, n *node) error {
	dir := b.root
	if parent := path.Dir(name); parent != "." {
		var err error
		if dir, err = b.enter(parent); err != nil {
			return err
		}
	}
	return b.put(dir, path.Base(name), n, name)
}

func (b *builder) put(dir *node, base string, n *node, name string) error {
	if dir.byName[base] != nil {
		return refuse(name, "is in it twice")
	}
	if b.count++; b.count > b.limit {
		return fail(ErrTooLarge, fmt.Sprintf("the artifact has more than %d files and folders", b.limit), "raise the limit or split the artifact")
	}
	if dir.byName == nil {
		dir.byName = map[string]*node{}
	}
	n.name = base
	dir.byName[base] = n
	return nil
}

// folder makes a folder, unless it is there.
func (b *builder) folder(name string) error {
	_, err := b.enter(name)
	return err
}

// enter walks to a folder and makes what is missing on the way. It goes through
// no link: an archive that puts files behind one means to write elsewhere.
func (b *builder) enter(name string) (*node, error) {
	at := b.root
	for part := range strings.SplitSeq(name, "/") {
		next := at.byName[part]
		if next == nil {
			next = &node{kind: treefs.Dir}
			if err := b.put(at, part, next, name); err != nil {
				return nil, err
			}
		}
		if next.kind != treefs.Dir {
			return nil, refuse(name, fmt.Sprintf("is below %q, which is no folder", printable(part, 100)))
		}
		at = next
	}
	return at, nil
}

func (b *builder) find(name string) *node {
	at := b.root
	for part := range strings.SplitSeq(name, "/") {
		if at = at.byName[part]; at == nil {
			return nil
		}
	}
	return at
}

// finish sorts and digests the tree.
func (b *builder) finish() *node {
	finish(b.root)
	return b.root
}

func finish(n *node) {
	switch n.kind {
	case treefs.Executable:
		n.id = "exec:" + hex.EncodeToString(n.sum[:])
	case treefs.File:
		n.id = "file:" + hex.EncodeToString(n.sum[:])
	case treefs.Link:
		n.id, n.rise = fmt.Sprintf("link:%q", n.link), rise(n.link)
	case treefs.Dir:
		n.children = make([]*node, 0, len(n.byName))
		for _, c := range n.byName {
			finish(c)
			n.children = append(n.children, c)
			below := c.rise
			if c.kind == treefs.Dir {
				below--
			}
			n.rise = max(n.rise, below)
		}
		n.byName = nil
		slices.SortFunc(n.children, func(a, b *node) int { return strings.Compare(a.name, b.name) })
		sum := sha256.New()
		for _, c := range n.children {
			fmt.Fprintf(sum, "%q %s\n", c.name, c.id)
		}
		n.id = "tree:" + hex.EncodeToString(sum.Sum(nil))
	}
}

// rise judges a link by its text. A ".." after a name may go up from wherever
// another link leads, so it counts as leading out of everything.
func rise(target string) int {
	const all = maxDepth + 1
	if path.IsAbs(target) {
		return all
	}
	up, named := 0, false
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if up++; named {
				return all
			}
		default:
			named = true
		}
	}
	return up
}

// visit calls for every node below n, folders before what is in them.
func (n *node) visit(at string, call func(path string, n *node) error) error {
	for _, c := range n.children {
		name := path.Join(at, c.name)
		if err := call(name, c); err != nil {
			return err
		}
		if err := c.visit(name, call); err != nil {
			return err
		}
	}
	return nil
}
