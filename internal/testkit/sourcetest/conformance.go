package sourcetest

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
)

// conformance are the cases, beside the laws, of what origins turn into.
var conformance = map[string]func(*testing.T, Harness){
	"older content again is the same content":   testBackAgain,
	"an emptied source is an empty tree":        testEmptied,
	"a source replaced by an unrelated one":     testReplaced,
	"a folder becomes a file, and back":         testFolderAndFile,
	"a link becomes a folder":                   testLinkAndFolder,
	"names that differ in case are two":         testCase,
	"names like options and commands are names": testOddNames,
	"hidden files are files":                    testHidden,
	"deep paths are read":                       testDeep,
	"links in circles are refused":              testCircles,
	"a file over the limit is named":            testLargeFile,
	"thousands of files are listed":             testManyFiles,
	"two of one origin do not disturb":          testTwo,
	"many fetches at a time agree":              testManyFetches,
	"a failure keeps the last revision":         testFailure,
}

func testBackAgain(t *testing.T, h Harness) {
	h.Write(t, Files{"a": "1", "d/b": "1"})
	s := h.Open(t)
	before := Fetch(t, s)
	h.Write(t, Files{"a": "2", "d/b": gitserver.Delete, "e": "1"})
	between := Fetch(t, s)
	h.Write(t, Files{"a": "1", "d/b": "1", "e": gitserver.Delete})
	after := Fetch(t, s)
	id := func(tree fs.FS) string {
		t.Helper()
		id, err := tree.(interface{ ContentID(string) (string, error) }).ContentID(".")
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	if id(before.Tree) != id(after.Tree) || id(before.Tree) == id(between.Tree) {
		t.Error("the same content has another id")
	}
	WantFile(t, after, "d/b", "1")
	WantFile(t, between, "a", "2")
}

func testEmptied(t *testing.T, h Harness) {
	h.Write(t, Files{"a": "1", "d/b": "1"})
	s := h.Open(t)
	Fetch(t, s)
	h.Write(t, Files{"a": gitserver.Delete, "d": gitserver.Delete, "d/b": gitserver.Delete})
	snap := Fetch(t, s)
	wantNames(t, snap.Tree, ".")
	h.Write(t, Files{"a": "2"})
	WantFile(t, Fetch(t, s), "a", "2")
}

// wantNames checks what a folder lists.
func wantNames(t *testing.T, tree fs.ReadDirFS, dir string, want ...string) {
	t.Helper()
	entries, err := tree.ReadDir(dir)
	if err != nil {
		t.Errorf("list %s: %v", dir, err)
		return
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s lists %q, want %q", dir, got, want)
	}
}

func testReplaced(t *testing.T, h Harness) {
	h.Write(t, Files{"a": "1", "b": "1", "c": "1"})
	s := h.Open(t)
	old := Fetch(t, s)
	h.Write(t, Files{"a": gitserver.Delete, "b": gitserver.Delete, "c": gitserver.Delete, "x/y": "2"})
	snap := Fetch(t, s)
	wantNames(t, snap.Tree, ".", "x")
	WantFile(t, snap, "x/y", "2")
	WantFile(t, old, "a", "1")
}

func testFolderAndFile(t *testing.T, h Harness) {
	h.Write(t, Files{"x/y": "1", "keep": "1"})
	s := h.Open(t)
	one := Fetch(t, s)
	h.Write(t, Files{"x/y": gitserver.Delete, "x": gitserver.Delete})
	h.Write(t, Files{"x": "file"})
	two := Fetch(t, s)
	WantFile(t, two, "x", "file")
	if _, err := two.Tree.ReadFile("x/y"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read below a file: %v", err)
	}
	h.Write(t, Files{"x": gitserver.Delete})
	h.Write(t, Files{"x/z": "3"})
	WantFile(t, Fetch(t, s), "x/z", "3")
	WantFile(t, one, "x/y", "1")
}

func testLinkAndFolder(t *testing.T, h Harness) {
	h.Write(t, Files{"real/a": "1", "x": gitserver.Symlink("real")})
	s := h.Open(t)
	one := Fetch(t, s)
	WantFile(t, one, "x/a", "1")
	h.Write(t, Files{"x": gitserver.Delete})
	h.Write(t, Files{"x/a": "2"})
	two := Fetch(t, s)
	WantFile(t, two, "x/a", "2")
	WantFile(t, two, "real/a", "1")
	WantFile(t, one, "x/a", "1")
}

func testCase(t *testing.T, h Harness) {
	h.Write(t, Files{"README": "upper", "readme": "lower", "Dir/a": "1", "dir/a": "2"})
	snap := Fetch(t, h.Open(t))
	for name, want := range map[string]string{"README": "upper", "readme": "lower", "Dir/a": "1", "dir/a": "2"} {
		WantFile(t, snap, name, want)
	}
	wantNames(t, snap.Tree, ".", "Dir", "README", "dir", "readme")
}

func testOddNames(t *testing.T, h Harness) {
	files := Files{}
	for _, name := range []string{"-rf", "--upload-pack=true", "$(touch pwned)", "`id`", "a;b", "a|b", "a&b", "con", "~", "%2e%2e", "…", "a\\b", "x..y", "...", "a:b"} {
		files[name] = name
	}
	h.Write(t, files)
	snap := Fetch(t, h.Open(t))
	for name := range files {
		WantFile(t, snap, name, name)
	}
}

func testHidden(t *testing.T, h Harness) {
	h.Write(t, Files{".hidden": "1", ".github/workflow": "2", ".gitignore": ".hidden\n", "d/.keep": ""})
	snap := Fetch(t, h.Open(t))
	wantNames(t, snap.Tree, ".", ".github", ".gitignore", ".hidden", "d")
	WantFile(t, snap, ".github/workflow", "2")
	WantFile(t, snap, "d/.keep", "")
}

func testDeep(t *testing.T, h Harness) {
	name := strings.Repeat("d/", 100) + "file"
	h.Write(t, Files{name: "deep"})
	snap := Fetch(t, h.Open(t))
	WantFile(t, snap, name, "deep")
	if _, err := snap.Tree.ContentID("d/d/d"); err != nil {
		t.Error(err)
	}
}

func testCircles(t *testing.T, h Harness) {
	h.Write(t, Files{
		"d/a": "1", "d/self": gitserver.Symlink("."), "d/up": gitserver.Symlink(".."), "one": gitserver.Symlink("two"),
		"two": gitserver.Symlink("three"), "three": gitserver.Symlink("one"), "grow": gitserver.Symlink("grow/grow"),
	})
	tree := Fetch(t, h.Open(t)).Tree
	if b, err := tree.ReadFile("d/self/self/up/d/a"); err != nil || string(b) != "1" {
		t.Errorf("read through folders that link to themselves: %q, %v", b, err)
	}
	for _, name := range []string{"one", "grow", "d/" + strings.Repeat("self/", 200) + "a"} {
		if _, err := tree.ReadFile(name); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "symbolic link") {
			t.Errorf("read %.20s: %v", name, err)
		}
	}
	seen := 0
	err := fs.WalkDir(tree, ".", func(_ string, _ fs.DirEntry, err error) error { seen++; return err })
	if err != nil || seen != 9 {
		t.Errorf("walked over %d names: %v", seen, err)
	}
	if _, err := tree.ContentID("d"); err != nil {
		t.Errorf("identify a folder that links to itself: %v", err)
	}
}

