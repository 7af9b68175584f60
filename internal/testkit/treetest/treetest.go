// Package treetest is a source tree in memory, for tests.
package treetest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"sync"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/holdfast-gitops/holdfast/sources"
)

// Tree is a sources.Tree over a map of paths to contents. It counts what is
// read, so that a test can say that something was answered from a cache.
type Tree struct {
	files fstest.MapFS

	mu    sync.Mutex
	reads map[string]int
}

var _ sources.Tree = (*Tree)(nil)

// New makes a tree of files.
func New(files map[string]string) *Tree {
	t := &Tree{files: fstest.MapFS{}, reads: map[string]int{}}
	for name, content := range files {
		t.files[name] = &fstest.MapFile{Data: []byte(content), Mode: 0o644}
	}
	return t
}

// FromTxtar makes a tree of the files of an archive.
func FromTxtar(a *txtar.Archive) *Tree {
	files := make(map[string]string, len(a.Files))
	for _, f := range a.Files {
		files[f.Name] = string(f.Data)
	}
	return New(files)
}

// With is a copy of the tree in which one file has other content.
func (t *Tree) With(name, content string) *Tree {
	c := t.copy()
	c.files[name] = &fstest.MapFile{Data: []byte(content), Mode: 0o644}
	return c
}

// Without is a copy of the tree that lacks a file.
func (t *Tree) Without(name string) *Tree {
	c := t.copy()
	delete(c.files, name)
	return c
}

// WithLink is a copy of the tree with a symbolic link.
func (t *Tree) WithLink(name, target string) *Tree {
	c := t.copy()
	c.files[name] = &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
	return c
}

func (t *Tree) copy() *Tree {
	c := New(nil)
	for name, f := range t.files {
		c.files[name] = f
	}
	return c
}

// Reads is how often the content of files was read since the last call.
func (t *Tree) Reads() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, c := range t.reads {
		n += c
	}
	t.reads = map[string]int{}
	return n
}

// Open implements fs.FS.
func (t *Tree) Open(name string) (fs.File, error) { return t.files.Open(name) }

// Stat implements fs.StatFS.
func (t *Tree) Stat(name string) (fs.FileInfo, error) { return t.files.Stat(name) }

// ReadDir implements fs.ReadDirFS.
func (t *Tree) ReadDir(name string) ([]fs.DirEntry, error) { return t.files.ReadDir(name) }

// ReadFile implements fs.ReadFileFS.
func (t *Tree) ReadFile(name string) ([]byte, error) {
	t.mu.Lock()
	t.reads[name]++
	t.mu.Unlock()
	return t.files.ReadFile(name)
}

// ContentID is a SHA-256 of a file, or of the names, modes and ids in a folder.
func (t *Tree) ContentID(name string) (string, error) {
	info, err := t.files.Stat(name)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	if !info.IsDir() {
		data, err := t.files.ReadFile(name)
		if err != nil {
			return "", err
		}
		h.Write(data)
		return hex.EncodeToString(h.Sum(nil)), nil
	}
	entries, err := t.files.ReadDir(name)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		id, err := t.ContentID(path.Join(name, e.Name()))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s\x00%s\x00%s\n", e.Type(), e.Name(), id)
	}
	return "tree:" + hex.EncodeToString(h.Sum(nil)), nil
}
