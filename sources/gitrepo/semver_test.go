package gitrepo_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

func within(text string) func(*gitrepo.Options) {
	return func(o *gitrepo.Options) { o.Ref, o.Semver = "", text }
}

func TestSemver(t *testing.T) {
	f := newFixture(t)
	commit := map[string]string{}
	for _, tag := range []string{
		"v1.0.0", "v1.2.0", "1.2.3", "v1.2.3", "v1.10.0", "v2.0.0-rc.1", "v2.0.0-rc.2", "v2.0.0", "v2.1.0-beta",
		"3.0.0+a", "3.0.0+b", "v4", "v4.0", "2026-01-01", "release/v9.9.9", "v9.0.0+" + strings.Repeat("b", 230),
	} {
		commit[tag] = f.commit(t, sourcetest.Files{"a": tag})
		f.origin.Tag(t, tag, commit[tag], "")
	}
	f.origin.CommitTo(t, "refs/heads/v8.0.0", "", sourcetest.Files{"a": "a branch"})
	noted := f.commit(t, sourcetest.Files{"a": "noted"})
	f.origin.Tag(t, "v1.11.0", noted, "an annotated tag")
	for text, want := range map[string]string{
		">=1.2 <1.11":      "v1.10.0",
		"~1.2":             "v1.2.3", // and not 1.2.3, which is before it in the order of bytes
		"^1":               "v1.11.0",
		"1.x":              "v1.11.0",
		">=1.0.0":          "3.0.0+b",
		"<=2":              "v2.0.0",
		">=2.0.0-0 <2.0.0": "v2.0.0-rc.2",
		">=2 <3":           "v2.0.0",
		"~2.1-0":           "v2.1.0-beta",
		"<1 || >=2 <3":     "v2.0.0",
		"*":                "3.0.0+b",
	} {
		t.Run(text, func(t *testing.T) {
			r := f.open(t, within(text))
			head, err := r.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if head.Ref != "refs/tags/"+want {
				t.Fatalf("the highest is %s, want %s", head.Ref, want)
			}
			snap := sourcetest.Fetch(t, r)
			if want == "v1.11.0" {
				want, commit["noted"] = "noted", noted
			}
			if snap.Revision.ID != commit[want] {
				t.Errorf("fetched %+v", snap.Revision)
			}
			sourcetest.WantFile(t, snap, "a", want)
			last, err := r.Last()
			if err != nil {
				t.Fatal(err)
			}
			sourcetest.WantFile(t, last, "a", want)
			last.Close()
		})
	}
	r := f.open(t, within("^7"))
	if _, err := r.Fetch(t.Context()); !errors.Is(err, gitrepo.ErrRefNotFound) || !strings.Contains(err.Error(), "the highest version outside it is 3.0.0+") {
		t.Errorf("nothing in the range: %v", err)
	}
	// A new tag is followed, a removed one leaves the next.
	r = f.open(t, within("^1"))
	sourcetest.WantFile(t, sourcetest.Fetch(t, r), "a", "noted")
	f.origin.Tag(t, "v1.12.0", commit["v1.0.0"], "")
	sourcetest.WantFile(t, sourcetest.Fetch(t, r), "a", "v1.0.0")
	f.origin.DeleteRef(t, "refs/tags/v1.12.0")
	sourcetest.WantFile(t, sourcetest.Fetch(t, r), "a", "noted")
}

func TestSemverIsChecked(t *testing.T) {
	for _, text := range []string{"newest", ">=", "1.2.3 -", strings.Repeat("1", 2000)} {
		if gitrepo.CheckSemver(text) == nil {
			t.Errorf("%q is taken for a range", text)
		}
		if r, err := gitrepo.Open(gitrepo.Options{URL: "https://host/x", Dir: t.TempDir(), Semver: text}); err == nil {
			r.Close()
			t.Errorf("%q is followed", text)
		}
	}
	if r, err := gitrepo.Open(gitrepo.Options{URL: "https://host/x", Dir: t.TempDir(), Semver: "1.x", Ref: "main"}); err == nil {
		r.Close()
		t.Error("both a ref and a range are followed")
	}
}
