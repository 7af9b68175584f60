package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
)

// The paths of what is on record.
const (
	PathDriftHistory = "/api/v1/drift/history"
	PathSeries       = "/api/v1/series"
	PathDelivery     = "/api/v1/delivery"
	PathActions      = "/api/v1/actions"
	PathLedger       = "/api/v1/ledger"
	PathLedgerCheck  = "/api/v1/ledger/check"
	PathLedgerBackup = "/api/v1/ledger/backup"
)

// LedgerType is the media type of a ledger's backup.
const LedgerType = "application/vnd.sqlite3"

// ledgerTimeout is how long the check or the backup of a ledger may take.
const ledgerTimeout = 15 * time.Minute

// RunsQuery chooses runs on record. A zero field does not limit.
type RunsQuery struct {
	Environment string
	Since       time.Duration
	// Object is a thing that the run changed, as in "Deployment/web/api".
	Object string
	// Result and Reason are words of reconciler, of runs alone.
	Result, Reason string
	// Before is the Next of the page before.
	Before string
	Limit  int
}

func (q RunsQuery) values() url.Values {
	v := url.Values{}
	set(v, "environment", q.Environment)
	set(v, "object", q.Object)
	set(v, "result", q.Result)
	set(v, "reason", q.Reason)
	set(v, "before", q.Before)
	if q.Since > 0 {
		v.Set("since", q.Since.String())
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	return v
}

func set(v url.Values, name, value string) {
	if value != "" {
		v.Set(name, value)
	}
}

// Runs are the runs on record, newest first, without what they changed.
func (c *Client) Runs(ctx context.Context, q RunsQuery) (ledger.Runs, error) {
	return call[ledger.Runs](ctx, c, http.MethodGet, PathRuns, q.values(), 0)
}

// Actions are what people asked for, newest first. The query's object does not
// count.
func (c *Client) Actions(ctx context.Context, q RunsQuery) (ledger.Actions, error) {
	return call[ledger.Actions](ctx, c, http.MethodGet, PathActions, q.values(), 0)
}

// HistoryQuery chooses drift on record. A zero field does not limit.
type HistoryQuery struct {
	Environment           string
	Since                 time.Duration
	Manager, Kind, Object string
	// Severity, Class and Labels are as in a DriftQuery.
	Severity, Class string
	Labels          []string
	GroupBy         ledger.Grouping
	Before          string
	Limit           int
}

// DriftHistory is drift on record, added up and listed.
type DriftHistory struct {
	Summary  ledger.Summary  `json:"summary"`
	Episodes []drift.Episode `json:"episodes"`
	Next     string          `json:"next,omitempty"`
}

// DriftHistory is what drifted, and how it ended.
func (c *Client) DriftHistory(ctx context.Context, q HistoryQuery) (DriftHistory, error) {
	v := RunsQuery{Environment: q.Environment, Since: q.Since, Object: q.Object, Before: q.Before, Limit: q.Limit}.values()
	set(v, "manager", q.Manager)
	set(v, "kind", q.Kind)
	set(v, "severity", q.Severity)
	set(v, "class", q.Class)
	for _, label := range q.Labels {
		v.Add("label", label)
	}
	set(v, "group", string(q.GroupBy))
	return call[DriftHistory](ctx, c, http.MethodGet, PathDriftHistory, v, 0)
}

// Delivery is how changes get into environments, into all when environment is
// empty.
func (c *Client) Delivery(ctx context.Context, environment string, since time.Duration) (ledger.Delivery, error) {
	return call[ledger.Delivery](ctx, c, http.MethodGet, PathDelivery, RunsQuery{Environment: environment, Since: since}.values(), 0)
}

// CheckLedger has the daemon look for damage in its ledger.
func (c *Client) CheckLedger(ctx context.Context) (ledger.Report, error) {
	return call[ledger.Report](ctx, c, http.MethodPost, PathLedgerCheck, nil, ledgerTimeout)
}

// BackupLedger writes a copy of the daemon's ledger to w.
func (c *Client) BackupLedger(ctx context.Context, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	res, err := c.send(ctx, http.MethodPost, PathLedgerBackup, nil, payload{})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return c.problem(res, io.LimitReader(res.Body, maxAnswer))
	}
	if res.Header.Get("Content-Type") != LedgerType {
		return errors.New("what answers sends no ledger")
	}
	if _, err := io.Copy(w, res.Body); err != nil {
		return fmt.Errorf("read the ledger from %s: %w", c.where, err)
	}
	return nil
}
