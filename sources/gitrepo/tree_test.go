package gitrepo_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

func TestSubmoduleIsAnErrorWhenEntered(t *testing.T) {
	f := newFixture(t)
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	f.commit(t, sourcetest.Files{"lib/sub": gitserver.Submodule(commit), "lib/b": "1"})
	tree := sourcetest.Fetch(t, f.open(t)).Tree
	entries, err := tree.ReadDir("lib")
	if err != nil || len(entries) != 2 || !entries[1].IsDir() {
		t.Fatalf("the folder lists %v, %v", entries, err)
	}
	_, dirErr := tree.ReadDir("lib/sub")
	_, fileErr := tree.ReadFile("lib/sub/x")
	_, idErr := tree.ContentID("lib/sub")
	walkErr := fs.WalkDir(tree, ".", func(_ string, _ fs.DirEntry, err error) error { return err })
	for _, err := range []error{dirErr, fileErr, idErr, walkErr} {
		if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "lib/sub") || !strings.Contains(err.Error(), "there is no file .gitmodules") {
			t.Errorf("error: %v", err)
		}
	}
}

func TestLFSPointerIsRefused(t *testing.T) {
	f := newFixture(t)
	f.commit(t, sourcetest.Files{"big.bin": "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "a": "1"})
	snap := sourcetest.Fetch(t, f.open(t))
	sourcetest.WantFile(t, snap, "a", "1")
	_, err := snap.Tree.ReadFile("big.bin")
	if err == nil || !strings.Contains(err.Error(), "big.bin") || !strings.Contains(err.Error(), "Git LFS pointer") {
		t.Errorf("read: %v", err)
	}
	file, err := snap.Tree.Open("big.bin")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Read(make([]byte, 10)); err == nil || !strings.Contains(err.Error(), "Git LFS pointer") {
		t.Errorf("read of the open file: %v", err)
	}
}

// treeWith makes a commit whose root holds these names, which git itself would
// refuse to write.
func treeWith(t *testing.T, f *fixture, names ...string) {
	t.Helper()
	blob := f.origin.Git(t, "1", "hash-object", "-w", "--stdin")
	raw := ""
	for _, name := range names {
		id := ""
		for i := 0; i < len(blob); i += 2 {
			var c byte
			if _, err := fmt.Sscanf(blob[i:i+2], "%02x", &c); err != nil {
				t.Fatal(err)
			}
			id += string([]byte{c})
		}
		raw += "100644 " + name + "\x00" + id
	}
	tree := f.origin.Git(t, raw, "hash-object", "-w", "--literally", "-t", "tree", "--stdin")
	commit := f.origin.Git(t, "", "commit-tree", "-m", "hostile", tree)
	f.origin.ForcePush(t, gitserver.Main, commit)
}

// hostileNames makes a case for each name that no file system should be asked to
// hold: the folder cannot be listed, and its other files can be read.
func hostileNames() (cases []aCase) {
	for _, name := range []string{"..", ".", ".git", ".GIT", "git~1", "a/b", "new\nline", "bell\a", "\xff\xfe", "escape\x1b[31m"} {
		cases = append(cases, aCase{name: fmt.Sprintf("a path with %q", name), run: func(t *testing.T, f *fixture) {
			treeWith(t, f, name, "fine")
			snap := sourcetest.Fetch(t, f.open(t))
			_, err := snap.Tree.ReadDir(".")
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) {
				t.Errorf("list: %v", err)
			}
			sourcetest.WantFile(t, snap, "fine", "1")
		}})
	}
	return cases
}

func nameTwice(t *testing.T, f *fixture) {
	treeWith(t, f, "same", "same")
	if _, err := sourcetest.Fetch(t, f.open(t)).Tree.ReadDir("."); err == nil || !strings.Contains(err.Error(), "same") {
		t.Errorf("list: %v", err)
	}
}

// treeBomb: a tree that names itself again and again counts as more files than there are
// atoms, in a download of a few hundred bytes.
func treeBomb(t *testing.T, f *fixture) {
	f.commit(t, sourcetest.Files{"a": "1"})
	tree := f.origin.Git(t, "", "rev-parse", "main^{tree}")
	for range 50 {
		list := ""
		for i := range 10 {
			list += fmt.Sprintf("040000 tree %s\td%d\n", tree, i)
		}
		tree = f.origin.Git(t, list, "mktree")
	}
	f.origin.ForcePush(t, gitserver.Main, f.origin.Git(t, "", "commit-tree", "-m", "bomb", tree))
	if _, err := f.open(t).Fetch(t.Context()); !errors.Is(err, gitrepo.ErrTooLarge) {
		t.Errorf("fetch: %v", err)
	}
}

func missingFile(t *testing.T, f *fixture) {
	f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t)
	old := sourcetest.Fetch(t, r)
	missing := strings.Repeat("ab", 20)
	tree := f.origin.Git(t, "100644 blob "+missing+"\tgone\n", "mktree", "--missing")
	f.origin.ForcePush(t, gitserver.Main, f.origin.Git(t, "", "commit-tree", "-m", "broken", tree))
	if _, err := r.Fetch(t.Context()); err == nil {
		t.Error("a commit without one of its files was accepted")
	}
	sourcetest.WantFile(t, old, "a", "1")
	last, err := r.Last()
	if err != nil {
		t.Fatal(err)
	}
	defer last.Close()
	sourcetest.WantFile(t, last, "a", "1")
}

func noCommit(t *testing.T, f *fixture) {
	f.commit(t, sourcetest.Files{"a": "1"})
	f.origin.ForcePush(t, "refs/tags/tree", f.origin.Git(t, "", "rev-parse", "main^{tree}"))
	if _, err := f.open(t, ref("tree")).Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "not a commit") {
		t.Errorf("fetch: %v", err)
	}
}
