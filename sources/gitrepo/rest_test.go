package gitrepo_test

import (
	"io/fs"
	"sync"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
)

// What a source at rest has let go of is read again, also while it lets go.
func TestRestLosesNothing(t *testing.T) {
	f := newFixture(t)
	f.commit(t, sourcetest.Files{"a": "one", "dir/b": "two"})
	r := f.open(t)
	r.Rest() // before anything was fetched
	snap := sourcetest.Fetch(t, r)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 20 {
				r.Rest()
				for name, want := range map[string]string{"a": "one", "dir/b": "two"} {
					if got, err := fs.ReadFile(snap.Tree, name); err != nil || string(got) != want {
						t.Errorf("%s is %q, %v", name, got, err)
					}
				}
			}
		})
	}
	all.Wait()
	f.commit(t, sourcetest.Files{"a": "three"})
	snap = sourcetest.Fetch(t, r)
	if got, err := fs.ReadFile(snap.Tree, "a"); err != nil || string(got) != "three" {
		t.Errorf("after the next commit: %q, %v", got, err)
	}
}
