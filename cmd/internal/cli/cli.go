// Package cli is the command line: one file for each verb, printing, and exit
// codes.
//
// What a verb prints as JSON is the very struct that the API serves. Nothing is
// decided here: a verb asks the daemon, or runs the part of the daemon's path
// that needs no cluster.
package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-gitops/holdfast/cmd/internal/daemon"
)

// exitHelp is the end of every verb's help.
const exitHelp = `
Exit codes:
  0  clean
  1  error
  2  changes or drift
  3  invalid input`

// app is what the verbs share.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) string
	now            func() time.Time
	daemon         func(context.Context, daemon.Options) error
	// format is -o.
	format string
	// where the daemon is: --server, --token-file, --data-dir.
	server, tokenFile, dataDir string
}

// Main runs the command line and returns its exit code.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, env: os.Getenv, now: time.Now, daemon: daemon.Run}
	root := a.root()
	root.SetArgs(args)
	return a.report(root.ExecuteContext(ctx))
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "holdfast",
		Short: "Keeps clusters as git says they are",
		Long: `Holdfast follows git repositories, applies what they ask for, and puts back what
drifts.

Start with one folder of a repository and the cluster of your kubeconfig:

  holdfast run --repo https://example.org/shop.git --ref main --path deploy
` + exitHelp,
		SilenceUsage: true, SilenceErrors: true, SuggestionsMinimumDistance: 2,
		Args: knownVerb,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(a.runCommand(), a.statusCommand(), a.eventsCommand(), a.objectsCommand(), a.targetsCommand(), a.driftCommand(), a.sourcesCommand(), a.allowCommand(), a.historyCommand(), a.deliveryCommand(), a.ledgerCommand(), a.resyncCommand(), a.notifyCommand(), a.planCommand(), a.holdCommand(), a.unholdCommand(), a.rollbackCommand(), a.releaseCommand(), a.retryCommand(), a.deleteCommand(), a.validateCommand(), a.showCommand(), a.schemaCommand(), a.tokenCommand(), a.versionCommand())
	return root
}

// knownVerb refuses what is no verb, and says which was probably meant.
func knownVerb(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "`holdfast help` lists the verbs"
	if near := root.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return invalid(usage{fmt.Sprintf("there is no verb %q", args[0]), hint})
}
