package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// The bounds of one page.
const (
	DefaultLimit = 50
	MaxLimit     = 1000
)

// ErrUnavailable means that the file cannot be read now; Stats says why.
var ErrUnavailable = errors.New("the ledger cannot be read")

// ErrNotFound means that there is no such record, or that it was deleted for its
// age.
var ErrNotFound = errors.New("the ledger has no such record")

// BadQuery is a query that asks for nothing that there can be.
type BadQuery string

// Error says what is wrong with it.
func (b BadQuery) Error() string { return string(b) }

// RunQuery chooses runs. A zero field does not limit.
type RunQuery struct {
	Environment string
	// Since leaves out what ended before.
	Since time.Time
	// Object is a thing that the run changed, as in "Deployment/web/api".
	Object string
	// Among, when not nil, are patterns of the environments that may be told of.
	Among []string
	// Result and Reason are words of reconciler: how runs ended, and what made them
	// happen.
	Result reconciler.Result
	Reason string
	// Before is the Next of the page before.
	Before string
	// Limit bounds the page; 0 has a default.
	Limit int
}

// Runs is a page of runs, newest first, without what they changed.
type Runs struct {
	Runs []reconciler.Run `json:"runs"`
	// Next, when not empty, is what RunQuery.Before is to be for the next page.
	Next string `json:"next,omitempty"`
}

// where collects the conditions of a query.
type where struct {
	conditions []string
	args       []any
}

func (w *where) add(condition string, args ...any) {
	w.conditions = append(w.conditions, condition)
	w.args = append(w.args, args...)
}

func (w *where) String() string {
	if len(w.conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.conditions, " AND ")
}

// oneOf leaves what has one of some values at an expression, which is one of our
// own.
func (w *where) oneOf(expression string, values []string) {
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = v
	}
	w.add(expression+" IN (''"+strings.Repeat(", ?", len(values))+")", args...)
}

