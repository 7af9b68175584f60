package gitserver_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
)

func TestGitItselfCanClone(t *testing.T) {
	srv := gitserver.Start(t)
	repo := srv.Repo(t, "web")
	first := repo.Commit(t, map[string]string{"a/b.txt": "one\n", "run": gitserver.Executable("#!/bin/sh\n")})
	second := repo.Commit(t, map[string]string{"a/b.txt": gitserver.Delete, "link": gitserver.Symlink("run")})
	if first == second {
		t.Fatal("two commits have one hash")
	}
	dir := filepath.Join(t.TempDir(), "clone")
	if out, err := exec.Command("git", "clone", "--quiet", repo.URL, dir).CombinedOutput(); err != nil {
		t.Fatalf("git clone: %v\n%s", err, out)
	}
	out, err := exec.Command("git", "-C", dir, "ls-tree", "-r", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := string(out); !strings.Contains(got, "120000") || !strings.Contains(got, "100755") || strings.Contains(got, "b.txt") {
		t.Errorf("tree of the clone:\n%s", got)
	}
	if srv.Count("info/refs") == 0 || srv.Count("git-upload-pack") == 0 {
		t.Errorf("requests were not counted: %v", srv.Requests())
	}
}

func TestRequireAuth(t *testing.T) {
	srv := gitserver.Start(t)
	repo := srv.Repo(t, "web")
	repo.Commit(t, map[string]string{"a": "1"})
	srv.RequireAuth("ada", "secret")
	if err := exec.Command("git", "-c", "credential.helper=", "-c", "core.askPass=true", "ls-remote", repo.URL).Run(); err == nil {
		t.Error("the server let a stranger in")
	}
	url := strings.Replace(repo.URL, "http://", "http://ada:secret@", 1)
	if out, err := exec.Command("git", "ls-remote", url).CombinedOutput(); err != nil {
		t.Errorf("the server refused the right password: %v\n%s", err, out)
	}
}
