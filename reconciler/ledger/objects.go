package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
)

// Applied is when an object was written.
type Applied struct {
	At time.Time
	// Run is the id of the run that did it.
	Run string
}

// LastApplied is when objects of an environment, as in "Deployment/web/api", were
// last written by a run, by object. Those of which nothing is on record are left
// out: a run records a thousand objects at most.
func (l *Ledger) LastApplied(ctx context.Context, environment string, objects []string) (map[string]Applied, error) {
	out := map[string]Applied{}
	if len(objects) == 0 {
		return out, nil
	}
	args := []any{environment}
	for _, o := range objects {
		args = append(args, o)
	}
	query := `SELECT last.object, runs.finished, runs.id FROM runs JOIN (
		SELECT c.object AS object, max(c.run) AS run FROM changes c JOIN runs r ON r.seq = c.run
		WHERE r.environment = ? AND c.object IN (?` + strings.Repeat(", ?", len(objects)-1) + `)
		AND c.op IN ('create', 'update', 'correct', 'adopt', 'recreate', 'hook') AND json_extract(c.record, '$.error') IS NULL
		GROUP BY c.object
	) last ON runs.seq = last.run`
	err := each(ctx, l, query, args, func(rows *sql.Rows) error {
		var object, run string
		var finished int64
		if err := rows.Scan(&object, &finished, &run); err != nil {
			return err
		}
		out[object] = Applied{At: time.Unix(0, finished).UTC(), Run: run}
		return nil
	})
	return out, err
}

// FindEpisode is one drift.
func (l *Ledger) FindEpisode(ctx context.Context, id string) (drift.Episode, error) {
	found, err := l.episodes(ctx, "SELECT record FROM episodes WHERE id = ?", []any{id})
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("drift %q: %w", id, ErrNotFound)
	}
	if err != nil {
		return drift.Episode{}, err
	}
	return found[0], nil
}
