package gitrepo_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// by commits a file in somebody's name on top of a parent, none where that is
// empty, and points main at it.
func (f *fixture) by(t *testing.T, who, parent, path, content string, more ...string) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "commit %s\nauthor %s <x@example.com> 1767225600 +0000\ncommitter %s <x@example.com> 1767225600 +0000\n", gitserver.Main, who, who)
	message := who + " was here"
	fmt.Fprintf(&b, "data %d\n%s\n", len(message), message)
	if parent != "" {
		fmt.Fprintf(&b, "from %s\n", parent)
	}
	for _, m := range more {
		b.WriteString(m + "\n")
	}
	fmt.Fprintf(&b, "M 100644 inline %s\ndata %d\n%s\n", path, len(content), content)
	f.origin.Git(t, b.String(), "fast-import", "--quiet", "--force")
	return f.origin.Git(t, "", "rev-parse", gitserver.Main)
}

// blame looks one line up in what main is at.
func blame(t *testing.T, r *gitrepo.Repo, path string, line int) gitrepo.Line {
	t.Helper()
	snap := sourcetest.Fetch(t, r)
	found, err := r.Blame(t.Context(), snap.Revision.ID, []gitrepo.Place{{Path: path, Line: line}})
	if err != nil || len(found) != 1 {
		t.Fatalf("blame: %+v, %v", found, err)
	}
	return found[0]
}

func wantLine(t *testing.T, got gitrepo.Line, who, commit string) {
	t.Helper()
	if got.Unsure != "" || got.Revision.ID != commit || got.Revision.Author != who || got.Revision.Subject != who+" was here" {
		t.Errorf("got %+v, want %s by %s", got, commit, who)
	}
}

const numbered = "one\ntwo\nthree\nfour\nfive\n"

// The answers are those of git blame, with and without a server that can leave
// files out.
func TestBlameAgreesWithGit(t *testing.T) {
	for _, filter := range []string{"true", "false"} {
		t.Run("filter "+filter, func(t *testing.T) {
			f := newFixture(t)
			f.origin.Git(t, "", "config", "uploadpack.allowFilter", filter)
			ada := f.by(t, "Ada", "", "app/web.yaml", numbered)
			bob := f.by(t, "Bob", ada, "app/web.yaml", "zero\n"+strings.Replace(numbered, "three", "THREE", 1))
			side := f.by(t, "Sue", bob, "app/web.yaml", "zero\n"+strings.NewReplacer("three", "THREE", "five", "FIVE").Replace(numbered))
			other := f.by(t, "Oda", bob, "app/other.yaml", "x\n")
			merge := f.by(t, "Max", other, "app/web.yaml", "zero\n"+strings.NewReplacer("three", "THREE", "five", "FIVE").Replace(numbered), "merge "+side)
			cyd := f.by(t, "Cyd", merge, "app/web.yaml", "zero\nhalf\none\nTWO\nTHREE\nhalf\nfour\nFIVE\n")
			head := cyd
			for i := range 30 {
				head = f.by(t, "Eve", head, "notes", fmt.Sprint(i))
			}
			r := f.open(t)
			f.server.Reset()
			snap := sourcetest.Fetch(t, r)
			var places []gitrepo.Place
			for n := range 8 {
				places = append(places, gitrepo.Place{Path: "app/web.yaml", Line: n + 1})
			}
			found, err := r.Blame(t.Context(), snap.Revision.ID, places)
			if err != nil {
				t.Fatal(err)
			}
			for i, l := range found {
				want, _, _ := strings.Cut(f.origin.Git(t, "", "blame", "-l", "-s", "--root", fmt.Sprintf("-L%d,%d", i+1, i+1), head, "--", "app/web.yaml"), " ")
				if l.Unsure != "" || l.Revision.ID != want || l.Number != i+1 {
					t.Errorf("line %d: %+v, git says %s", i+1, l, want)
				}
			}
			wantLine(t, found[0], "Bob", bob)
			wantLine(t, found[7], "Sue", side)
			// All lines cost one listing and two downloads beside those of the fetch.
			f.wantRequests(t, 2, 3)
			if packs := r.Stats().Packs; packs != 1 {
				t.Errorf("the mirror has %d packs: history is not to be kept in it", packs)
			}
		})
	}
}

