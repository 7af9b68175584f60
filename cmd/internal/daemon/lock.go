package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// LockDir takes the data directory for this process, until the file is closed or
// the process dies.
func LockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	path := filepath.Join(dir, "lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return nil, fmt.Errorf("data directory %s is in use by another holdfast (hint: stop it, or give this one its own --data-dir): %w", dir, err)
	}
	return file, nil
}
