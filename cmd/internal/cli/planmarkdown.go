package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/holdfast-gitops/holdfast/reconciler"
)

// planMarkdown is a plan as a comment on a pull request.
func planMarkdown(w io.Writer, p reconciler.Plan) {
	fmt.Fprintf(w, "### %s at %s\n\n%s\n\n", inline(p.Environment), inline(orNothing(p.Revision.Short())), planSummary(p))
	for _, g := range p.Gates {
		fmt.Fprintf(w, "- gate: %s\n", inline(g.Why))
	}
	rows := false
	for _, op := range p.Operations {
		if op.Kind == reconciler.OpUnchanged {
			continue
		}
		if !rows {
			fmt.Fprint(w, "\n| object | field | live now | last applied | after |\n| --- | --- | --- | --- | --- |\n")
			rows = true
		}
		planRows(w, op)
	}
	fmt.Fprintln(w)
}

func planRows(w io.Writer, op reconciler.Operation) {
	title := fmt.Sprintf("**%s** %s", op.Kind, inline(op.Object.String()))
	for _, text := range []string{op.Held, op.Error} {
		if text != "" {
			title += "<br>" + inline(text)
		}
	}
	if len(op.Changes) == 0 {
		fmt.Fprintf(w, "| %s | | | | |\n", title)
		return
	}
	for i, c := range op.Changes {
		if i > 0 {
			title = ""
		}
		live := code(c.Live.String())
		if c.Overwrites {
			live += " ⚠ by " + inline(c.Manager)
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", title, code(c.Path), live, code(appliedOf(c)), code(c.Desired.String()))
	}
}

// inline makes text harmless in a cell of a Markdown table.
func inline(s string) string {
	return strings.NewReplacer("|", "\\|", "<", "&lt;", ">", "&gt;", "`", "'", "\n", " ", "[", "\\[", "*", "\\*", "_", "\\_", "@", "@\u200b").Replace(cell(s, 300))
}

// code is text as code in a cell of a Markdown table.
func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + strings.NewReplacer("|", "\\|", "`", "'").Replace(cell(s, 120)) + "`"
}
