package repotest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxLines bounds a file, so that one can be read in one go. Tests may be longer.
const maxLines = 450

// LongFiles finds files of Go that are too long.
func LongFiles(t Tree) []string {
	var out []string
	for _, f := range t.Go {
		if n := bytes.Count(f.Src, []byte("\n")); n > maxLines && !f.IsTest() {
			out = append(out, fmt.Sprintf("%s: has %d lines, and at most %d are allowed", f.Path, n, maxLines))
		}
	}
	return out
}

// Unformatted finds files of Go that gofmt would change.
func Unformatted(t Tree) []string {
	var out []string
	for _, f := range t.Go {
		formatted, err := format.Source(f.Src)
		if err != nil || !bytes.Equal(formatted, f.Src) {
			out = append(out, f.Path+": is not formatted by gofmt")
		}
	}
	return out
}

// Sleeps finds tests that wait by the clock: they are slow where they need not
// be and fail where they should not. Files that use synctest are left out: within
// its bubble the clock is a fake, and sleeping is how it is moved.
func Sleeps(t Tree) []string {
	var out []string
	for _, f := range t.Go {
		fake := slices.ContainsFunc(f.AST.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"testing/synctest"` })
		if !f.IsTest() || fake {
			continue
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && isCall(call, "time", "Sleep") {
				out = append(out, f.at(call.Pos())+": sleeps in a test; wait for what is meant to happen")
			}
			return true
		})
	}
	return out
}

func isCall(call *ast.CallExpr, pkg, name string) bool {
	s, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != name {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == pkg
}

var (
	// The words are put together here so that this file has none.
	later = regexp.MustCompile(`\b(` + "TO" + `DO|` + "FIX" + `ME)\b`)
	// workstation is a path on somebody's own machine.
	workstation = regexp.MustCompile("(?:^|[\\s\"'`=:(\\[,<>])/(?:home|root|work)/")
	// madeUp is one that tests and documents may have.
	madeUp = regexp.MustCompile(`/home/ann\b`)
)

// Leftovers finds marks of work that is not done, and paths of the machine that
// somebody worked on. This package, which names them, is left out.
func Leftovers(t Tree) []string {
	var out []string
	for _, f := range t.Text {
		if strings.HasPrefix(f.Path, "internal/testkit/repotest/") {
			continue
		}
		line := 0
		for text := range bytes.Lines(f.Text) {
			line++
			place := f.Path + ":" + strconv.Itoa(line)
			if word := later.Find(text); word != nil {
				out = append(out, fmt.Sprintf("%s: says %s: do it, or write it where work is planned", place, word))
			}
			if workstation.Match(madeUp.ReplaceAll(text, nil)) {
				out = append(out, place+": names a path of a workstation")
			}
		}
	}
	return out
}

// License finds a tree that does not say how it may be used.
func License(t Tree) []string {
	if !bytes.Contains(t.text("LICENSE"), []byte("Apache License")) {
		return []string{"LICENSE: is missing, or not the Apache License"}
	}
	return nil
}