// among leaves what is about environments that match one of the patterns; nil
// leaves all. A bare "" stands for what is about none.
func (w *where) among(patterns []string) {
	if patterns == nil {
		return
	}
	// Names are a list: there may be more of them than an expression may be deep.
	var names []string
	globs, args := "", []any{}
	for _, p := range patterns {
		if strings.ContainsAny(p, `*?[\`) {
			globs += " OR environment GLOB ?"
			args = append(args, p)
		} else {
			names = append(names, p)
		}
	}
	condition := "0"
	if len(names) > 0 {
		condition = "environment IN (?" + strings.Repeat(", ?", len(names)-1) + ")"
	}
	list := make([]any, len(names), len(names)+len(args))
	for i, name := range names {
		list[i] = name
	}
	w.add("("+condition+globs+")", append(list, args...)...)
}

// before reads a cursor.
func (w *where) before(cursor string) error {
	if cursor == "" {
		return nil
	}
	seq, err := strconv.ParseInt(cursor, 10, 64)
	if err != nil || seq < 1 {
		return BadQuery(fmt.Sprintf("%q is not where a page ended", cursor))
	}
	w.add("seq < ?", seq)
	return nil
}

func limitOf(n int) int {
	if n <= 0 {
		return DefaultLimit
	}
	return min(n, MaxLimit)
}

// reader is the pool for reading.
func (l *Ledger) reader() (*sql.DB, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	switch {
	case l.closed:
		return nil, errClosed
	case l.read == nil:
		return nil, fmt.Errorf("%w: %s", ErrUnavailable, l.problem)
	}
	return l.read, nil
}

// Runs is what was done.
func (l *Ledger) Runs(ctx context.Context, q RunQuery) (Runs, error) {
	var w where
	w.among(q.Among)
	if q.Environment != "" {
		w.add("environment = ?", q.Environment)
	}
	if !q.Since.IsZero() {
		w.add("finished >= ?", q.Since.UnixNano())
	}
	if q.Result != "" {
		w.add("result = ?", string(q.Result))
	}
	if q.Reason != "" {
		w.add("reason = ?", q.Reason)
	}
	if q.Object != "" {
		w.add("seq IN (SELECT run FROM changes WHERE object = ?)", q.Object)
	}
	if err := w.before(q.Before); err != nil {
		return Runs{}, err
	}
	limit := limitOf(q.Limit)
	out := Runs{Runs: []reconciler.Run{}}
	last := int64(0)
	err := each(ctx, l, "SELECT seq, record FROM runs"+w.String()+" ORDER BY seq DESC LIMIT ?", append(w.args, limit+1), func(rows *sql.Rows) error {
		var seq int64
		var run reconciler.Run
		if err := scanRecord(rows, &run, &seq); err != nil {
			return err
		}
		if len(out.Runs) == limit {
			out.Next = strconv.FormatInt(last, 10)
			return nil
		}
		out.Runs, last = append(out.Runs, run), seq
		return nil
	})
	return out, err
}

// FindRun is one run with what it changed.
func (l *Ledger) FindRun(ctx context.Context, id string) (reconciler.Run, error) {
	var run reconciler.Run
	var seq int64
	err := each(ctx, l, "SELECT seq, record FROM runs WHERE id = ?", []any{id}, func(rows *sql.Rows) error {
		return scanRecord(rows, &run, &seq)
	})
	if err == nil && seq == 0 {
		err = fmt.Errorf("run %q: %w", id, ErrNotFound)
	}
	if err != nil {
		return run, err
	}
	return run, each(ctx, l, "SELECT record FROM changes WHERE run = ? ORDER BY place", []any{seq}, func(rows *sql.Rows) error {
		var c reconciler.ObjectChange
		if err := scanRecord(rows, &c); err != nil {
			return err
		}
		run.Changes = append(run.Changes, c)
		return nil
	})
}

// LastRuns is the newest recorded run of each environment.
func (l *Ledger) LastRuns(ctx context.Context) (map[string]reconciler.Run, error) {
	out := map[string]reconciler.Run{}
	err := each(ctx, l, "SELECT record FROM runs WHERE seq IN (SELECT max(seq) FROM runs GROUP BY environment)", nil, func(rows *sql.Rows) error {
		var run reconciler.Run
		if err := scanRecord(rows, &run); err != nil {
			return err
		}
		out[run.Environment] = run
		return nil
	})
	return out, err
}

// ActionQuery chooses actions. A zero field does not limit.
type ActionQuery struct {
	Environment string
	// Among, when not nil, are patterns of the environments that may be told of;
	// what is about no single one may be.
	Among  []string
	Since  time.Time
	Before string
	Limit  int
}

// Actions is a page of what people asked for, newest first.
type Actions struct {
	Actions []Action `json:"actions"`
	Next    string   `json:"next,omitempty"`
}

// Actions is what people asked for.
func (l *Ledger) Actions(ctx context.Context, q ActionQuery) (Actions, error) {
	var w where
	if q.Among != nil {
		w.among(append([]string{""}, q.Among...))
	}
	if q.Environment != "" {
		w.add("environment = ?", q.Environment)
	}
	if !q.Since.IsZero() {
		w.add("at >= ?", q.Since.UnixNano())
	}
	if err := w.before(q.Before); err != nil {
		return Actions{}, err
	}
	limit := limitOf(q.Limit)
	out := Actions{Actions: []Action{}}
	last := int64(0)
	err := each(ctx, l, "SELECT seq, record FROM actions"+w.String()+" ORDER BY seq DESC LIMIT ?", append(w.args, limit+1), func(rows *sql.Rows) error {
		var seq int64
		var a Action
		if err := scanRecord(rows, &a, &seq); err != nil {
			return err
		}
		if len(out.Actions) == limit {
			out.Next = strconv.FormatInt(last, 10)
			return nil
		}
		out.Actions, last = append(out.Actions, a), seq
		return nil
	})
	return out, err
}

// OpenEpisodes are the drifts that had not ended when they were last recorded.
func (l *Ledger) OpenEpisodes(ctx context.Context) ([]drift.Episode, error) {
	return l.episodes(ctx, "SELECT record FROM episodes WHERE ended IS NULL ORDER BY first_seen DESC LIMIT ?", []any{maxQueuedEpisodes})
}

func (l *Ledger) episodes(ctx context.Context, query string, args []any) ([]drift.Episode, error) {
	out := []drift.Episode{}
	err := each(ctx, l, query, args, func(rows *sql.Rows) error {
		var e drift.Episode
		if err := scanRecord(rows, &e); err != nil {
			return err
		}
		out = append(out, e)
		return nil
	})
	return out, err
}

// each calls row for every row of a query.
func each(ctx context.Context, l *Ledger, query string, args []any, row func(*sql.Rows) error) error {
	db, err := l.reader()
	if err != nil {
		return err
	}
	err = eachOf(ctx, db, query, args, row)
	if isDamage(err) {
		l.suspect.Store(true)
		l.queue.rouse()
	}
	return err
}

func eachOf(ctx context.Context, db *sql.DB, query string, args []any, row func(*sql.Rows) error) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows); err != nil {
			return fmt.Errorf("read the ledger: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	return nil
}

// scanRecord reads a row whose last column is a record.
func scanRecord(rows *sql.Rows, record any, columns ...any) error {
	var data []byte
	if err := rows.Scan(append(columns, &data)...); err != nil {
		return err
	}
	return json.Unmarshal(data, record)
}

// count fills in a report's numbers.
func count(ctx context.Context, db *sql.DB, out *Report) error {
	var oldest sql.NullInt64
	err := db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM episodes), (SELECT count(*) FROM actions),
		(SELECT min(t) FROM (SELECT min(finished) AS t FROM runs UNION ALL SELECT min(first_seen) FROM episodes UNION ALL SELECT min(at) FROM actions))`).
		Scan(&out.Runs, &out.Episodes, &out.Actions, &oldest)
	if err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	if oldest.Valid {
		out.Oldest = time.Unix(0, oldest.Int64).UTC()
	}
	return eachOf(ctx, db, "SELECT since, until, runs, episodes FROM gaps ORDER BY seq", nil, func(rows *sql.Rows) error {
		var since, until int64
		var g Gap
		if err := rows.Scan(&since, &until, &g.Runs, &g.Episodes); err != nil {
			return err
		}
		g.Since, g.Until = time.Unix(0, since).UTC(), time.Unix(0, until).UTC()
		out.Gaps = append(out.Gaps, g)
		return nil
	})
}
