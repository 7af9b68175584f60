package gitrepo_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

func commitID(id string) sources.Revision { return sources.Revision{ID: id} }

// commits makes n commits in one git process and answers their ids.
func (f *fixture) commits(t *testing.T, ref, from string, n int) []string {
	t.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "commit %s\nmark :%d\ncommitter Ada Example <ada@example.com> %d +0000\ndata 5\nstep \n", ref, i+1, 1767225600+60*i)
		if i == 0 && from != "" {
			fmt.Fprintf(&b, "from %s\n", from)
		}
		fmt.Fprintf(&b, "M 100644 inline n\ndata <<END\n%d\nEND\n", i)
	}
	f.origin.Git(t, b.String(), "fast-import", "--quiet", "--force")
	ids := strings.Fields(f.origin.Git(t, "", "rev-list", "--reverse", fmt.Sprintf("--max-count=%d", n), ref))
	if len(ids) != n {
		t.Fatalf("made %d commits, want %d", len(ids), n)
	}
	return ids
}

func TestDescends(t *testing.T) {
	for _, filter := range []string{"true", "false"} {
		t.Run("filter "+filter, func(t *testing.T) {
			f := newFixture(t)
			f.origin.Git(t, "", "config", "uploadpack.allowFilter", filter)
			f.origin.Git(t, "", "config", "uploadpack.allowAnySHA1InWant", "true")
			line := f.commits(t, gitserver.Main, "", 200)
			side := f.origin.CommitTo(t, "refs/heads/side", line[100], sourcetest.Files{"side": "1"})
			merge := f.origin.Git(t, "", "commit-tree", "-m", "Merge side", "-p", line[199], "-p", side, line[199]+"^{tree}")
			f.origin.ForcePush(t, "refs/heads/merged", merge)
			far := f.origin.CommitTo(t, "refs/heads/far", "", sourcetest.Files{"far": "1"})
			r := f.open(t)
			for name, c := range map[string]struct {
				old, now string
				want     gitrepo.Ancestry
			}{
				"same":             {line[5], line[5], gitrepo.Descends},
				"next":             {line[198], line[199], gitrepo.Descends},
				"some on":          {line[190], line[199], gitrepo.Descends},
				"beyond one step":  {line[3], line[199], gitrepo.Descends},
				"by a merge":       {side, merge, gitrepo.Descends},
				"before a merge":   {line[150], merge, gitrepo.Descends},
				"back":             {line[199], line[190], gitrepo.Rewinds},
				"far back":         {line[199], line[0], gitrepo.Rewinds},
				"sideways":         {line[199], side, gitrepo.Diverges},
				"unrelated":        {line[199], far, gitrepo.Diverges},
				"of an unknown":    {strings.Repeat("12", 20), side, gitrepo.Diverges},
				"merged by others": {merge, line[199], gitrepo.Rewinds},
			} {
				got, err := r.Descends(t.Context(), c.old, c.now)
				if err != nil || got != c.want {
					t.Errorf("%s: %s, %v; want %s", name, got, err, c.want)
				}
			}
		})
	}
}

// A commit on top of the one in force costs no request at all.
func TestDescendsOfOneCommitAsksNobody(t *testing.T) {
	f := newFixture(t)
	first := f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t)
	sourcetest.Fetch(t, r)
	second := f.commit(t, sourcetest.Files{"a": "2"})
	sourcetest.Fetch(t, r)
	f.server.Reset()
	got, err := r.Descends(t.Context(), first, second)
	if err != nil || got != gitrepo.Descends {
		t.Errorf("%s, %v", got, err)
	}
	commits, more, err := r.Log(t.Context(), first, second, 10)
	if err != nil || more || len(commits) != 1 || commits[0].ID != second || commits[0].Subject != "Change 2" {
		t.Errorf("log: %+v, %v, %v", commits, more, err)
	}
	f.wantRequests(t, 0, 0)
}

