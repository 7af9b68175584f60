package gitrepo_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// transport is a way to reach the server of a fixture.
type transport struct {
	name string
	// use makes the fixture's sources reach it so.
	use func(t *testing.T, f *fixture)
	// http tells that faults of the HTTP server are felt.
	http bool
}

var transports = []transport{
	{name: "http", use: func(*testing.T, *fixture) {}, http: true},
	{name: "ssh", use: overSSH},
}

func overSSH(t *testing.T, f *fixture) {
	server := gitserver.StartSSH(t, f.server)
	key := filepath.Join(t.TempDir(), "id_ed25519")
	server.Authorize(gitserver.WriteKey(t, key, ""))
	known := server.KnownHosts(t)
	f.reach = func(o *gitrepo.Options) {
		o.URL, o.SSH = server.URL(f.origin), gitrepo.SSH{KeyFiles: []string{key}, KnownHostsFile: known}
	}
}

// aCase is one thing that repositories, servers and disks do. Each states what
// Fetch answers, that Last keeps the last good commit, and that an error names
// the source and the cause.
type aCase struct {
	name string
	run  func(*testing.T, *fixture)
	// http means that the case is about that transport.
	http bool
	// long cases run only when asked for.
	long bool
}

// TestConformance runs every case over every transport that it is about, each on
// a server of its own.
func TestConformance(t *testing.T) {
	all := slices.Concat(refCases, repositoryCases, accessCases, serverCases, diskCases, contentCases)
	names := map[string]bool{}
	for _, c := range all {
		if names[c.name] {
			t.Errorf("two cases are named %q", c.name)
		}
		names[c.name] = true
	}
	if len(all) < 90 {
		t.Errorf("there are only %d cases", len(all))
	}
	for _, tr := range transports {
		for i, c := range all {
			// Disks and contents know nothing of how a pack came.
			if !tr.http && (c.http || i >= len(refCases)+len(repositoryCases)) {
				continue
			}
			t.Run(tr.name+"/"+c.name, func(t *testing.T) {
				if c.long && os.Getenv("HOLDFAST_LONG") == "" {
					t.Skip("runs with HOLDFAST_LONG=1")
				}
				t.Parallel()
				f := newFixture(t)
				tr.use(t, f)
				c.run(t, f)
			})
		}
	}
}

// wantRefused checks that a fetch fails as one of a kind, with an error that
// names the source and the cause, and that the last good commit stays.
func (f *fixture) wantRefused(t *testing.T, r *gitrepo.Repo, kind error, cause, last string) {
	t.Helper()
	snap, err := r.Fetch(t.Context())
	if err == nil {
		snap.Close()
		t.Fatalf("the fetch gave %s", snap.Revision.Short())
	}
	if !errors.Is(err, kind) {
		t.Errorf("the error is of another kind: %v", err)
	}
	// The repository's folder stands in the URLs of all transports.
	if text, name := err.Error(), filepath.Base(f.origin.Dir); !strings.Contains(text, name) || !strings.Contains(text, cause) {
		t.Errorf("the error does not name %q and %q: %v", name, cause, err)
	}
	if last == "" {
		if snap, err := r.Last(); !errors.Is(err, fs.ErrNotExist) {
			if err == nil {
				snap.Close()
			}
			t.Errorf("last: %v", err)
		}
		return
	}
	wantLast(t, r, last)
}

func wantLast(t *testing.T, r *gitrepo.Repo, commit string) {
	t.Helper()
	last, err := r.Last()
	if err != nil {
		t.Errorf("last: %v", err)
		return
	}
	defer last.Close()
	if last.Revision.ID != commit {
		t.Errorf("last is %s, want %s", last.Revision.ID, commit)
	}
	wantWhole(t, last)
}

// wantFetched checks that a fetch gives a commit, and every file of it.
func wantFetched(t *testing.T, r *gitrepo.Repo, commit string) *sources.Snapshot {
	t.Helper()
	snap := sourcetest.Fetch(t, r)
	if snap.Revision.ID != commit {
		t.Errorf("fetched %s, want %s", snap.Revision.ID, commit)
	}
	wantWhole(t, snap)
	wantLast(t, r, commit)
	return snap
}

