package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
)

// span is a flag for a length of time that may be in days or weeks.
type span time.Duration

// String is the span as it is written.
func (s *span) String() string {
	d := time.Duration(*s)
	if days := d / (24 * time.Hour); days > 0 && d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", days)
	}
	return d.String()
}

// Set reads it.
func (s *span) Set(text string) error {
	d, err := api.ParseSpan(text)
	if err != nil {
		return errors.New("write it with a unit, such as 90m, 12h, 7d or 2w")
	}
	*s = span(d)
	return nil
}

// Type is shown in the help.
func (s *span) Type() string { return "duration" }

// runID is what the engine gives runs for names.
var runID = regexp.MustCompile(`^run-[0-9a-f]{12}$`)

func (a *app) historyCommand() *cobra.Command {
	var q api.RunsQuery
	var since span
	var actions bool
	c := &cobra.Command{
		Use: "history [ENV | RUN]", Short: "Show earlier runs, and what each changed",
		Long: `Show the runs on record, the newest first: those that did or found something, and
those that somebody asked for. With the id of a run, show that run with every
object and field that it changed. Values of secrets are masked.

What people asked for, by whom and why, is shown with --actions.
` + connectHelp + exitHelp,
		Example: "  holdfast history\n  holdfast history prod --since 7d --result failed\n  holdfast history run-1f2e3d4c5b6a\n  holdfast history --object Deployment/web/api\n  holdfast history prod --actions",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			client, err := a.connect()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				q.Environment = args[0]
			}
			q.Since = time.Duration(since)
			switch {
			case actions:
				return a.historyActions(c.Context(), client, q)
			case runID.MatchString(q.Environment):
				return a.historyRun(c.Context(), client, q)
			}
			return a.historyRuns(c.Context(), client, q)
		},
	}
	c.Flags().Var(&since, "since", "leave out what ended longer ago: 12h, 7d")
	c.Flags().IntVar(&q.Limit, "limit", ledger.DefaultLimit, fmt.Sprintf("how many to show, at most %d", ledger.MaxLimit))
	c.Flags().StringVar(&q.Before, "before", "", "go on where a page ended")
	c.Flags().StringVar(&q.Object, "object", "", "only runs that changed this object: Kind/namespace/name")
	c.Flags().StringVar(&q.Result, "result", "", "only runs that ended so: applied, partial, unchanged, held, failed, superseded")
	c.Flags().StringVar(&q.Reason, "reason", "", "only runs for this reason: on-call, webhook, drift, poll, timer")
	c.Flags().BoolVar(&actions, "actions", false, "show what people asked for instead")
	a.addFormat(c)
	a.addConnect(c)
	return c
}

func (a *app) historyRuns(ctx context.Context, client *api.Client, q api.RunsQuery) error {
	page, err := client.Runs(ctx, q)
	if err != nil {
		return failed(err)
	}
	return a.print(page, func(w io.Writer) {
		if len(page.Runs) == 0 {
			fmt.Fprintln(w, "no runs on record")
			return
		}
		rows := make([][]string, len(page.Runs))
		for i, r := range page.Runs {
			rows[i] = []string{
				moment(r.Finished), r.Environment, string(r.Result), cell(r.Revision.Short(), 40),
				cell(orNothing(api.CountsText(r.Counts)), 60), asker(r.Trigger), fmt.Sprintf("%.3fs", r.Seconds), r.ID,
			}
		}
		printTable(w, []string{"ended", "environment", "result", "revision", "objects", "because of", "took", "run"}, rows)
		printNext(w, page.Next)
	})
}

// printNext says how to see more.
func printNext(w io.Writer, next string) {
	if next != "" {
		fmt.Fprintf(w, "\nolder ones: add --before %s\n", next)
	}
}

// moment is a time to the second. History spans days, and clocks of readers
// differ, so it is in UTC.
func moment(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// historyRun shows one run. An environment may have a name that looks like one.
func (a *app) historyRun(ctx context.Context, client *api.Client, q api.RunsQuery) error {
	run, err := client.Run(ctx, q.Environment, 0)
	var p api.Problem
	if errors.As(err, &p) && p.Status == http.StatusNotFound {
		if _, notThere := client.Environment(ctx, q.Environment); notThere == nil {
			return a.historyRuns(ctx, client, q)
		}
	}
	if err != nil {
		return failed(err)
	}
	return a.print(run, func(w io.Writer) { runDetail(w, run) })
}

func runDetail(w io.Writer, r reconciler.Run) {
	rows := [][]string{
		{"run", r.ID}, {"environment", r.Environment}, {"result", string(r.Result)},
		{"revision", revisionLine(r.Revision)}, {"because of", asker(r.Trigger)},
		{"began", moment(r.Started)}, {"ended", moment(r.Finished)}, {"took", fmt.Sprintf("%.3fs", r.Seconds)},
		{"objects", orNothing(api.CountsText(r.Counts))},
	}
	if r.PlanHash != "" {
		rows = append(rows, []string{"plan", r.PlanHash})
	}
	for _, row := range rows {
		fmt.Fprintf(w, "%-12s %s\n", row[0], row[1])
	}
	printProblems(w, "  error: ", r.Errors)
	printWaiting(w, r)
	if len(r.Changes) == 0 {
		return
	}
	fmt.Fprintln(w)
	var table [][]string
	for _, c := range r.Changes {
		table = append(table, changeRows(c)...)
	}
	printTable(w, []string{"operation", "object", "field", "before → after", "from"}, table)
	if r.MoreChanges > 0 {
		fmt.Fprintf(w, "and %d more objects, which are not on record\n", r.MoreChanges)
	}
}

// changeRows is a row for each field; what is the same for all of them stands in
// the first.
func changeRows(c reconciler.ObjectChange) [][]string {
	head := []string{string(c.Op), cell(c.Object.String(), 80)}
	from := cell(c.Origin.String(), 60)
	if c.Error != "" {
		return [][]string{{head[0], head[1], "", cell("failed: "+c.Error, 160), from}}
	}
	if len(c.Fields) == 0 {
		return [][]string{{head[0], head[1], "", "", from}}
	}
	var rows [][]string
	for i, f := range c.Fields {
		if i == 1 {
			head, from = []string{"", ""}, ""
		}
		rows = append(rows, []string{head[0], head[1], fieldName(f), cell(f.Live.String(), maxCell) + " → " + cell(f.Desired.String(), maxCell), from})
	}
	if c.More {
		rows = append(rows, []string{"", "", "…", "and more fields", ""})
	}
	return rows
}

func fieldName(c drift.Change) string {
	if c.Path == "" {
		return "(object)"
	}
	return cell(c.Path, 80)
}

func (a *app) historyActions(ctx context.Context, client *api.Client, q api.RunsQuery) error {
	page, err := client.Actions(ctx, q)
	if err != nil {
		return failed(err)
	}
	return a.print(page, func(w io.Writer) {
		if len(page.Actions) == 0 {
			fmt.Fprintln(w, "no actions on record")
			return
		}
		rows := make([][]string, len(page.Actions))
		for i, x := range page.Actions {
			rows[i] = []string{
				moment(x.At), cell(x.Actor, 40), cell(x.Verb, 40), x.Environment, cell(x.Subject, 60), cell(x.Reason, 60), cell(x.Outcome, 40),
			}
		}
		printTable(w, []string{"when", "who", "action", "environment", "about", "reason", "outcome"}, rows)
		printNext(w, page.Next)
	})
}
