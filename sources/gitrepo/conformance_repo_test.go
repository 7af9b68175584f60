package gitrepo_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

var repositoryCases = []aCase{
	{name: "emptied of refs", run: emptiedOfRefs},
	{name: "emptied of files", run: emptiedOfFiles},
	{name: "replaced by an unrelated repository", run: replaced},
	{name: "renamed", run: renamed},
	{name: "moved behind a redirect", run: redirected, http: true},
	{name: "moved behind a redirect to another host", run: redirectedAway, http: true},
	{name: "redirected in circles", run: redirectedInCircles, http: true},
	{name: "packed anew on the server", run: repacked},
	{name: "history thrown away on the server", run: historyThrownAway},
	{name: "served from a shallow clone", run: servedShallow},
	{name: "two sources on one URL", run: twoSources},
	{name: "two sources on one URL and ref", run: twoSourcesOneRef, http: true},
	{name: "the URL of a source changed", run: urlChanged},
	{name: "a fetch that was given up", run: givenUp},
}

func emptiedOfRefs(t *testing.T, f *fixture) {
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t)
	wantFetched(t, r, commit)
	f.origin.DeleteRef(t, gitserver.Main)
	f.wantRefused(t, r, gitrepo.ErrEmpty, "no commits", commit)
	wantFetched(t, r, f.commit(t, sourcetest.Files{"a": "2"}))
}

func emptiedOfFiles(t *testing.T, f *fixture) {
	first := f.commit(t, sourcetest.Files{"a": "1", "d/b": "1"})
	r := f.open(t)
	old := wantFetched(t, r, first)
	snap := wantFetched(t, r, f.commit(t, sourcetest.Files{"a": gitserver.Delete, "d": gitserver.Delete}))
	if entries, err := snap.Tree.ReadDir("."); err != nil || len(entries) != 0 {
		t.Errorf("an empty commit lists %v, %v", entries, err)
	}
	sourcetest.WantFile(t, old, "d/b", "1")
	wantFetched(t, r, f.commit(t, sourcetest.Files{"a": "2"}))
}

// anew makes another repository in the place of the fixture's.
func (f *fixture) anew(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(f.origin.Dir); err != nil {
		t.Fatal(err)
	}
	url := f.origin.URL
	f.origin = f.server.Repo(t, "web")
	f.origin.URL = url
}

func replaced(t *testing.T, f *fixture) {
	first := f.commit(t, sourcetest.Files{"a": "1", "only/before": "1"})
	r := f.open(t)
	old := wantFetched(t, r, first)
	f.anew(t)
	second := f.commit(t, sourcetest.Files{"a": "2", "only/after": "2"})
	snap := wantFetched(t, r, second)
	if _, err := snap.Tree.Stat("only/before"); err == nil {
		t.Error("a file of the old repository is in the new one")
	}
	sourcetest.WantFile(t, old, "only/before", "1")
}

func renamed(t *testing.T, f *fixture) {
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t)
	wantFetched(t, r, commit)
	moved := filepath.Join(filepath.Dir(f.origin.Dir), "site.git")
	if err := os.Rename(f.origin.Dir, moved); err != nil {
		t.Fatal(err)
	}
	f.wantRefused(t, r, gitrepo.ErrNotFound, "check the url", commit)
	if err := os.Rename(moved, f.origin.Dir); err != nil {
		t.Fatal(err)
	}
	wantFetched(t, r, f.commit(t, sourcetest.Files{"a": "2"}))
}

// to sends requests for one repository to another.
func redirect(from, to string) gitserver.Fault {
	return func(w http.ResponseWriter, r *http.Request, git http.Handler) {
		if rest, ok := strings.CutPrefix(r.URL.RequestURI(), from); ok {
			http.Redirect(w, r, to+rest, http.StatusMovedPermanently)
			return
		}
		git.ServeHTTP(w, r)
	}
}

func redirected(t *testing.T, f *fixture) {
	r := f.open(t)
	wantFetched(t, r, f.commit(t, sourcetest.Files{"a": "1"}))
	if err := os.Rename(f.origin.Dir, filepath.Join(filepath.Dir(f.origin.Dir), "site.git")); err != nil {
		t.Fatal(err)
	}
	site := f.server.Repo(t, "site")
	f.server.SetFault(redirect("/web.git", "/site.git"))
	wantFetched(t, r, site.Commit(t, sourcetest.Files{"a": "2"}))
	wantFetched(t, r, site.Commit(t, sourcetest.Files{"a": "3"}))
}

func redirectedAway(t *testing.T, f *fixture) {
	other := newFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	commit := other.commit(t, sourcetest.Files{"a": "elsewhere"})
	f.server.RequireAuth("ada", secret)
	f.server.SetFault(redirect("/web.git", other.server.URL+"/web.git"))
	r := f.open(t, func(o *gitrepo.Options) { o.Username, o.Password = "ada", secret })
	wantFetched(t, r, commit)
	for _, req := range other.server.Requests() {
		if req.Password != "" || req.User != "" {
			t.Errorf("%s carried credentials to another host", req.Path)
		}
	}
}

