package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/report"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
)

// maxCell bounds a value in a table; JSON and YAML have all of it.
const maxCell = 48

func (a *app) driftCommand() *cobra.Command {
	var q api.DriftQuery
	var group string
	var expand bool
	since := span(24 * time.Hour)
	c := &cobra.Command{
		Use: "drift [ENV]", Short: "Show what drifted, who did it and what becomes of it",
		Long: `Show what drifted: the object and field, the desired and the live value, who
changed it, how bad that is, since when, how it ended and what happens next. What
has one cause, the same value at the same field by the same manager, is one line,
over all environments; --expand shows every object. What was accepted or is fought
over is only counted without it. Values of secrets are masked.

With --since or --group-by, it also adds up what is on record: how long drift went
unnoticed and how long it lasted, and who and what drifts most.

--blame adds the line of the file that each desired value comes from and the
commit that last changed it, for up to 20 lines; it is looked up in the history.

The verbs below decide about single drifts.

Where a spec asks for it, what others added to objects, or beside them, is listed,
too. That is no drift.

Ends with 2 when any drift is open, and with 1 when none is but of an environment
nothing can be said.
` + connectHelp + exitHelp,
		Example: "  holdfast drift\n  holdfast drift prod --open --expand\n  holdfast drift prod --open --blame\n  holdfast drift --severity high --label team=shop\n  holdfast drift --since 1h -o json\n  holdfast drift -o html > drift.html\n  holdfast drift --since 7d --group-by manager\n  holdfast drift accept prod Deployment/shop/web --for 72h --reason 'known, ticket 4711'",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(report.Formats...); err != nil {
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
			found, err := client.Drift(c.Context(), q)
			if err != nil {
				return failed(err)
			}
			found = found.Summed()
			if slices.Contains(report.Formats, a.format) {
				if err := report.Write(a.stdout, a.format, found, expand); err != nil {
					return failed(err)
				}
				return exit(driftCode(found))
			}
			if c.Flags().Changed("since") || group != "" {
				return a.driftSummed(c.Context(), client, q, ledger.Grouping(group), found)
			}
			if err := a.print(found, func(w io.Writer) {
				if a.driftTable(w, found, expand); q.Blame {
					a.driftLines(w, found)
				}
			}); err != nil {
				return failed(err)
			}
			return exit(driftCode(found))
		},
	}
	c.Flags().BoolVar(&q.Open, "open", false, "leave out what has ended")
	c.Flags().BoolVar(&expand, "expand", false, "show every object, also what is accepted or fought over")
	c.Flags().Var(&since, "since", "leave out what ended longer ago: 12h, 7d; 0 shows all that is kept")
	c.Flags().StringVar(&q.Severity, "severity", "", "leave out what is less severe than low, medium, high or critical")
	c.Flags().StringVar(&q.Class, "class", "", "only changed, missing, not-owned, extra-field, unmanaged or stale-revision")
	c.Flags().StringVar(&q.Manager, "manager", "", "only what this field manager or person did")
	c.Flags().StringVar(&q.Kind, "kind", "", "only of objects of a kind, as in Deployment or Deployment.apps")
	c.Flags().StringArrayVar(&q.Labels, "label", nil, "only of environments with a label, as in team or team=shop; may be given several times")
	c.Flags().BoolVar(&q.Blame, "blame", false, "look up who wrote the lines that the desired values come from")
	c.Flags().StringVar(&group, "group-by", "", "add up by cause, manager, environment or kind")
	a.addFormat(c, report.Formats...)
	a.addConnect(c)
	c.AddCommand(a.revertCommand(), a.acceptCommand(), a.ignoreCommand(), a.codifyCommand())
	return c
}

func driftCode(r reconciler.Report) int {
	switch {
	case slices.ContainsFunc(r.Episodes, func(e drift.Episode) bool { return isOpen(e) && !e.Class.Foreign() }):
		return exitChanges
	case len(r.Unsure) > 0:
		return exitError
	}
	return exitClean
}

func isOpen(e drift.Episode) bool { return e.Ended.IsZero() }

