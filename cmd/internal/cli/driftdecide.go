package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// aDrift reads the arguments of a verb that is about one object's drift, and
// connects.
func (a *app) aDrift(args []string) (client *api.Client, environment string, id sources.ID, err error) {
	if err := a.checkFormat(); err != nil {
		return nil, "", id, err
	}
	if id, err = sources.ParseID(args[1]); err != nil {
		return nil, "", id, invalid(usage{err.Error(), "`holdfast drift` names the objects"})
	}
	client, err = a.connect()
	return client, args[0], id, err
}

func (a *app) revertCommand() *cobra.Command {
	var request api.RevertRequest
	c := &cobra.Command{
		Use: "revert ENV OBJECT", Short: "Put an object's drift back now, once",
		Long: `Put an object's drift back now, once, whatever mode, rule, decision or fight leaves
it. What was accepted of it counts no more. Holds and mode plan keep it.
` + connectHelp + exitHelp,
		Example: "  holdfast drift revert prod Deployment/shop/web --reason 'scaled by mistake'",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			client, environment, id, err := a.aDrift(args)
			if err != nil {
				return err
			}
			request.Object = &id
			receipts, err := client.Revert(c.Context(), environment, request)
			if err != nil {
				return failed(err)
			}
			for i, run := range receipts.Runs {
				if run, err = client.Run(c.Context(), run.ID, time.Minute); err == nil {
					receipts.Runs[i] = run
				}
			}
			if err := a.print(receipts, func(w io.Writer) { revertedTable(w, receipts.Runs, id) }); err != nil {
				return failed(err)
			}
			return exit(resultsCode(receipts.Runs, true))
		},
	}
	c.Flags().StringVar(&request.Reason, "reason", "", "why, for others to read")
	a.addAuthor(c, &request.Author)
	a.addFormat(c)
	a.addConnect(c)
	return c
}

func revertedTable(w io.Writer, runs []reconciler.Run, id sources.ID) {
	for _, run := range runs {
		fmt.Fprintf(w, "%s: %s, %d corrected, %s\n", printable(run.Environment), run.ID, run.Counts.Corrected, run.Result)
		if run.Counts.Corrected == 0 && run.Result != reconciler.Pending {
			fmt.Fprintf(w, "%s was not put back; `holdfast drift %s` says why\n", id, run.Environment)
		}
		if len(run.Errors) > 0 {
			fmt.Fprintln(w, printable(run.Errors.Error()))
		}
	}
}