// wantWhole reads every file of a snapshot.
func wantWhole(t *testing.T, snap *sources.Snapshot) {
	t.Helper()
	err := fs.WalkDir(snap.Tree, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Type()&fs.ModeSymlink != 0 {
			return err
		}
		_, err = snap.Tree.ReadFile(name)
		return err
	})
	if err != nil {
		t.Errorf("revision %s is not whole: %v", snap.Revision.Short(), err)
	}
}

var refCases = []aCase{
	{name: "pushed forward", run: func(t *testing.T, f *fixture) { f.moves(t, 0, 1, 2) }},
	{name: "force-pushed forward over commits", run: func(t *testing.T, f *fixture) { f.moves(t, 0, 4) }},
	{name: "force-pushed sideways", run: func(t *testing.T, f *fixture) { f.moves(t, 4, 5, 2, 5) }},
	{name: "force-pushed back to the commit before", run: func(t *testing.T, f *fixture) { f.moves(t, 2, 1) }},
	{name: "force-pushed back to an older commit that was never fetched", run: func(t *testing.T, f *fixture) { f.moves(t, 4, 1, 0) }},
	{name: "force-pushed back and forth", run: func(t *testing.T, f *fixture) { f.moves(t, 4, 0, 4, 0, 3) }},
	{name: "force-pushed to an unrelated history", run: func(t *testing.T, f *fixture) { f.moves(t, 2, 6, 0, 6) }},
	{name: "ref deleted", run: refDeleted},
	{name: "ref deleted and recreated", run: refRecreated},
	{name: "branch replaced by a folder of branches", run: branchIntoFolder},
	{name: "light tag moved", run: func(t *testing.T, f *fixture) { tagMoved(t, f, "") }},
	{name: "annotated tag moved", run: func(t *testing.T, f *fixture) { tagMoved(t, f, "a release") }},
	{name: "tag deleted", run: tagDeleted},
	{name: "tag of a tag", run: tagOfTag},
	{name: "default branch renamed", run: defaultRenamed},
	{name: "default branch deleted", run: defaultDeleted},
	{name: "followed branch renamed", run: followedRenamed},
	{name: "branch and tag of one name", run: branchAndTag},
	{name: "a ref named like an option", run: oddRefs},
	{name: "ten thousand refs", run: manyRefs, http: true},
	{name: "ref moves between listing and download", run: movesMeanwhile, http: true},
	{name: "a version is released", run: versionReleased},
}

// moves points the branch at one commit after the other, of a chain of five
// (0 to 4), one beside its end (5) and one of another history (6). Each fetch
// must give what the branch is at, with one download where the commit is new.
func (f *fixture) moves(t *testing.T, path ...int) {
	big := strings.Repeat("0123456789abcdef", 4096)
	var commits []string
	for i := range 5 {
		commits = append(commits, f.commit(t, sourcetest.Files{"a": fmt.Sprint(i), "d/e": "1", "big": big, fmt.Sprint("only/", i): "x"}))
	}
	commits = append(commits, f.origin.CommitTo(t, "refs/heads/side", commits[3], sourcetest.Files{"a": "5"}))
	commits = append(commits, f.origin.CommitTo(t, "refs/heads/far", "", sourcetest.Files{"a": "6"}))
	r := f.open(t)
	seen := map[int]bool{}
	for _, n := range path {
		f.origin.ForcePush(t, gitserver.Main, commits[n])
		f.server.Reset()
		snap := wantFetched(t, r, commits[n])
		sourcetest.WantFile(t, snap, "a", fmt.Sprint(n))
		if !seen[n] && f.server.Count("git-upload-pack") > 1 {
			t.Errorf("commit %d took %d downloads", n, f.server.Count("git-upload-pack"))
		}
		if seen[n] && f.server.Count("git-upload-pack") > 0 {
			t.Errorf("commit %d was downloaded again", n)
		}
		seen[n] = true
	}
}

func refDeleted(t *testing.T, f *fixture) {
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	f.origin.CommitTo(t, "refs/heads/mean", "", sourcetest.Files{"b": "1"})
	r := f.open(t)
	wantFetched(t, r, commit)
	f.origin.DeleteRef(t, gitserver.Main)
	f.wantRefused(t, r, gitrepo.ErrRefNotFound, `no branch or tag "main" (nearest are "mean")`, commit)
	f.wantRefused(t, r, gitrepo.ErrRefNotFound, "main", commit)
}

