// Package sourcetest holds the laws that every kind of source obeys, as tests
// that each kind runs against itself.
package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/sources"
)

// Source is what all kinds have in common.
type Source interface {
	Head(context.Context) (sources.Revision, error)
	Fetch(context.Context) (*sources.Snapshot, error)
	Last() (*sources.Snapshot, error)
}

// Files are changes to a source: content by path, with the marks of package
// gitserver for removals, symbolic links and executables.
type Files map[string]string

// Harness is one source and the means to change what it follows.
type Harness struct {
	// Write changes the origin.
	Write func(t *testing.T, files Files)
	// Open opens the source, anew at each call, over the same cache.
	Open func(t *testing.T) Source
	// Restart, where given, ends what keeps the source alive in this process, so
	// that the next Open finds only what is on disk. Without it the last
	// revision need not outlive the process.
	Restart func(Source)
	// Break makes the origin unusable until the answer is called. Errors of the
	// source meanwhile must hold the text Names.
	Break func(t *testing.T) (mend func())
	Names string
}

// Run runs all laws, each on a source of its own.
func Run(t *testing.T, harness func(t *testing.T) Harness) {
	laws := map[string]func(*testing.T, Harness){
		"a fetch gives the files":                  testFetch,
		"a change gives another revision":          testChange,
		"no change gives the same revision":        testUnchanged,
		"an open snapshot does not change":         testImmutable,
		"the last revision outlives the process":   testLast,
		"the tree is a file system":                testFS,
		"symbolic links stay inside":               testLinks,
		"content ids tell contents apart":          testContentID,
		"readers are not disturbed by a fetch":     testConcurrent,
		"a fetch ends when its context does":       testCanceled,
		"what does not exist is said not to exist": testMissing,
	}
	maps.Copy(laws, conformance)
	for name, law := range laws {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			law(t, harness(t))
		})
	}
}

// Fetch fetches and closes the snapshot at the end of the test.
func Fetch(t *testing.T, s Source) *sources.Snapshot {
	t.Helper()
	snap, err := s.Fetch(t.Context())
	if err != nil {
		t.Fatalf("fetch: %v", err)
	}
	t.Cleanup(snap.Close)
	return snap
}

// WantFile checks the content of one file.
func WantFile(t *testing.T, snap *sources.Snapshot, name, want string) {
	t.Helper()
	got, err := snap.Tree.ReadFile(name)
	if err != nil {
		t.Errorf("read %s: %v", name, err)
	} else if string(got) != want {
		t.Errorf("%s holds %q, want %q", name, got, want)
	}
}

// WantLast checks the content of one file of the last revision.
func WantLast(t *testing.T, s Source, name, want string) {
	t.Helper()
	last, err := s.Last()
	if err != nil {
		t.Errorf("last: %v", err)
		return
	}
	defer last.Close()
	WantFile(t, last, name, want)
}

func testFetch(t *testing.T, h Harness) {
	h.Write(t, Files{"a.yaml": "a", "dir/sub/b.yaml": "b"})
	s := h.Open(t)
	head, err := s.Head(t.Context())
	if err != nil {
		t.Fatalf("head: %v", err)
	}
	snap := Fetch(t, s)
	if snap.Revision.ID != head.ID || head.ID == "" {
		t.Errorf("fetched %q, head said %q", snap.Revision.ID, head.ID)
	}
	WantFile(t, snap, "a.yaml", "a")
	WantFile(t, snap, "dir/sub/b.yaml", "b")
}

func testChange(t *testing.T, h Harness) {
	h.Write(t, Files{"a": "1", "b": "1", "c/d": "1"})
	s := h.Open(t)
	one := Fetch(t, s)
	h.Write(t, Files{"a": "2", "b": gitserver.Delete, "c/e": "new"})
	head, err := s.Head(t.Context())
	if err != nil {
		t.Fatalf("head: %v", err)
	}
	two := Fetch(t, s)
	if one.Revision.ID == two.Revision.ID || two.Revision.ID != head.ID {
		t.Errorf("revisions: %s, then %s, head %s", one.Revision.ID, two.Revision.ID, head.ID)
	}
	WantFile(t, two, "a", "2")
	WantFile(t, two, "c/d", "1")
	WantFile(t, two, "c/e", "new")
	if _, err := two.Tree.ReadFile("b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read of a removed file: %v", err)
	}
}

func testUnchanged(t *testing.T, h Harness) {
	h.Write(t, Files{"a": "1"})
	s := h.Open(t)
	one, two := Fetch(t, s), Fetch(t, s)
	if one.Revision != two.Revision {
		t.Errorf("revisions differ: %v and %v", one.Revision, two.Revision)
	}
}

func testImmutable(t *testing.T, h Harness) {
	h.Write(t, Files{"a": "1", "gone/b": "1"})
	s := h.Open(t)
	snap := Fetch(t, s)
	h.Write(t, Files{"a": "2", "gone/b": gitserver.Delete})
	Fetch(t, s)
	WantFile(t, snap, "a", "1")
	WantFile(t, snap, "gone/b", "1")
}

func testLast(t *testing.T, h Harness) {
	s := h.Open(t)
	if _, err := s.Last(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("last before the first fetch: %v", err)
	}
	h.Write(t, Files{"a": "1"})
	fetched, err := s.Fetch(t.Context())
	if err != nil {
		t.Fatalf("fetch: %v", err)
	}
	fetched.Close()
	if h.Restart != nil {
		h.Restart(s)
		s = h.Open(t)
	}
	last, err := s.Last()
	if err != nil {
		t.Fatalf("last: %v", err)
	}
	defer last.Close()
	if last.Revision != fetched.Revision {
		t.Errorf("last is %v, fetched was %v", last.Revision, fetched.Revision)
	}
	WantFile(t, last, "a", "1")
}

