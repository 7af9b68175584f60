package gitrepo_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// wantRequests checks what the last operations cost.
func (f *fixture) wantRequests(t *testing.T, listings, downloads int) {
	t.Helper()
	if l, d := f.server.Count("info/refs"), f.server.Count("git-upload-pack"); l != listings || d != downloads {
		t.Errorf("%d listings and %d downloads, want %d and %d", l, d, listings, downloads)
	}
	f.server.Reset()
}

func TestRequestsPerOperation(t *testing.T) {
	f := newFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t)
	if _, err := r.Head(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.wantRequests(t, 1, 0)
	sourcetest.Fetch(t, r)
	f.wantRequests(t, 1, 1)
	sourcetest.Fetch(t, r)
	f.wantRequests(t, 1, 0)
	f.commit(t, sourcetest.Files{"a": "2"})
	sourcetest.Fetch(t, r)
	f.wantRequests(t, 1, 1)
	r.Close()
	last, err := f.open(t).Last()
	if err != nil {
		t.Fatal(err)
	}
	sourcetest.WantFile(t, last, "a", "2")
	last.Close()
	f.wantRequests(t, 0, 0)
}

// A later download must bring what differs and no more.
func TestIncrementalDownloadIsSmall(t *testing.T) {
	f := newFixture(t)
	files := sourcetest.Files{}
	for i := range 300 {
		files[fmt.Sprintf("d%d/f%d", i%10, i)] = fmt.Sprintf("%x", strings.Repeat(fmt.Sprint(i*7919), 50))
	}
	f.commit(t, files)
	r := f.open(t)
	sourcetest.Fetch(t, r)
	first := packBytes(t, f.dir)
	for i := range 20 {
		f.commit(t, sourcetest.Files{"d0/f0": fmt.Sprint(i)})
	}
	sourcetest.Fetch(t, r)
	if added := packBytes(t, f.dir) - first; added <= 0 || added > first/10 {
		t.Errorf("the first download has %d bytes, the second %d", first, added)
	}
}

func packBytes(t *testing.T, dir string) (total int64) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "gen-*", "*.pack"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	return total
}

func TestTooManyPacksMakeANewGeneration(t *testing.T) {
	f := newFixture(t)
	f.commit(t, sourcetest.Files{"a": "0", "b": "0"})
	r := f.open(t, func(o *gitrepo.Options) { o.Limits.Packs = 3 })
	old := sourcetest.Fetch(t, r)
	for i := range 7 {
		f.commit(t, sourcetest.Files{"a": fmt.Sprint(i)})
		snap, err := r.Fetch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sourcetest.WantFile(t, snap, "a", fmt.Sprint(i))
		snap.Close()
	}
	sourcetest.WantFile(t, old, "a", "0")
	if n := len(generations(t, f.dir)); n != 2 {
		t.Errorf("%d generations while an old snapshot is open", n)
	}
	old.Close()
	if n := len(generations(t, f.dir)); n != 1 {
		t.Errorf("%d generations after it was closed", n)
	}
}

func garbage(body string) gitserver.Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
		_, _ = w.Write([]byte(body))
	}
}

func TestCallersDeadlineIsItsOwn(t *testing.T) {
	f := newFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	f.server.SetFault(gitserver.Hang())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := f.open(t).Fetch(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, gitrepo.ErrUnreachable) {
		t.Errorf("fetch: %v", err)
	}
}

func movesMeanwhile(t *testing.T, f *fixture) {
	f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t)
	moved := ""
	f.server.SetFault(gitserver.OnPack(func(w http.ResponseWriter, req *http.Request, git http.Handler) {
		if moved == "" {
			moved = f.origin.CommitTo(t, gitserver.Main, "", sourcetest.Files{"a": "2"})
			f.origin.Git(t, "", "reflog", "expire", "--expire=now", "--all")
			f.origin.Git(t, "", "prune", "--expire=now")
		}
		git.ServeHTTP(w, req)
	}))
	if snap := sourcetest.Fetch(t, r); snap.Revision.ID != moved {
		t.Errorf("fetched %s, the ref is at %s", snap.Revision.ID, moved)
	}
}

func TestLimits(t *testing.T) {
	f := newFixture(t)
	noise := make([]byte, 4000)
	for i := range noise {
		noise[i] = byte('a' + (i*i*31+i*7)%26)
	}
	f.commit(t, sourcetest.Files{"a/b/c": "1", "a/b/d": "2", "big": string(noise)})
	for name, tc := range map[string]struct {
		limits gitrepo.Limits
		want   string
	}{
		"pack":   {gitrepo.Limits{PackBytes: 300}, "exceeds the limit of bytes"},
		"files":  {gitrepo.Limits{Files: 4}, "more than 4 files"},
		"folder": {gitrepo.Limits{Files: 5}, ""},
	} {
		r := f.open(t, func(o *gitrepo.Options) { o.Limits, o.Dir = tc.limits, t.TempDir() })
		snap, err := r.Fetch(t.Context())
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			snap.Close()
		} else if !errors.Is(err, gitrepo.ErrTooLarge) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A large file stops who reads it, nobody else.
	r := f.open(t, func(o *gitrepo.Options) { o.Limits.FileBytes = 3999 })
	snap := sourcetest.Fetch(t, r)
	sourcetest.WantFile(t, snap, "a/b/c", "1")
	if _, err := snap.Tree.ReadFile("big"); !errors.Is(err, gitrepo.ErrTooLarge) {
		t.Errorf("read of a large file: %v", err)
	}
	if info, err := snap.Tree.Stat("big"); err != nil || info.Size() != 4000 {
		t.Errorf("stat of a large file: %v, %v", info, err)
	}
	r.Close()
	snap.Close()
	again, err := f.open(t, func(o *gitrepo.Options) { o.Limits.FileBytes = 3999 }).Last()
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.Tree.ReadFile("big"); !errors.Is(err, gitrepo.ErrTooLarge) {
		t.Errorf("read of a large file after a restart: %v", err)
	}
}
