package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// FileName is the ledger's name in the data directory.
const FileName = "ledger.db"

// keepAside is how many files that were set aside for one reason are kept.
const keepAside = 3

// sidecars are what SQLite keeps beside a file.
var sidecars = []string{"-wal", "-shm"}

// The ways to open a file.
type access int

const (
	writing access = iota
	// reading leaves the file as it is.
	reading
	// copying reads the file and writes another.
	copying
)

// dsn is a file's address for the driver. The pragmas hold for each connection.
func dsn(path string, how access) string {
	q := url.Values{}
	q.Set("_busy_timeout", "5000")
	q.Set("_synchronous", "FULL")
	q.Set("_dqs", "0")
	q.Set("_defensive", "1")
	// The default of 2 MiB a connection is more than history needs.
	q.Add("_pragma", "cache_size(-1024)")
	switch how {
	case writing:
		if info, err := os.Stat(path); err != nil || info.Size() == 0 {
			// It counts only while the file is new, and would write each time.
			q.Set("_auto_vacuum", "INCREMENTAL")
		}
		q.Set("_journal_mode", "WAL")
		q.Set("_foreign_keys", "1")
		q.Set("_txlock", "immediate")
		q.Add("_pragma", "journal_size_limit(4194304)")
	case reading:
		q.Set("mode", "rw") // not rwc: who reads makes no file
		q.Set("_query_only", "1")
	case copying:
		q.Set("mode", "rw")
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

// openFile opens a pool of connections; the first use finds out whether it works.
func openFile(path string, how access, connections int) (*sql.DB, error) {
	db, err := sql.Open("sqlite", dsn(path, how))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(1)
	if how == reading {
		db.SetConnMaxIdleTime(time.Minute) // nobody looks at history most of the time
	}
	return db, nil
}

// code is SQLite's primary result code of an error, 0 for other errors.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// isDamage reports whether an error says that the file itself is broken.
func isDamage(err error) bool {
	return slices.Contains([]int{sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}, code(err)) ||
		errors.As(err, new(damage))
}

// isPassing reports whether an error may go away by itself: a full disk, a file
// system that does not answer.
func isPassing(err error) bool {
	return slices.Contains([]int{
		sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY,
		sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_PERM,
	}, code(err)) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// damage is what a check found wrong with a file.
type damage []string

// Error is the first of it.
func (d damage) Error() string {
	text := "the file is damaged: " + d[0]
	if len(d) > 1 {
		text += fmt.Sprintf(", and %d more", len(d)-1)
	}
	return text
}

// check looks for damage by a pragma: quick_check, or integrity_check, which
// also compares every index with its table.
func check(ctx context.Context, db *sql.DB, pragma string) error {
	rows, err := db.QueryContext(ctx, "PRAGMA "+pragma+"(20)")
	if err != nil {
		return err
	}
	defer rows.Close()
	var found damage
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return err
		}
		if line != "ok" {
			found = append(found, line)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if len(found) > 0 {
		return found
	}
	return nil
}

// setAside renames a file, with what belongs to it, to a name that says why and
// when, and returns that name.
func setAside(path, why string, now time.Time) (string, error) {
	to := asideName(path, why, now)
	if err := os.Rename(path, to); err != nil {
		return "", fmt.Errorf("set the file aside: %w", err)
	}
	for _, s := range sidecars {
		if err := os.Rename(path+s, to+s); err != nil && !errors.Is(err, fs.ErrNotExist) {
			// A journal of the old file must not be taken for one of the new.
			return to, fmt.Errorf("set the file aside: %w", err)
		}
	}
	dropOldest(path, why)
	return to, nil
}

// asideName is a name that is free.
func asideName(path, why string, now time.Time) string {
	base := path + "." + why + "-" + now.UTC().Format("20060102T150405Z")
	for i := 2; ; i++ {
		if _, err := os.Lstat(base); errors.Is(err, fs.ErrNotExist) || i > 100 {
			return base
		}
		base = fmt.Sprintf("%s.%s-%s.%d", path, why, now.UTC().Format("20060102T150405Z"), i)
	}
}

// dropOldest keeps what was set aside from filling the disk. The names sort by
// time.
func dropOldest(path, why string) {
	all := asides(path, why)
	for _, old := range all[:max(0, len(all)-keepAside)] {
		for _, s := range append([]string{""}, sidecars...) {
			os.Remove(old + s) // what stays is dropped the next time
		}
	}
}

// asides are the files that were set aside, oldest first; an empty reason means
// any.
func asides(path, why string) []string {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), filepath.Base(path)+".")
		if ours && strings.HasPrefix(rest, why) && !slices.ContainsFunc(sidecars, func(s string) bool { return strings.HasSuffix(rest, s) }) {
			out = append(out, filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	return out
}