func refRecreated(t *testing.T, f *fixture) {
	first := f.commit(t, sourcetest.Files{"a": "1"})
	f.origin.CommitTo(t, "refs/heads/other", "", sourcetest.Files{"b": "1"})
	r := f.open(t)
	wantFetched(t, r, first)
	f.origin.DeleteRef(t, gitserver.Main)
	f.wantRefused(t, r, gitrepo.ErrRefNotFound, "main", first)
	wantFetched(t, r, f.origin.CommitTo(t, gitserver.Main, "", sourcetest.Files{"a": "2"}))
	f.origin.DeleteRef(t, gitserver.Main)
	f.origin.ForcePush(t, gitserver.Main, first)
	wantFetched(t, r, first)
}

func branchIntoFolder(t *testing.T, f *fixture) {
	commit := f.origin.CommitTo(t, "refs/heads/release", "", sourcetest.Files{"a": "1"})
	r := f.open(t, ref("release"))
	wantFetched(t, r, commit)
	f.origin.DeleteRef(t, "refs/heads/release")
	next := f.origin.CommitTo(t, "refs/heads/release/one", "", sourcetest.Files{"a": "2"})
	f.wantRefused(t, r, gitrepo.ErrRefNotFound, "release/one", commit)
	wantFetched(t, f.open(t, ref("release/one")), next)
}

func tagMoved(t *testing.T, f *fixture, message string) {
	first := f.commit(t, sourcetest.Files{"a": "1"})
	second := f.commit(t, sourcetest.Files{"a": "2"})
	r := f.open(t, ref("stable"))
	for _, commit := range []string{first, second, first} {
		f.origin.Tag(t, "stable", commit, message)
		snap := wantFetched(t, r, commit)
		if snap.Revision.Ref != "refs/tags/stable" {
			t.Errorf("the ref is %q", snap.Revision.Ref)
		}
	}
}

func tagDeleted(t *testing.T, f *fixture) {
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	f.origin.Tag(t, "stable", commit, "a release")
	r := f.open(t, ref("stable"))
	wantFetched(t, r, commit)
	f.origin.DeleteRef(t, "refs/tags/stable")
	f.wantRefused(t, r, gitrepo.ErrRefNotFound, "stable", commit)
}

func tagOfTag(t *testing.T, f *fixture) {
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	f.origin.Tag(t, "inner", commit, "one")
	f.origin.Tag(t, "outer", f.origin.Git(t, "", "rev-parse", "refs/tags/inner"), "two")
	wantFetched(t, f.open(t, ref("outer")), commit)
}

func defaultRenamed(t *testing.T, f *fixture) {
	first := f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t, ref(""))
	if snap := wantFetched(t, r, first); snap.Revision.Ref != gitserver.Main {
		t.Errorf("the ref is %q", snap.Revision.Ref)
	}
	next := f.origin.CommitTo(t, "refs/heads/trunk", first, sourcetest.Files{"a": "2"})
	f.origin.Git(t, "", "symbolic-ref", "HEAD", "refs/heads/trunk")
	f.origin.DeleteRef(t, gitserver.Main)
	snap := wantFetched(t, r, next)
	if snap.Revision.Ref != "refs/heads/trunk" {
		t.Errorf("the ref is %q", snap.Revision.Ref)
	}
	sourcetest.WantFile(t, snap, "a", "2")
}

func defaultDeleted(t *testing.T, f *fixture) {
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	f.origin.CommitTo(t, "refs/heads/other", "", sourcetest.Files{"b": "1"})
	r := f.open(t, ref(""))
	wantFetched(t, r, commit)
	f.origin.DeleteRef(t, gitserver.Main)
	f.wantRefused(t, r, gitrepo.ErrRefNotFound, "default branch does not exist", commit)
}

