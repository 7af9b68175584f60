// Package repotest holds the checks over Holdfast's own source tree: which
// package may import which, what must be documented, and what must not be left
// lying about. They are functions from a tree to findings, so that each can be
// tried on a tree that is wrong.
//
// It reads syntax alone: it needs no build, and finds what is wrong in code that
// does not compile.
package repotest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Tree is a source tree, read whole.
type Tree struct {
	// Module is the path of the module at the root.
	Module string
	// Nested are the folders of further modules.
	Nested []string
	Go     []GoFile
	Text   []TextFile
}

// GoFile is one file of Go.
type GoFile struct {
	// Path is slash separated, from the root of the tree.
	Path string
	Src  []byte
	AST  *ast.File
	Fset *token.FileSet
}

// TextFile is any file that people wrote, those of Go included.
type TextFile struct {
	Path string
	Text []byte
}

// Dir is the folder of the file, "." for the root.
func (f GoFile) Dir() string { return path.Dir(f.Path) }

// IsTest says whether only tests are built of it.
func (f GoFile) IsTest() bool { return strings.HasSuffix(f.Path, "_test.go") }

// at is a place in the file, for a finding.
func (f GoFile) at(pos token.Pos) string {
	return fmt.Sprintf("%s:%d", f.Path, f.Fset.Position(pos).Line)
}

// inRoot says whether the file belongs to the module at the root.
func (t Tree) inRoot(f GoFile) bool {
	return !slices.ContainsFunc(t.Nested, func(dir string) bool { return within(f.Dir(), dir) })
}

// within says whether a folder is another one or lies below it.
func within(dir, other string) bool { return dir == other || strings.HasPrefix(dir, other+"/") }

// skipDirs are the folders that git does not know, and skipFiles what programs
// write: in a second work tree, .git is a file.
var (
	skipDirs  = []string{".git", ".demo", "bin", "vendor"}
	skipFiles = []string{".git", "go.sum", "bench.json"}
)

// Load reads a tree. Files under testdata are text, not Go.
func Load(fsys fs.FS) (Tree, error) {
	t := Tree{}
	err := fs.WalkDir(fsys, ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && slices.Contains(skipDirs, e.Name()):
			return fs.SkipDir
		case !e.Type().IsRegular() || slices.Contains(skipFiles, e.Name()):
			return nil
		}
		return t.add(fsys, name)
	})
	if err != nil {
		return Tree{}, fmt.Errorf("read the tree: %w", err)
	}
	return t, nil
}

func (t *Tree) add(fsys fs.FS, name string) error {
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		return err
	}
	if bytes.IndexByte(data, 0) >= 0 { // a picture, or a program
		return nil
	}
	t.Text = append(t.Text, TextFile{Path: name, Text: data})
	switch {
	case name == "go.mod":
		t.Module = modulePath(data)
	case path.Base(name) == "go.mod":
		t.Nested = append(t.Nested, path.Dir(name))
	case path.Ext(name) == ".go" && !strings.Contains("/"+name, "/testdata/"):
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, data, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		t.Go = append(t.Go, GoFile{Path: name, Src: data, AST: file, Fset: fset})
	}
	return nil
}

// text is the content of a file, nil if there is none.
func (t Tree) text(name string) []byte {
	for _, f := range t.Text {
		if f.Path == name {
			return f.Text
		}
	}
	return nil
}
