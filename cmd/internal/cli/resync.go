package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

func (a *app) resyncCommand() *cobra.Command {
	var wait string
	var request api.ResyncRequest
	c := &cobra.Command{
		Use: "resync [ENV...]", Short: "Fetch and reconcile now, and say what was done",
		Long: `Fetch and reconcile now: the named environments, or all. The answer is a receipt
for each; with --wait it says what was done, else that the run is pending.

With --wait it ends with 0 when all runs ended applied or unchanged, with 2 when
one is held or still pending, and with 1 when one failed, wholly or in part.
` + connectHelp + exitHelp,
		Example: "  holdfast resync\n  holdfast resync prod --wait\n  holdfast resync prod staging --wait=5m --verify\n  holdfast resync --wait -o json\n  holdfast resync prod --wait --approve 1f2e3d4c5b6a7980",
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			d, err := parseWait(wait, args)
			if err != nil {
				return invalid(err)
			}
			if len(request.Through) > 0 && request.Reason == "" {
				return invalid(usage{"passing a hold needs a reason, which others will read", "write --reason '…'"})
			}
			client, err := a.connect()
			if err != nil {
				return err
			}
			request.Environments = args
			receipts, err := client.Resync(c.Context(), request, d)
			if err != nil {
				return failed(err)
			}
			return a.printReceipts(receipts, d > 0)
		},
	}
	c.Flags().StringVar(&wait, "wait", "", "wait for the runs to end, for 60s or as long as said: --wait=5m")
	c.Flags().Lookup("wait").NoOptDefVal = "60s"
	c.Flags().BoolVar(&request.Verify, "verify", false, "distrust what is known and dry-run every object")
	c.Flags().StringSliceVar(&request.Through, "through-hold", nil, "pass the hold of this id; needs --reason")
	c.Flags().StringVar(&request.Reason, "reason", "", "why a hold is passed, for others to read")
	c.Flags().StringVar(&request.Until, "until", "", "what --wait waits for: applied (the default), or ready: all that was applied works")
	c.Flags().StringVar(&request.Approve, "approve", "", "carry out what the plan of this hash held back; another plan is not approved")
	a.addFormat(c)
	a.addConnect(c)
	return c
}

// parseWait reads --wait. Its value is optional, so "--wait 5m" leaves 5m to be
// an environment; that is told apart here.
func parseWait(wait string, args []string) (time.Duration, error) {
	if wait == "" || wait == "0" {
		return 0, nil
	}
	for _, arg := range args {
		if d, err := time.ParseDuration(arg); err == nil && d > 0 {
			return 0, usage{fmt.Sprintf("%s is no environment", arg), "write --wait=" + arg}
		}
	}
	d, err := time.ParseDuration(wait)
	switch {
	case err != nil || d <= 0:
		return 0, usage{fmt.Sprintf("--wait=%s is no duration", wait), "write it with a unit, such as --wait=60s"}
	case d > api.MaxWait:
		return 0, usage{fmt.Sprintf("--wait=%s is too long", wait), fmt.Sprintf("at most %s; a run goes on without being waited for", api.MaxWait)}
	}
	return d, nil
}

// printReceipts prints the receipts and ends with their exit code. Who did not
// wait is not told by it that a run is pending.
func (a *app) printReceipts(r api.Receipts, waited bool) error {
	if err := a.print(r, func(w io.Writer) { receiptsTable(w, r.Runs) }); err != nil {
		return failed(err)
	}
	return exit(resultsCode(r.Runs, waited))
}

func resultsCode(runs []reconciler.Run, waited bool) int {
	code := exitClean
	for _, r := range runs {
		switch r.Result {
		case reconciler.Applied, reconciler.Unchanged:
		case reconciler.Held:
			code = exitChanges
		case reconciler.Pending:
			if waited {
				code = exitChanges
			}
		default:
			return exitError
		}
		switch r.Health {
		case reconciler.HealthFailed:
			return exitError
		case reconciler.HealthProgressing:
			code = exitChanges
		}
	}
	return code
}

func receiptsTable(w io.Writer, runs []reconciler.Run) {
	if len(runs) == 0 {
		fmt.Fprintln(w, "no runs")
		return
	}
	rows := make([][]string, len(runs))
	for i, r := range runs {
		took := "–"
		if !r.Finished.IsZero() {
			took = fmt.Sprintf("%.3fs", r.Seconds)
		}
		rows[i] = []string{r.Environment, string(r.Result), cell(r.Revision.Short(), 60), orNothing(api.CountsText(r.Counts)), took, r.ID}
	}
	printTable(w, []string{"environment", "result", "revision", "objects", "took", "run"}, rows)
	for _, r := range runs {
		if len(r.Errors)+len(r.Waiting) > 0 {
			fmt.Fprintf(w, "\n%s:\n", r.Environment)
			printProblems(w, "  error: ", r.Errors)
			printWaiting(w, r)
		}
		printUnready(w, r.Unready)
	}
}

// printWaiting lists what is held, and how to let it happen where an approval
// does: no approval lets a plan-only environment be written to.
func printWaiting(w io.Writer, r reconciler.Run) {
	approvable := false
	for _, h := range r.Waiting {
		approvable = approvable || strings.Contains(h.Why, "approve")
		fmt.Fprintf(w, "  held: %s %s: %s\n", h.Op, cell(h.Object.String(), 120), printable(h.Why))
	}
	if approvable && r.PlanHash != "" {
		fmt.Fprintf(w, "  hint: holdfast resync %s --wait --approve %s carries out this plan\n", r.Environment, r.PlanHash)
	}
}
