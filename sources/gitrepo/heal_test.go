package gitrepo_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
)

func generations(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "gen-*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func mirrorFiles(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "gen-*", "*"))
	if err != nil || len(names) == 0 {
		t.Fatalf("files of the mirror: %v, %v", names, err)
	}
	return names
}

func mirrorWiped(t *testing.T, f *fixture) {
	f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t)
	held := sourcetest.Fetch(t, r)
	for _, wipe := range []string{f.dir, filepath.Join(f.dir, "gen-*")} {
		names, err := filepath.Glob(wipe)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if err := os.RemoveAll(name); err != nil {
				t.Fatal(err)
			}
		}
		if last, err := r.Last(); err == nil {
			t.Errorf("a wiped mirror still has %v", last.Revision)
		}
		snap, err := r.Fetch(t.Context())
		if err != nil {
			t.Fatalf("fetch: %v", err)
		}
		sourcetest.WantFile(t, snap, "a", "1")
		snap.Close()
	}
	// What is on lease stays readable: its files are open.
	sourcetest.WantFile(t, held, "a", "1")
}

func snapshotOutlives(t *testing.T, f *fixture) {
	f.commit(t, sourcetest.Files{"a": "1", "b/c": "1"})
	r := f.open(t)
	old := sourcetest.Fetch(t, r)
	if err := os.WriteFile(filepath.Join(generations(t, f.dir)[0], "last.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range mirrorFiles(t, f.dir) {
		if filepath.Ext(name) == ".idx" {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.commit(t, sourcetest.Files{"a": "2"})
	sourcetest.WantFile(t, sourcetest.Fetch(t, r), "a", "2")
	sourcetest.WantFile(t, old, "a", "1")
	sourcetest.WantFile(t, old, "b/c", "1")
	if n := len(generations(t, f.dir)); n != 2 {
		t.Errorf("%d generations while the old one is read", n)
	}
	old.Close()
	old.Close()
	if n := len(generations(t, f.dir)); n != 1 {
		t.Errorf("%d generations after it was closed", n)
	}
}

// reopened: a reload opens a source anew while snapshots of before are still read.
func reopened(t *testing.T, f *fixture) {
	f.commit(t, sourcetest.Files{"a": "1"})
	before := f.open(t)
	old := sourcetest.Fetch(t, before)
	after := f.open(t)
	before.Close()
	f.commit(t, sourcetest.Files{"a": "2"})
	sourcetest.WantFile(t, sourcetest.Fetch(t, after), "a", "2")
	sourcetest.WantFile(t, old, "a", "1")
}

func leftovers(t *testing.T, f *fixture) {
	f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t)
	sourcetest.Fetch(t, r).Close()
	r.Close()
	for _, name := range []string{"gen-7/tmp-1.pack", "gen-9/pack-x.pack"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(f.dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(f.dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.server.Reset()
	snap := sourcetest.Fetch(t, f.open(t))
	sourcetest.WantFile(t, snap, "a", "1")
	f.wantRequests(t, 1, 0)
	if got := generations(t, f.dir); len(got) != 1 || filepath.Base(got[0]) != "gen-1" {
		t.Errorf("generations: %v", got)
	}
}
