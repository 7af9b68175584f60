package cli

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// plans is what plan prints.
type plans struct {
	Plans []reconciler.Plan `json:"plans"`
}

func (a *app) planCommand() *cobra.Command {
	var ref, dir string
	c := &cobra.Command{
		Use: "plan [ENV...]", Short: "Show what a run would change, without changing anything",
		Long: `Show what a run of the named environments, or of all, would change: at head, at a
ref or commit of the source, or with the files of a local directory. Nothing is
written, for certain: differences are found out by reading and by dry runs.

Of each field that would change it shows what is live now, what was last applied,
and what it will be. A change that somebody else made since the last apply, and
that the run would overwrite, is marked with an exclamation mark.

Ends with 2 when anything would change, with 1 when something could not be found
out.
` + connectHelp + exitHelp,
		Example: "  holdfast plan prod\n  holdfast plan prod --ref feature/new-queue -o markdown\n  holdfast plan prod --dir . -o json",
		RunE: func(c *cobra.Command, args []string) error {
			if a.format != "markdown" {
				if err := a.checkFormat(); err != nil {
					return err
				}
			}
			if ref != "" && dir != "" {
				return invalid(usage{"--ref and --dir exclude each other", "a directory has no refs"})
			}
			client, err := a.connect()
			if err != nil {
				return err
			}
			out, err := askPlans(c.Context(), client, args, ref, dir)
			if err != nil {
				return failed(err)
			}
			if err := a.printPlans(out); err != nil {
				return failed(err)
			}
			return exit(plansCode(out))
		},
	}
	c.Flags().StringVar(&ref, "ref", "", "a branch, tag or commit of the environment's source")
	c.Flags().StringVar(&dir, "dir", "", "a local directory in the place of the source's repository")
	a.addFormat(c)
	c.Flags().Lookup("output").Usage += ", markdown"
	a.addConnect(c)
	return c
}

func askPlans(ctx context.Context, client *api.Client, names []string, ref, dir string) (plans, error) {
	out := plans{Plans: []reconciler.Plan{}}
	if len(names) == 0 {
		all, err := client.Environments(ctx)
		if err != nil {
			return out, err
		}
		for _, e := range all.Environments {
			names = append(names, e.Name)
		}
	}
	for _, name := range names {
		var plan reconciler.Plan
		var err error
		if dir != "" {
			archive := archiveOf(dir)
			plan, err = client.PlanFiles(ctx, name, archive)
			archive.Close() // an error of the reading shows as one of the call
		} else {
			plan, err = client.Plan(ctx, name, ref)
		}
		if err != nil {
			return out, fmt.Errorf("plan %s: %w", name, err)
		}
		out.Plans = append(out.Plans, plan)
	}
	return out, nil
}

func plansCode(p plans) int {
	code := exitClean
	for _, plan := range p.Plans {
		for _, op := range plan.Operations {
			switch {
			case op.Error != "":
				return exitError
			case op.Kind != reconciler.OpUnchanged:
				code = exitChanges
			}
		}
	}
	return code
}

func (a *app) printPlans(p plans) error {
	if a.format == "markdown" {
		for _, plan := range p.Plans {
			planMarkdown(a.stdout, plan)
		}
		return nil
	}
	return a.print(p, func(w io.Writer) {
		for i, plan := range p.Plans {
			if i > 0 {
				fmt.Fprintln(w)
			}
			planText(w, plan)
		}
	})
}

// planText is a plan for people.
func planText(w io.Writer, p reconciler.Plan) {
	fmt.Fprintf(w, "%s at %s: %s\n", p.Environment, orNothing(p.Revision.Short()), planSummary(p))
	for _, g := range p.Gates {
		fmt.Fprintf(w, "  gate: %s\n", printable(g.Why))
	}
	for _, op := range p.Operations {
		if op.Kind == reconciler.OpUnchanged {
			continue
		}
		fmt.Fprintf(w, "\n%s %s%s\n", op.Kind, printable(op.Object.String()), placeOf(op))
		if op.Held != "" {
			fmt.Fprintf(w, "  held: %s\n", printable(op.Held))
		}
		if op.Error != "" {
			fmt.Fprintf(w, "  error: %s\n", printable(op.Error))
		}
		if len(op.Changes) > 0 {
			changesTable(w, op.Changes)
		}
	}
	if p.Hash != "" {
		fmt.Fprintf(w, "\nplan %s\n", p.Hash)
	}
}

func placeOf(op reconciler.Operation) string {
	text := ""
	if op.Why != "" {
		text = ": " + printable(op.Why)
	}
	if op.Origin.File != "" {
		text += " (" + printable(op.Origin.String()) + ")"
	}
	return text
}

func changesTable(w io.Writer, changes []drift.Change) {
	rows := make([][]string, len(changes))
	for i, c := range changes {
		mark := ""
		if c.Overwrites {
			mark = "! " + c.Manager
		}
		rows[i] = []string{"", cell(c.Path, 80), cell(c.Live.String(), maxCell), cell(appliedOf(c), maxCell), cell(c.Desired.String(), maxCell), cell(mark, 40)}
	}
	printTable(w, []string{"", "field", "live now", "last applied", "after", ""}, rows)
}

func appliedOf(c drift.Change) string {
	if c.Applied == nil {
		return "–"
	}
	return c.Applied.String()
}

func planSummary(p reconciler.Plan) string {
	count := map[reconciler.OpKind]int{}
	var kinds []reconciler.OpKind
	for _, op := range p.Operations {
		if op.Kind == reconciler.OpUnchanged {
			continue
		}
		if count[op.Kind] == 0 {
			kinds = append(kinds, op.Kind)
		}
		count[op.Kind]++
	}
	slices.Sort(kinds)
	text := ""
	for _, k := range kinds {
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("%d to %s", count[k], k)
	}
	if text == "" {
		return "nothing would change"
	}
	return text
}
