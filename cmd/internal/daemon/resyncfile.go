package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// mark is what a touch changes of a file; zero where there is none.
type mark struct {
	changed time.Time
	size    int64
	exists  bool
}

func markOf(path string) mark {
	info, err := os.Stat(path)
	if err != nil {
		return mark{}
	}
	return mark{changed: info.ModTime(), size: info.Size(), exists: true}
}

// watchResyncFile calls touched each time the file is made, touched or replaced,
// until ctx ends. The folder is watched, so that the file need not be there, and
// looked at now and then, since some file systems tell nothing. What is in the
// file is never read.
func watchResyncFile(ctx context.Context, path string, every time.Duration, touched func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the resync file: %w", err)
	}
	defer w.Close()
	if err := w.Add(filepath.Dir(path)); err != nil {
		return fmt.Errorf("watch the resync file: %w", err)
	}
	last := markOf(path)
	tick := time.NewTicker(every)
	defer tick.Stop()
	quiet := time.NewTimer(time.Hour)
	quiet.Stop()
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-w.Events:
			if !ok {
				return nil
			}
			quiet.Reset(debounce)
			continue
		case <-w.Errors: // the backstop looks anyway
			continue
		case <-quiet.C:
		case <-tick.C:
		}
		now := markOf(path)
		if now.exists && now != last {
			touched()
		}
		last = now
	}
}
