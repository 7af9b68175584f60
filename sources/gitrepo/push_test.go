package gitrepo_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// proposal changes two files in different folders.
func proposal(base sources.Revision) gitrepo.Proposal {
	return gitrepo.Proposal{
		Base: base, Branch: "holdfast/fix", Author: "ann <token:ops>", Message: "Say what is live\n\nReason: the sale goes on\n",
		Files: map[string][]byte{"apps/web/a.yaml": []byte("a: 2\n"), "run.sh": []byte("#!/bin/sh\necho 2\n")},
		At:    time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC),
	}
}

var pushed = map[string]string{
	"apps/web/a.yaml": "a: 1\n", "apps/web/b.yaml": "b: 1\n", "apps/c.yaml": "c: 1\n", "run.sh": gitserver.Executable("#!/bin/sh\n"), "link": gitserver.Symlink("run.sh"),
}

func pushable(t *testing.T, r *gitserver.Repo) {
	t.Helper()
	r.Git(t, "", "config", "http.receivepack", "true")
	r.Commit(t, pushed)
}

// fetched opens and fetches a repository.
func fetched(t *testing.T, o gitrepo.Options) (*gitrepo.Repo, sources.Revision) {
	t.Helper()
	r, err := gitrepo.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	snap, err := r.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(snap.Close)
	return r, snap.Revision
}

// overBoth runs a test over http and ssh.
func overBoth(t *testing.T, run func(t *testing.T, repo *gitserver.Repo, o gitrepo.Options)) {
	for _, how := range []string{"http", "ssh"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			server := gitserver.Start(t)
			repo := server.Repo(t, "shop")
			pushable(t, repo)
			o := gitrepo.Options{Name: "shop", URL: repo.URL, Ref: "main", Dir: t.TempDir()}
			if how == "ssh" {
				shell := gitserver.StartSSH(t, server)
				key := filepath.Join(t.TempDir(), "key")
				shell.Authorize(gitserver.WriteKey(t, key, ""))
				o.URL, o.SSH = shell.URL(repo), gitrepo.SSH{KeyFiles: []string{key}, KnownHostsFile: shell.KnownHosts(t)}
			}
			run(t, repo, o)
		})
	}
}

func TestACommitIsPushedAsANewBranch(t *testing.T) {
	t.Parallel()
	overBoth(t, func(t *testing.T, repo *gitserver.Repo, o gitrepo.Options) {
		r, base := fetched(t, o)
		before := files(t, o.Dir)
		id, err := r.Push(t.Context(), o, proposal(base))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(repo.Git(t, "", "rev-parse", "refs/heads/holdfast/fix")); got != id {
			t.Errorf("the branch is at %s, not %s", got, id)
		}
		if got := strings.TrimSpace(repo.Git(t, "", "rev-parse", "refs/heads/main")); got != base.ID {
			t.Errorf("main moved to %s", got)
		}
		repo.Git(t, "", "fsck", "--strict", "--full")
		if got := repo.Git(t, "", "show", "-s", "--format=%P|%an|%cn|%B", id); strings.TrimSpace(got) != base.ID+"|ann  token:ops|Holdfast|Say what is live\n\nReason: the sale goes on" {
			t.Errorf("the commit is %q", got)
		}
		want := "M\tapps/web/a.yaml\nM\trun.sh"
		if got := strings.TrimSpace(repo.Git(t, "", "diff", "--name-status", base.ID, id)); got != want {
			t.Errorf("it changes:\n%s", got)
		}
		if got := repo.Git(t, "", "diff", "--summary", base.ID, id); got != "" {
			t.Errorf("modes change: %s", got)
		}
		if got := repo.Git(t, "", "show", id+":apps/web/a.yaml"); strings.TrimSpace(got) != "a: 2" {
			t.Errorf("the file is %q", got)
		}
		if after := files(t, o.Dir); after != before {
			t.Errorf("the mirror had\n%s\nand has\n%s", before, after)
		}
	})
}

func files(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	if err := filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		all = append(all, name)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, "\n")
}

