package gitrepo_test

import (
	"fmt"
	"os/exec"
	"testing"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// benchRepo serves a repository of n files of about 1 KiB in folders of 100.
func benchRepo(b *testing.B, n int) (*gitserver.Repo, *gitrepo.Repo) {
	b.Helper()
	srv := gitserver.Start(b)
	origin := srv.Repo(b, "web")
	files := sourcetest.Files{}
	for i := range n {
		text := fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: config-%d\ndata:\n", i)
		for line := range 30 {
			text += fmt.Sprintf("  key-%d: value %d of %d\n", line, line*i, i)
		}
		files[fmt.Sprintf("dir%d/file%d.yaml", i/100, i)] = text
	}
	origin.Commit(b, files)
	repo, err := gitrepo.Open(gitrepo.Options{Name: "web", URL: origin.URL, Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(repo.Close)
	return origin, repo
}

func BenchmarkHead(b *testing.B) {
	_, repo := benchRepo(b, 1000)
	for b.Loop() {
		if _, err := repo.Head(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLsRemoteByGit(b *testing.B) {
	origin, _ := benchRepo(b, 1000)
	for b.Loop() {
		if out, err := exec.Command("git", "ls-remote", origin.URL).CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
}

func BenchmarkFetchUnchanged(b *testing.B) {
	_, repo := benchRepo(b, 1000)
	for b.Loop() {
		snap, err := repo.Fetch(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		snap.Close()
	}
}

func BenchmarkFetchOneChange(b *testing.B) {
	origin, repo := benchRepo(b, 1000)
	first, err := repo.Fetch(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	first.Close()
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		origin.Commit(b, sourcetest.Files{"dir0/file0.yaml": fmt.Sprint(i)})
		b.StartTimer()
		snap, err := repo.Fetch(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		snap.Close()
	}
}

func BenchmarkFirstFetch20000(b *testing.B) {
	origin, _ := benchRepo(b, 20_000)
	for b.Loop() {
		repo, err := gitrepo.Open(gitrepo.Options{Name: "web", URL: origin.URL, Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		snap, err := repo.Fetch(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		snap.Close()
		repo.Close()
	}
}

func BenchmarkRead1000(b *testing.B) {
	_, repo := benchRepo(b, 1000)
	for b.Loop() {
		snap, err := repo.Fetch(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		for i := range 1000 {
			if _, err := snap.Tree.ReadFile(fmt.Sprintf("dir%d/file%d.yaml", i/100, i)); err != nil {
				b.Fatal(err)
			}
		}
		snap.Close()
	}
}

// What go-git itself takes for the same, to compare with in one run.

func bareClone(b *testing.B, url string) *git.Remote {
	b.Helper()
	repo, err := git.PlainInit(b.TempDir(), true)
	if err != nil {
		b.Fatal(err)
	}
	remote, err := repo.CreateRemote(&config.RemoteConfig{Name: "origin", URLs: []string{url}})
	if err != nil {
		b.Fatal(err)
	}
	return remote
}

func BenchmarkGoGitList(b *testing.B) {
	origin, _ := benchRepo(b, 1000)
	remote := bareClone(b, origin.URL)
	for b.Loop() {
		if _, err := remote.ListContext(b.Context(), &git.ListOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGoGitFetchOneChange(b *testing.B) {
	origin, _ := benchRepo(b, 1000)
	remote := bareClone(b, origin.URL)
	spec := []config.RefSpec{"+refs/heads/main:refs/heads/main"}
	if err := remote.Fetch(&git.FetchOptions{RefSpecs: spec, Depth: 1, Tags: git.NoTags}); err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		origin.Commit(b, sourcetest.Files{"dir0/file0.yaml": fmt.Sprint(i)})
		b.StartTimer()
		if err := remote.Fetch(&git.FetchOptions{RefSpecs: spec, Tags: git.NoTags}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDescends asks what lies between two commits that are 300 apart.
func BenchmarkDescends(b *testing.B) {
	origin, repo := benchRepo(b, 1000)
	origin.Git(b, "", "config", "uploadpack.allowFilter", "true")
	ids := []string{origin.Git(b, "", "rev-parse", "main")}
	for i := range 300 {
		ids = append(ids, origin.Commit(b, sourcetest.Files{"dir0/file0.yaml": fmt.Sprint(i)}))
	}
	for i := 0; b.Loop(); i++ {
		// Another pair each time, since the last answer is kept.
		got, err := repo.Descends(b.Context(), ids[i%2], ids[300])
		if err != nil || got != gitrepo.Descends {
			b.Fatal(got, err)
		}
	}
}
