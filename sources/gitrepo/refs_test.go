package gitrepo_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

func ref(name string) func(*gitrepo.Options) {
	return func(o *gitrepo.Options) { o.Ref = name }
}

func TestRefs(t *testing.T) {
	f := newFixture(t)
	first := f.commit(t, sourcetest.Files{"a": "1"})
	second := f.commit(t, sourcetest.Files{"a": "2"})
	third := f.commit(t, sourcetest.Files{"a": "3"})
	f.origin.Tag(t, "light", first, "")
	f.origin.Tag(t, "noted", second, "a release")
	f.origin.CommitTo(t, "refs/custom/spot", first, sourcetest.Files{"a": "4"})
	for _, tc := range []struct{ ref, id, full, content string }{
		{"", third, "refs/heads/main", "3"},
		{"main", third, "refs/heads/main", "3"},
		{"refs/heads/main", third, "refs/heads/main", "3"},
		{"light", first, "refs/tags/light", "1"},
		{"noted", second, "refs/tags/noted", "2"},
		{"refs/tags/noted", second, "refs/tags/noted", "2"},
		{"refs/custom/spot", "", "refs/custom/spot", "4"},
		{first, first, "", "1"},
		{second, second, "", "2"},
	} {
		t.Run(tc.ref, func(t *testing.T) {
			r := f.open(t, ref(tc.ref), func(o *gitrepo.Options) { o.Dir = t.TempDir() })
			head, err := r.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if tc.id != "" && head.ID != tc.id || head.Ref != tc.full {
				t.Errorf("head is %+v", head)
			}
			snap := sourcetest.Fetch(t, r)
			if snap.Revision.ID != head.ID || snap.Revision.Ref != tc.full {
				t.Errorf("fetched %+v", snap.Revision)
			}
			sourcetest.WantFile(t, snap, "a", tc.content)
			if rev := snap.Revision; rev.Author != "Ada Example" || !strings.HasPrefix(rev.Subject, "Change ") || rev.Time.IsZero() {
				t.Errorf("the commit is described as %+v", rev)
			}
		})
	}
}

func TestAllRefsShareAMirror(t *testing.T) {
	f := newFixture(t)
	base := f.commit(t, sourcetest.Files{"a": "1"})
	f.origin.CommitTo(t, "refs/heads/next", base, sourcetest.Files{"a": "2"})
	main, next := f.open(t), f.open(t, ref("next"))
	sourcetest.WantFile(t, sourcetest.Fetch(t, main), "a", "1")
	sourcetest.WantFile(t, sourcetest.Fetch(t, next), "a", "2")
	for r, want := range map[*gitrepo.Repo]string{main: "1", next: "2"} {
		last, err := r.Last()
		if err != nil {
			t.Fatal(err)
		}
		sourcetest.WantFile(t, last, "a", want)
		last.Close()
	}
}

// A server that gives only what it advertises is asked for all history.
func TestPinnedCommitOfAStrictServer(t *testing.T) {
	f := newFixture(t)
	first := f.commit(t, sourcetest.Files{"a": "1"})
	f.commit(t, sourcetest.Files{"a": "2"})
	f.origin.CommitTo(t, "refs/heads/main", "", sourcetest.Files{"b": "1"})
	f.origin.CommitTo(t, "refs/heads/old", first, sourcetest.Files{"a": "3"})
	r := f.open(t, ref(first))
	sourcetest.WantFile(t, sourcetest.Fetch(t, r), "a", "1")
	f.server.Reset()
	sourcetest.Fetch(t, r)
	if n := len(f.server.Requests()); n != 0 {
		t.Errorf("a commit at hand cost %d requests", n)
	}
	missing := strings.Repeat("12", 20)
	_, err := f.open(t, ref(missing)).Fetch(t.Context())
	if !errors.Is(err, gitrepo.ErrRefNotFound) || !strings.Contains(err.Error(), missing) {
		t.Errorf("fetch of a commit that is not there: %v", err)
	}
}

func TestErrorsForPeople(t *testing.T) {
	f := newFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	f.server.Repo(t, "empty")
	for name, tc := range map[string]struct {
		change func(*gitrepo.Options)
		kind   error
		want   string
	}{
		"no repository":  {func(o *gitrepo.Options) { o.URL = strings.Replace(o.URL, "web", "wbe", 1) }, gitrepo.ErrNotFound, "check the url"},
		"no commit":      {func(o *gitrepo.Options) { o.URL = strings.Replace(o.URL, "web", "empty", 1) }, gitrepo.ErrEmpty, "first commit"},
		"no ref":         {ref("mian"), gitrepo.ErrRefNotFound, `nearest are "main"`},
		"no server":      {func(o *gitrepo.Options) { o.URL = "http://127.0.0.1:1/x.git" }, gitrepo.ErrUnreachable, "connection refused"},
		"no certificate": {func(o *gitrepo.Options) { o.URL = strings.Replace(o.URL, "http:", "https:", 1) }, gitrepo.ErrUnreachable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := f.open(t, tc.change, func(o *gitrepo.Options) { o.Dir = t.TempDir() })
			_, headErr := r.Head(t.Context())
			_, fetchErr := r.Fetch(t.Context())
			for _, err := range []error{headErr, fetchErr} {
				if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "127.0.0.1") {
					t.Errorf("error: %v", err)
				}
			}
			if _, err := r.Last(); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("last: %v", err)
			}
		})
	}
}

func TestOpenRefusesWhatItCannotFollow(t *testing.T) {
	for url, want := range map[string]string{
		"":                             "the url is empty",
		"/srv/repo":                    "type dir",
		"./repo":                       "type dir",
		"file:///srv/repo":             "type dir",
		"git:hush@example.com:web.git": "only keys",
		"ssh://git:hush@example.com/w": "only keys",
		"ssh://git@example.com/":       "names no repository",
		"ssh://git@example.com/-x":     "", // below the root it is no option
		"git@example.com:-x/web":       "looks like an option",
		"ftp://example.com/web":        "ssh://",
		"example.com/web":              "begin it with https://",
		"https://ada:hush@exa mple/":   "percent-encoded",
		"https://ada:hush@host/x?y=1":  "without query",
	} {
		r, err := gitrepo.Open(gitrepo.Options{Name: "web", URL: url, Dir: t.TempDir()})
		if err == nil && want == "" {
			r.Close()
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("open %q: %v", url, err)
		}
	}
	if _, err := gitrepo.Open(gitrepo.Options{URL: "https://example.com/web"}); err == nil {
		t.Error("a repository without a folder was opened")
	}
}
