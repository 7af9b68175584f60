package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

func (a *app) statusCommand() *cobra.Command {
	var last, watch bool
	c := &cobra.Command{
		Use: "status [ENV]", Short: "Show how the environments stand",
		Long: `Show how the environments stand: revision, drift, last run, and what is in the way.

Ends with 2 when an environment is not known to be clean: drifted, with changes
that are held or only planned, removed from git, or not compared yet; and with 1
when one failed, is stale, or no daemon answers. With --watch it shows all again
whenever something changes, until it is interrupted.
` + connectHelp + exitHelp,
		Example: "  holdfast status\n  holdfast status prod\n  holdfast status --watch\n  holdfast status --last-resync\n  holdfast status -o json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			client, err := a.connect()
			switch {
			case err != nil:
				return err
			case last && watch:
				return invalid(usage{"--last-resync is about what has been", "leave --watch out"})
			case watch:
				return a.watch(c.Context(), client, api.EventsQuery{Environments: args}, func() error { return a.status(c.Context(), client, args) })
			case last && len(args) > 0:
				return invalid(usage{"--last-resync is about all environments", "leave the environment out"})
			case last:
				return a.statusLastResync(c.Context(), client)
			}
			return a.status(c.Context(), client, args)
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "show it again whenever something changes")
	c.Flags().BoolVar(&last, "last-resync", false, "show the receipts of the newest resync, by whomever")
	a.addFormat(c)
	a.addConnect(c)
	return c
}

func (a *app) status(ctx context.Context, client *api.Client, names []string) error {
	if len(names) == 1 {
		return a.statusOne(ctx, client, names[0])
	}
	return a.statusAll(ctx, client)
}

func (a *app) statusAll(ctx context.Context, client *api.Client) error {
	all, err := client.Environments(ctx)
	if err != nil {
		return failed(err)
	}
	if err := a.print(all, func(w io.Writer) { a.statusTable(w, all) }); err != nil {
		return failed(err)
	}
	if len(all.Sources) > 0 {
		return exit(exitError)
	}
	return exit(syncCode(all.Environments...))
}

func (a *app) statusOne(ctx context.Context, client *api.Client, name string) error {
	s, err := client.Environment(ctx, name)
	if err != nil {
		return failed(err)
	}
	if err := a.print(s, func(w io.Writer) { a.statusDetail(w, s) }); err != nil {
		return failed(err)
	}
	return exit(syncCode(s))
}

func (a *app) statusLastResync(ctx context.Context, client *api.Client) error {
	receipts, err := client.LastResync(ctx)
	if err != nil {
		return failed(err)
	}
	return a.printReceipts(receipts, true)
}

// syncCode is the worst of the environments' exit codes.
func syncCode(all ...reconciler.Status) int {
	code := exitClean
	for _, s := range all {
		switch s.Sync {
		case reconciler.SyncClean:
		case reconciler.SyncFailed, reconciler.SyncStale:
			return exitError
		default:
			code = exitChanges
		}
	}
	return code
}

func (a *app) statusTable(w io.Writer, answer api.Environments) {
	all := answer.Environments
	for _, name := range slices.Sorted(maps.Keys(answer.Sources)) {
		fmt.Fprintf(w, "source %s:\n", name)
		printProblems(w, "  error: ", answer.Sources[name])
		fmt.Fprintln(w)
	}
	if answer.Ledger != "" {
		fmt.Fprintf(w, "history is not recorded: %s\n\n", printable(answer.Ledger))
	}
	if len(all) == 0 {
		fmt.Fprintln(w, "no environments yet: the sources are still being read, or hold none")
		return
	}
	rows := make([][]string, len(all))
	for i, s := range all {
		rows[i] = []string{
			s.Name, a.syncWord(w, s.Sync), orDash(string(s.Health)), revisions(s), strconv.Itoa(s.Objects),
			fmt.Sprintf("%d open", s.OpenDrifts), a.lastRun(s),
		}
	}
	printTable(w, []string{"environment", "sync", "health", "revision", "objects", "drift", "last run"}, rows)
	for _, s := range all {
		if len(s.Errors)+len(s.Gates) > 0 {
			fmt.Fprintf(w, "\n%s:\n", s.Name)
			printTroubles(w, s.Gates, s.Errors)
		}
	}
	for _, s := range all {
		if len(s.Unready) > 0 {
			fmt.Fprintf(w, "\n%s is not ready:\n", s.Name)
			printUnready(w, s.Unready)
		}
	}
}

