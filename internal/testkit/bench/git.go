package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// The size of the repository that following git is measured with.
const (
	gitFiles   = 20_000
	gitCommits = 300
	// gitTouched is how many files a commit changes.
	gitTouched = 20
)

// The goals: how many times what the git program takes, and in MB.
const (
	listGoal        = 1
	firstGoal       = 1.5
	incrementalGoal = 1.5
	firstMemoryGoal = 64
)

// gitBench measures how a repository is followed, against the git program doing
// the same with the same server at the same time.
type gitBench struct {
	dir     string
	repeats int
	origin  *gitserver.Repo
	results results
}

func measureGit(ctx context.Context, o options) (_ results, err error) {
	dir, err := os.MkdirTemp("", "holdfast-bench-git-")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	files := gitFiles
	if o.quick {
		files = 2000
	}
	fmt.Printf("git: %d files, %d commits\n", files, gitCommits)
	server := gitserver.New(filepath.Join(dir, "origin"))
	if err := server.Listen(); err != nil {
		return nil, err
	}
	defer server.Close()
	b := &gitBench{dir: dir, repeats: o.repeats, origin: server.Repo(gitserver.Must, "bench")}
	b.origin.Git(gitserver.Must, history(files), "fast-import", "--quiet")
	b.origin.Git(gitserver.Must, "", "repack", "-a", "-d", "-q")
	for _, part := range []struct {
		name string
		take func(context.Context) error
	}{
		{"first fetch", b.first},
		{"listing and incremental fetch", b.later},
	} {
		fmt.Printf("  %s\n", part.name)
		if err := part.take(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return b.results, nil
}

// history is a stream for git fast-import: one commit with all files, then
// commits that change some each.
func history(files int) string {
	var s strings.Builder
	commit := func(n int) {
		fmt.Fprintf(&s, "commit refs/heads/main\ncommitter Ada Example <ada@example.com> %d +0000\ndata 9\nchange %02d\n", 1_767_225_600+n*60, n%100)
	}
	file := func(i, version int) {
		text := fileText(i, version)
		fmt.Fprintf(&s, "M 100644 inline %s\ndata %d\n%s\n", fileName(i), len(text), text)
	}
	commit(0)
	for i := range files {
		file(i, 0)
	}
	for n := 1; n < gitCommits; n++ {
		commit(n)
		for i := range gitTouched {
			file((n*7919+i*104_729)%files, n)
		}
	}
	return s.String()
}

func fileName(i int) string { return fmt.Sprintf("apps/team-%02d/app-%03d/%d.yaml", i%40, i/40%100, i) }

func fileText(i, version int) string {
	var s strings.Builder
	fmt.Fprintf(&s, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: config-%d\ndata:\n  version: \"%d\"\n", i, version)
	for line := range 24 {
		fmt.Fprintf(&s, "  key-%02d: value %d of %d\n", line, line*i*31, i)
	}
	return s.String()
}

// fetched is what a fetch in a process of its own took.
type fetched struct {
	Took time.Duration `json:"took"`
	Peak int64         `json:"peak"` // bytes resident
}

// first measures the fetch of a repository that is not there yet, each in a
// process of its own, to know its memory.
func (b *gitBench) first(ctx context.Context) error {
	var ours, gits []time.Duration
	var peaks, gitPeaks []int64
	for i := range max(b.repeats/2, 3) {
		got, err := b.firstByHoldfast(ctx, filepath.Join(b.dir, fmt.Sprint("first-", i)))
		if err != nil {
			return err
		}
		raw, err := b.byGit(ctx, "clone", "--quiet", "--bare", "--depth=1", "--single-branch", "--branch=main", b.origin.URL, filepath.Join(b.dir, fmt.Sprint("clone-", i)))
		if err != nil {
			return err
		}
		ours, gits = append(ours, got.Took), append(gits, raw.Took)
		peaks, gitPeaks = append(peaks, got.Peak), append(gitPeaks, raw.Peak)
	}
	b.results = append(b.results, against("git/first-fetch", median(ours), median(gits), firstGoal))
	if median(peaks) > 0 {
		peak, raw := round(float64(median(peaks))/1e6), round(float64(median(gitPeaks))/1e6)
		b.results = append(b.results, result{Name: "git/first-fetch-memory", Value: peak, Unit: "MB", Limit: firstMemoryGoal, Ratio: ratio(peak, raw), raw: raw})
	}
	return nil
}

func (b *gitBench) firstByHoldfast(ctx context.Context, dir string) (got fetched, err error) {
	self, err := os.Executable()
	if err != nil {
		return got, err
	}
	cmd := exec.CommandContext(ctx, self, fetchVerb, b.origin.URL, dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return got, fmt.Errorf("fetch in a process of its own: %w", err)
	}
	return got, json.Unmarshal(out, &got)
}

// fetchVerb makes this program fetch once and say what it took.
const fetchVerb = "fetch-once"

func fetchOnce(ctx context.Context, url, dir string) error {
	repo, err := gitrepo.Open(gitrepo.Options{Name: "bench", URL: url, Ref: "main", Dir: dir})
	if err != nil {
		return err
	}
	defer repo.Close()
	began := time.Now()
	snap, err := repo.Fetch(ctx)
	if err != nil {
		return err
	}
	got := fetched{Took: time.Since(began)}
	snap.Close()
	if canReadMemory() {
		if got.Peak, err = field(os.Getpid(), "VmHWM"); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(got)
}

// byGit runs git and says what it took.
func (b *gitBench) byGit(ctx context.Context, args ...string) (fetched, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_TERMINAL_PROMPT=0")
	began := time.Now()
	out, err := cmd.CombinedOutput()
	got := fetched{Took: time.Since(began)}
	if err != nil {
		return got, fmt.Errorf("git %s: %w: %s", args[0], err, out)
	}
	if used, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok && canReadMemory() { // in KiB on Linux
		got.Peak = used.Maxrss << 10
	}
	return got, nil
}

// later measures listings with no change, and fetches of one commit each, as the
// daemon makes them: in one long-lived process.
func (b *gitBench) later(ctx context.Context) error {
	repo, err := gitrepo.Open(gitrepo.Options{Name: "bench", URL: b.origin.URL, Ref: "main", Dir: filepath.Join(b.dir, "mirror")})
	if err != nil {
		return err
	}
	defer repo.Close()
	clone := filepath.Join(b.dir, "clone-0")
	var lists, gitLists, fetches, gitFetches []time.Duration
	for i := range b.repeats + 1 {
		list, fetch, err := b.once(ctx, repo, clone)
		if err != nil {
			return err
		}
		if i > 0 { // the first has to fetch everything
			lists, gitLists = append(lists, list[0]), append(gitLists, list[1])
			fetches, gitFetches = append(fetches, fetch[0]), append(gitFetches, fetch[1])
		}
		b.origin.Commit(gitserver.Must, map[string]string{fileName(i * 13): fileText(i*13, 1000+i)})
	}
	alone, err := b.byGit(ctx, "--version")
	if err != nil {
		return err
	}
	fmt.Printf("    of what git takes, %.1f ms are its start\n", millis(alone.Took))
	b.results = append(b.results,
		against("git/listing", median(lists), median(gitLists), listGoal),
		against("git/incremental-fetch", median(fetches), median(gitFetches), incrementalGoal))
	return nil
}

// once fetches the newest commit, then looks again when nothing has changed,
// each by Holdfast and by git.
func (b *gitBench) once(ctx context.Context, repo *gitrepo.Repo, clone string) (list, fetch [2]time.Duration, err error) {
	timed := func(into *time.Duration) error {
		began := time.Now()
		snap, err := repo.Fetch(ctx)
		if err != nil {
			return err
		}
		*into = time.Since(began)
		snap.Close()
		return nil
	}
	if err := timed(&fetch[0]); err != nil {
		return list, fetch, err
	}
	got, err := b.byGit(ctx, "-C", clone, "fetch", "--quiet", "origin", "+refs/heads/main:refs/heads/main")
	if err != nil {
		return list, fetch, err
	}
	fetch[1] = got.Took
	if err := timed(&list[0]); err != nil {
		return list, fetch, err
	}
	got, err = b.byGit(ctx, "ls-remote", b.origin.URL)
	list[1] = got.Took
	return list, fetch, err
}
