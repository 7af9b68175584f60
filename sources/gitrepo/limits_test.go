package gitrepo_test

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// noise is text that does not compress to less than half.
func noise(t *testing.T, bytes int) string {
	t.Helper()
	b := make([]byte, bytes/2)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

func inMemory(o *gitrepo.Options) { o.Memory = true }

func TestMemoryLaws(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T) sourcetest.Harness {
		f := newFixture(t)
		return sourcetest.Harness{
			Write: func(t *testing.T, files sourcetest.Files) { f.commit(t, files) },
			Open:  func(t *testing.T) sourcetest.Source { return f.open(t, inMemory) },
		}
	})
}

func TestMemoryWritesNothing(t *testing.T) {
	f := newFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	r := f.open(t, inMemory)
	sourcetest.Fetch(t, r)
	f.commit(t, sourcetest.Files{"a": "2"})
	sourcetest.WantFile(t, sourcetest.Fetch(t, r), "a", "2")
	if _, err := os.Stat(f.dir); !os.IsNotExist(err) {
		t.Errorf("something was written: %v", err)
	}
	if s := r.Stats(); s.Packs != 2 || s.Downloads != 2 || s.Bytes == 0 || s.TotalBytes <= s.Bytes || s.MirrorBytes == 0 || s.Listed.IsZero() || s.Downloaded.IsZero() {
		t.Errorf("stats %+v", s)
	}
}

// A mirror at its bound is cloned anew, so that what piled up goes; a repository
// that is larger by itself is refused.
func TestBoundsOfTheMirror(t *testing.T) {
	for name, bound := range map[string]func(*gitrepo.Options){
		"disk":   func(o *gitrepo.Options) { o.Limits.MirrorBytes = 100_000 },
		"memory": func(o *gitrepo.Options) { o.Memory, o.Limits.MemoryBytes = true, 100_000 },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			r := f.open(t, bound)
			for range 8 {
				text := noise(t, 60_000)
				f.commit(t, sourcetest.Files{"a": text})
				sourcetest.WantFile(t, sourcetest.Fetch(t, r), "a", text)
				if s := r.Stats(); s.MirrorBytes > 100_000 || s.Packs > 3 {
					t.Fatalf("the mirror has %d bytes in %d packs", s.MirrorBytes, s.Packs)
				}
			}
			f.commit(t, sourcetest.Files{"b": noise(t, 400_000)})
			snap, err := r.Fetch(t.Context())
			if err == nil {
				snap.Close()
			}
			if !errors.Is(err, gitrepo.ErrTooLarge) || !strings.Contains(err.Error(), "limit of bytes") || !strings.Contains(err.Error(), f.origin.URL) {
				t.Errorf("error: %v", err)
			}
			last, err := r.Last()
			if err != nil {
				t.Fatal(err)
			}
			last.Close()
		})
	}
}
