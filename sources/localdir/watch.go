package localdir

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/holdfast-gitops/holdfast/internal/fswatch"
)

// Watch calls changed whenever the content may differ from what was fetched
// last, soon after the file system reported a change and at the latest after
// Options.Backstop. It blocks until ctx ends, and then answers nil.
//
// Calls are hints: one may come for a folder that cannot be read, so that the
// error shows where the folder is fetched.
func (d *Dir) Watch(ctx context.Context, changed func()) error {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch folder %s: %w", d.opts.Dir, err)
	}
	defer notify.Close() // its only error is to be closed already
	w := &watcher{dir: d, notify: notify, changed: changed, known: d.state(ctx)}
	if last, err := d.Last(); err == nil {
		// What changed between that fetch and now must be told too.
		w.known = last.Revision.ID
		last.Close()
	}
	return w.run(ctx)
}

// watcher is one call of Watch, in one goroutine but for the watch's errors.
type watcher struct {
	dir     *Dir
	notify  *fsnotify.Watcher
	changed func()
	known   string
}

func (w *watcher) run(ctx context.Context) error {
	backstop := time.NewTicker(w.dir.opts.Backstop)
	defer backstop.Stop()
	lost := fswatch.Errors(w.notify)
	w.look(ctx)
	var settle, latest <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case event := <-w.notify.Events:
			if !w.concerns(event) {
				continue
			}
			settle = time.After(w.dir.opts.Settle)
			if latest == nil {
				latest = time.After(w.dir.opts.MaxDelay)
			}
			continue
		case <-lost:
			// Most likely events were lost: look for ourselves.
		case <-settle:
		case <-latest:
		case <-backstop.C:
		}
		settle, latest = nil, nil
		w.look(ctx)
	}
}

// concerns leaves out what happens beside the folder and to files' attributes
// that do not count.
func (w *watcher) concerns(event fsnotify.Event) bool {
	self, err := filepath.Abs(w.dir.opts.Dir)
	if err != nil {
		return true
	}
	if filepath.Dir(event.Name) == filepath.Dir(self) {
		return event.Name == self
	}
	return filepath.Base(event.Name) != ".git" && !temporary(filepath.Base(event.Name))
}

// look first watches what there is to watch, so that nothing is missed after
// the comparison.
func (w *watcher) look(ctx context.Context) {
	w.rewatch()
	state := w.dir.state(ctx)
	if ctx.Err() != nil || state == w.known {
		return
	}
	w.known = state
	w.changed()
}

// state is the revision of the folder, or that it cannot be read.
func (d *Dir) state(ctx context.Context) string {
	t, err := d.scan(ctx)
	if err != nil {
		return "error: " + err.Error()
	}
	return t.rev.ID
}

// rewatch watches each folder there is now, and the one that the folder itself
// is in, because that is where a swap is seen. What cannot be watched, for want
// of kernel resources, is left to the backstop.
func (w *watcher) rewatch() {
	wanted := map[string]bool{}
	if self, err := filepath.Abs(w.dir.opts.Dir); err == nil {
		wanted[filepath.Dir(self)] = true
	}
	if tree := findWorkTree(w.dir.opts.Dir); tree != nil {
		wanted[tree.refs] = true // where a commit or a checkout leaves its traces
	}
	if real, err := filepath.EvalSymlinks(w.dir.opts.Dir); err == nil {
		w.folders(real, wanted)
	}
	for _, dir := range w.notify.WatchList() {
		if !wanted[dir] {
			_ = w.notify.Remove(dir)
		}
		delete(wanted, dir)
	}
	for dir := range wanted {
		_ = w.notify.Add(dir)
	}
}

func (w *watcher) folders(root string, found map[string]bool) {
	if abs, err := filepath.Abs(root); err == nil {
		root = abs
	}
	_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil // it vanished or is forbidden; the comparison will tell
		case !e.IsDir():
			return nil
		case e.Name() == ".git" || len(found) > w.dir.opts.MaxFiles:
			return fs.SkipDir
		}
		found[path] = true
		return nil
	})
}
