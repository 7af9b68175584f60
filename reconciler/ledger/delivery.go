package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"slices"
	"time"

	"github.com/holdfast-gitops/holdfast/reconciler"
)

// The bounds of what one answer about delivery is made of, and of the single
// deployments that it lists.
const (
	maxDeployments = 50_000
	maxVerdicts    = 100_000
	maxMoves       = 5_000
	maxListed      = 100
)

// DeliveryQuery chooses what is measured: deployments from Since until Until.
type DeliveryQuery struct {
	// Environment, when empty, is all of them, without their single deployments.
	Environment string
	// Among, when not nil, are patterns of the environments that may be told of.
	Among        []string
	Since, Until time.Time
}

// Delivery is how changes get into environments.
type Delivery struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// All is over all environments that are listed.
	All          Measures   `json:"all"`
	Environments []Measures `json:"environments"`
	// Deployments are those of the environment that was asked for, newest first.
	Deployments []Deployment `json:"deployments,omitempty"`
	// Cut: there is more on record than was looked at; the oldest is left out.
	Cut bool `json:"cut,omitempty"`
}

// Measures are those of one environment, or of all. What cannot be measured is
// null.
type Measures struct {
	Environment string  `json:"environment,omitempty"`
	Deployments int     `json:"deployments"`
	PerDay      float64 `json:"perDay"`
	// Failed are the deployments that failed, and FailureRate their share.
	Failed      int      `json:"failed"`
	FailureRate *float64 `json:"changeFailureRate"`
	// Commits are those whose time to ready is known.
	Commits    int      `json:"commits"`
	LeadMedian *float64 `json:"leadMedianSeconds"`
	LeadMax    *float64 `json:"leadMaxSeconds"`
	// Restored are the failed deployments after which the environment was ready
	// again; the others are not yet.
	Restored      int        `json:"restored"`
	RestoreMedian *float64   `json:"restoreMedianSeconds"`
	RestoreMax    *float64   `json:"restoreMaxSeconds"`
	Last          *time.Time `json:"lastDeployment,omitempty"`

	lead, restore []float64
}

// Deployment is one.
type Deployment struct {
	Run      string    `json:"run"`
	Revision string    `json:"revision"`
	At       time.Time `json:"at"`
	// Ready is when it worked, null where it never did.
	Ready *time.Time `json:"ready"`
	// Failed is why it counts as failed: "health" or "left".
	Failed   string     `json:"failed,omitempty"`
	Restored *time.Time `json:"restored,omitempty"`
	// Commits are those that it brought and of which the time is known; Lead is the
	// longest that one of them took to be ready.
	Commits int      `json:"commits"`
	Lead    *float64 `json:"leadMaxSeconds"`

	environment, before string
	committed           time.Time
	leads               []float64
	back                bool
}

// Why a deployment failed.
const (
	failedHealth = "health"
	failedLeft   = "left"
)

// verdictRow is when an environment was found to work, or not to.
type verdictRow struct {
	ready bool
	at    time.Time
}

// Delivery measures how changes get into environments.
func (l *Ledger) Delivery(ctx context.Context, q DeliveryQuery) (Delivery, error) {
	out := Delivery{Since: q.Since.UTC(), Until: q.Until.UTC(), Environments: []Measures{}}
	if !q.Since.Before(q.Until) {
		return out, BadQuery("the time to measure has no length")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, queryTimeout, ErrSlow)
	defer cancel()
	all, err := l.deployments(ctx, q, &out)
	if err != nil {
		return out, slow(ctx, err)
	}
	verdicts, err := l.verdicts(ctx, q, &out)
	if err != nil {
		return out, slow(ctx, err)
	}
	moves, err := l.moves(ctx, q)
	if err != nil {
		return out, slow(ctx, err)
	}
	days := q.Until.Sub(q.Since).Hours() / 24
	for environment, deployments := range all {
		deployments = judged(deployments, verdicts[environment], moves)
		m := measured(environment, deployments, q.Since)
		m.finish(days)
		if m.Deployments > 0 || q.Environment != "" {
			out.Environments = append(out.Environments, m)
		}
		out.All.add(m)
		if q.Environment != "" {
			out.list(deployments)
		}
	}
	out.All.finish(days)
	slices.SortFunc(out.Environments, func(a, b Measures) int { return cmp.Compare(a.Environment, b.Environment) })
	return out, nil
}

