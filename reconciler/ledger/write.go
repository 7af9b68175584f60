package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

const (
	// gather is how long the writer lets what comes together come together.
	gather = 50 * time.Millisecond
	// writeTimeout bounds one transaction, so that a file system that hangs shows.
	writeTimeout = 30 * time.Second
	// finalTimeout bounds what is written when the daemon stops.
	finalTimeout = 5 * time.Second
	// retryMax bounds the pause after writes that failed.
	retryMax = 30 * time.Second
	// tidyEvery is how often old records are deleted.
	tidyEvery = time.Hour
)

// errClosed is the answer when the writer has stopped.
var errClosed = errors.New("the ledger is closed")

// Run writes what is recorded until ctx ends, then writes the rest and closes the
// file. It is the only writer.
func (l *Ledger) Run(ctx context.Context) error {
	w := &writer{Ledger: l, tidied: time.Time{}}
	defer w.stop()
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		if w.failures == 0 && w.due() {
			w.tidy(ctx)
		}
		retry := time.After(w.pause())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case answer := <-l.flush:
			answer <- w.drain(ctx)
		case <-l.queue.wake:
			w.gather(ctx)
		case <-retry:
			if w.failures > 0 {
				_ = w.drain(ctx) // it is in Stats, and the next try comes
			}
		}
	}
}

// writer is the state of Run.
type writer struct {
	*Ledger
	// failures counts tries that failed in a row.
	failures int
	// tidied is when old records were last deleted.
	tidied time.Time
}

// pause is how long to wait before the next try.
func (w *writer) pause() time.Duration {
	if w.failures == 0 {
		return tidyEvery
	}
	return min(w.opts.retry<<min(w.failures-1, 10), retryMax)
}

// gather waits for what comes with the first record, then writes. While writes
// fail, it leaves the trying to the pauses.
func (w *writer) gather(ctx context.Context) {
	if w.failures > 0 {
		return
	}
	select {
	case <-time.After(gather):
	case <-ctx.Done():
		return
	case answer := <-w.flush:
		answer <- w.drain(ctx)
		return
	}
	_ = w.drain(ctx) // it is in Stats, and the next try comes
}

// drain writes until nothing waits.
func (w *writer) drain(ctx context.Context) error {
	for {
		b := w.queue.peek()
		if b.empty() && w.failures == 0 && !w.suspect.Load() {
			return nil
		}
		if err := w.writeBatch(ctx, b); err != nil {
			w.failures++
			w.failing(err)
			return err
		}
		w.queue.done(b)
		w.measure()
		if w.failures > 0 {
			w.failures = 0
			w.well()
		}
	}
}

// writeBatch writes a batch, in one transaction unless a record in it cannot be
// written at all: then each by itself, so that one does not keep back the others.
func (w *writer) writeBatch(ctx context.Context, b batch) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if w.write == nil {
		if err := w.open(ctx); err != nil {
			return err
		}
	}
	err := w.lookInto(ctx)
	if err == nil {
		err = w.transaction(ctx, b)
	}
	switch {
	case err == nil, isPassing(err):
		return err
	case isDamage(err):
		return w.begin(ctx, b, err)
	}
	for _, one := range b.single() {
		err := w.transaction(ctx, one)
		if err != nil && (isPassing(err) || isDamage(err)) {
			return err
		}
		if err != nil {
			w.errors.Add(1)
			w.opts.Log.Error().Err(err).Msg("a record cannot be written to the ledger, and is left out")
		}
	}
	return nil
}

// lookInto checks the file, if somebody who read it met damage. It does so with
// a connection of its own: the writer's may hold sound copies of pages that are
// broken in the file.
func (w *writer) lookInto(ctx context.Context) error {
	if !w.suspect.Swap(false) {
		return nil
	}
	db, err := openFile(w.opts.Path, reading, 1)
	if err != nil {
		return err
	}
	defer db.Close()
	return check(ctx, db, "quick_check")
}

// begin replaces a file that turned out to be damaged, and writes to the new one.
func (w *writer) begin(ctx context.Context, b batch, cause error) error {
	w.errors.Add(1)
	_ = w.closeFile() // it is damaged; what closing it says adds nothing
	if err := w.replace("corrupt", cause); err != nil {
		return err
	}
	if err := w.open(ctx); err != nil {
		return err
	}
	return w.transaction(ctx, b)
}

