package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// objectTree prints an object and what belongs to it.
func (a *app) objectTree(ctx context.Context, client *api.Client, environment, object string) error {
	if _, err := sources.ParseID(object); err != nil {
		return invalid(err)
	}
	out, err := client.ObjectTree(ctx, environment, object)
	if err != nil {
		return failed(err)
	}
	if err := a.print(out, func(w io.Writer) { a.treeTable(w, out) }); err != nil {
		return failed(err)
	}
	if out.Health == reconciler.HealthFailed || hasFailed(out.Parts) {
		return exit(exitError)
	}
	return nil
}

func hasFailed(parts []reconciler.Part) bool {
	for _, p := range parts {
		if p.Health == reconciler.HealthFailed || hasFailed(p.Parts) {
			return true
		}
	}
	return false
}

func (a *app) treeTable(w io.Writer, out api.ObjectTree) {
	var rows [][]string
	var add func(p reconciler.Part, depth int)
	add = func(p reconciler.Part, depth int) {
		rows = append(rows, []string{
			strings.Repeat("  ", depth) + cell(p.Object.String(), 100), orDash(string(p.Health)), strconv.Itoa(p.Restarts),
			a.ago(p.Created), orDash(cell(p.Where, 60)), cell(p.Why, 200),
		})
		for _, child := range p.Parts {
			add(child, depth+1)
		}
	}
	add(out.Part, 0)
	printTable(w, []string{"object", "health", "restarts", "made", "on", "why"}, rows)
	if out.Cut {
		fmt.Fprintln(w, "\nthere is more than is listed")
	}
	for _, p := range out.Problems {
		fmt.Fprintf(w, "\nnot all could be read: %s\n", cell(p, 300))
	}
}