func followedRenamed(t *testing.T, f *fixture) {
	commit := f.origin.CommitTo(t, "refs/heads/deploy", "", sourcetest.Files{"a": "1"})
	r := f.open(t, ref("deploy"))
	wantFetched(t, r, commit)
	f.origin.ForcePush(t, "refs/heads/deploys", commit)
	f.origin.DeleteRef(t, "refs/heads/deploy")
	f.wantRefused(t, r, gitrepo.ErrRefNotFound, `nearest are "deploys"`, commit)
	f.server.Reset()
	wantFetched(t, f.open(t, ref("deploys")), commit)
	if n := f.server.Count("git-upload-pack"); n != 0 {
		t.Errorf("a commit at hand was downloaded %d times", n)
	}
}

func branchAndTag(t *testing.T, f *fixture) {
	first := f.commit(t, sourcetest.Files{"a": "1"})
	second := f.origin.CommitTo(t, "refs/heads/both", first, sourcetest.Files{"a": "2"})
	f.origin.Tag(t, "both", first, "")
	r := f.open(t, ref("both"))
	wantFetched(t, r, second)
	wantFetched(t, f.open(t, ref("refs/tags/both")), first)
	f.origin.DeleteRef(t, "refs/heads/both")
	wantFetched(t, r, first)
}

func oddRefs(t *testing.T, f *fixture) {
	for _, name := range []string{"--upload-pack=true", "-x", "--", "$(id)", "`id`", "a'b\"c", "ünïcode", "@", "HEADS", "x/refs/heads/main"} {
		// git refuses some of these names to people, and servers may have them.
		commit := f.origin.CommitTo(t, "refs/heads/tmp", "", sourcetest.Files{"name": name})
		if err := os.MkdirAll(filepath.Dir(filepath.Join(f.origin.Dir, "refs/heads", name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(f.origin.Dir, "refs/heads", name), []byte(commit+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(f.origin.Git(t, "", "for-each-ref"), commit+" commit\trefs/heads/"+name) {
			continue // this git does not list it
		}
		r := f.open(t, ref(name))
		snap, err := r.Fetch(t.Context())
		if err != nil {
			t.Errorf("ref %q: %v", name, err)
			continue
		}
		sourcetest.WantFile(t, snap, "name", name)
		snap.Close()
	}
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t)
	wantFetched(t, r, commit)
	for _, name := range []string{"--receive-pack=true", "..", "a..b", "main^", "main~1", "main:a", "*", "refs/", "\x00", "a\nb", strings.Repeat("x", 5000)} {
		if snap, err := f.open(t, ref(name)).Fetch(t.Context()); !errors.Is(err, gitrepo.ErrRefNotFound) || strings.ContainsAny(err.Error(), "\x00\n") || len(err.Error()) > 1000 {
			t.Errorf("a ref %.20q that nobody has: %v, %v", name, snap, err)
		}
	}
}

func manyRefs(t *testing.T, f *fixture) {
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	var script strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&script, "create refs/heads/topic/%05d %s\n", i, commit)
	}
	f.origin.Git(t, script.String(), "update-ref", "--stdin")
	f.origin.Git(t, "", "pack-refs", "--all")
	wantFetched(t, f.open(t), commit)
	wantFetched(t, f.open(t, ref("topic/09999")), commit)
	f.wantRefused(t, f.open(t, ref("topic/1")), gitrepo.ErrRefNotFound, "topic/1", "")
}

func versionReleased(t *testing.T, f *fixture) {
	first := f.commit(t, sourcetest.Files{"a": "1"})
	f.origin.Tag(t, "v1.9.0", first, "")
	r := f.open(t, ref(""), func(o *gitrepo.Options) { o.Semver = "^1" })
	wantFetched(t, r, first)
	second := f.commit(t, sourcetest.Files{"a": "2"})
	f.origin.Tag(t, "v1.10.0", second, "the tenth")
	third := f.commit(t, sourcetest.Files{"a": "3"})
	f.origin.Tag(t, "v2.0.0", third, "")
	f.origin.Tag(t, "v1.11.0-rc.1", third, "")
	wantFetched(t, r, second)
	f.origin.DeleteRef(t, "refs/tags/v1.10.0")
	wantFetched(t, r, first)
	f.origin.DeleteRef(t, "refs/tags/v1.9.0")
	f.wantRefused(t, r, gitrepo.ErrRefNotFound, `"^1"`, first)
}

// canceled is a context that has ended.
func canceled(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