// single is the batch as batches of one record. Writing one twice is harmless.
func (b batch) single() []batch {
	var out []batch
	for _, r := range b.runs {
		out = append(out, batch{runs: []*runRow{r}})
	}
	for _, e := range b.episodes {
		out = append(out, batch{episodes: []*episodeRow{e}})
	}
	for _, a := range b.actions {
		out = append(out, batch{actions: []Action{a}})
	}
	for _, f := range b.facts {
		out = append(out, batch{facts: []fact{f}})
	}
	return append(out, batch{gap: b.gap})
}

func (w *writer) transaction(ctx context.Context, b batch) error {
	tx, err := w.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("write to the ledger: %w", err)
	}
	defer tx.Rollback() // no effect after the commit
	if err := insert(ctx, tx, b); err != nil {
		return fmt.Errorf("write to the ledger: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("write to the ledger: %w", err)
	}
	return nil
}

func insert(ctx context.Context, tx *sql.Tx, b batch) error {
	for _, r := range b.runs {
		if err := insertRun(ctx, tx, r); err != nil {
			return err
		}
	}
	for _, e := range b.episodes {
		if err := insertEpisode(ctx, tx, e); err != nil {
			return err
		}
	}
	for _, a := range b.actions {
		record, err := encode(a)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO actions (at, actor, verb, environment, subject, record) VALUES (?, ?, ?, ?, ?, ?)`,
			a.At.UnixNano(), a.Actor, a.Verb, a.Environment, a.Subject, string(record)); err != nil {
			return err
		}
	}
	for _, f := range b.facts {
		if err := f.insert(ctx, tx); err != nil {
			return err
		}
	}
	if b.gap == (gap{}) {
		return nil
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO gaps (since, until, runs, episodes, reason) VALUES (?, ?, ?, ?, ?)`,
		b.gap.since.UnixNano(), b.gap.until.UnixNano(), b.gap.runs, b.gap.episodes, "the ledger could not be written, and there was no room to wait")
	return err
}

func insertRun(ctx context.Context, tx *sql.Tx, r *runRow) error {
	// A run is written once; when a commit's answer was lost, it is there already.
	res, err := tx.ExecContext(ctx, `INSERT INTO runs (id, environment, started, finished, reason, actor, revision, author, plan, result, record)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
		r.id, r.environment, r.started.UnixNano(), r.finished.UnixNano(), r.reason, r.actor, r.revision, r.author, r.plan, r.result, string(r.record))
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return err
	}
	seq, err := res.LastInsertId()
	if err != nil || len(r.changes) == 0 {
		return err
	}
	stmt, err := tx.PrepareContext(ctx, `INSERT INTO changes (run, place, object, op, record) VALUES (?, ?, ?, ?, ?)`)
	if err != nil {
		return err
	}
	defer stmt.Close()
	for i, c := range r.changes {
		if _, err := stmt.ExecContext(ctx, seq, i, c.object, c.op, string(c.record)); err != nil {
			return err
		}
	}
	return nil
}

func insertEpisode(ctx context.Context, tx *sql.Tx, e *episodeRow) error {
	record, err := encode(e.Episode)
	if err != nil {
		return err
	}
	var ended, detect any
	if !e.Ended.IsZero() {
		ended = e.Ended.UnixNano()
	}
	if e.detect > 0 {
		detect = int64(e.detect)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO episodes
		(id, environment, target, object, kind, class, cause, manager, state, first_seen, last_seen, ended, detect, occurrences, record)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET class = excluded.class, cause = excluded.cause, manager = excluded.manager,
			state = excluded.state, last_seen = excluded.last_seen, ended = excluded.ended,
			detect = coalesce(detect, excluded.detect), occurrences = excluded.occurrences, record = excluded.record`,
		e.ID, e.Environment, e.Target, e.Object.String(), e.Object.GroupKind(), string(e.Class), string(e.Cause), managersOf(e.Episode),
		string(e.State), e.FirstSeen.UnixNano(), e.LastSeen.UnixNano(), ended, detect, e.Occurrences, string(record))
	return err
}

// stop writes what waits, once, and closes the file.
func (w *writer) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), finalTimeout)
	defer cancel()
	if err := w.drain(ctx); err != nil {
		s := w.Stats()
		w.opts.Log.Error().Err(err).Int("runs", s.QueuedRuns).Int("episodes", s.QueuedEpisodes).Msg("ledger could not be written before the end")
	}
	if err := w.closeFile(); err != nil {
		w.opts.Log.Warn().Err(err).Msg("ledger was not closed in good order; it mends itself at the next start")
	}
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
}

// Flush returns when all that was recorded before is on the disk, or cannot be.
func (l *Ledger) Flush(ctx context.Context) error {
	answer := make(chan error, 1)
	select {
	case l.flush <- answer:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
