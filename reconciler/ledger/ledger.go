package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// The bounds on what is kept, where nothing else is said.
const (
	DefaultAge   = 90 * 24 * time.Hour
	DefaultBytes = 256 << 20
)

// Options are what a ledger needs.
type Options struct {
	// Path is the file; its folder must exist.
	Path string
	// MaxAge and MaxBytes bound what is kept; zero has a default. The file may be
	// larger than MaxBytes for a moment.
	MaxAge   time.Duration
	MaxBytes int64
	Log      zerolog.Logger
	// Now is the clock, for tests.
	Now func() time.Time
	// retry is how long a failed write waits at first; zero has a default.
	retry time.Duration
}

// Ledger is the record. Make it with Open, then Run it: what is recorded before
// is kept in memory, within bounds. It is safe for concurrent use.
type Ledger struct {
	opts  Options
	queue *queue
	// flush asks the writer to write all there is now.
	flush chan chan error

	mu sync.RWMutex
	// write and read are nil while the file cannot be used.
	write, read *sql.DB
	// problem is why nothing can be written, empty while all is well.
	problem string
	// closed: Run has ended.
	closed bool

	// suspect: somebody who read met damage.
	suspect atomic.Bool
	errors  atomic.Int64
	bytes   atomic.Int64
	// aside is the file that was set aside last.
	aside atomic.Pointer[string]
}

