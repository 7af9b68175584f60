package daemon

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// backstop is how often the configuration file is looked at in case no event
// came, as on some network file systems.
const backstop = 30 * time.Second

// watchConfig asks for a reload when the configuration file's content changes.
// The folder is watched, not the file: editors replace files, and Kubernetes
// swaps the ..data link beside it.
func (d *daemon) watchConfig(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the configuration: %w", err)
	}
	defer w.Close()
	if err := w.Add(filepath.Dir(d.opts.ConfigPath)); err != nil {
		return fmt.Errorf("watch the configuration: %w", err)
	}
	last := digestFile(d.opts.ConfigPath)
	tick := time.NewTicker(backstop)
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
		case err := <-w.Errors:
			d.log.Warn().Err(err).Msg("configuration watch")
		case <-quiet.C:
		case <-tick.C:
		}
		// A file that is missing in the middle of a replacement is not a change.
		if now := digestFile(d.opts.ConfigPath); now != "" && now != last {
			last = now
			d.requestReload(false)
		}
	}
}

func digestFile(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(b)
	return string(sum[:])
}
