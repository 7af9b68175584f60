package sourcetest

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// Damages are what can happen to a file of a cache.
func Damages() map[string]func(name string) error {
	return map[string]func(name string) error{
		"deleted":   os.Remove,
		"emptied":   func(name string) error { return os.Truncate(name, 0) },
		"truncated": func(name string) error { return os.Truncate(name, max(size(name)-7, 0)) },
		"halved":    func(name string) error { return os.Truncate(name, size(name)/2) },
		"garbled":   garble,
	}
}

func garble(name string) error {
	b, err := os.ReadFile(name)
	if err != nil || len(b) == 0 {
		return err
	}
	b[len(b)/2] ^= 0x55
	return os.WriteFile(name, b, 0o600)
}

func size(name string) int64 {
	info, err := os.Stat(name)
	if err != nil {
		return 0
	}
	return info.Size()
}

// FilesBelow are all files of a cache.
func FilesBelow(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
