package hostfiles

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/holdfast-gitops/holdfast/internal/fswatch"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// rouse lets the watch look which folders there are to watch.
func (t *Target) rouse() {
	select {
	case t.rewatch <- struct{}{}:
	default:
	}
}

// watching is the state of one Watch.
type watching struct {
	t       *Target
	w       *fsnotify.Watcher
	changed func(reconciler.Hint)
	// folders are watched, by their path below the root.
	folders map[string]bool
}

// Watch implements reconciler.Driver. It keeps other daemons out of the directory
// until ctx ends.
func (t *Target) Watch(ctx context.Context, changed func(reconciler.Hint)) error {
	defer t.release()
	for {
		err := t.watchOnce(ctx, changed)
		if ctx.Err() != nil {
			return nil
		}
		t.trouble(err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(t.opts.Interval):
		}
	}
}

// watchOnce watches until ctx ends or the watch breaks.
func (t *Target) watchOnce(ctx context.Context, changed func(reconciler.Hint)) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", t.opts.Dir, err)
	}
	defer w.Close()
	failed := fswatch.Errors(w)
	state := &watching{t: t, w: w, changed: changed, folders: map[string]bool{}}
	tick := time.NewTicker(t.opts.Interval)
	defer tick.Stop()
	if err := state.lookAround(); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.Events:
			if !ok {
				return errors.New("the watch ended")
			}
			state.event(e)
		case err := <-failed:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watch %s: %w", t.opts.Dir, err)
			}
			err = state.lookAround() // events were lost
			if err != nil {
				return err
			}
		case <-t.rewatch:
			if err := state.follow(); err != nil {
				return err
			}
		case <-tick.C:
			if err := state.lookAround(); err != nil {
				return err
			}
		}
	}
}

// trouble keeps what stands in the way, and says it once.
func (t *Target) trouble(err error) {
	t.health.Lock()
	defer t.health.Unlock()
	if err == nil {
		t.heard, t.troubles = time.Now(), nil
		return
	}
	if len(t.troubles) != 1 || t.troubles[0] != err.Error() {
		t.opts.Failed(err)
	}
	t.troubles = []string{err.Error()}
}

// lookAround claims the directory, sees that the right folders are watched, and
// looks at every file, whether an event came or not.
func (s *watching) lookAround() error {
	root, err := s.t.open()
	if err != nil {
		return err
	}
	defer root.Close()
	s.t.mu.Lock()
	err = s.t.claim(root)
	if err == nil {
		err = s.t.load(root)
	}
	s.t.mu.Unlock()
	if err != nil {
		return err
	}
	if err := s.follow(); err != nil {
		return err
	}
	s.examine(root, func(string) bool { return true })
	s.t.trouble(nil)
	return nil
}

// follow watches the folders that owned files are in, and those above them, so
// that a folder that goes or comes is noticed. Links are not followed.
func (s *watching) follow() error {
	want := map[string]bool{".": true}
	s.t.mu.Lock()
	for _, r := range s.t.records {
		for _, e := range r.Files {
			for dir := path.Dir(e.Path); dir != "."; dir = path.Dir(dir) {
				want[dir] = true
			}
		}
	}
	s.t.mu.Unlock()
	for dir := range s.folders {
		if !want[dir] {
			_ = s.w.Remove(s.full(dir)) // it may be gone, and its watch with it
			delete(s.folders, dir)
		}
	}
	for dir := range want {
		info, err := os.Lstat(s.full(dir))
		if dir != "." && (err != nil || !info.IsDir()) {
			delete(s.folders, dir) // until it is there again
			continue
		}
		// Adding again is harmless, and finds a folder that took another's place.
		if err := s.w.Add(s.full(dir)); err != nil {
			return fmt.Errorf("watch %s: %w", s.full(dir), err)
		}
		s.folders[dir] = true
	}
	return nil
}

func (s *watching) full(dir string) string {
	return filepath.Join(s.t.opts.Dir, filepath.FromSlash(dir))
}

// event looks at what an event is about: a file, or all below a folder.
func (s *watching) event(e fsnotify.Event) {
	rel, err := filepath.Rel(s.t.opts.Dir, e.Name)
	if err != nil {
		return
	}
	rel = filepath.ToSlash(rel)
	if rel == stateDir || within(rel, stateDir) {
		return
	}
	root, err := s.t.open()
	if err != nil {
		s.t.trouble(err)
		return
	}
	defer root.Close()
	if e.Has(fsnotify.Create) || e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename) {
		if err := s.follow(); err != nil {
			s.t.trouble(err)
		}
	}
	s.examine(root, func(p string) bool { return p == rel || within(p, rel) || rel == "." })
}

func within(p, dir string) bool {
	return len(p) > len(dir) && p[:len(dir)] == dir && p[len(dir)] == '/'
}

// examine tells of the files that are not as they were last looked at.
func (s *watching) examine(root *os.Root, about func(path string) bool) {
	now := time.Now()
	for _, h := range s.t.moved(root, about) {
		h.Seen = now
		s.changed(h)
	}
}

// moved finds the files that were touched since they were last looked at. What
// was never looked at is a first comparison's business.
func (t *Target) moved(root *os.Root, about func(path string) bool) []reconciler.Hint {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []reconciler.Hint
	hint := func(environment string, id sources.ID) {
		out = append(out, reconciler.Hint{Environment: environment, Object: id})
	}
	for name, r := range t.records {
		for _, e := range r.Files {
			before, looked := t.seen[e.Path]
			if !looked || !about(e.Path) {
				continue
			}
			if s, err := glance(root, e.Path); err != nil || s != before.stamp || before.vague() {
				hint(name, e.ID)
			}
		}
	}
	return out
}