// list keeps the newest deployments that are in question.
func (d *Delivery) list(all []Deployment) {
	for _, one := range slices.Backward(all) {
		if !one.At.Before(d.Since) && !one.back && len(d.Deployments) < maxListed {
			d.Deployments = append(d.Deployments, one)
		}
	}
}

// deployments are all on record until the end, by environment and the oldest
// first: those before the time in question say what was deployed earlier.
func (l *Ledger) deployments(ctx context.Context, q DeliveryQuery, out *Delivery) (map[string][]Deployment, error) {
	var w where
	w.add("written > 0 AND revision <> ''")
	w.add("finished <= ?", q.Until.UnixNano())
	w.among(q.Among)
	if q.Environment != "" {
		w.add("environment = ?", q.Environment)
	}
	all, n := map[string][]Deployment{}, 0
	err := each(ctx, l, "SELECT id, environment, finished, revision, committed, before FROM runs"+w.String()+" ORDER BY finished DESC LIMIT ?", append(w.args, maxDeployments),
		func(rows *sql.Rows) error {
			var d Deployment
			var at int64
			var committed string
			if err := rows.Scan(&d.Run, &d.environment, &at, &d.Revision, &committed, &d.before); err != nil {
				return err
			}
			d.At = time.Unix(0, at).UTC()
			if t, err := time.Parse(time.RFC3339Nano, committed); err == nil {
				d.committed = t
			}
			all[d.environment] = append(all[d.environment], d)
			n++
			return nil
		})
	out.Cut = out.Cut || n >= maxDeployments
	for environment := range all {
		slices.Reverse(all[environment])
		all[environment] = apart(all[environment])
	}
	return all, err
}

// apart leaves of the runs that wrote something those that brought another
// revision than the one before, and marks those that went back to an earlier one.
func apart(runs []Deployment) []Deployment {
	var out []Deployment
	first := map[string]int{} // when a revision was first deployed, by number
	for _, d := range runs {
		if len(out) > 0 && out[len(out)-1].Revision == d.Revision {
			continue
		}
		n, again := first[d.Revision]
		if !again {
			first[d.Revision] = len(out)
		}
		d.back = again && len(out) > 0 && n < first[out[len(out)-1].Revision]
		out = append(out, d)
	}
	return out
}

func (l *Ledger) verdicts(ctx context.Context, q DeliveryQuery, out *Delivery) (map[string][]verdictRow, error) {
	var w where
	w.among(q.Among)
	if q.Environment != "" {
		w.add("environment = ?", q.Environment)
	}
	all, n := map[string][]verdictRow{}, 0
	err := each(ctx, l, "SELECT environment, health, at FROM verdicts"+w.String()+" ORDER BY at DESC LIMIT ?", append(w.args, maxVerdicts), func(rows *sql.Rows) error {
		var environment, health string
		var at int64
		if err := rows.Scan(&environment, &health, &at); err != nil {
			return err
		}
		all[environment] = append(all[environment], verdictRow{ready: health == string(reconciler.HealthReady), at: time.Unix(0, at).UTC()})
		n++
		return nil
	})
	out.Cut = out.Cut || n >= maxVerdicts
	for environment := range all {
		slices.Reverse(all[environment])
	}
	return all, err
}

// moves are the newest, by the revision that they went to.
func (l *Ledger) moves(ctx context.Context, q DeliveryQuery) (map[string]move, error) {
	out := map[string]move{}
	err := each(ctx, l, "SELECT revision, before, commits FROM moves WHERE at <= ? ORDER BY at DESC LIMIT ?", []any{q.Until.UnixNano(), maxMoves}, func(rows *sql.Rows) error {
		var m move
		var data []byte
		if err := rows.Scan(&m.revision, &m.before, &data); err != nil {
			return err
		}
		if err := json.Unmarshal(data, &m.commits); err != nil {
			return err
		}
		if _, newer := out[m.revision]; !newer {
			out[m.revision] = m
		}
		return nil
	})
	return out, err
}

