package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// copyTo writes a consistent copy of a ledger that may be in use. What was being
// made when it fails is removed.
func copyTo(ctx context.Context, from, to string) (err error) {
	if _, err := os.Lstat(to); err == nil {
		return fmt.Errorf("%s: %w", to, fs.ErrExist)
	}
	db, err := openFile(from, copying, 1)
	if err != nil {
		return err
	}
	defer db.Close()
	defer func() {
		if err != nil {
			os.Remove(to)
		}
	}()
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", to); err != nil {
		return fmt.Errorf("copy the ledger: %w", err)
	}
	return syncFile(to)
}

// syncFile makes a file durable and ours alone.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Backup writes all that was recorded so far to w, as a file that Restore takes.
// The daemon goes on recording meanwhile.
func (l *Ledger) Backup(ctx context.Context, w io.Writer) error {
	if err := l.Flush(ctx); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(l.folder(), ".ledger-backup-")
	if err != nil {
		return fmt.Errorf("back up the ledger: %w", err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, FileName)
	if err := copyTo(ctx, l.opts.Path, path); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("back up the ledger: %w", err)
	}
	defer f.Close()
	if _, err := io.Copy(w, f); err != nil {
		return fmt.Errorf("back up the ledger: %w", err)
	}
	return nil
}

// BackupFile copies the ledger of a data directory that no daemon uses to a file
// that must not exist.
func BackupFile(ctx context.Context, ledger, to string) error { return copyTo(ctx, ledger, to) }

// Report is what a check found.
type Report struct {
	File   string `json:"file"`
	Schema int    `json:"schema"`
	Bytes  int64  `json:"bytes"`
	// Runs, Episodes and Actions count the records, Oldest is the first of them.
	Runs     int       `json:"runs"`
	Episodes int       `json:"episodes"`
	Actions  int       `json:"actions"`
	Oldest   time.Time `json:"oldest,omitzero"`
	// Gaps are the times of which records were lost.
	Gaps []Gap `json:"gaps,omitempty"`
	// Aside are older files that were set aside.
	Aside []string `json:"aside,omitempty"`
	// Damage is what is wrong with the file; empty where it is sound.
	Damage string `json:"damage,omitempty"`
}

// Gap is a time of which records were lost, because they could neither be
// written nor kept in memory.
type Gap struct {
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until"`
	Runs     int       `json:"runs"`
	Episodes int       `json:"episodes"`
}

// Check looks into the ledger in use, with all that was recorded so far.
func (l *Ledger) Check(ctx context.Context) (Report, error) {
	if err := l.Flush(ctx); err != nil {
		return Report{}, err
	}
	return CheckFile(ctx, l.opts.Path)
}

// CheckFile looks into a file, in full, and changes nothing of it. Its error
// means that it cannot be looked into; damage is in the report.
func CheckFile(ctx context.Context, path string) (Report, error) {
	out := Report{File: path, Aside: asides(path, "")}
	info, err := os.Stat(path)
	if err != nil {
		return out, err
	}
	if !info.Mode().IsRegular() {
		return out, fmt.Errorf("%s is no file", path)
	}
	out.Bytes = info.Size()
	db, err := openFile(path, reading, 1)
	if err != nil {
		return out, err
	}
	defer db.Close()
	err = check(ctx, db, "integrity_check")
	ours := true
	if err == nil {
		out.Schema, ours, err = schemaOf(ctx, db)
	}
	switch {
	case err != nil && isDamage(err):
		out.Damage = err.Error()
		return out, nil
	case err != nil:
		return out, err
	case !ours || out.Schema == 0:
		out.Damage = "it is no ledger of Holdfast"
		return out, nil
	case out.Schema > len(migrations):
		out.Damage = newer(out.Schema).Error()
		return out, nil
	}
	if out.Schema < len(migrations) { // it has fewer tables, and is migrated when it is used
		return out, db.QueryRowContext(ctx, "SELECT count(*) FROM runs").Scan(&out.Runs)
	}
	return out, count(ctx, db, &out)
}

// Restore puts a backup in the place of a data directory's ledger, which no
// daemon may be using. The file that was there is kept; its new name is returned.
func Restore(ctx context.Context, backup, ledger string) (kept string, err error) {
	report, err := CheckFile(ctx, backup)
	if err != nil {
		return "", fmt.Errorf("look into the backup: %w", err)
	}
	if report.Damage != "" {
		return "", fmt.Errorf("%s cannot be restored: %s", backup, report.Damage)
	}
	dir, err := os.MkdirTemp(filepath.Dir(ledger), ".ledger-restore-")
	if err != nil {
		return "", fmt.Errorf("restore the ledger: %w", err)
	}
	defer os.RemoveAll(dir)
	// A copy by SQLite takes in what a journal beside the backup holds.
	fresh := filepath.Join(dir, FileName)
	if err := copyTo(ctx, backup, fresh); err != nil {
		return "", err
	}
	if _, err := os.Lstat(ledger); err == nil {
		if kept, err = setAside(ledger, "replaced", time.Now()); err != nil {
			return kept, err
		}
	}
	if err := os.Rename(fresh, ledger); err != nil {
		return kept, fmt.Errorf("restore the ledger: %w", err)
	}
	return kept, syncFile(ledger)
}
