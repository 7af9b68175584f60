package cli

import (
	"cmp"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
)

func (a *app) notifyCommand() *cobra.Command {
	c := &cobra.Command{Use: "notify", Short: "Test the receivers of notifications", Args: cobra.NoArgs}
	c.AddCommand(a.notifyTestCommand())
	return c
}

func (a *app) notifyTestCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "test [RECEIVER]", Short: "Send a test to one receiver, or to all",
		Long: `Have the daemon send a test to one receiver of its configuration, or to all, and
say what came of it. Routes and quiet hours do not count.
` + connectHelp + exitHelp,
		Example: "  holdfast notify test\n  holdfast notify test chat",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			client, err := a.connect()
			if err != nil {
				return err
			}
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			out, err := client.TestNotifications(c.Context(), name)
			if err != nil {
				return failed(err)
			}
			if err := a.print(out, func(w io.Writer) { outcomesTable(w, out) }); err != nil {
				return err
			}
			return notifyVerdict(out)
		},
	}
	a.addFormat(c)
	a.addConnect(c)
	return c
}

// notifyVerdict is an error where a receiver took nothing.
func notifyVerdict(out api.NotifyOutcomes) error {
	bad := 0
	for _, o := range out.Outcomes {
		if o.Error != "" {
			bad++
		}
	}
	switch {
	case len(out.Outcomes) == 0:
		return failed(usage{"the daemon has no receivers", "add notifications.receivers to its file"})
	case bad > 0:
		return failed(fmt.Errorf("%d of %d receivers did not take the test", bad, len(out.Outcomes)))
	}
	return nil
}

func outcomesTable(w io.Writer, out api.NotifyOutcomes) {
	for _, o := range out.Outcomes {
		fmt.Fprintf(w, "%-24s %-14s %s\n", o.Receiver, o.Kind, cmp.Or(o.Error, "sent"))
	}
}