// revisions is what is applied, and what is to come if that is another.
func revisions(s reconciler.Status) string {
	applied, head := s.Applied.Short(), s.Head.Short()
	switch {
	case applied == "" && head == "":
		return "–"
	case applied == "":
		return "none, head " + cell(head, 40)
	case s.Head.ID != "" && s.Head.ID != s.Applied.ID:
		return cell(applied, 40) + ", head " + cell(head, 40)
	}
	return cell(applied, 40)
}

func (a *app) lastRun(s reconciler.Status) string {
	text := "none yet"
	switch {
	case s.LastRun != nil:
		text = fmt.Sprintf("%s %s ago", s.LastRun.Result, api.Age(a.now(), s.LastRun.Finished))
	case s.Earlier != nil:
		text = fmt.Sprintf("none since the start; %s %s ago", s.Earlier.Result, api.Age(a.now(), s.Earlier.Finished))
	}
	if s.Running != nil {
		text += ", running"
	}
	return text
}

func printTroubles(w io.Writer, gates []reconciler.Gate, problems sources.Problems) {
	for _, g := range gates {
		fmt.Fprintf(w, "  held: %s\n", printable(g.String()))
	}
	printProblems(w, "  error: ", problems)
}

func (a *app) statusDetail(w io.Writer, s reconciler.Status) {
	rows := [][]string{
		{"environment", s.Name}, {"sync", a.syncWord(w, s.Sync)}, {"health", a.healthLine(s)},
		{"source", fmt.Sprintf("%s, folder %s", s.Source, cell(s.Path, 100))},
		{"target", s.Target}, {"mode", fmt.Sprintf("%s, drift %s", s.Mode, s.Drift)},
		{"applied", revisionLine(s.Applied)}, {"head", revisionLine(s.Head)},
		{"objects", strconv.Itoa(s.Objects)},
		{"drift", fmt.Sprintf("%d open, %d corrected since the start", s.OpenDrifts, s.Corrections)},
		{"last run", a.lastRun(s)},
	}
	if s.LastRun != nil {
		rows = append(rows, []string{"", fmt.Sprintf("%s, %s, %.3fs, by %s", s.LastRun.ID, orNothing(api.CountsText(s.LastRun.Counts)), s.LastRun.Seconds, asker(s.LastRun.Trigger))})
	}
	if !s.AsOf.IsZero() {
		rows = append(rows, []string{"heard of", api.Age(a.now(), s.AsOf) + " ago"})
	}
	for _, r := range rows {
		fmt.Fprintf(w, "%-12s %s\n", r[0], r[1])
	}
	printTroubles(w, s.Gates, s.Errors)
	printUnready(w, s.Unready)
	if s.LastRun != nil {
		printWaiting(w, *s.LastRun)
	}
}

func (a *app) healthLine(s reconciler.Status) string {
	if s.ReadySince.IsZero() {
		return orDash(string(s.Health))
	}
	return fmt.Sprintf("%s for %s", s.Health, api.Age(a.now(), s.ReadySince))
}

func orDash(s string) string { return cmp.Or(s, "–") }

// printUnready lists what is waited for, by root cause where that is known.
func printUnready(w io.Writer, all []reconciler.Unready) {
	for _, u := range all {
		fmt.Fprintf(w, "  waits for: %s: %s\n", cell(u.Object.String(), 120), printable(cmp.Or(u.RootCause, u.Why)))
	}
}

func revisionLine(r sources.Revision) string {
	if r.ID == "" {
		return "–"
	}
	line := cell(r.Short(), 60)
	if r.Subject != "" {
		line += "  " + cell(r.Subject, 80)
	}
	if r.Author != "" {
		line += "  (" + cell(r.Author, 60) + ")"
	}
	return line
}

func asker(t reconciler.Trigger) string {
	if t.Actor == "" {
		return t.Reason.String()
	}
	return fmt.Sprintf("%s (%s)", t.Reason, cell(t.Actor, 40))
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}
