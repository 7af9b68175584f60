package localdir

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/holdfast-gitops/holdfast/sources/internal/treefs"
)

// node is one file, folder or symbolic link.
type node struct {
	name    string
	path    string
	kind    treefs.Kind
	content []byte // of a file; the text of a link
	err     error  // of what is neither file, folder nor link
	// children are sorted by name. Hidden ones are reached through links but not
	// listed.
	children []*node
	hidden   bool
	id       string
}

func (n *node) child(name string) *node {
	i, ok := slices.BinarySearchFunc(n.children, name, func(c *node, name string) int {
		return strings.Compare(c.name, name)
	})
	if !ok {
		return nil
	}
	return n.children[i]
}

// hideVolume hides the machinery of a ConfigMap's volume: folders named by the
// time, "..data" that links to the newest, and each file a link into that.
// Walking them would meet every file twice, and their names change although the
// content does not.
func (n *node) hideVolume() {
	if data := n.child("..data"); data == nil || data.kind != treefs.Link {
		return
	}
	for _, c := range n.children {
		c.hidden = strings.HasPrefix(c.name, "..")
	}
}

// nodes is the store of the file system.
type nodes struct{}

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
	var list []treefs.Node[*node]
	for _, c := range dir.children {
		if !c.hidden {
			list = append(list, treefs.Node[*node]{Name: c.name, Kind: c.kind, Handle: c})
		}
	}
	return list, nil
}

// Size implements treefs.Store.
func (nodes) Size(file *node) (int64, error) { return int64(len(file.content)), file.err }

// Content implements treefs.Store.
func (nodes) Content(file *node) ([]byte, error) {
	if file.err != nil {
		return nil, file.err
	}
	return append([]byte{}, file.content...), nil
}

// Target implements treefs.Store.
func (nodes) Target(link *node) (string, error) {
	if len(link.content) == 0 || bytes.IndexByte(link.content, 0) >= 0 {
		return "", errors.New("the symbolic link has no valid target")
	}
	return string(link.content), nil
}

// digester computes the ids of all nodes. The id of a folder covers what the
// links in it lead to: who reads the folder reads that too.
type digester struct {
	find func(path string) (*node, error)
	// raw is a digest of everything, links as text, that stands in for a folder
	// that a link below it leads back to.
	raw    string
	active map[*node]bool
}

func (d *digester) compute(n *node) string {
	if n.id != "" {
		return n.id
	}
	switch n.kind {
	case treefs.File, treefs.Executable:
		n.id = digestFile(n)
	case treefs.Link:
		n.id = d.link(n)
	case treefs.Dir:
		d.active[n] = true
		h := sha256.New()
		for _, c := range n.children {
			id := d.compute(c)
			if !c.hidden {
				fmt.Fprintf(h, "%q %d %s\n", c.name, c.kind, id)
			}
		}
		delete(d.active, n)
		n.id = "sha256:" + hex.EncodeToString(h.Sum(nil))
	}
	return n.id
}

func (d *digester) link(n *node) string {
	target, err := d.find(n.path)
	if err != nil {
		return digestText("broken link", string(n.content))
	}
	if d.active[target] {
		return digestText("link back", string(n.content), d.raw)
	}
	return digestText("link", string(n.content), d.compute(target))
}

func digestFile(n *node) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d %v\n", n.kind, n.err)
	h.Write(n.content)
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

func digestText(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%q\n", p)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// raw is the digest of a tree with its links as text.
func raw(n *node) string {
	if n.kind != treefs.Dir {
		return digestFile(n)
	}
	h := sha256.New()
	for _, c := range n.children {
		fmt.Fprintf(h, "%q %d %s\n", c.name, c.kind, raw(c))
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}
