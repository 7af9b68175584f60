package ledger

import (
	"context"
	"database/sql"
	"time"

	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// maxMove bounds how many commits of one move are kept.
const maxMove = 200

// fact is something that delivery is measured by: a verdict or a move, of which
// the other is nil.
type fact struct {
	verdict *reconciler.Verdict
	move    *move
}

// move is that a source went from one revision to another, and the commits that
// this brought.
type move struct {
	revision, before string
	at               time.Time
	commits          []commit
}

// commit is one of them, as it is kept.
type commit struct {
	ID   string    `json:"id"`
	Time time.Time `json:"time"`
}

// HealthChanged implements reconciler.HealthWatcher. It never waits.
func (l *Ledger) HealthChanged(v reconciler.Verdict) {
	if v.Revision.ID != "" && !l.queue.addFact(fact{verdict: &v}) {
		l.opts.Log.Warn().Str("environment", v.Environment).Str("health", string(v.Health)).Msg("ledger has no room; how a revision works is not on record")
	}
}

// Moved records which commits a source brought, the newest first. It never waits.
func (l *Ledger) Moved(before, now sources.Revision, commits []sources.Revision) {
	if before.ID == "" || before.ID == now.ID || len(commits) == 0 {
		return
	}
	m := &move{revision: now.ID, before: before.ID, at: l.opts.Now()}
	for _, c := range commits[:min(len(commits), maxMove)] {
		m.commits = append(m.commits, commit{ID: c.ID, Time: c.Time})
	}
	if !l.queue.addFact(fact{move: m}) {
		l.opts.Log.Warn().Str("revision", now.Short()).Msg("ledger has no room; which commits came is not on record")
	}
}

func (f fact) insert(ctx context.Context, tx *sql.Tx) error {
	if v := f.verdict; v != nil {
		// After a restart the verdict in force is told again.
		_, err := tx.ExecContext(ctx, `INSERT INTO verdicts (environment, revision, health, at) SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS (
			SELECT 1 FROM (SELECT revision, health FROM verdicts WHERE environment = ?1 ORDER BY seq DESC LIMIT 1)
			WHERE revision = ?2 AND health = ?3)`,
			v.Environment, v.Revision.ID, string(v.Health), v.At.UnixNano())
		return err
	}
	data, err := encode(f.move.commits)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO moves (revision, before, at, commits) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		f.move.revision, f.move.before, f.move.at.UnixNano(), string(data))
	return err
}