// largeBytes is more than the default limit of one file.
const largeBytes = 17 << 20

// A file over the limit is an error that names it: of the fetch where the source
// keeps its files in memory, else of who reads it.
func testLargeFile(t *testing.T, h Harness) {
	h.Write(t, Files{"small": "1"})
	s := h.Open(t)
	Fetch(t, s)
	// It can be compressed well, but not as if it were made to fill disks.
	var line strings.Builder
	for i := range 1000 {
		fmt.Fprint(&line, i*i, " ")
	}
	h.Write(t, Files{"large": strings.Repeat(line.String(), largeBytes/line.Len()+1), "small": "2"})
	snap, err := s.Fetch(t.Context())
	if err == nil {
		defer snap.Close()
		WantFile(t, snap, "small", "2")
		_, err = snap.Tree.ReadFile("large")
	} else {
		WantLast(t, s, "small", "1")
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "large") || !strings.Contains(err.Error(), "16777216") {
		t.Errorf("the error of a file over the limit: %v", err)
	}
	h.Write(t, Files{"large": "no more"})
	WantFile(t, Fetch(t, s), "large", "no more")
}

func testManyFiles(t *testing.T, h Harness) {
	const folders, each = 20, 100
	files := Files{}
	for i := range folders * each {
		files[fmt.Sprintf("d%02d/f%04d", i%folders, i)] = fmt.Sprint(i)
	}
	h.Write(t, files)
	s := h.Open(t)
	snap := Fetch(t, s)
	for name, want := range files {
		WantFile(t, snap, name, want)
	}
	h.Write(t, Files{"d00": gitserver.Delete, "d00/f0000": gitserver.Delete})
	entries, err := Fetch(t, s).Tree.ReadDir("d01")
	if err != nil || len(entries) != each {
		t.Errorf("%d names, %v", len(entries), err)
	}
}

func testTwo(t *testing.T, h Harness) {
	h.Write(t, Files{"a": "1"})
	one, two := h.Open(t), h.Open(t)
	old := Fetch(t, one)
	h.Write(t, Files{"a": "2"})
	WantFile(t, Fetch(t, two), "a", "2")
	WantFile(t, old, "a", "1")
	WantFile(t, Fetch(t, one), "a", "2")
	WantLast(t, one, "a", "2")
	WantLast(t, two, "a", "2")
}

func testManyFetches(t *testing.T, h Harness) {
	h.Write(t, Files{"a": "1"})
	s := h.Open(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			snap, err := s.Fetch(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer snap.Close()
			WantFile(t, snap, "a", "1")
			WantLast(t, s, "a", "1")
		})
	}
	all.Wait()
}

func testFailure(t *testing.T, h Harness) {
	if h.Break == nil {
		t.Skip("the harness cannot break its origin")
	}
	h.Write(t, Files{"a": "1"})
	s := h.Open(t)
	held := Fetch(t, s)
	mend := h.Break(t)
	for range 2 {
		if snap, err := s.Fetch(t.Context()); err == nil {
			snap.Close()
			t.Fatal("a fetch of a broken origin succeeded")
		} else if errors.Is(err, fs.ErrNotExist) && h.Restart != nil || !strings.Contains(err.Error(), h.Names) {
			t.Errorf("the error does not name %q: %v", h.Names, err)
		}
		WantLast(t, s, "a", "1")
		WantFile(t, held, "a", "1")
	}
	mend()
	h.Write(t, Files{"a": "2"})
	WantFile(t, Fetch(t, s), "a", "2")
}
