// Package treefs makes an io/fs file system of any immutable tree of files, so
// that all kinds of sources resolve symbolic links and fail in the same way.
//
// A symbolic link is followed only inside the tree. One that leads out of it,
// or in circles, is an error of whoever goes through it, and is never taken for
// a file that does not exist.
package treefs

import (
	"errors"
	"io/fs"
	"path"
	"strings"
	"time"
)

// maxHops bounds how many symbolic links one path may go through.
const maxHops = 32

var (
	errLoop   = errors.New("too many levels of symbolic links")
	errEscape = errors.New("a symbolic link leads out of the source, which is not followed")
	errIsDir  = errors.New("is a directory")
	errNotDir = errors.New("not a directory")
)

// Kind is what an entry of a folder is.
type Kind uint8

// The kinds of entries.
const (
	File Kind = iota
	Executable
	Link
	Dir
)

func (k Kind) mode() fs.FileMode {
	switch k {
	case Executable:
		return 0o555
	case Link:
		return fs.ModeSymlink | 0o777
	case Dir:
		return fs.ModeDir | 0o555
	}
	return 0o444
}

// Node is one name in a folder; the handle is what its store finds it by.
type Node[H any] struct {
	Name   string
	Kind   Kind
	Handle H
}

// Store is where the content comes from. It must be safe for concurrent use,
// and what it gives must never change.
type Store[H any] interface {
	// Lookup finds a name in a folder; its error wraps fs.ErrNotExist when there
	// is none.
	Lookup(dir H, name string) (Node[H], error)
	// List gives the folder's entries, sorted by name.
	List(dir H) ([]Node[H], error)
	// Size is that of a file or of a link's text.
	Size(file H) (int64, error)
	// Content gives a copy of a file's bytes.
	Content(file H) ([]byte, error)
	// Target is the text of a link.
	Target(link H) (string, error)
}

// FS is the file system. All its files have the same time.
type FS[H any] struct {
	store Store[H]
	root  H
	when  time.Time
}

// New makes the file system below root.
func New[H any](store Store[H], root H, when time.Time) *FS[H] {
	return &FS[H]{store: store, root: root, when: when}
}

// Find walks to a name, following symbolic links but that of the last element
// unless told to.
func (t *FS[H]) Find(op, name string, follow Follow) (Node[H], error) {
	if !fs.ValidPath(name) {
		return Node[H]{}, PathError(op, name, fs.ErrInvalid)
	}
	w := walk[H]{store: t.store, stack: []Node[H]{{Kind: Dir, Handle: t.root}}}
	n, err := w.to(strings.Split(name, "/"), follow)
	if err != nil {
		return Node[H]{}, PathError(op, name, err)
	}
	n.Name = path.Base(name) // that of the link, where one was followed
	return n, nil
}

// Follow says what to do at a symbolic link that is a path's last element.
type Follow bool

// What Follow can be.
const (
	FollowLast Follow = true
	KeepLast   Follow = false
)

// walk is a position in the tree: the folders from the root down.
type walk[H any] struct {
	store Store[H]
	stack []Node[H]
	hops  int
}

func (w *walk[H]) to(parts []string, follow Follow) (Node[H], error) {
	for len(parts) > 0 {
		part := parts[0]
		parts = parts[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if len(w.stack) == 1 {
				return Node[H]{}, errEscape
			}
			w.stack = w.stack[:len(w.stack)-1]
			continue
		}
		n, err := w.store.Lookup(w.stack[len(w.stack)-1].Handle, part)
		if err != nil {
			return n, err
		}
		switch {
		case n.Kind == Link && (len(parts) > 0 || follow == FollowLast):
			if parts, err = w.through(n, parts); err != nil {
				return n, err
			}
		case n.Kind == Dir:
			w.stack = append(w.stack, n)
		case len(parts) > 0:
			return n, fs.ErrNotExist // a file has nothing below it
		default:
			return n, nil
		}
	}
	return w.stack[len(w.stack)-1], nil
}

// through puts the target of a link before what is left of the path.
func (w *walk[H]) through(n Node[H], rest []string) ([]string, error) {
	if w.hops++; w.hops > maxHops {
		return nil, errLoop
	}
	target, err := w.store.Target(n.Handle)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(target, "/") {
		return nil, errEscape
	}
	return append(strings.Split(target, "/"), rest...), nil
}

// Open implements fs.FS. The content of a file is read at the first Read.
func (t *FS[H]) Open(name string) (fs.File, error) {
	n, err := t.Find("open", name, FollowLast)
	if err != nil {
		return nil, err
	}
	info, err := t.info(n)
	if err != nil {
		return nil, PathError("open", name, err)
	}
	if n.Kind == Dir {
		return &openDir[H]{fs: t, path: name, node: n, info: info}, nil
	}
	return &openFile[H]{fs: t, path: name, node: n, info: info}, nil
}

// ReadFile implements fs.ReadFileFS.
func (t *FS[H]) ReadFile(name string) ([]byte, error) {
	n, err := t.Find("read", name, FollowLast)
	if err != nil {
		return nil, err
	}
	if n.Kind == Dir {
		return nil, PathError("read", name, errIsDir)
	}
	content, err := t.store.Content(n.Handle)
	if err != nil {
		return nil, PathError("read", name, err)
	}
	return content, nil
}

// ReadDir implements fs.ReadDirFS.
func (t *FS[H]) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := t.Find("readdir", name, FollowLast)
	if err != nil {
		return nil, err
	}
	list, err := t.list(n)
	if err != nil {
		return nil, PathError("readdir", name, err)
	}
	return list, nil
}

func (t *FS[H]) list(n Node[H]) ([]fs.DirEntry, error) {
	if n.Kind != Dir {
		return nil, errNotDir
	}
	nodes, err := t.store.List(n.Handle)
	if err != nil {
		return nil, err
	}
	list := make([]fs.DirEntry, len(nodes))
	for i, n := range nodes {
		list[i] = dirEntry[H]{fs: t, node: n}
	}
	return list, nil
}

// Stat implements fs.StatFS; it follows symbolic links.
func (t *FS[H]) Stat(name string) (fs.FileInfo, error) { return t.stat("stat", name, FollowLast) }

// Lstat implements fs.ReadLinkFS.
func (t *FS[H]) Lstat(name string) (fs.FileInfo, error) { return t.stat("lstat", name, KeepLast) }

func (t *FS[H]) stat(op, name string, follow Follow) (fs.FileInfo, error) {
	n, err := t.Find(op, name, follow)
	if err != nil {
		return nil, err
	}
	info, err := t.info(n)
	if err != nil {
		return nil, PathError(op, name, err)
	}
	return info, nil
}

// ReadLink implements fs.ReadLinkFS.
func (t *FS[H]) ReadLink(name string) (string, error) {
	n, err := t.Find("readlink", name, KeepLast)
	if err != nil {
		return "", err
	}
	if n.Kind != Link {
		return "", PathError("readlink", name, fs.ErrInvalid)
	}
	target, err := t.store.Target(n.Handle)
	if err != nil {
		return "", PathError("readlink", name, err)
	}
	return target, nil
}

func (t *FS[H]) info(n Node[H]) (fs.FileInfo, error) {
	info := fileInfo{name: n.Name, mode: n.Kind.mode(), when: t.when}
	if n.Kind == Dir {
		return info, nil
	}
	size, err := t.store.Size(n.Handle)
	if err != nil {
		return nil, err
	}
	info.size = size
	return info, nil
}

// PathError is the error of an operation on a path.
func PathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}