func testFS(t *testing.T, h Harness) {
	h.Write(t, Files{
		"a": "1", "b/c": "2", "b/d/e": "3", "empty": "", "name with ünïcode": "4",
		"run.sh": gitserver.Executable("#!/bin/sh\n"),
		"link":   gitserver.Symlink("b/c"), "linkdir": gitserver.Symlink("b/d"),
	})
	snap := Fetch(t, h.Open(t))
	if err := fstest.TestFS(snap.Tree, "a", "b/c", "b/d/e", "empty", "name with ünïcode", "run.sh"); err != nil {
		t.Error(err)
	}
	info, err := snap.Tree.Stat("run.sh")
	if err != nil || info.Mode().Perm()&0o111 == 0 {
		t.Errorf("run.sh is not executable: %v %v", info, err)
	}
}

func testLinks(t *testing.T, h Harness) {
	h.Write(t, Files{
		"base/a": "1", "in": gitserver.Symlink("base/a"), "dir": gitserver.Symlink("base"),
		"deep/up": gitserver.Symlink("../base/a"), "chain": gitserver.Symlink("deep/up"),
		"out": gitserver.Symlink("../secret"), "abs": gitserver.Symlink("/etc/passwd"),
		"loop": gitserver.Symlink("loop"), "ping": gitserver.Symlink("pong"), "pong": gitserver.Symlink("ping"),
		"sneaky": gitserver.Symlink("dir/../../secret"), "dangling": gitserver.Symlink("nothing"),
	})
	tree := Fetch(t, h.Open(t)).Tree
	for _, name := range []string{"in", "dir/a", "deep/up", "chain"} {
		if b, err := tree.ReadFile(name); err != nil || string(b) != "1" {
			t.Errorf("read %s: %q, %v", name, b, err)
		}
	}
	for _, name := range []string{"out", "abs", "loop", "ping", "sneaky"} {
		b, err := tree.ReadFile(name)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("read %s: %q, %v; want a refusal", name, b, err)
		}
		if _, err := tree.Stat(name); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("stat %s: %v; want a refusal", name, err)
		}
	}
	if _, err := tree.ReadFile("dangling"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read dangling: %v", err)
	}
}

func testContentID(t *testing.T, h Harness) {
	h.Write(t, Files{
		"a/x": "1", "a/y/z": "1", "b/x": "1", "same": "1", "run": gitserver.Executable("1"),
		"linked/in": gitserver.Symlink("../a/x"),
	})
	s := h.Open(t)
	one := Fetch(t, s).Tree
	id := func(tree sources.Tree, name string) string {
		t.Helper()
		id, err := tree.ContentID(name)
		if err != nil || id == "" {
			t.Fatalf("content id of %s: %q, %v", name, id, err)
		}
		return id
	}
	if id(one, "a/x") != id(one, "same") || id(one, "a/x") != id(one, "linked/in") {
		t.Error("equal files have different ids")
	}
	if id(one, "run") == id(one, "same") {
		t.Error("the mode does not count")
	}
	h.Write(t, Files{"a/x": "2"})
	two := Fetch(t, s).Tree
	for name, changed := range map[string]bool{
		".": true, "a": true, "a/x": true, "linked": true, "linked/in": true,
		"a/y": false, "a/y/z": false, "b": false, "same": false,
	} {
		if got := id(one, name) != id(two, name); got != changed {
			t.Errorf("id of %s changed: %v, want %v", name, got, changed)
		}
	}
}

func testConcurrent(t *testing.T, h Harness) {
	files := Files{}
	for i := range 200 {
		files[fmt.Sprintf("dir%d/file%d", i%10, i)] = fmt.Sprint(i)
	}
	h.Write(t, files)
	s := h.Open(t)
	snap := Fetch(t, s)
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for i := range 200 {
				name := fmt.Sprintf("dir%d/file%d", i%10, i)
				if b, err := snap.Tree.ReadFile(name); err != nil || string(b) != fmt.Sprint(i) {
					t.Errorf("read %s: %q, %v", name, b, err)
				}
				if _, err := snap.Tree.Stat(name); err != nil {
					t.Error(err)
				}
				if _, err := snap.Tree.ContentID(name); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 3 {
		h.Write(t, Files{"dir0/file0": fmt.Sprint("change ", i)})
		Fetch(t, s)
	}
	readers.Wait()
}

func testCanceled(t *testing.T, h Harness) {
	h.Write(t, Files{"a": "1"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Open(t).Fetch(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("fetch: %v", err)
	}
}

func testMissing(t *testing.T, h Harness) {
	h.Write(t, Files{"a": "1", "d/b": "1"})
	tree := Fetch(t, h.Open(t)).Tree
	for _, name := range []string{"b", "d/c", "x/y", "a/below"} {
		_, err := tree.ReadFile(name)
		_, statErr := tree.Stat(name)
		_, idErr := tree.ContentID(name)
		_, dirErr := tree.ReadDir(name)
		for _, err := range []error{err, statErr, idErr, dirErr} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if _, err := tree.ReadFile("../a"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("read outside: %v", err)
	}
	if _, err := tree.ReadDir("a"); err == nil {
		t.Error("a file was listed as a folder")
	}
}
