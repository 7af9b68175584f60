package gitrepo_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// BenchmarkSSH compares with the git and ssh programs over one server: listing
// the refs, which is what a poll costs, and the first fetch of 2,000 files.
func BenchmarkSSH(b *testing.B) {
	server := gitserver.New(b.TempDir())
	if err := server.Listen(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(server.Close)
	srv := gitserver.StartSSH(b, server)
	origin := server.Repo(b, "web")
	files := map[string]string{}
	for i := range 2000 {
		files[fmt.Sprintf("d%d/f%d", i%50, i)] = strings.Repeat(fmt.Sprintf("line %d\n", i), 50)
	}
	origin.Commit(b, files)
	dir := b.TempDir()
	key, known := filepath.Join(dir, "key"), srv.KnownHosts(b)
	srv.Authorize(gitserver.WriteKey(b, key, ""))
	open := func() *gitrepo.Repo {
		r, err := gitrepo.Open(gitrepo.Options{
			Name: "web", URL: srv.URL(origin), Ref: "main", Dir: b.TempDir(), Timeout: time.Minute,
			SSH: gitrepo.SSH{KeyFiles: []string{key}, KnownHostsFile: known},
		})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(r.Close)
		return r
	}
	git := func(args ...string) {
		cmd := exec.Command("git", args...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null",
			"GIT_SSH_COMMAND=ssh -F none -o IdentitiesOnly=yes -o UserKnownHostsFile="+known+" -i "+key)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("git: %v\n%s", err, out)
		}
	}
	r := open()
	b.Run("listing", func(b *testing.B) {
		for b.Loop() {
			if _, err := r.Head(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("listing by git", func(b *testing.B) {
		for b.Loop() {
			git("ls-remote", srv.URL(origin), "refs/heads/main")
		}
	})
	b.Run("first fetch", func(b *testing.B) {
		for b.Loop() {
			snap, err := open().Fetch(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			snap.Close()
		}
	})
	b.Run("first fetch by git", func(b *testing.B) {
		for b.Loop() {
			git("clone", "--quiet", "--bare", "--depth=1", srv.URL(origin), filepath.Join(b.TempDir(), "clone"))
		}
	})
}