func TestLog(t *testing.T) {
	f := newFixture(t)
	f.origin.Git(t, "", "config", "uploadpack.allowFilter", "true")
	var ids []string
	for i := range 8 {
		ids = append(ids, f.commit(t, sourcetest.Files{"a": fmt.Sprint(i)}))
	}
	r := f.open(t)
	sourcetest.Fetch(t, r)
	f.server.Reset()
	commits, more, err := r.Log(t.Context(), ids[2], ids[7], 3)
	if err != nil || !more || len(commits) != 3 {
		t.Fatalf("log: %+v, %v, %v", commits, more, err)
	}
	for i, c := range commits {
		if c.ID != ids[7-i] || c.Author != "Ada Example" || c.Subject != fmt.Sprintf("Change %d", 8-i) || c.Time.IsZero() {
			t.Errorf("commit %d is %+v", i, c)
		}
	}
	if commits, more, err = r.Log(t.Context(), ids[2], ids[7], 100); err != nil || more || len(commits) != 5 {
		t.Errorf("the whole log: %d, %v, %v", len(commits), more, err)
	}
	f.wantRequests(t, 1, 1) // both answers from one download
	if packs := r.Stats().Packs; packs != 1 {
		t.Errorf("the mirror has %d packs: history is not to be kept in it", packs)
	}
	if _, _, err := r.Log(t.Context(), "main", ids[7], 1); err == nil {
		t.Error("a name was taken for an id")
	}
}

// A server that cannot leave files out sends them; they pass over the disk, and
// more than the limit leaves the answer open.
func TestHistoryWithFiles(t *testing.T) {
	f := newFixture(t)
	ids := []string{f.commit(t, sourcetest.Files{"a": "1"})}
	for range 3 {
		ids = append(ids, f.commit(t, sourcetest.Files{"big": noise(t, 100_000)}))
	}
	ids = append(ids, f.commit(t, sourcetest.Files{"big": gitserver.Delete}))
	for name, c := range map[string]struct {
		limit int64
		want  gitrepo.Ancestry
	}{"within": {1 << 20, gitrepo.Descends}, "beyond": {50_000, gitrepo.Undecided}} {
		r := f.open(t, func(o *gitrepo.Options) { o.Limits.PackBytes, o.Dir = c.limit, o.Dir+name })
		got, err := r.Descends(t.Context(), ids[0], ids[4])
		if err != nil || got != c.want {
			t.Errorf("%s the limit: %s, %v; want %s", name, got, err, c.want)
		}
		if left, _ := filepath.Glob(filepath.Join(f.dir+name, "*")); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// What cannot be asked is an error, never an answer.
func TestDescendsWithoutServer(t *testing.T) {
	f := newFixture(t)
	line := f.commits(t, gitserver.Main, "", 5)
	r := f.open(t)
	sourcetest.Fetch(t, r)
	f.server.SetFault(gitserver.Status(500))
	got, err := r.Descends(t.Context(), line[0], line[4])
	if !errors.Is(err, gitrepo.ErrUnreachable) || got != gitrepo.Undecided {
		t.Errorf("%s, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Descends(ctx, line[0], line[4]); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestRevisionOfThePast(t *testing.T) {
	f := newFixture(t)
	first := f.commit(t, sourcetest.Files{"a": "1"})
	f.commit(t, sourcetest.Files{"a": "2"})
	r := f.open(t)
	sourcetest.Fetch(t, r)
	snap, err := r.Revision(t.Context(), commitID(first))
	if err != nil {
		t.Fatal(err)
	}
	sourcetest.WantFile(t, snap, "a", "1")
	snap.Close()
	last, err := r.Last()
	if err != nil {
		t.Fatal(err)
	}
	sourcetest.WantFile(t, last, "a", "2")
	last.Close()
	if _, err := r.Revision(t.Context(), commitID(strings.Repeat("12", 20))); !errors.Is(err, gitrepo.ErrRefNotFound) {
		t.Errorf("an unknown commit: %v", err)
	}
}
