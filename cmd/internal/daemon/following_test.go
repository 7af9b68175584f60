package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// someKey is a public key of nobody.
const someKey = "ada@example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIF8ZNt7lP9fLz17OxUcYl6bcyuFPKN2ikmySzIMXp+Q+\n"

// What the daemon's file says of a source reaches the repository.
func TestFollowingReachesTheRepository(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "allowed_signers")
	if err := os.WriteFile(keys, []byte(someKey), 0o600); err != nil {
		t.Fatal(err)
	}
	pointer := "version https://git-lfs.github.com/spec/v1\noid sha256:" + strings.Repeat("0a", 32) + "\nsize 1"
	for name, c := range map[string]struct {
		change func(*config.Source)
		kind   error
		want   string
	}{
		"signatures":          {func(c *config.Source) { c.Verify = config.Verify{Signed: "commit", SSH: []string{keys}} }, gitrepo.ErrUntrusted, "the commit is not signed"},
		"bytes of a mirror":   {func(c *config.Source) { c.Limits.Repository = 100 }, gitrepo.ErrTooLarge, "limit of bytes for a mirror"},
		"bytes in memory":     {func(c *config.Source) { c.Store, c.Limits.Memory = config.StoreMemory, 100 }, gitrepo.ErrTooLarge, "limit of bytes in memory"},
		"bytes of a download": {func(c *config.Source) { c.Limits.Download = 100 }, gitrepo.ErrTooLarge, "limit of bytes for one pack"},
		"files":               {func(c *config.Source) { c.Limits.Files = 2 }, gitrepo.ErrTooLarge, "more than 2 files and folders"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			s.origin.Commit(t, map[string]string{"a": "1", "b": "2", "c": pointer})
			c.change(&s.config)
			f, told := s.start(t)
			err := f.refresh(t.Context())
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error: %v", err)
			}
			told.want(t)
			st := f.status()
			if st.Failures != 1 || len(st.Errors) != 1 || !strings.Contains(st.LastError, c.want) || st.Revision.ID != "" || st.Held != nil {
				t.Errorf("status %+v", st)
			}
		})
	}
	t.Run("in memory, with LFS", func(t *testing.T) {
		s := newStand(t)
		s.origin.Commit(t, map[string]string{"c": pointer})
		s.config.Store, s.config.LFS = config.StoreMemory, true
		f, _ := s.start(t)
		if err := f.refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := f.current.snap.Tree.ReadFile("c"); err == nil || !strings.Contains(err.Error(), "Git LFS") || strings.Contains(err.Error(), "LFS is not on") {
			t.Errorf("a pointer: %v", err)
		}
		if left, _ := filepath.Glob(filepath.Join(s.dir, "cache", "git", "*")); len(left) != 0 {
			t.Errorf("written to disk: %v", left)
		}
	})
}
