package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
)

// driftSum is a report with what the ledger adds to it.
type driftSum struct {
	reconciler.Report
	Summary ledger.Summary `json:"summary"`
}

// driftSummed prints a report with what is on record, added up.
func (a *app) driftSummed(ctx context.Context, client *api.Client, q api.DriftQuery, by ledger.Grouping, report reconciler.Report) error {
	history, err := client.DriftHistory(ctx, api.HistoryQuery{
		Environment: q.Environment, Since: q.Since, Manager: q.Manager, Kind: q.Kind, Severity: q.Severity, Class: q.Class, Labels: q.Labels,
		GroupBy: by, Limit: 1,
	})
	if err != nil {
		return failed(err)
	}
	sum := driftSum{Report: report, Summary: history.Summary}
	if err := a.print(sum, func(w io.Writer) {
		if by == "" {
			a.driftTable(w, report, false)
			fmt.Fprintln(w)
		}
		summaryTable(w, history.Summary)
	}); err != nil {
		return failed(err)
	}
	return exit(driftCode(report))
}

func summaryTable(w io.Writer, s ledger.Summary) {
	since := "on record"
	if !s.Since.IsZero() {
		since = "since " + moment(s.Since)
	}
	all := s.All
	fmt.Fprintf(w, "%s: %d drifts, %d of them open, seen %d times\n", since, all.Episodes, all.Open, all.Occurrences)
	if all.Episodes == 0 {
		return
	}
	fmt.Fprintf(w, "mean time to detect %s, to resolve %s\n", meanOf(all.MeanDetect), meanOf(all.MeanResolve))
	if s.GroupBy != "" {
		printGroups(w, string(s.GroupBy), s.Groups)
	}
	printGroups(w, "noisiest objects", s.Objects)
	printGroups(w, "noisiest managers", s.Managers)
}

func printGroups(w io.Writer, title string, groups []ledger.Group) {
	rows := make([][]string, len(groups))
	for i, g := range groups {
		rows[i] = []string{
			cell(g.Key, 100), strconv.Itoa(g.Episodes), strconv.Itoa(g.Open), strconv.Itoa(g.Occurrences),
			meanOf(g.MeanDetect), meanOf(g.MeanResolve), moment(g.LastSeen),
		}
	}
	fmt.Fprintln(w)
	printTable(w, []string{title, "drifts", "open", "seen", "to detect", "to resolve", "last seen"}, rows)
}

func meanOf(seconds float64) string {
	if seconds <= 0 {
		return "–"
	}
	return lasted(time.Duration(seconds * float64(time.Second)))
}
