package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

func (a *app) rollbackCommand() *cobra.Command {
	var request api.RollbackRequest
	var wait string
	c := &cobra.Command{
		Use: "rollback ENV", Short: "Bring back an earlier revision and keep it until it is released",
		Long: `Bring an environment back to an earlier revision, and keep it there whatever is
merged, until the time is over or it is released. Drift is corrected against that
revision meanwhile. The deletions that the plan names count as approved, but for
those of protected kinds.

Without --to it is the last revision that was ready before the one in force, else
the one that was accepted before it.
` + connectHelp + exitHelp,
		Example: "  holdfast rollback prod --reason 'errors since 14:02'\n  holdfast rollback prod --to 1f2e3d4 --for 4h\n  holdfast release prod",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			d, err := parseWait(wait, nil)
			if err != nil {
				return invalid(err)
			}
			client, err := a.connect()
			if err != nil {
				return err
			}
			answer, err := client.Rollback(c.Context(), args[0], request)
			if err != nil {
				return failed(err)
			}
			if d > 0 {
				if answer.Run, err = client.Run(c.Context(), answer.Run.ID, d); err != nil {
					return failed(err)
				}
			}
			if err := a.print(answer, func(w io.Writer) { rollbackText(w, answer) }); err != nil {
				return failed(err)
			}
			return exit(resultsCode([]reconciler.Run{answer.Run}, d > 0))
		},
	}
	f := c.Flags()
	f.StringVar(&request.To, "to", "", "a revision, or the beginning of one that was applied before")
	f.StringVar(&request.For, "for", "", "how long; without it until `holdfast release`")
	f.StringVar(&request.Reason, "reason", "", "why, for others to read")
	f.StringVar(&wait, "wait", "60s", "how long to wait for the run; 0 for not at all")
	a.addAuthor(c, &request.Author)
	a.addFormat(c)
	a.addConnect(c)
	return c
}

func rollbackText(w io.Writer, r api.Rollback) {
	fmt.Fprintf(w, "rolled back to %s %s\n", printable(r.Plan.Revision.Short()), cell(r.Plan.Revision.Subject, 60))
	planText(w, r.Plan)
	fmt.Fprintln(w)
	receiptsTable(w, []reconciler.Run{r.Run})
}

func (a *app) releaseCommand() *cobra.Command {
	return a.againCommand(&cobra.Command{
		Use: "release ENV", Short: "End a rollback: go on with the newest revision",
		Long: `End a rollback. The environment goes on with the newest revision of its source.
` + connectHelp + exitHelp,
		Example: "  holdfast release prod",
	}, (*api.Client).Release)
}

func (a *app) retryCommand() *cobra.Command {
	return a.againCommand(&cobra.Command{
		Use: "retry ENV", Short: "Try a revision again that was left because it did not get ready",
		Long: `Try a revision again that failed for good: one that was left because it did not get
ready in time.
` + connectHelp + exitHelp,
		Example: "  holdfast retry prod",
	}, (*api.Client).Retry)
}

func (a *app) deleteCommand() *cobra.Command {
	return a.againCommand(&cobra.Command{
		Use: "delete ENV", Short: "Let the objects go of an environment whose spec left git",
		Long: `Confirm that the objects of an environment are deleted whose spec left git. What is
protected, such as namespaces and volumes, waits for an approval of the plan that
the receipt names.
` + connectHelp + exitHelp,
		Example: "  holdfast delete preview-queue",
	}, (*api.Client).ConfirmRemoval)
}

// againCommand completes a verb that asks for a run of one environment.
func (a *app) againCommand(c *cobra.Command, call func(*api.Client, context.Context, string, api.ActorRequest) (api.Receipts, error)) *cobra.Command {
	var request api.ActorRequest
	var wait string
	c.Args = cobra.ExactArgs(1)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := a.checkFormat(); err != nil {
			return err
		}
		d, err := parseWait(wait, nil)
		if err != nil {
			return invalid(err)
		}
		client, err := a.connect()
		if err != nil {
			return err
		}
		receipts, err := call(client, c.Context(), args[0], request)
		if err != nil {
			return failed(err)
		}
		for i, run := range receipts.Runs {
			if d > 0 {
				if receipts.Runs[i], err = client.Run(c.Context(), run.ID, d); err != nil {
					return failed(err)
				}
			}
		}
		return a.printReceipts(receipts, d > 0)
	}
	c.Flags().StringVar(&wait, "wait", "60s", "how long to wait for the run; 0 for not at all")
	a.addAuthor(c, &request.Author)
	a.addFormat(c)
	a.addConnect(c)
	return c
}