func TestAPushForcesNothing(t *testing.T) {
	t.Parallel()
	overBoth(t, func(t *testing.T, repo *gitserver.Repo, o gitrepo.Options) {
		r, base := fetched(t, o)
		refused := func(what string, kind error, word string, change func(*gitrepo.Proposal)) {
			t.Helper()
			p := proposal(base)
			change(&p)
			before := repo.Git(t, "", "for-each-ref")
			_, err := r.Push(t.Context(), o, p)
			if !errors.Is(err, kind) || !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %v", what, err)
			}
			if after := repo.Git(t, "", "for-each-ref"); after != before {
				t.Errorf("%s: refs are\n%s", what, after)
			}
		}
		refused("the branch that is followed", gitrepo.ErrBranchExists, "main", func(p *gitrepo.Proposal) { p.Branch = "main" })
		refused("no name", gitrepo.ErrPushRefused, "cannot be the name", func(p *gitrepo.Proposal) { p.Branch = "a..b" })
		refused("an option", gitrepo.ErrPushRefused, "cannot be the name", func(p *gitrepo.Proposal) { p.Branch = "-f" })
		refused("a file that is not there", gitrepo.ErrPushRefused, "apps/new.yaml", func(p *gitrepo.Proposal) { p.Files["apps/new.yaml"] = nil })
		refused("a link", gitrepo.ErrPushRefused, "link", func(p *gitrepo.Proposal) { p.Files["link"] = []byte("x") })
		refused("nothing", gitrepo.ErrPushRefused, "already", func(p *gitrepo.Proposal) { p.Files = map[string][]byte{"apps/c.yaml": []byte("c: 1\n")} })

		hook := filepath.Join(repo.Dir, "hooks", "pre-receive")
		script := "#!/bin/sh\necho 'no branches on fridays' >&2\nexit 1\n"
		if err := errors.Join(os.MkdirAll(filepath.Dir(hook), 0o755), os.WriteFile(hook, []byte(script), 0o755)); err != nil {
			t.Fatal(err)
		}
		refused("a server with rules", gitrepo.ErrPushRefused, "no branches on fridays", func(*gitrepo.Proposal) {})
		if err := os.Remove(hook); err != nil {
			t.Fatal(err)
		}

		if _, err := r.Push(t.Context(), o, proposal(base)); err != nil {
			t.Fatal(err)
		}
		refused("a branch that exists", gitrepo.ErrBranchExists, "holdfast/fix", func(*gitrepo.Proposal) {})
		repo.Commit(t, map[string]string{"apps/c.yaml": "c: 3\n"})
		refused("a head that moved", gitrepo.ErrHeadMoved, "main", func(p *gitrepo.Proposal) { p.Branch = "holdfast/other" })
	})
}

func TestWhoMayNotWriteIsTold(t *testing.T) {
	t.Parallel()
	server := gitserver.Start(t)
	repo := server.Repo(t, "shop")
	repo.Commit(t, pushed) // and receive-pack is off
	o := gitrepo.Options{Name: "shop", URL: repo.URL, Ref: "main", Dir: t.TempDir()}
	r, base := fetched(t, o)
	if _, err := r.Push(t.Context(), o, proposal(base)); !errors.Is(err, gitrepo.ErrPushRefused) || !strings.Contains(err.Error(), "write access") {
		t.Errorf("%v", err)
	}
	server.RequireAuth("robot", "planted-push-secret")
	if _, err := r.Push(t.Context(), o, proposal(base)); !errors.Is(err, gitrepo.ErrAuth) {
		t.Errorf("without credentials: %v", err)
	}
	wrong := o
	wrong.Username, wrong.Password = "robot", "planted-wrong-secret"
	if _, err := r.Push(t.Context(), wrong, proposal(base)); !errors.Is(err, gitrepo.ErrAuth) || strings.Contains(err.Error(), "planted") {
		t.Errorf("with wrong ones: %v", err)
	}
	repo.Git(t, "", "config", "http.receivepack", "true")
	own := o
	own.Username, own.Password = "robot", "planted-push-secret"
	if _, err := r.Push(t.Context(), own, proposal(base)); err != nil {
		t.Errorf("with its own: %v", err)
	}
	other := own
	other.URL = server.URL + "/elsewhere.git"
	if _, err := r.Push(t.Context(), other, proposal(base)); err == nil {
		t.Error("it pushes elsewhere")
	}
}
