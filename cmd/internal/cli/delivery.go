package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
)

func (a *app) deliveryCommand() *cobra.Command {
	since := span(30 * 24 * time.Hour)
	c := &cobra.Command{
		Use: "delivery [ENV]", Short: "Measure how changes get into environments",
		Long: `Show how often each environment was deployed to, how long commits took until they
worked there, which share of the deployments failed, and how long it took until
the environment worked again. With an environment, also its single deployments.
All of it comes from the runs on record.
` + connectHelp + exitHelp,
		Example: "  holdfast delivery\n  holdfast delivery prod --since 90d\n  holdfast delivery --since 7d -o json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			client, err := a.connect()
			if err != nil {
				return err
			}
			environment := ""
			if len(args) == 1 {
				environment = args[0]
			}
			return a.delivery(c.Context(), client, environment, time.Duration(since))
		},
	}
	c.Flags().Var(&since, "since", "leave out deployments that are longer ago: 12h, 7d")
	a.addFormat(c)
	a.addConnect(c)
	return c
}

func (a *app) delivery(ctx context.Context, client *api.Client, environment string, since time.Duration) error {
	d, err := client.Delivery(ctx, environment, since)
	if err != nil {
		return failed(err)
	}
	return a.print(d, func(w io.Writer) { deliveryTable(w, d) })
}

func deliveryTable(w io.Writer, d ledger.Delivery) {
	if d.All.Deployments == 0 {
		fmt.Fprintln(w, "no deployments on record since "+moment(d.Since))
		return
	}
	all := d.Environments
	if len(all) > 1 {
		sum := d.All
		sum.Environment = "all"
		all = append(all[:len(all):len(all)], sum)
	}
	rows := make([][]string, len(all))
	for i, m := range all {
		rows[i] = []string{
			cell(m.Environment, 40), strconv.Itoa(m.Deployments), strconv.FormatFloat(m.PerDay, 'f', 2, 64), orUnknown(m.LeadMedian), orUnknown(m.LeadMax),
			share(m.FailureRate), orUnknown(m.RestoreMedian), notRestored(m), lastOf(m),
		}
	}
	printTable(w, []string{"environment", "deployments", "a day", "commit to ready", "at most", "failed", "to restore", "not restored", "last"}, rows)
	if d.Cut {
		fmt.Fprintln(w, "there is more on record than was looked at: ask for one environment")
	}
	if len(d.Deployments) > 0 {
		fmt.Fprintln(w)
		printDeployments(w, d.Deployments)
	}
}

func printDeployments(w io.Writer, all []ledger.Deployment) {
	rows := make([][]string, len(all))
	for i, d := range all {
		ready := "–"
		if d.Ready != nil {
			ready = "after " + lasted(d.Ready.Sub(d.At))
		}
		rows[i] = []string{moment(d.At), cell(shortID(d.Revision), 20), strconv.Itoa(d.Commits), orUnknown(d.Lead), ready, orDash(d.Failed), d.Run}
	}
	printTable(w, []string{"deployed", "revision", "commits", "oldest took", "ready", "failed", "run"}, rows)
}

func shortID(revision string) string {
	if len(revision) > 12 {
		return revision[:12]
	}
	return revision
}

func orUnknown(seconds *float64) string {
	if seconds == nil {
		return "–"
	}
	return lasted(time.Duration(*seconds * float64(time.Second)))
}

func share(rate *float64) string {
	if rate == nil {
		return "–"
	}
	return strconv.FormatFloat(*rate*100, 'f', 0, 64) + " %"
}

func notRestored(m ledger.Measures) string { return strconv.Itoa(m.Failed - m.Restored) }

func lastOf(m ledger.Measures) string {
	if m.Last == nil {
		return "–"
	}
	return moment(*m.Last)
}
