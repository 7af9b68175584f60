package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// The bounds of a series.
const (
	DefaultBuckets = 56
	MaxBuckets     = 500
	// seriesRows bounds how many records one of its queries counts, and
	// queryTimeout how long what adds up much may take.
	seriesRows   = 200_000
	queryTimeout = 5 * time.Second
)

// ErrSlow means that an answer would take too long.
var ErrSlow = errors.New("adding up the ledger takes too long")

// SeriesQuery chooses what is counted.
type SeriesQuery struct {
	// Environment, when empty, is all of them.
	Environment string
	// Among, when not nil, are patterns of the environments that may be told of.
	Among []string
	// Since and Until are the time that is cut into Buckets equal parts.
	Since, Until time.Time
	Buckets      int
}

// Series is what happened in equal parts of a time, the oldest first. Parts in
// which nothing happened are there, too.
type Series struct {
	Environment   string    `json:"environment,omitempty"`
	Since         time.Time `json:"since"`
	Until         time.Time `json:"until"`
	BucketSeconds float64   `json:"bucketSeconds"`
	Buckets       []Bucket  `json:"buckets"`
	// Cut: there is more on record than is counted; the oldest is left out.
	Cut bool `json:"cut,omitempty"`
}

// Bucket is one part. What is zero in its maps is left out.
type Bucket struct {
	Start time.Time `json:"start"`
	// Runs counts those that ended, by result.
	Runs map[reconciler.Result]int `json:"runs"`
	// Opened and Ended count drifts that began and ended, by severity; "none" is
	// that of those without.
	Opened map[drift.Severity]int `json:"driftsOpened"`
	Ended  map[drift.Severity]int `json:"driftsEnded"`
	// Corrected counts the drifts that ended because they were put back;
	// CorrectMedian and CorrectMax are how long these took, from first seen to the
	// end and in seconds, null where there are none.
	Corrected     int      `json:"corrected"`
	CorrectMedian *float64 `json:"correctMedianSeconds"`
	CorrectMax    *float64 `json:"correctMaxSeconds"`
}

// newSeries has its buckets, all of them empty.
func newSeries(q SeriesQuery) (Series, time.Duration, error) {
	if q.Buckets == 0 {
		q.Buckets = DefaultBuckets
	}
	width := q.Until.Sub(q.Since) / time.Duration(max(q.Buckets, 1))
	switch {
	case q.Buckets < 1 || q.Buckets > MaxBuckets:
		return Series{}, 0, BadQuery(fmt.Sprintf("a series has 1 to %d buckets, not %d", MaxBuckets, q.Buckets))
	case width < time.Second:
		return Series{}, 0, BadQuery("a bucket of a series is a second or longer: ask for a longer time, or for fewer buckets")
	}
	out := Series{
		Environment: q.Environment, Since: q.Since.UTC(), Until: q.Until.UTC(),
		BucketSeconds: width.Seconds(), Buckets: make([]Bucket, q.Buckets),
	}
	for i := range out.Buckets {
		out.Buckets[i] = Bucket{
			Start: q.Since.Add(time.Duration(i) * width).UTC(),
			Runs:  map[reconciler.Result]int{}, Opened: map[drift.Severity]int{}, Ended: map[drift.Severity]int{},
		}
	}
	return out, width, nil
}

// Series adds up what happened over time.
func (l *Ledger) Series(ctx context.Context, q SeriesQuery) (Series, error) {
	out, width, err := newSeries(q)
	if err != nil {
		return out, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, queryTimeout, ErrSlow)
	defer cancel()
	s := seriesReader{ledger: l, query: q, width: width, out: &out}
	for _, part := range []struct {
		table, time, word string
		into              func(b *Bucket, word string, n int)
	}{
		{"runs", "finished", "result", func(b *Bucket, word string, n int) { b.Runs[reconciler.Result(word)] += n }},
		{"episodes", "first_seen", "severity", func(b *Bucket, word string, n int) { b.Opened[drift.Severity(word)] += n }},
		{"episodes", "ended", "severity", func(b *Bucket, word string, n int) { b.Ended[drift.Severity(word)] += n }},
	} {
		if err := s.count(ctx, part.table, part.time, part.word, part.into); err != nil {
			return out, slow(ctx, err)
		}
	}
	return out, slow(ctx, s.corrections(ctx))
}

// slow says that it was too slow, if that is why there is an error.
func slow(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), ErrSlow) {
		return fmt.Errorf("%w: more than %s", ErrSlow, queryTimeout)
	}
	return err
}

// seriesReader fills a series.
type seriesReader struct {
	ledger *Ledger
	query  SeriesQuery
	width  time.Duration
	out    *Series
}

// rows is the part of a query that names the bucket of each row, the newest rows
// first and not too many of them. All names in it are our own.
func (s *seriesReader) rows(table, at, columns string, more string) (string, []any) {
	var w where
	w.add(at+" >= ?", s.query.Since.UnixNano())
	w.add(at+" < ?", s.query.Until.UnixNano())
	w.among(s.query.Among)
	if s.query.Environment != "" {
		w.add("environment = ?", s.query.Environment)
	}
	if more != "" {
		w.add(more)
	}
	query := "SELECT (" + at + " - ?) / ? AS bucket, " + columns + " FROM " + table + w.String() + " ORDER BY " + at + " DESC LIMIT ?"
	return query, append(append([]any{s.query.Since.UnixNano(), int64(s.width)}, w.args...), seriesRows)
}

// bucket is that of a number; what the division left over is in the last.
func (s *seriesReader) bucket(n int) *Bucket { return &s.out.Buckets[min(n, len(s.out.Buckets)-1)] }

func (s *seriesReader) count(ctx context.Context, table, at, word string, into func(b *Bucket, word string, n int)) error {
	inner, args := s.rows(table, at, word+" AS word", "")
	all := 0
	err := each(ctx, s.ledger, "SELECT bucket, word, count(*) FROM ("+inner+") GROUP BY 1, 2", args, func(rows *sql.Rows) error {
		var i, n int
		var text string
		if err := rows.Scan(&i, &text, &n); err != nil {
			return err
		}
		into(s.bucket(i), text, n)
		all += n
		return nil
	})
	s.out.Cut = s.out.Cut || all >= seriesRows
	return err
}

// corrections fills in how long they took. The median is that of the one or two
// in the middle.
func (s *seriesReader) corrections(ctx context.Context) error {
	inner, args := s.rows("episodes", "ended", "ended - first_seen AS took", "state = '"+string(drift.Corrected)+"'")
	last := int64(len(s.out.Buckets) - 1)
	query := `SELECT bucket, n, avg(took) / 1e9, longest / 1e9 FROM (
			SELECT bucket, took, count(*) OVER b AS n, max(took) OVER b AS longest, row_number() OVER (PARTITION BY bucket ORDER BY took) AS place
			FROM (SELECT min(bucket, ?) AS bucket, took FROM (` + inner + `)) WINDOW b AS (PARTITION BY bucket))
		WHERE place IN ((n + 1) / 2, (n + 2) / 2) GROUP BY bucket, n, longest`
	return each(ctx, s.ledger, query, append([]any{last}, args...), func(rows *sql.Rows) error {
		var i, n int
		var median, longest float64
		if err := rows.Scan(&i, &n, &median, &longest); err != nil {
			return err
		}
		b := s.bucket(i)
		b.Corrected, b.CorrectMedian, b.CorrectMax = n, &median, &longest
		return nil
	})
}
