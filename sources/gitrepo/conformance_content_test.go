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

var contentCases = append(hostileNames(), []aCase{
	{name: "one name twice in a folder", run: nameTwice},
	{name: "names that differ in case", run: caseCollisions},
	{name: "links in loops and out of the tree", run: hostileLinks},
	{name: "a tree that multiplies itself", run: treeBomb},
	{name: "a tree deeper than any path", run: tooDeep},
	{name: "a commit that lacks one of its files", run: missingFile},
	{name: "a ref that is no commit", run: noCommit},
	{name: "a commit with a hostile author and subject", run: hostileCommit},
	{name: "more files than the limit", run: tooManyFiles},
	{name: "a file of 100 MB", run: hundredMegabytes},
	{name: "a file of 100 MB that is read", run: hundredMegabytesRead, long: true},
	{name: "a file of 100 MB that cannot be compressed, changed", run: hundredMegabytesOfNoise, http: true, long: true},
	{name: "10,000 files", run: func(t *testing.T, f *fixture) { manyFiles(t, f, 10_000) }},
	{name: "100,000 files", run: func(t *testing.T, f *fixture) { manyFiles(t, f, 100_000) }, long: true},
}...)

func caseCollisions(t *testing.T, f *fixture) {
	snap := wantFetched(t, f.open(t), f.commit(t, sourcetest.Files{"README": "upper", "readme": "lower", "D/a": "1", "d/a": "2"}))
	for name, want := range map[string]string{"README": "upper", "readme": "lower", "D/a": "1", "d/a": "2"} {
		sourcetest.WantFile(t, snap, name, want)
	}
	if entries, err := snap.Tree.ReadDir("."); err != nil || len(entries) != 4 {
		t.Errorf("the root lists %v, %v", entries, err)
	}
}

func hostileLinks(t *testing.T, f *fixture) {
	snap := wantFetched(t, f.open(t), f.commit(t, sourcetest.Files{
		"a": "1", "loop": gitserver.Symlink("loop"), "ping": gitserver.Symlink("pong"), "pong": gitserver.Symlink("ping"),
		"out": gitserver.Symlink("../../../etc/passwd"), "abs": gitserver.Symlink("/etc/passwd"), "proc": gitserver.Symlink("/proc/self/environ"),
		"d/up": gitserver.Symlink("../.."), "empty": gitserver.Symlink(""), "long": gitserver.Symlink(strings.Repeat("x/", 5000)),
		"git": gitserver.Symlink(".git/config"), "zero": gitserver.Symlink("a\x00b"),
	}))
	for _, name := range []string{"loop", "ping", "out", "abs", "proc", "d/up", "empty", "long", "zero"} {
		b, err := snap.Tree.ReadFile(name)
		if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), name) {
			t.Errorf("read %s: %q, %v", name, b, err)
		}
	}
	if _, err := snap.Tree.ReadFile("git"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read of the repository's own configuration: %v", err)
	}
	sourcetest.WantFile(t, snap, "a", "1")
}

func tooDeep(t *testing.T, f *fixture) {
	good := f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t)
	wantFetched(t, r, good)
	tree := f.origin.Git(t, "", "rev-parse", "main^{tree}")
	for range 250 {
		tree = f.origin.Git(t, "040000 tree "+tree+"\td\n", "mktree")
	}
	f.origin.ForcePush(t, gitserver.Main, f.origin.Git(t, "", "commit-tree", "-m", "deep", tree))
	f.wantRefused(t, r, gitrepo.ErrTooLarge, "nested more than 200 deep", good)
}

func hostileCommit(t *testing.T, f *fixture) {
	f.commit(t, sourcetest.Files{"a": "1"})
	raw := "tree " + f.origin.Git(t, "", "rev-parse", "main^{tree}") + "\n" +
		"author Eve \x1b[2J\u2028" + strings.Repeat("x", 5000) + " <eve@example.com> 99999999999999999999 +9999\n" +
		"committer Eve <eve@example.com> -1 -9999\nencoding \xff\n\n\n\nsubject \x1b]0;pwned\a " + strings.Repeat("y", 5000) + "\nbody\n"
	commit := f.origin.Git(t, raw, "hash-object", "-w", "--literally", "-t", "commit", "--stdin")
	f.origin.ForcePush(t, gitserver.Main, commit)
	rev := wantFetched(t, f.open(t), commit).Revision
	for _, text := range []string{rev.Author, rev.Subject} {
		if strings.ContainsAny(text, "\x1b\a\n\u2028") || len(text) > 1000 {
			t.Errorf("hostile text was let in: %q", text)
		}
	}
}

