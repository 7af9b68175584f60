package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
)

// maxCell bounds a value in a table; JSON and YAML have all of it.
const maxCell = 48

func (a *app) driftCommand() *cobra.Command {
	var q api.DriftQuery
	var group string
	since := span(24 * time.Hour)
	c := &cobra.Command{
		Use: "drift [ENV]", Short: "Show what drifted, who did it and what becomes of it",
		Long: `Show what drifted: the object and field, the desired and the live value, who
changed it, since when, how it ended and what happens next. Values of secrets are
masked.

With --since or --group-by, it also adds up what is on record: how long drift went
unnoticed and how long it lasted, and who and what drifts most.

Ends with 2 when any drift is open, and with 1 when none is but of an environment
nothing can be said.
` + connectHelp + exitHelp,
		Example: "  holdfast drift\n  holdfast drift prod --open\n  holdfast drift --since 1h -o json\n  holdfast drift --since 7d --group-by manager",
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
			report, err := client.Drift(c.Context(), q)
			if err != nil {
				return failed(err)
			}
			if c.Flags().Changed("since") || group != "" {
				return a.driftSummed(c.Context(), client, q, ledger.Grouping(group), report)
			}
			if err := a.print(report, func(w io.Writer) { a.driftTable(w, report) }); err != nil {
				return failed(err)
			}
			return exit(driftCode(report))
		},
	}
	c.Flags().BoolVar(&q.Open, "open", false, "leave out what has ended")
	c.Flags().Var(&since, "since", "leave out what ended longer ago: 12h, 7d; 0 shows all that is kept")
	c.Flags().StringVar(&group, "group-by", "", "add up by cause, manager, environment, kind, class or severity")
	a.addFormat(c)
	a.addConnect(c)
	return c
}

func driftCode(r reconciler.Report) int {
	switch {
	case slices.ContainsFunc(r.Episodes, isOpen):
		return exitChanges
	case len(r.Unsure) > 0:
		return exitError
	}
	return exitClean
}

func isOpen(e drift.Episode) bool { return e.Ended.IsZero() }

func (a *app) driftTable(w io.Writer, r reconciler.Report) {
	var rows [][]string
	open, oldest := 0, time.Time{}
	for _, e := range r.Episodes {
		rows = append(rows, a.episodeRows(e)...)
		if !isOpen(e) {
			continue
		}
		if open++; oldest.IsZero() || e.FirstSeen.Before(oldest) {
			oldest = e.FirstSeen
		}
	}
	if len(rows) > 0 {
		printTable(w, []string{"environment", "object", "field", "desired → live", "by", "age", "state", "next"}, rows)
		fmt.Fprintln(w)
	}
	switch {
	case len(r.Episodes) == 0:
		fmt.Fprintln(w, "no drift")
	case open == 0:
		fmt.Fprintf(w, "no open drift, %d ended\n", len(r.Episodes))
	default:
		fmt.Fprintf(w, "%d open, the oldest for %s; %d ended\n", open, api.Age(a.now(), oldest), len(r.Episodes)-open)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Unsure)) {
		fmt.Fprintf(w, "%s: nothing can be said, %s\n", name, printable(r.Unsure[name]))
	}
}

// episodeRows is a row for each field; what is the same for all of them stands
// in the first.
func (a *app) episodeRows(e drift.Episode) [][]string {
	head := []string{e.Environment, cell(e.Object.String(), 80)}
	tail := []string{api.Age(a.now(), e.FirstSeen), stateText(e), cell(e.Next, 80)}
	if len(e.Changes) == 0 {
		return [][]string{slices.Concat(head, []string{"", string(e.Class), drift.Unknown}, tail)}
	}
	rows := make([][]string, 0, len(e.Changes))
	for i, c := range e.Changes {
		if i == 1 {
			head, tail = []string{"", ""}, []string{"", "", ""}
		}
		field := c.Path
		if field == "" {
			field = "(object)"
		}
		values := cell(c.Desired.String(), maxCell) + " → " + cell(c.Live.String(), maxCell)
		rows = append(rows, slices.Concat(head, []string{cell(field, 80), values, cell(c.Manager, 40)}, tail))
	}
	return rows
}

// stateText is the state, and how long an ended drift lasted.
func stateText(e drift.Episode) string {
	text := string(e.State)
	if !isOpen(e) {
		text += " after " + lasted(e.Ended.Sub(e.FirstSeen))
	}
	if e.Occurrences > 1 {
		text += fmt.Sprintf(", ×%d", e.Occurrences)
	}
	return text
}

func lasted(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}