func (a *app) acceptCommand() *cobra.Command {
	var request api.AcceptRequest
	var until string
	c := &cobra.Command{
		Use: "accept ENV OBJECT", Short: "Leave drift as it is until a time",
		Long: `Leave an object's drift, or that of one of its fields, as it is until a time. Until
then it is folded away in reports, and no correction and no revision touches it.
Then it counts as any other. What is to stay for good belongs into git: see codify.
` + connectHelp + exitHelp,
		Example: "  holdfast drift accept prod Deployment/shop/web --field .spec.replicas --for 72h --reason 'sale until Monday'\n  holdfast drift accept prod ConfigMap/shop/flags --until 2026-12-01 --reason 'known'",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if until != "" {
				t, err := readTime(until)
				if err != nil {
					return invalid(err)
				}
				request.Until = t
			}
			switch {
			case until == "" && request.For == "":
				return invalid(usage{"accepting drift needs an end", "write --for 72h, or --until 2026-12-01"})
			case request.Reason == "":
				return invalid(usage{"accepting drift needs a reason, which others will read", "write --reason '…'"})
			}
			client, environment, id, err := a.aDrift(args)
			if err != nil {
				return err
			}
			request.Object = &id
			d, err := client.Accept(c.Context(), environment, request)
			if err != nil {
				return failed(err)
			}
			return a.print(d, func(w io.Writer) {
				what := id.String()
				if d.Path != "" {
					what += " " + d.Path
				}
				fmt.Fprintf(w, "%s is accepted until %s (%s)\n", printable(what), d.Until.UTC().Format(time.RFC3339), d.ID)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&request.Field, "field", "", "only this field, as the report writes it")
	f.StringVar(&until, "until", "", "a time, such as 2026-12-01 or 2026-12-01T18:00:00Z")
	f.StringVar(&request.For, "for", "", "how long, such as 72h")
	f.StringVar(&request.Reason, "reason", "", "why, for others to read")
	a.addAuthor(c, &request.Author)
	a.addFormat(c)
	a.addConnect(c)
	return c
}

// readTime reads a day, which ends as it begins in UTC, or a time.
func readTime(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usage{fmt.Sprintf("%q is no time", text), "write 2026-12-01 or 2026-12-01T18:00:00Z"}
}

func (a *app) ignoreCommand() *cobra.Command {
	var field string
	c := &cobra.Command{
		Use: "ignore ENV OBJECT", Short: "Print the rule that leaves a drift alone, to be committed",
		Long: `Print the narrowest rules that leave an object's drift, or that of one field, alone
for good. They count when they are committed to the environment's spec.
` + connectHelp + exitHelp,
		Example: "  holdfast drift ignore prod Deployment/shop/web --field .spec.replicas",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			client, environment, id, err := a.aDrift(args)
			if err != nil {
				return err
			}
			rules, err := client.IgnoreRules(c.Context(), environment, id.String(), field)
			if err != nil {
				return failed(err)
			}
			return a.print(rules, func(w io.Writer) {
				fmt.Fprintln(w, "# Add to the environment's spec:\ndrift:\n  rules:")
				for _, r := range rules.Rules {
					fmt.Fprintln(w, "    - "+printable(r))
				}
			})
		},
	}
	c.Flags().StringVar(&field, "field", "", "only this field, as the report writes it")
	a.addFormat(c)
	a.addConnect(c)
	return c
}

func (a *app) codifyCommand() *cobra.Command {
	var request api.ProposeRequest
	c := &cobra.Command{
		Use: "codify ENV OBJECT", Short: "Print, or push, the change of the source by which git says what is live",
		Long: `Print a unified diff of the source by which git says what is live: apply it with
git apply, and open a pull request. It is printed only if rendering before and after
proves that exactly these fields of this object move, and nothing else; otherwise
this says why not. Nothing is written anywhere. It never looks at secrets.

With --branch, the daemon makes a commit of it on top of what is followed and pushes
that as a new branch, if its configuration allows branches of that name. It forces
nothing, and who decided it and why is in the commit and on record.
` + connectHelp + exitHelp,
		Example: "  holdfast drift codify prod Deployment/shop/web --field .spec.replicas | git apply\n  holdfast drift codify prod Deployment/shop/web --branch holdfast/web --reason 'the sale goes on'",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if request.Branch != "" && strings.TrimSpace(request.Reason) == "" {
				return invalid(usage{"pushing a branch needs a reason, which others will read", "write --reason '…'"})
			}
			client, environment, id, err := a.aDrift(args)
			if err != nil {
				return err
			}
			if request.Branch != "" {
				request.Object = &id
				return a.propose(c.Context(), client, environment, request)
			}
			patch, err := client.Codify(c.Context(), environment, id.String(), request.Field)
			if err != nil {
				return failed(err)
			}
			return a.print(patch, func(w io.Writer) {
				// A patch has to keep its bytes, but for what moves the cursor.
				io.WriteString(w, strings.ReplaceAll(patch.Diff, "\x1b", "\ufffd"))
			})
		},
	}
	f := c.Flags()
	f.StringVar(&request.Field, "field", "", "only this field, as the report writes it")
	f.StringVar(&request.Branch, "branch", "", "push the change as a new branch of this name")
	f.StringVar(&request.Reason, "reason", "", "why, for others to read; needed with --branch")
	a.addAuthor(c, &request.Author)
	a.addFormat(c)
	a.addConnect(c)
	return c
}

func (a *app) propose(ctx context.Context, client *api.Client, environment string, r api.ProposeRequest) error {
	pushed, err := client.Propose(ctx, environment, r)
	if err != nil {
		return failed(err)
	}
	return a.print(pushed, func(w io.Writer) {
		fmt.Fprintf(w, "pushed %s as %s\n", pushed.Commit, printable(pushed.Branch))
		if pushed.PullRequest != "" {
			fmt.Fprintf(w, "to have it merged: %s\n", printable(pushed.PullRequest))
		}
	})
}
