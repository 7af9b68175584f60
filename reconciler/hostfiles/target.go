package hostfiles

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-gitops/holdfast/reconciler"
)

// Options describe one target.
type Options struct {
	// Name is the target's name in the daemon's configuration.
	Name string
	// Dir is the directory, which must exist. What is mounted there can come and
	// go; while it is away, nothing is done.
	Dir string
	// Installation names the daemon that owns the environments here.
	Installation string
	// Key keys the digests of sensitive files.
	Key []byte
	// Interval is how often every file's metadata is looked at, for changes of
	// which no event came; zero has a default.
	Interval time.Duration
	// Failed is told what went wrong where nobody waits for an answer.
	Failed func(error)
}

// Target is one directory. Make it with Open; it senses drift while Watch runs.
type Target struct {
	opts Options

	mu sync.Mutex
	// lock is the file that keeps other daemons out, while it is held.
	lock *os.File
	// records are what the environments own; nil until they were read.
	records map[string]*record
	// sources are those that the environments were compared for.
	sources map[string]string
	// seen is each file as it was last looked at or written, by path.
	seen map[string]sighting
	// ended: Watch has, and the directory is not claimed again.
	ended bool
	// rewatch holds a token when other folders are to be watched.
	rewatch chan struct{}

	// health guards what follows; work may take long, and is not waited for.
	health sync.Mutex
	// heard is when the directory was last watched in full, and troubles what
	// stands in the way of that.
	heard    time.Time
	troubles []string
}

// What the engine can do with this driver, beside what each has.
var (
	_ reconciler.Driver  = (*Target)(nil)
	_ reconciler.Keeper  = (*Target)(nil)
	_ reconciler.Remover = (*Target)(nil)
)

// sighting is a file as it was looked at, and when.
type sighting struct {
	stamp
	at time.Time
}

// tick is how coarse a file system's clock may be.
const tick = 50 * time.Millisecond

// vague reports whether the file was looked at so soon after it changed that
// another change might have left the same times.
func (s sighting) vague() bool {
	last := s.changed
	if s.modified.After(last) {
		last = s.modified
	}
	return s.there && s.at.Sub(last) < tick
}

// defaultInterval is how often files are looked at without an event.
const defaultInterval = 30 * time.Second

// Open makes a target. It touches nothing.
func Open(o Options) (*Target, error) {
	if !filepath.IsAbs(o.Dir) {
		return nil, fmt.Errorf("target %s: the directory must be an absolute path", o.Name)
	}
	if o.Interval <= 0 {
		o.Interval = defaultInterval
	}
	if o.Failed == nil {
		o.Failed = func(error) {}
	}
	return &Target{opts: o, seen: map[string]sighting{}, sources: map[string]string{}, rewatch: make(chan struct{}, 1)}, nil
}

// Namespaced says, for rendering, that files may be in a namespace, which is a
// folder; of other kinds nothing is known.
func (t *Target) Namespaced(group, kind string) (namespaced, known bool) {
	ours := group == Group && kind == Kind
	return ours, ours
}

// Health implements reconciler.Driver.
func (t *Target) Health(string) (time.Time, []string) {
	t.health.Lock()
	defer t.health.Unlock()
	return t.heard, append([]string(nil), t.troubles...)
}

// open opens the directory, which is done anew for each piece of work: what is
// mounted there may have been replaced.
func (t *Target) open() (*os.Root, error) {
	root, err := os.OpenRoot(t.opts.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("directory %s does not exist (hint: make it, or mount what belongs there)", t.opts.Dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open the target's directory: %w", err)
	}
	return root, nil
}

// claim takes the directory for this process, until release. It needs t.mu.
func (t *Target) claim(root *os.Root) error {
	switch {
	case t.lock != nil:
		return nil
	case t.ended:
		return fmt.Errorf("directory %s is not kept any more: the target has stopped", t.opts.Dir)
	}
	if err := root.MkdirAll(stateDir, 0o700); err != nil {
		return fmt.Errorf("claim directory %s: %w", t.opts.Dir, err)
	}
	f, err := root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("claim directory %s: %w", t.opts.Dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return fmt.Errorf("directory %s is kept by another holdfast (hint: one daemon writes to a directory): %w", t.opts.Dir, err)
	}
	if err := clearTemp(root); err != nil {
		f.Close()
		return fmt.Errorf("claim directory %s: %w", t.opts.Dir, err)
	}
	t.lock, t.records = f, nil // another may have written since they were read
	return nil
}

// release lets others have the directory.
func (t *Target) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	if t.lock != nil {
		t.lock.Close() // which ends the lock
		t.lock = nil
	}
}

// load reads the records, once. It needs t.mu.
func (t *Target) load(root *os.Root) error {
	if t.records != nil {
		return nil
	}
	records, err := loadRecords(root)
	if err != nil {
		return fmt.Errorf("read what is owned in %s: %w", t.opts.Dir, err)
	}
	t.records = records
	return nil
}

// recordOf is an environment's record, or a new one. An environment of another
// installation or source is refused, not fought over. It needs t.mu.
func (t *Target) recordOf(scope reconciler.Scope) (*record, error) {
	r := t.records[scope.Environment]
	switch {
	case r == nil:
		r = newRecord(scope.Environment, t.opts.Installation)
	case r.Installation != t.opts.Installation:
		return nil, fmt.Errorf("environment %s in %s belongs to installation %q, and this is %q", scope.Environment, t.opts.Dir, r.Installation, t.opts.Installation)
	case r.Source != "" && scope.Source != "" && r.Source != scope.Source:
		return nil, fmt.Errorf("environment %s in %s belongs to source %q, and %q has one of its name (hint: names are unique; after renaming a source, change it in %s/%s.json)",
			scope.Environment, t.opts.Dir, r.Source, scope.Source, stateDir, scope.Environment)
	}
	return r, nil
}

// store writes a record and puts it in force. It needs t.mu.
func (t *Target) store(root *os.Root, r *record) error {
	if err := saveRecord(root, r); err != nil {
		return err
	}
	t.records[r.Environment] = r
	return nil
}