func (a *app) driftTable(w io.Writer, r reconciler.Report, expand bool) {
	rows, folded := a.driftRows(r, expand)
	if len(rows) > 0 {
		printTable(w, []string{"severity", "environment", "object", "field", "desired → live", "by", "age", "state", "next"}, rows)
		fmt.Fprintln(w)
	}
	if expand {
		a.driftDetails(w, r)
	}
	open, ended, oldest := 0, 0, time.Time{}
	for _, e := range r.Episodes {
		if !isOpen(e) {
			ended++
			continue
		}
		if e.Class.Foreign() {
			continue
		}
		if open++; oldest.IsZero() || e.FirstSeen.Before(oldest) {
			oldest = e.FirstSeen
		}
	}
	where := ""
	if len(r.Unsure) > 0 {
		where = " in what can be seen"
	}
	switch {
	case len(r.Episodes) == 0:
		fmt.Fprintf(w, "no drift%s\n", where)
	case open == 0:
		fmt.Fprintf(w, "no open drift%s, %d ended\n", where, ended)
	default:
		fmt.Fprintf(w, "%d open, the oldest for %s; %d ended\n", open, api.Age(a.now(), oldest), ended)
		fmt.Fprintln(w, report.Counts(r))
	}
	if r.Foreign > 0 {
		fmt.Fprintf(w, "%d objects are or have what others added, which is no drift\n", r.Foreign)
	}
	if folded > 0 {
		fmt.Fprintf(w, "%d that are accepted or fought over are not shown; --expand shows them\n", folded)
	}
	if len(r.Behind) > 0 {
		fmt.Fprintf(w, "git is newer than what is live at %d objects: %s: %s\n", len(r.Behind), r.Behind[0].Object, cell(r.Behind[0].Next, 160))
		for _, b := range r.Behind[1:] {
			if expand {
				fmt.Fprintf(w, "  %s: %s: %s\n", b.Environment, b.Object, cell(b.Next, 160))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Unsure)) {
		fmt.Fprintf(w, "%s: nothing can be said, %s\n", name, printable(r.Unsure[name]))
	}
}

// driftDetails prints all that is known of each drift.
func (a *app) driftDetails(w io.Writer, r reconciler.Report) {
	for _, e := range r.Episodes {
		fmt.Fprintf(w, "%s %s\n", printable(e.Environment), printable(e.Object.String()))
		for _, d := range report.Details(r, e) {
			fmt.Fprintf(w, "  %s: %s\n", printable(d.Name), printable(d.Value))
		}
		fmt.Fprintln(w)
	}
}

// driftRows are the rows of a report: one for each cause, or for each episode. It
// counts the episodes that are folded.
func (a *app) driftRows(r reconciler.Report, expand bool) (rows [][]string, folded int) {
	if expand {
		for _, e := range r.Episodes {
			rows = append(rows, a.episodeRows(e, e.Environment, e.Object.String())...)
		}
		return rows, 0
	}
	for _, g := range r.ByCause().Groups {
		if g.Quiet() {
			folded += len(g.Episodes)
			continue
		}
		where, what := g.Environments[0], g.First.String()
		if n := len(g.Environments); n > 1 {
			where = fmt.Sprintf("%d environments", n)
		}
		if g.Objects > 1 {
			what = fmt.Sprintf("%d × %s", g.Objects, g.Kind)
		}
		rows = append(rows, a.episodeRows(drift.Episode{
			Class: g.Class, State: g.State, Changes: g.Changes, Person: g.Person, Severity: g.Severity, Next: g.Next,
			FirstSeen: g.FirstSeen, LastSeen: g.LastSeen, Ended: g.Ended, Occurrences: g.Occurrences,
		}, where, what)...)
	}
	return rows, folded
}

// episodeRows is a row for each field; what is the same for all of them stands
// in the first.
func (a *app) episodeRows(e drift.Episode, where, what string) [][]string {
	head := []string{string(e.Severity), cell(where, 80), cell(what, 80)}
	tail := []string{api.Age(a.now(), e.FirstSeen), stateText(e), cell(e.Next, 80)}
	if len(e.Changes) == 0 {
		return [][]string{slices.Concat(head, []string{"", string(e.Class), strings.Join(e.By(), ", ")}, tail)}
	}
	rows := make([][]string, 0, len(e.Changes))
	for i, c := range e.Changes {
		by := c.Manager
		if i == 1 {
			head, tail = []string{"", "", ""}, []string{"", "", ""}
		}
		if i == 0 && e.Person != nil {
			by = e.Person.String() + " (" + by + ")"
		}
		field := c.Path
		if field == "" {
			field = "(object)"
		}
		values := cell(c.Desired.String(), maxCell) + " → " + cell(c.Live.String(), maxCell)
		rows = append(rows, slices.Concat(head, []string{cell(field, 80), values, cell(by, 60)}, tail))
	}
	return rows
}

// stateText is the state, and how long an ended drift lasted.
func stateText(e drift.Episode) string {
	text := string(e.State)
	if isOpen(e) && e.Class.Foreign() {
		text = string(e.Class)
	}
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