// What was fetched one after the other answers without a request.
func TestBlameOfWhatIsHereAsksNobody(t *testing.T) {
	f := newFixture(t)
	first := f.by(t, "Ada", "", "a", numbered)
	r := f.open(t)
	sourcetest.Fetch(t, r)
	second := f.by(t, "Bob", first, "a", strings.Replace(numbered, "two", "TWO", 1))
	sourcetest.Fetch(t, r)
	f.server.Reset()
	snap, err := r.Last()
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	found, err := r.Blame(t.Context(), second, []gitrepo.Place{{Path: "a", Line: 2}, {Path: "a", Line: 1}, {Path: "a", Line: 9, Find: func(content []byte) int {
		return 1 + strings.Count(string(content[:strings.Index(string(content), "four")]), "\n")
	}}})
	if err != nil {
		t.Fatal(err)
	}
	wantLine(t, found[0], "Bob", second)
	wantLine(t, found[1], "Ada", first)
	wantLine(t, found[2], "Ada", first)
	if found[2].Number != 4 {
		t.Errorf("the line that was found is %d, want 4", found[2].Number)
	}
	f.wantRequests(t, 0, 0)
}

func TestBlameTakesARenameForAnIntroduction(t *testing.T) {
	f := newFixture(t)
	first := f.by(t, "Ada", "", "old", numbered)
	second := f.by(t, "Bob", first, "new", numbered, "D old")
	wantLine(t, blame(t, f.open(t), "new", 3), "Bob", second)
}

// Where the answer cannot be had, none is made up: the commit is that in force, and
// it says why.
func TestBlameUnsure(t *testing.T) {
	for name, c := range map[string]struct {
		path    string
		line    int
		prepare func(t *testing.T, f *fixture) (head string)
		// after changes the server once the commit is here.
		after func(t *testing.T, f *fixture)
		why   string
	}{
		"beyond the commits looked at": {"keep", 1, func(t *testing.T, f *fixture) string {
			first := f.by(t, "Ada", "", "keep", "x\n")
			ids := f.commits(t, gitserver.Main, first, 230)
			return ids[229]
		}, nil, "further"},
		"history rewritten": {"a", 1, func(t *testing.T, f *fixture) string {
			return f.by(t, "Bob", f.by(t, "Ada", "", "a", numbered), "b", "x")
		}, func(t *testing.T, f *fixture) {
			f.origin.DeleteRef(t, gitserver.Main)
			f.by(t, "Eve", "", "a", "other\n")
		}, "does not give"},
		"server away": {"a", 1, func(t *testing.T, f *fixture) string {
			return f.by(t, "Bob", f.by(t, "Ada", "", "a", numbered), "b", "x")
		}, func(_ *testing.T, f *fixture) { f.server.SetFault(gitserver.Status(502)) }, "cannot be asked"},
		"history too large": {"a", 1, func(t *testing.T, f *fixture) string {
			head := f.by(t, "Ada", "", "a", numbered)
			for range 3 {
				head = f.by(t, "Bob", head, "big", noise(t, 2<<20))
			}
			return f.by(t, "Bob", head, "big", "x")
		}, nil, "larger"},
		"no such line": {"a", 6, func(t *testing.T, f *fixture) string { return f.by(t, "Ada", "", "a", numbered) }, nil, "no such"},
		"no such file": {"c", 1, func(t *testing.T, f *fixture) string { return f.by(t, "Ada", "", "a", numbered) }, nil, "no such"},
		"no path":      {"../a", 1, func(t *testing.T, f *fixture) string { return f.by(t, "Ada", "", "a", numbered) }, nil, "no such"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			head := c.prepare(t, f)
			r := f.open(t)
			sourcetest.Fetch(t, r)
			if c.after != nil {
				c.after(t, f)
			}
			found, err := r.Blame(t.Context(), head, []gitrepo.Place{{Path: c.path, Line: c.line}})
			if err != nil {
				t.Fatal(err)
			}
			if got := found[0]; got.Revision.ID != head || !strings.Contains(got.Unsure, c.why) {
				t.Errorf("got %+v, want %s and %q", got, head, c.why)
			}
		})
	}
}

// A server that can leave files out does not send the large ones beside.
func TestBlameLeavesLargeFilesOut(t *testing.T) {
	f := newFixture(t)
	f.origin.Git(t, "", "config", "uploadpack.allowFilter", "true")
	first := f.by(t, "Ada", "", "a", numbered)
	head := first
	for range 3 {
		head = f.by(t, "Bob", head, "big", noise(t, 2<<20))
	}
	f.by(t, "Bob", head, "big", "x")
	wantLine(t, blame(t, f.open(t), "a", 1), "Ada", first)
}

func TestBlameRefusesWhatIsNoCommit(t *testing.T) {
	f := newFixture(t)
	head := f.by(t, "Ada", "", "a", numbered)
	r := f.open(t)
	if _, err := r.Blame(t.Context(), "main", nil); err == nil {
		t.Error("no error")
	}
	// A commit that was never fetched is not looked for.
	found, err := r.Blame(t.Context(), head, []gitrepo.Place{{Path: "a", Line: 1}})
	if err != nil || found[0].Unsure == "" || found[0].Revision.ID != head {
		t.Errorf("got %+v, %v", found, err)
	}
}