// judged says of each deployment whether and when it worked, whether it failed,
// when the environment worked again, and how long its commits took.
func judged(all []Deployment, verdicts []verdictRow, moves map[string]move) []Deployment {
	counted := map[string]bool{}
	for i := range all {
		d := &all[i]
		var next *Deployment
		if i+1 < len(all) {
			next = &all[i+1]
		}
		from := since(verdicts, d.At)
		for _, v := range from {
			if next != nil && v.at.After(next.At) {
				break
			}
			if v.ready {
				d.Ready = &v.at
				break
			}
			d.Failed = failedHealth
		}
		if next != nil && next.back && !d.back {
			if d.Failed == "" {
				d.Failed = failedLeft
			}
			from = since(verdicts, next.At) // before that, it only looked as if it worked
		}
		if d.Failed == failedLeft || d.Ready == nil && d.Failed != "" {
			d.Restored = firstReady(from)
		} else if d.Failed != "" {
			d.Restored = d.Ready
		}
		if d.Ready != nil && !d.back && (i > 0 || d.before != "") {
			d.lead(moves, counted)
		}
	}
	return all
}

// since are the verdicts from a time on.
func since(all []verdictRow, at time.Time) []verdictRow {
	n, _ := slices.BinarySearchFunc(all, at, func(v verdictRow, t time.Time) int { return v.at.Compare(t) })
	return all[n:]
}

func firstReady(all []verdictRow) *time.Time {
	for _, v := range all {
		if v.ready {
			return &v.at
		}
	}
	return nil
}

// lead counts the commits that a deployment brought, each once.
func (d *Deployment) lead(moves map[string]move, counted map[string]bool) {
	for _, c := range d.included(moves) {
		if c.Time.IsZero() || counted[c.ID] || c.Time.After(*d.Ready) {
			continue
		}
		counted[c.ID] = true
		d.Commits++
		took := d.Ready.Sub(c.Time).Seconds()
		if d.Lead == nil || took > *d.Lead {
			d.Lead = &took
		}
		d.leads = append(d.leads, took)
	}
}

// included are the commits from the revision that was in force before to this
// one. Where the way between them is not on record, only this one is known.
func (d *Deployment) included(moves map[string]move) []commit {
	own := []commit{{ID: d.Revision, Time: d.committed}}
	var out []commit
	at := d.Revision
	for range maxMoves {
		m, ok := moves[at]
		if d.before == "" || !ok {
			return own
		}
		if n := slices.IndexFunc(m.commits, func(c commit) bool { return c.ID == d.before }); n >= 0 {
			return append(out, m.commits[:n]...)
		}
		out = append(out, m.commits...)
		if at = m.before; at == d.before {
			return out
		}
	}
	return own
}

// measured adds up what was deployed from a time on.
func measured(environment string, all []Deployment, from time.Time) Measures {
	m := Measures{Environment: environment}
	for _, d := range all {
		if d.At.Before(from) || d.back {
			continue
		}
		m.Deployments++
		m.Last = &d.At
		m.lead = append(m.lead, d.leads...)
		if d.Failed == "" {
			continue
		}
		m.Failed++
		if d.Restored != nil {
			m.restore = append(m.restore, d.Restored.Sub(d.At).Seconds())
		}
	}
	return m
}

// add takes the measures of an environment into those of all.
func (m *Measures) add(one Measures) {
	m.Deployments += one.Deployments
	m.Failed += one.Failed
	m.lead = append(m.lead, one.lead...)
	m.restore = append(m.restore, one.restore...)
	if one.Last != nil && (m.Last == nil || one.Last.After(*m.Last)) {
		m.Last = one.Last
	}
}

func (m *Measures) finish(days float64) {
	m.PerDay = float64(m.Deployments) / days
	if m.Deployments > 0 {
		rate := float64(m.Failed) / float64(m.Deployments)
		m.FailureRate = &rate
	}
	m.Commits, m.Restored = len(m.lead), len(m.restore)
	m.LeadMedian, m.LeadMax = middle(m.lead)
	m.RestoreMedian, m.RestoreMax = middle(m.restore)
}

// middle is the median and the largest; nil of nothing.
func middle(all []float64) (median, largest *float64) {
	if len(all) == 0 {
		return nil, nil
	}
	all = slices.Sorted(slices.Values(all))
	m := (all[(len(all)-1)/2] + all[len(all)/2]) / 2
	return &m, &all[len(all)-1]
}