func tooManyFiles(t *testing.T, f *fixture) {
	good := f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t, func(o *gitrepo.Options) { o.Limits.Files = 100 })
	wantFetched(t, r, good)
	files := sourcetest.Files{}
	for i := range 101 {
		files[fmt.Sprint("f", i)] = "x"
	}
	f.commit(t, files)
	f.wantRefused(t, r, gitrepo.ErrTooLarge, "more than 100 files", good)
}

const mega = 1 << 20

// hundredMegabytes is a file that is never held in memory until somebody reads
// it, which the limit refuses unless it was raised.
func hundredMegabytes(t *testing.T, f *fixture) {
	large := strings.Repeat("0123456789abcdef", 100*mega/16)
	commit := f.commit(t, sourcetest.Files{"large": large, "a": "1"})
	r := f.open(t)
	snap := sourcetest.Fetch(t, r)
	if snap.Revision.ID != commit {
		t.Errorf("fetched %s", snap.Revision.Short())
	}
	sourcetest.WantFile(t, snap, "a", "1")
	if _, err := snap.Tree.ReadFile("large"); !errors.Is(err, gitrepo.ErrTooLarge) || !strings.Contains(err.Error(), "large") {
		t.Errorf("read: %v", err)
	}
	if info, err := snap.Tree.Stat("large"); err != nil || info.Size() != 100*mega {
		t.Errorf("stat: %v, %v", info, err)
	}
	sourcetest.WantFile(t, sourcetest.Fetch(t, r), "a", "1")
}

func hundredMegabytesRead(t *testing.T, f *fixture) {
	large := strings.Repeat("0123456789abcdef", 100*mega/16)
	f.commit(t, sourcetest.Files{"large": large})
	snap := sourcetest.Fetch(t, f.open(t, func(o *gitrepo.Options) { o.Limits.FileBytes = 128 * mega }))
	if b, err := snap.Tree.ReadFile("large"); err != nil || string(b) != large {
		t.Errorf("read with the limit raised: %d bytes, %v", len(b), err)
	}
}

func hundredMegabytesOfNoise(t *testing.T, f *fixture) {
	large := randomText(100 * mega)
	r := f.open(t, func(o *gitrepo.Options) { o.Limits.FileBytes = 128 * mega })
	for _, text := range []string{large, "changed" + large, large[:50*mega]} {
		commit := f.commit(t, sourcetest.Files{"large": text})
		snap := sourcetest.Fetch(t, r)
		if b, err := snap.Tree.ReadFile("large"); err != nil || string(b) != text || snap.Revision.ID != commit {
			t.Errorf("read: %d bytes of %d, %v", len(b), len(text), err)
		}
	}
}

func manyFiles(t *testing.T, f *fixture, n int) {
	files := sourcetest.Files{}
	for i := range n {
		files[fmt.Sprintf("d%03d/f%06d", i%500, i)] = fmt.Sprint(i)
	}
	f.commit(t, files)
	r := f.open(t)
	snap := sourcetest.Fetch(t, r)
	seen := 0
	err := fs.WalkDir(snap.Tree, ".", func(_ string, e fs.DirEntry, err error) error {
		if !e.IsDir() {
			seen++
		}
		return err
	})
	if err != nil || seen != n {
		t.Errorf("%d files were found: %v", seen, err)
	}
	sourcetest.WantFile(t, snap, fmt.Sprintf("d%03d/f%06d", (n-1)%500, n-1), fmt.Sprint(n-1))
	before := packBytes(t, f.dir)
	commit := f.commit(t, sourcetest.Files{"d000/f000000": "changed"})
	if snap := sourcetest.Fetch(t, r); snap.Revision.ID != commit {
		t.Errorf("fetched %s", snap.Revision.Short())
	}
	if added := packBytes(t, f.dir) - before; added > before/10 {
		t.Errorf("one file of %d changed, and %d bytes came", n, added)
	}
}