func redirectedInCircles(t *testing.T, f *fixture) {
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t)
	wantFetched(t, r, commit)
	f.server.SetFault(redirect("/web.git", "/web.git"))
	f.wantRefused(t, r, gitrepo.ErrUnreachable, "redirects", commit)
	if n := len(f.server.Requests()); n > 20 {
		t.Errorf("%d requests were sent in circles", n)
	}
}

func repacked(t *testing.T, f *fixture) {
	r := f.open(t)
	for i := range 3 {
		wantFetched(t, r, f.commit(t, sourcetest.Files{"a": fmt.Sprint(i), fmt.Sprint("f", i): "1"}))
		f.origin.Git(t, "", "gc", "--quiet", "--prune=now", "--aggressive")
	}
}

// The commits that the mirror names to the server are gone there.
func historyThrownAway(t *testing.T, f *fixture) {
	r := f.open(t)
	wantFetched(t, r, f.commit(t, sourcetest.Files{"a": "1"}))
	second := f.origin.CommitTo(t, gitserver.Main, "", sourcetest.Files{"a": "2", "b": "2"})
	f.origin.Git(t, "", "reflog", "expire", "--expire=now", "--all")
	f.origin.Git(t, "", "gc", "--quiet", "--prune=now")
	wantFetched(t, r, second)
	wantFetched(t, r, f.commit(t, sourcetest.Files{"a": "3"}))
}

func servedShallow(t *testing.T, f *fixture) {
	deep := f.server.Repo(t, "deep")
	for i := range 3 {
		deep.Commit(t, sourcetest.Files{"a": fmt.Sprint(i)})
	}
	if err := os.RemoveAll(f.origin.Dir); err != nil {
		t.Fatal(err)
	}
	deep.Git(t, "", "clone", "--quiet", "--bare", "--depth=1", "file://"+deep.Dir, f.origin.Dir)
	r := f.open(t)
	wantFetched(t, r, f.origin.Git(t, "", "rev-parse", "main"))
	wantFetched(t, r, f.commit(t, sourcetest.Files{"a": "9"}))
}

func twoSources(t *testing.T, f *fixture) {
	main := f.commit(t, sourcetest.Files{"a": "1", "b": "1"})
	next := f.origin.CommitTo(t, "refs/heads/next", main, sourcetest.Files{"a": "2"})
	one, two := f.open(t), f.open(t, ref("next"))
	for i := range 4 {
		var both sync.WaitGroup
		for r, commit := range map[*gitrepo.Repo]string{one: main, two: next} {
			both.Go(func() {
				snap, err := r.Fetch(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				defer snap.Close()
				if snap.Revision.ID != commit {
					t.Errorf("fetched %s, want %s", snap.Revision.Short(), commit)
				}
				wantWhole(t, snap)
			})
		}
		both.Wait()
		main, next = f.commit(t, sourcetest.Files{"a": fmt.Sprint(i)}), f.origin.CommitTo(t, "refs/heads/next", next, sourcetest.Files{"a": fmt.Sprint(-i)})
	}
	if n := len(generations(t, f.dir)); n != 1 {
		t.Errorf("%d mirrors of one repository", n)
	}
}

func twoSourcesOneRef(t *testing.T, f *fixture) {
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	one, two := f.open(t), f.open(t)
	wantFetched(t, one, commit)
	f.server.Reset()
	wantFetched(t, two, commit)
	if n := f.server.Count("git-upload-pack"); n != 0 {
		t.Errorf("the second source downloaded %d times what the first had", n)
	}
	one.Close()
	wantFetched(t, two, f.commit(t, sourcetest.Files{"a": "2"}))
}

func urlChanged(t *testing.T, f *fixture) {
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t)
	wantFetched(t, r, commit)
	r.Close()
	other := f.server.Repo(t, "other")
	next := other.Commit(t, sourcetest.Files{"a": "2"})
	wantFetched(t, f.open(t, func(o *gitrepo.Options) {
		o.URL, o.Dir = strings.Replace(o.URL, "web.git", "other.git", 1), t.TempDir()
	}), next)
	wantFetched(t, f.open(t), commit)
}

func givenUp(t *testing.T, f *fixture) {
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t)
	wantFetched(t, r, commit)
	next := f.commit(t, sourcetest.Files{"a": "2"})
	if _, err := r.Fetch(canceled(t)); err == nil || errors.Is(err, gitrepo.ErrUnreachable) {
		t.Errorf("a fetch that was given up: %v", err)
	}
	wantLast(t, r, commit)
	wantFetched(t, r, next)
}
