package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
)

// EpisodeQuery chooses episodes of drift. A zero field does not limit.
type EpisodeQuery struct {
	Environment string
	// Among, when not nil, are patterns of the environments that may be told of.
	Among []string
	// Since leaves out what ended before; what is open is in.
	Since time.Time
	// Only, when not nil, are the names of the environments that are asked about.
	Only []string
	// Manager is a field manager or a person, Kind "Deployment" or
	// "Deployment.apps", Object "Deployment/web/api".
	Manager, Kind, Object string
	Class                 drift.Class
	// AtLeast leaves out what is less severe.
	AtLeast drift.Severity
	// EndedOnly leaves out what is open.
	EndedOnly bool
	Before    string
	Limit     int
}

// Grouping is what a summary adds up by.
type Grouping string

// The groupings.
const (
	ByCause       Grouping = "cause"
	ByManager     Grouping = "manager"
	ByEnvironment Grouping = "environment"
	ByKind        Grouping = "kind"
	ByClass       Grouping = "class"
	BySeverity    Grouping = "severity"
	byObject      Grouping = "object"
)

// Groupings are those that may be asked for.
var Groupings = []Grouping{ByCause, ByManager, ByEnvironment, ByKind, ByClass, BySeverity}

// topCount is how many of the noisiest are named, and maxGroups how many groups
// there are at most.
const (
	topCount  = 5
	maxGroups = 200
)

// Group adds up the episodes that have one thing in common.
type Group struct {
	Key      string `json:"key"`
	Episodes int    `json:"episodes"`
	Open     int    `json:"open"`
	// Occurrences is how often the drifts were seen.
	Occurrences int `json:"occurrences"`
	// MeanDetect is how long drift went unnoticed, MeanResolve from first seen to
	// the end, both in seconds; 0 where there is none to measure.
	MeanDetect  float64   `json:"meanDetectSeconds"`
	MeanResolve float64   `json:"meanResolveSeconds"`
	LastSeen    time.Time `json:"lastSeen,omitzero"`
}

// Summary adds up episodes.
type Summary struct {
	// Since is where the time begins that it is about; zero is all that is kept.
	Since time.Time `json:"since,omitzero"`
	// All adds up everything.
	All Group `json:"all"`
	// Groups are by what was asked for, most episodes first.
	GroupBy Grouping `json:"groupBy,omitempty"`
	Groups  []Group  `json:"groups,omitempty"`
	// Objects and Managers are the noisiest.
	Objects  []Group `json:"noisiestObjects"`
	Managers []Group `json:"noisiestManagers"`
}

// Episodes is a page of episodes, those that began last first.
type Episodes struct {
	Episodes []drift.Episode `json:"episodes"`
	Next     string          `json:"next,omitempty"`
}

func (q EpisodeQuery) where() (w where, err error) {
	w.among(q.Among)
	for _, c := range []struct{ column, value string }{
		{"environment", q.Environment}, {"object", q.Object}, {"class", string(q.Class)},
	} {
		if c.value != "" {
			w.add(c.column+" = ?", c.value)
		}
	}
	if q.Kind != "" {
		w.add("(kind = ? OR substr(kind, 1, length(?) + 1) = ? || '.')", q.Kind, q.Kind, q.Kind)
	}
	if q.Only != nil {
		w.oneOf("environment", q.Only)
	}
	if q.AtLeast != "" {
		w.oneOf("record ->> '$.severity'", drift.AtLeast(q.AtLeast))
	}
	if q.Manager != "" { // one of several stands between commas
		w.add("(record ->> '$.person.user' = ? OR ', ' || manager || ', ' LIKE '%, ' || replace(replace(replace(?, '\\', '\\\\'), '%', '\\%'), '_', '\\_') || ', %' ESCAPE '\\')", q.Manager, q.Manager)
	}
	switch {
	case q.EndedOnly && !q.Since.IsZero():
		w.add("ended >= ?", q.Since.UnixNano())
	case q.EndedOnly:
		w.add("ended IS NOT NULL")
	case !q.Since.IsZero():
		w.add("(ended IS NULL OR ended >= ?)", q.Since.UnixNano())
	}
	return w, w.before(q.Before)
}

// Episodes is what drifted.
func (l *Ledger) Episodes(ctx context.Context, q EpisodeQuery) (Episodes, error) {
	w, err := q.where()
	if err != nil {
		return Episodes{}, err
	}
	limit := limitOf(q.Limit)
	out := Episodes{Episodes: []drift.Episode{}}
	last := int64(0)
	err = each(ctx, l, "SELECT seq, record FROM episodes"+w.String()+" ORDER BY seq DESC LIMIT ?", append(w.args, limit+1), func(rows *sql.Rows) error {
		var seq int64
		var e drift.Episode
		if err := scanRecord(rows, &e, &seq); err != nil {
			return err
		}
		if len(out.Episodes) == limit {
			out.Next = strconv.FormatInt(last, 10)
			return nil
		}
		out.Episodes, last = append(out.Episodes, e), seq
		return nil
	})
	return out, err
}

// Summary adds up what drifted, by one thing if by is not empty.
func (l *Ledger) Summary(ctx context.Context, q EpisodeQuery, by Grouping) (Summary, error) {
	q.Before = ""
	w, err := q.where()
	if err != nil {
		return Summary{}, err
	}
	out := Summary{Since: q.Since, GroupBy: by}
	all, err := l.groups(ctx, w, "", 1)
	if err != nil {
		return out, err
	}
	if len(all) > 0 {
		out.All = all[0]
	}
	if by != "" {
		if out.Groups, err = l.groups(ctx, w, by, maxGroups); err != nil {
			return out, err
		}
	}
	if out.Objects, err = l.groups(ctx, w, byObject, topCount); err != nil {
		return out, err
	}
	out.Managers, err = l.groups(ctx, w, ByManager, topCount)
	return out, err
}

// groups adds up by a column, of which the name is one of our own.
func (l *Ledger) groups(ctx context.Context, w where, by Grouping, limit int) ([]Group, error) {
	key := "''"
	switch by {
	case ByCause, ByManager, ByEnvironment, ByKind, ByClass:
		key = string(by)
	case BySeverity:
		key = "severity"
	case byObject:
		key = "environment || ': ' || object"
	case "":
	default:
		return nil, BadQuery(fmt.Sprintf("drift cannot be grouped by %q", by))
	}
	query := "SELECT " + key + `, count(*), count(*) - count(ended), sum(occurrences),
		coalesce(avg(detect), 0) / 1e9, coalesce(avg(ended - first_seen), 0) / 1e9, coalesce(max(last_seen), 0)
		FROM episodes` + w.String() + " GROUP BY 1 ORDER BY 2 DESC, 4 DESC, 1 LIMIT ?"
	out := []Group{}
	err := each(ctx, l, query, append(append([]any(nil), w.args...), limit), func(rows *sql.Rows) error {
		var g Group
		var seen int64
		if err := rows.Scan(&g.Key, &g.Episodes, &g.Open, &g.Occurrences, &g.MeanDetect, &g.MeanResolve, &seen); err != nil {
			return err
		}
		g.LastSeen = time.Unix(0, seen).UTC()
		out = append(out, g)
		return nil
	})
	return out, err
}