// Open opens the file, makes it if there is none, brings an older one up to date,
// and sets a damaged one aside. It never fails: history is not worth a daemon
// that does not start. What is wrong is logged, and in Stats; Run tries again.
func Open(ctx context.Context, o Options) *Ledger {
	o.MaxAge, o.MaxBytes = cmp.Or(o.MaxAge, DefaultAge), cmp.Or(o.MaxBytes, DefaultBytes)
	o.retry = cmp.Or(o.retry, time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &Ledger{opts: o, queue: newQueue(), flush: make(chan chan error)}
	if err := l.open(ctx); err != nil {
		l.failing(err)
	}
	return l
}

// open brings the pools to life.
func (l *Ledger) open(ctx context.Context) error {
	db, err := l.usable(ctx)
	if err != nil {
		return fmt.Errorf("open the ledger: %w", err)
	}
	read, err := openFile(l.opts.Path, reading, 2)
	if err != nil {
		db.Close()
		return fmt.Errorf("open the ledger: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.write, l.read = db, read
	l.measure()
	return nil
}

// usable opens the file for writing. One that is damaged, or of a newer version
// of Holdfast, is set aside, and the next try finds none.
func (l *Ledger) usable(ctx context.Context) (*sql.DB, error) {
	for try := 0; ; try++ {
		db, err := l.prepared(ctx)
		if err == nil {
			return db, nil
		}
		why := ""
		switch {
		case isDamage(err):
			why = "corrupt"
		case errors.As(err, new(newer)):
			why = "newer"
		}
		if why == "" || try == 1 {
			return nil, err
		}
		if err := l.replace(why, err); err != nil {
			return nil, err
		}
	}
}

// newer is the version of a schema that this program does not know.
type newer int

// Error says so.
func (n newer) Error() string {
	return fmt.Sprintf("its schema has version %d, and this program knows %d: it was written by a newer Holdfast", int(n), len(migrations))
}

// prepared opens the file, checks it, and migrates its schema.
func (l *Ledger) prepared(ctx context.Context) (_ *sql.DB, err error) {
	// One connection: there is one writer. The file is made with our mode, as
	// SQLite gives its sidecars the same.
	f, err := os.OpenFile(l.opts.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	db, err := openFile(l.opts.Path, writing, 1)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			db.Close()
		}
	}()
	if err := check(ctx, db, "quick_check"); err != nil {
		return nil, err
	}
	version, ours, err := schemaOf(ctx, db)
	switch {
	case err != nil:
		return nil, err
	case !ours:
		return nil, damage{"it is the database of another program"}
	case version > len(migrations):
		return nil, newer(version)
	case version == len(migrations):
		return db, nil
	}
	if version > 0 {
		if err := l.keepOld(ctx, version); err != nil {
			return nil, err
		}
	}
	return db, migrate(ctx, db, version, len(migrations))
}

// keepOld copies the file before its schema is changed.
func (l *Ledger) keepOld(ctx context.Context, version int) error {
	why := fmt.Sprintf("schema%d", version)
	to := asideName(l.opts.Path, why, l.opts.Now())
	if err := copyTo(ctx, l.opts.Path, to); err != nil {
		return fmt.Errorf("keep the old file: %w", err)
	}
	dropOldest(l.opts.Path, why)
	l.opts.Log.Info().Int("from", version).Int("to", len(migrations)).Str("kept", to).Msg("ledger is migrated")
	return nil
}

// replace sets the file aside and says so; the next open makes a new one.
func (l *Ledger) replace(why string, cause error) error {
	to, err := setAside(l.opts.Path, why, l.opts.Now())
	if to != "" {
		l.aside.Store(&to)
		l.opts.Log.Error().Err(cause).Str("kept", to).Msg("ledger cannot be used and is set aside; a new one begins")
	}
	return err
}

// failing notes that nothing can be written, and says so once.
func (l *Ledger) failing(err error) {
	l.errors.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.problem == "" {
		l.opts.Log.Error().Err(err).Str("file", l.opts.Path).Msg("ledger cannot be written; reconciling goes on, history waits in memory")
	}
	l.problem = err.Error()
	l.queue.setFailing(true)
}

func (l *Ledger) well() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.problem != "" {
		l.opts.Log.Info().Str("file", l.opts.Path).Msg("ledger can be written again")
	}
	l.problem = ""
	l.queue.setFailing(false)
}

// closeFile ends the use of the file; what Run then does begins with open.
func (l *Ledger) closeFile() error {
	l.mu.Lock()
	write, read := l.write, l.read
	l.write, l.read = nil, nil
	l.mu.Unlock()
	var errs []error
	for _, db := range []*sql.DB{read, write} { // the last to close writes the journal back
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// Stats is how the ledger stands.
type Stats struct {
	// File is where it is, Bytes its size with its journal.
	File  string `json:"file"`
	Bytes int64  `json:"bytes"`
	// Queued is what waits to be written.
	QueuedRuns     int `json:"queuedRuns"`
	QueuedEpisodes int `json:"queuedEpisodes"`
	// Errors counts writes that failed; Lost what could not be kept, since the
	// daemon started.
	Errors       int64 `json:"errors"`
	LostRuns     int64 `json:"lostRuns"`
	LostEpisodes int64 `json:"lostEpisodes"`
	// Problem is why nothing can be written now.
	Problem string `json:"problem,omitempty"`
	// SetAside is the file that was found damaged since the daemon started.
	SetAside string `json:"setAside,omitempty"`
}

// Stats says how the ledger stands. It reads nothing.
func (l *Ledger) Stats() Stats {
	l.mu.RLock()
	s := Stats{File: l.opts.Path, Bytes: l.bytes.Load(), Errors: l.errors.Load(), Problem: l.problem}
	l.mu.RUnlock()
	if aside := l.aside.Load(); aside != nil {
		s.SetAside = *aside
	}
	l.queue.stats(&s)
	return s
}

// measure notes the file's size.
func (l *Ledger) measure() {
	var sum int64
	for _, s := range append([]string{""}, sidecars[:1]...) {
		if info, err := os.Stat(l.opts.Path + s); err == nil {
			sum += info.Size()
		}
	}
	l.bytes.Store(sum)
}

// RunEnded implements reconciler.Observer. Runs that did nothing and that nobody
// asked for are not recorded. It waits a moment for room only if the writer is
// well and behind.
func (l *Ledger) RunEnded(r reconciler.Run) {
	if !notable(r) {
		return
	}
	row, err := encodeRun(r)
	if err != nil {
		l.opts.Log.Error().Err(err).Str("run", r.ID).Msg("run cannot be recorded")
		return
	}
	l.queue.addRun(row, r.Environment, r.Started)
}

// notable says whether a run is worth a record.
func notable(r reconciler.Run) bool {
	if r.Started.IsZero() { // it never began
		return false
	}
	asked := r.Trigger.Reason == reconciler.ReasonOnCall || r.Trigger.Reason == reconciler.ReasonWebhook
	return asked || r.Result != reconciler.Unchanged || r.Counts.Pending > 0 || len(r.Errors)+len(r.Waiting)+len(r.Changes) > 0
}

// DriftSeen implements reconciler.Observer. It never waits.
func (l *Ledger) DriftSeen(e drift.Episode, took time.Duration) {
	l.queue.addEpisode(e, detection(e, took))
}

// DriftChanged implements reconciler.Observer. It never waits.
func (l *Ledger) DriftChanged(e drift.Episode) { l.queue.addEpisode(e, 0) }

// DriftEnded implements reconciler.Observer. It never waits.
func (l *Ledger) DriftEnded(e drift.Episode) { l.queue.addEpisode(e, 0) }

// Record keeps what somebody asked for. It never waits.
func (l *Ledger) Record(a Action) {
	a.Reason, a.Subject = short(a.Reason), short(a.Subject)
	if !l.queue.addAction(a) {
		l.opts.Log.Error().Str("actor", a.Actor).Str("verb", a.Verb).Str("environment", a.Environment).
			Str("subject", a.Subject).Msg("ledger has no room; this action is only in the log")
	}
}

// detection is how long a drift went unnoticed. The server says to the second
// when a value was written; where that is no longer ago than the clocks may
// differ, it is the time from the first sign to the known drift.
func detection(e drift.Episode, took time.Duration) time.Duration {
	const blur = 3 * time.Second
	known := e.FirstSeen.Add(took)
	oldest := known
	for _, c := range e.Changes {
		if !c.Time.IsZero() && c.Time.Before(oldest) {
			oldest = c.Time
		}
	}
	if gap := known.Sub(oldest); gap > blur {
		return gap
	}
	return max(took, 1)
}

// folder is where the file is.
func (l *Ledger) folder() string { return filepath.Dir(l.opts.Path) }
