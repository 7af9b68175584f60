package daemon

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestATouchedFileAsksForAResync(t *testing.T) {
	for name, every := range map[string]time.Duration{"by events": time.Hour, "by looking": 10 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "resync")
			ctx, cancel := context.WithCancel(t.Context())
			touches, ended := make(chan bool, 100), make(chan error, 1)
			go func() { ended <- watchResyncFile(ctx, path, every, func() { touches <- true }) }()
			at := time.Now()
			touch := func() {
				t.Helper()
				// Until it is seen: the watch may not have begun.
				for deadline := time.After(20 * time.Second); ; {
					at = at.Add(time.Minute)
					if err := os.WriteFile(path, nil, 0o600); err != nil {
						t.Fatal(err)
					}
					if err := os.Chtimes(path, at, at); err != nil {
						t.Fatal(err)
					}
					select {
					case <-touches:
						return
					case <-time.After(3 * debounce):
					case <-deadline:
						t.Fatal("nothing was asked for")
					}
				}
			}
			touch()
			touch()
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			touch()
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAResyncFileNeedsAFolder(t *testing.T) {
	if err := watchResyncFile(t.Context(), filepath.Join(t.TempDir(), "none", "resync"), time.Hour, nil); err == nil {
		t.Error("no error")
	}
}
