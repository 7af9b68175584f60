package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

const (
	// tidyTimeout bounds one round of deleting what is old.
	tidyTimeout = 2 * time.Minute
	// tidyRows is how many rows one transaction deletes, so that what is to be
	// written does not wait for long.
	tidyRows = 500
	// tidySteps bounds how often the size is looked at in one round.
	tidySteps = 60
)

// due says whether old records are to be looked for: at the start, every hour,
// and as soon as the file has outgrown its bound.
func (w *writer) due() bool {
	now := w.opts.Now()
	if now.Sub(w.tidied) >= tidyEvery {
		return true
	}
	return w.bytes.Load() > w.opts.MaxBytes && now.Sub(w.tidied) >= time.Minute
}

// tidy deletes what is too old, then the oldest of what is too much, and gives
// the room back to the file system.
func (w *writer) tidy(ctx context.Context) {
	if w.write == nil {
		return
	}
	w.tidied = w.opts.Now()
	ctx, cancel := context.WithTimeout(ctx, tidyTimeout)
	defer cancel()
	err := w.deleteBefore(ctx, w.opts.Now().Add(-w.opts.MaxAge))
	if err == nil {
		err = w.shrink(ctx)
	}
	if err == nil {
		err = giveBack(ctx, w.write)
	}
	w.measure()
	if err != nil && ctx.Err() == nil {
		w.errors.Add(1)
		w.opts.Log.Warn().Err(err).Msg("old records could not be deleted from the ledger")
	}
}

// oldRows finds what ended before a time. An open drift counts by when it was
// last seen: one that nobody has seen for so long is nobody's any more.
var oldRows = []string{
	"DELETE FROM runs WHERE seq IN (SELECT seq FROM runs WHERE finished < ? ORDER BY finished LIMIT ?)",
	"DELETE FROM episodes WHERE seq IN (SELECT seq FROM episodes WHERE last_seen < ? AND coalesce(ended, last_seen) < ?1 ORDER BY first_seen LIMIT ?)",
	"DELETE FROM actions WHERE seq IN (SELECT seq FROM actions WHERE at < ? ORDER BY at LIMIT ?)",
	"DELETE FROM verdicts WHERE seq IN (SELECT seq FROM verdicts WHERE at < ? ORDER BY at LIMIT ?)",
	"DELETE FROM moves WHERE (revision, before) IN (SELECT revision, before FROM moves WHERE at < ? ORDER BY at LIMIT ?)",
	"DELETE FROM gaps WHERE seq IN (SELECT seq FROM gaps WHERE until < ? ORDER BY until LIMIT ?)",
}

func (w *writer) deleteBefore(ctx context.Context, before time.Time) error {
	for _, statement := range oldRows {
		for {
			res, err := w.write.ExecContext(ctx, statement, before.UnixNano(), tidyRows)
			if err != nil {
				return fmt.Errorf("delete old records: %w", err)
			}
			if n, err := res.RowsAffected(); err != nil || n < tidyRows {
				break
			}
		}
	}
	return nil
}

// shrink deletes the oldest twentieth of the time that is kept, until what is
// left is well below the bound.
func (w *writer) shrink(ctx context.Context) error {
	used, err := usedBytes(ctx, w.write)
	if err != nil || used <= w.opts.MaxBytes {
		return err
	}
	for range tidySteps {
		if used <= w.opts.MaxBytes*9/10 {
			break
		}
		oldest, newest, err := span(ctx, w.write)
		if err != nil || oldest == 0 {
			return err
		}
		cut := oldest + (newest-oldest)/20 + 1
		if err := w.deleteBefore(ctx, time.Unix(0, cut)); err != nil {
			return err
		}
		if used, err = usedBytes(ctx, w.write); err != nil {
			return err
		}
	}
	w.opts.Log.Info().Int64("bytes", used).Int64("limit", w.opts.MaxBytes).Msg("ledger was full; its oldest records were deleted")
	return nil
}

// span is the time from the oldest record to the newest; 0 where there is none.
func span(ctx context.Context, db *sql.DB) (oldest, newest int64, err error) {
	var a, b sql.NullInt64
	err = db.QueryRowContext(ctx, `SELECT min(a), max(b) FROM (
		SELECT min(finished) AS a, max(finished) AS b FROM runs
		UNION ALL SELECT min(last_seen), max(last_seen) FROM episodes
		UNION ALL SELECT min(at), max(at) FROM actions)`).Scan(&a, &b)
	return a.Int64, b.Int64, err
}

// usedBytes is what the records take, without what deleted ones left.
func usedBytes(ctx context.Context, db *sql.DB) (int64, error) {
	var pages, free, size int64
	err := db.QueryRowContext(ctx, `SELECT p.page_count, f.freelist_count, s.page_size
		FROM pragma_page_count p, pragma_freelist_count f, pragma_page_size s`).Scan(&pages, &free, &size)
	return (pages - free) * size, err
}

// giveBack returns free pages to the file system, in steps, and empties the
// journal.
func giveBack(ctx context.Context, db *sql.DB) error {
	var free int
	if err := db.QueryRowContext(ctx, "PRAGMA freelist_count").Scan(&free); err != nil {
		return err
	}
	const step = 1000
	for ; free > 0; free -= step {
		// Each row is a page given back, so all have to be read.
		if err := readAll(ctx, db, fmt.Sprintf("PRAGMA incremental_vacuum(%d)", step)); err != nil {
			return err
		}
	}
	return readAll(ctx, db, "PRAGMA wal_checkpoint(TRUNCATE)")
}

func readAll(ctx context.Context, db *sql.DB, query string) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() { // the rows themselves say nothing
	}
	return rows.Err()
}
