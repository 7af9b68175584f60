package localdir_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/localdir"
)

// git runs the real program in a work tree.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "HOME="+dir,
		"GIT_AUTHOR_NAME=Ada Example", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=Ada Example", "GIT_COMMITTER_EMAIL=ada@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// checkout is a work tree with one commit.
func checkout(t *testing.T, files sourcetest.Files) (dir, commit string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "work")
	write(t, dir, files)
	git(t, dir, "init", "--quiet", "--initial-branch=main")
	return dir, commitAll(t, dir, "First commit")
}

func commitAll(t *testing.T, dir, message string) string {
	t.Helper()
	git(t, dir, "add", "--all")
	git(t, dir, "commit", "--quiet", "--message", message)
	return git(t, dir, "rev-parse", "HEAD")
}

func revision(t *testing.T, d *localdir.Dir) sources.Revision {
	t.Helper()
	return sourcetest.Fetch(t, d).Revision
}

func TestRevisionOfAWorkTree(t *testing.T) {
	dir, commit := checkout(t, sourcetest.Files{
		"a": "1", "b.txt": "2", "b/c": "3", "b0": "4", "run": gitserver.Executable("x"), "link": gitserver.Symlink("b/c"),
	})
	d := open(t, dir)
	clean := revision(t, d)
	if clean.ID != commit || clean.Ref != "refs/heads/main" || clean.Subject != "First commit" || clean.Author != "Ada Example" || clean.Time.IsZero() {
		t.Errorf("clean: %+v", clean)
	}
	if got := clean.Short(); got != "main@"+commit[:7] {
		t.Errorf("clean reads %q", got)
	}
	seen := map[string]bool{commit: true}
	for _, files := range []sourcetest.Files{{"a": "changed"}, {"a": "changed again"}, {"a": "1", "new": "x"}, {"new": gitserver.Delete, "b/c": gitserver.Delete}} {
		write(t, dir, files)
		rev := revision(t, d)
		if !strings.HasPrefix(rev.ID, commit+sources.DirtyMark) || seen[rev.ID] || rev.Subject != "First commit" || rev.Short() != "main@"+commit[:7]+"+dirty" {
			t.Errorf("%v: %+v, %s", files, rev, rev.Short())
		}
		seen[rev.ID] = true
	}
	write(t, dir, sourcetest.Files{"b/c": "3", "empty/folder/x": "x"})
	write(t, dir, sourcetest.Files{"empty/folder/x": gitserver.Delete})
	if rev := revision(t, d); rev.ID != commit {
		t.Errorf("as committed again, but for an empty folder: %s", rev.ID)
	}
	if err := os.Chmod(filepath.Join(dir, "run"), 0o644); err != nil {
		t.Fatal(err)
	}
	if rev := revision(t, d); rev.ID == commit {
		t.Error("another mode is not seen")
	}
	next := commitAll(t, dir, "Second commit")
	if rev := revision(t, d); rev.ID != next || rev.Subject != "Second commit" {
		t.Errorf("after a commit: %+v", rev)
	}
	git(t, dir, "checkout", "--quiet", "--detach", commit)
	if rev := revision(t, d); rev.ID != commit || rev.Ref != "" {
		t.Errorf("a detached head: %+v", rev)
	}
	git(t, dir, "pack-refs", "--all")
	git(t, dir, "gc", "--quiet")
	git(t, dir, "checkout", "--quiet", "main")
	if rev := revision(t, d); rev.ID != next {
		t.Errorf("in packs: %+v", rev)
	}
}

