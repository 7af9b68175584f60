package gitrepo_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
)

var diskCases = append(damageCases(), []aCase{
	{name: "mirror wiped", run: mirrorWiped},
	{name: "mirror damaged while it is read", run: snapshotOutlives},
	{name: "source opened anew while it is read", run: reopened},
	{name: "leftovers of a crash", run: leftovers, http: true},
	{name: "the data directory is a file", run: dirIsAFile},
	{name: "disk full at any point of a fetch", run: func(t *testing.T, f *fixture) { sourcetest.DiskFull(t, f.cache(t)) }},
	{name: "killed at any point of a first fetch", run: func(t *testing.T, f *fixture) { sourcetest.Killed(t, f.cache(t), true) }},
	{name: "killed at any point of a later fetch", run: func(t *testing.T, f *fixture) { sourcetest.Killed(t, f.cache(t), false) }},
}...)

// damageCases do something to each file of a mirror in turn: the next fetch
// gives the right content, in the same process and in the next.
func damageCases() (cases []aCase) {
	for name, damage := range sourcetest.Damages() {
		for when, restart := range map[string]bool{"in use": false, "before a start": true} {
			cases = append(cases, aCase{
				name: "each file of a mirror " + name + " " + when,
				run:  func(t *testing.T, f *fixture) { damaged(t, f, damage, restart) },
			})
		}
	}
	return cases
}

func damaged(t *testing.T, f *fixture, damage func(string) error, restart bool) {
	f.commit(t, sourcetest.Files{"a": "0", "b/c": "0"})
	files := 1
	for i := 0; i < files; i++ {
		r := f.open(t)
		sourcetest.Fetch(t, r).Close()
		commit := f.commit(t, sourcetest.Files{"a": fmt.Sprint(i)})
		sourcetest.Fetch(t, r).Close()
		names := mirrorFiles(t, f.dir)
		files = len(names)
		if restart {
			r.Close()
		}
		if err := damage(names[i]); err != nil {
			t.Fatal(err)
		}
		if restart {
			r = f.open(t)
		}
		snap, err := r.Fetch(t.Context())
		if err != nil {
			t.Fatalf("fetch after the damage of %s: %v", filepath.Base(names[i]), err)
		}
		if snap.Revision.ID != commit {
			t.Errorf("fetched %s, want %s", snap.Revision.ID, commit)
		}
		sourcetest.WantFile(t, snap, "a", fmt.Sprint(i))
		wantWhole(t, snap)
		snap.Close()
		r.Close()
	}
	if files < 5 {
		t.Errorf("only %d files were damaged, and two packs, their indexes and the record are five", files)
	}
	if n := len(generations(t, f.dir)); n != 1 {
		t.Errorf("%d generations are left", n)
	}
}

func dirIsAFile(t *testing.T, f *fixture) {
	commit := f.commit(t, sourcetest.Files{"a": "1"})
	if err := os.WriteFile(f.dir, []byte("in the way"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := f.open(t)
	snap, err := r.Fetch(t.Context())
	if err == nil {
		snap.Close()
		t.Fatal("the fetch succeeded")
	}
	if !strings.Contains(err.Error(), f.dir) || !strings.Contains(err.Error(), "data directory") {
		t.Errorf("the error does not name the directory: %v", err)
	}
	if err := os.Remove(f.dir); err != nil {
		t.Fatal(err)
	}
	wantFetched(t, r, commit)
}

// cache is the fixture's mirror for the cases that are those of all sources with
// a cache on disk.
func (f *fixture) cache(t *testing.T) sourcetest.Cache {
	t.Helper()
	return sourcetest.Cache{Harness: f.harness(), URL: f.origin.URL, Dir: &f.dir, Left: func(t *testing.T) []string {
		t.Helper()
		left, err := filepath.Glob(filepath.Join(f.dir, "gen-*", "tmp-*"))
		if err != nil {
			t.Fatal(err)
		}
		if all := generations(t, f.dir); len(all) > 1 {
			left = append(left, all[1:]...)
		}
		return left
	}}
}
