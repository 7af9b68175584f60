package ledger

import (
	"context"
	"database/sql"
	"fmt"
)

// applicationID marks the file as a ledger of Holdfast ("HFLG"), so that no other
// database is ever restored as one.
const applicationID = 0x48464c47

// migrations are the steps of the schema: that of version n is at n-1. A step
// that was released is never changed; what comes later is another step.
//
// Times are nanoseconds since 1970 in UTC. A record is the value as JSON, in
// which sensitive values have masked themselves; the other columns are what
// queries go by.
var migrations = []string{
	`CREATE TABLE runs (
		seq INTEGER PRIMARY KEY AUTOINCREMENT,
		id TEXT NOT NULL UNIQUE,
		environment TEXT NOT NULL,
		started INTEGER NOT NULL,
		finished INTEGER NOT NULL,
		reason TEXT NOT NULL,
		actor TEXT NOT NULL,
		revision TEXT NOT NULL,
		author TEXT NOT NULL,
		plan TEXT NOT NULL,
		result TEXT NOT NULL,
		record TEXT NOT NULL
	);
	CREATE INDEX runs_by_environment ON runs (environment, seq);
	CREATE INDEX runs_by_time ON runs (finished);
	CREATE TABLE changes (
		run INTEGER NOT NULL REFERENCES runs (seq) ON DELETE CASCADE,
		place INTEGER NOT NULL,
		object TEXT NOT NULL,
		op TEXT NOT NULL,
		record TEXT NOT NULL
	);
	CREATE UNIQUE INDEX changes_by_run ON changes (run, place);
	CREATE INDEX changes_by_object ON changes (object, run);`,

	`CREATE TABLE episodes (
		seq INTEGER PRIMARY KEY AUTOINCREMENT,
		id TEXT NOT NULL UNIQUE,
		environment TEXT NOT NULL,
		target TEXT NOT NULL,
		object TEXT NOT NULL,
		kind TEXT NOT NULL,
		class TEXT NOT NULL,
		cause TEXT NOT NULL,
		manager TEXT NOT NULL,
		state TEXT NOT NULL,
		first_seen INTEGER NOT NULL,
		last_seen INTEGER NOT NULL,
		ended INTEGER,
		detect INTEGER,
		occurrences INTEGER NOT NULL,
		record TEXT NOT NULL
	);
	CREATE INDEX episodes_by_time ON episodes (first_seen);
	CREATE INDEX episodes_by_end ON episodes (ended);
	CREATE INDEX episodes_by_environment ON episodes (environment, first_seen);`,

	`CREATE TABLE actions (
		seq INTEGER PRIMARY KEY AUTOINCREMENT,
		at INTEGER NOT NULL,
		actor TEXT NOT NULL,
		verb TEXT NOT NULL,
		environment TEXT NOT NULL,
		subject TEXT NOT NULL,
		record TEXT NOT NULL
	);
	CREATE INDEX actions_by_time ON actions (at);
	CREATE INDEX actions_by_environment ON actions (environment, seq);
	CREATE TABLE gaps (
		seq INTEGER PRIMARY KEY AUTOINCREMENT,
		since INTEGER NOT NULL,
		until INTEGER NOT NULL,
		runs INTEGER NOT NULL,
		episodes INTEGER NOT NULL,
		reason TEXT NOT NULL
	);`,

	// Indexes that answer series by themselves: a record is much larger than what
	// is counted of it.
	`ALTER TABLE episodes ADD COLUMN severity TEXT GENERATED ALWAYS AS (coalesce(record ->> '$.severity', 'none')) VIRTUAL;
	CREATE INDEX runs_by_result ON runs (finished, environment, result);
	CREATE INDEX episodes_began ON episodes (first_seen, environment, severity);
	CREATE INDEX episodes_ended ON episodes (ended, environment, severity, state, first_seen);`,

	// What delivery is measured by: what a run wrote for its revision, when that
	// worked, and which commits a move of a source brought.
	`ALTER TABLE runs ADD COLUMN written INTEGER GENERATED ALWAYS AS (coalesce(record ->> '$.counts.created', 0)
		+ coalesce(record ->> '$.counts.updated', 0) + coalesce(record ->> '$.counts.adopted', 0) + coalesce(record ->> '$.counts.deleted', 0)) VIRTUAL;
	ALTER TABLE runs ADD COLUMN committed TEXT GENERATED ALWAYS AS (coalesce(record ->> '$.revision.time', '')) VIRTUAL;
	ALTER TABLE runs ADD COLUMN before TEXT GENERATED ALWAYS AS (coalesce(record ->> '$.before', '')) VIRTUAL;
	CREATE INDEX runs_that_wrote ON runs (finished, environment, id, revision, committed, before) WHERE written > 0 AND revision <> '';
	CREATE TABLE verdicts (
		seq INTEGER PRIMARY KEY AUTOINCREMENT,
		environment TEXT NOT NULL,
		revision TEXT NOT NULL,
		health TEXT NOT NULL,
		at INTEGER NOT NULL
	);
	CREATE INDEX verdicts_by_time ON verdicts (at);
	CREATE INDEX verdicts_by_environment ON verdicts (environment, seq);
	CREATE TABLE moves (
		revision TEXT NOT NULL,
		before TEXT NOT NULL,
		at INTEGER NOT NULL,
		commits TEXT NOT NULL,
		PRIMARY KEY (revision, before)
	) WITHOUT ROWID;
	CREATE INDEX moves_by_time ON moves (at);`,
}

// schemaOf is the version of a file's schema, and whether the file is a ledger;
// an empty file is version 0 of one.
func schemaOf(ctx context.Context, db *sql.DB) (version int, ours bool, err error) {
	var id, tables int
	if err := db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return 0, false, err
	}
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return 0, false, err
	}
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return 0, false, err
	}
	return version, id == applicationID || id == 0 && version == 0 && tables == 0, nil
}

// migrate brings a schema from one version to another, all of it or nothing.
func migrate(ctx context.Context, db *sql.DB, from, to int) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("migrate the schema: %w", err)
	}
	defer tx.Rollback() // no effect after the commit
	for v := from; v < to; v++ {
		if _, err := tx.ExecContext(ctx, migrations[v]); err != nil {
			return fmt.Errorf("migrate the schema to version %d: %w", v+1, err)
		}
	}
	mark := fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, to)
	if _, err := tx.ExecContext(ctx, mark); err != nil {
		return fmt.Errorf("mark the schema: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("migrate the schema: %w", err)
	}
	return nil
}