// A folder of a work tree changes with its own content, not with that beside it.
func TestFolderOfAWorkTree(t *testing.T) {
	dir, commit := checkout(t, sourcetest.Files{"deploy/prod/a": "1", "other": "1"})
	d := open(t, filepath.Join(dir, "deploy", "prod"))
	write(t, dir, sourcetest.Files{"other": "2"})
	if rev := revision(t, d); rev.ID != commit {
		t.Errorf("a change beside it: %s", rev.ID)
	}
	write(t, dir, sourcetest.Files{"deploy/prod/a": "2"})
	if rev := revision(t, d); !strings.HasPrefix(rev.ID, commit+"+dirty.") {
		t.Errorf("a change in it: %s", rev.ID)
	}
	write(t, dir, sourcetest.Files{"scratch/x": "1"})
	if rev := revision(t, open(t, filepath.Join(dir, "scratch"))); !strings.HasPrefix(rev.ID, "sha256:") {
		t.Errorf("a folder that was never committed: %s", rev.ID)
	}
}

func TestLinkedWorkTree(t *testing.T) {
	dir, commit := checkout(t, sourcetest.Files{"a": "1"})
	linked := filepath.Join(filepath.Dir(dir), "linked")
	git(t, dir, "worktree", "add", "--quiet", "-b", "side", linked)
	if rev := revision(t, open(t, linked)); rev.ID != commit || rev.Ref != "refs/heads/side" {
		t.Errorf("a linked work tree: %+v", rev)
	}
	// A file that points at a repository which does not know of it is not believed.
	stranger := t.TempDir()
	write(t, stranger, sourcetest.Files{"a": "1", ".git": "gitdir: " + filepath.Join(dir, ".git") + "\n"})
	if rev := revision(t, open(t, stranger)); !strings.HasPrefix(rev.ID, "sha256:") {
		t.Errorf("a stranger: %s", rev.ID)
	}
}

func TestRepositoriesThatAreNotUnderstood(t *testing.T) {
	for name, files := range map[string]sourcetest.Files{
		"no commit":       {".git/HEAD": "ref: refs/heads/main\n", ".git/objects/x": "", ".git/refs/x": ""},
		"not a head":      {".git/HEAD": "\x00\x01"},
		"an empty folder": {".git/x": ""},
		"head of nothing": {".git/HEAD": strings.Repeat("12", 20) + "\n", ".git/objects/x": ""},
		"a loop":          {".git/HEAD": "ref: HEAD\n", ".git/refs/x": ""},
		"a link":          {".git": gitserver.Symlink("/etc")},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, files)
			write(t, dir, sourcetest.Files{"a": "1"})
			if rev := revision(t, open(t, dir)); !strings.HasPrefix(rev.ID, "sha256:") {
				t.Errorf("revision %s", rev.ID)
			}
		})
	}
}

func TestCommitIsNoticed(t *testing.T) {
	dir, _ := checkout(t, sourcetest.Files{"a": "1"})
	d := open(t, dir)
	write(t, dir, sourcetest.Files{"a": "2"})
	revision(t, d)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changed, ended := make(chan struct{}, 10), make(chan error, 1)
	go func() { ended <- d.Watch(ctx, func() { changed <- struct{}{} }) }()
	commit := commitAll(t, dir, "Second commit") // the files stay as they are
	for revision(t, d).ID != commit {
		<-changed
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestFilesOfEditorsAreLeftOut(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, sourcetest.Files{"a.yaml": "1", "d/b.yaml": "2", ".hidden.yaml": "3", "swp": "4"})
	d := open(t, dir)
	before := revision(t, d)
	write(t, dir, sourcetest.Files{
		"a.yaml~": "x", ".a.yaml.swp": "x", "d/.b.yaml.swx": "x", "#a.yaml#": "x", ".#a.yaml": gitserver.Symlink("ada@host.1"),
		"4913": "x", ".DS_Store": "x", ".goutputstream-ABC": "x", "a.yaml___jb_tmp___": "x",
	})
	if after := revision(t, d); after.ID != before.ID {
		t.Error("they change the revision")
	}
	entries, err := sourcetest.Fetch(t, d).Tree.ReadDir(".")
	if err != nil || len(entries) != 4 {
		t.Errorf("listed are %v, %v", entries, err)
	}
}
