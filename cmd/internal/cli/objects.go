package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

func (a *app) objectsCommand() *cobra.Command {
	var q api.ObjectsQuery
	var all bool
	c := &cobra.Command{
		Use: "objects ENV [OBJECT]", Short: "Show the objects of an environment, and how each stands",
		Long: `Show the objects of an environment: where each was written down, whether it is as
git says, whether it works, and when it was last applied, where that is on record.

With an object, show what its target made of it, read now: of a Deployment its
ReplicaSets and their pods, with health, reason and restarts.

Ends with 2 when an object that is shown is not as git says, and with 1 when one
failed, or no daemon answers.
` + connectHelp + exitHelp,
		Example: "  holdfast objects prod\n  holdfast objects prod Deployment/shop/web\n  holdfast objects prod --sync drifted\n  holdfast objects prod --kind Deployment --health failed -o json",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			client, err := a.connect()
			if err != nil {
				return err
			}
			if len(args) == 2 {
				return a.objectTree(c.Context(), client, args[0], args[1])
			}
			return a.objects(c.Context(), client, args[0], q, all)
		},
	}
	f := c.Flags()
	f.StringVar(&q.Kind, "kind", "", "only this kind, as in Deployment or Role.rbac.authorization.k8s.io")
	f.StringVarP(&q.Namespace, "namespace", "n", "", "only this namespace")
	f.StringVar(&q.Name, "name", "", "only names with this in them")
	f.StringVar(&q.Sync, "sync", "", "only those that stand so: synced, drifted, waits, failed, unwanted, unknown")
	f.StringVar(&q.Health, "health", "", "only those that work so: ready, progressing, failed, unknown")
	f.IntVar(&q.Limit, "limit", 0, "how many; default 500")
	f.StringVar(&q.Page.Page, "page", "", "go on where a page ended")
	f.BoolVar(&all, "all", false, "all pages")
	a.addFormat(c)
	a.addConnect(c)
	return c
}

func (a *app) objects(ctx context.Context, client *api.Client, name string, q api.ObjectsQuery, all bool) error {
	out, err := client.Objects(ctx, name, q)
	for err == nil && all && out.Next != "" {
		q.Page.Page = out.Next
		var more api.Objects
		more, err = client.Objects(ctx, name, q)
		out.Objects, out.Next = append(out.Objects, more.Objects...), more.Next
	}
	if err != nil {
		return failed(err)
	}
	if err := a.print(out, func(w io.Writer) { a.objectsTable(w, out) }); err != nil {
		return failed(err)
	}
	return exit(objectsCode(out.Objects))
}

func objectsCode(all []reconciler.Object) int {
	code := exitClean
	for _, o := range all {
		switch {
		case o.Sync == reconciler.ObjectFailed || o.Health == reconciler.HealthFailed:
			return exitError
		case o.Sync != reconciler.ObjectSynced:
			code = exitChanges
		}
	}
	return code
}

func (a *app) objectsTable(w io.Writer, out api.Objects) {
	rows := make([][]string, len(out.Objects))
	for i, o := range out.Objects {
		rows[i] = []string{
			cell(o.Object.String(), 100), string(o.Sync), orDash(string(o.Health)), orDash(cell(o.Origin.String(), 80)), a.ago(o.LastApplied), cell(objectWhy(o), 100),
		}
	}
	printTable(w, []string{"object", "sync", "health", "from", "applied", "why"}, rows)
	if out.Next != "" {
		fmt.Fprintf(w, "\n%d of %d; --page %s goes on, --all shows all\n", len(out.Objects), out.Total, cell(out.Next, 200))
	}
}

// objectWhy is what is wrong with an object.
func objectWhy(o reconciler.Object) string {
	var parts []string
	for _, text := range []string{o.Why, o.RootCause} {
		if text != "" {
			parts = append(parts, text)
		}
	}
	if o.RootCause == "" && o.Unready != "" {
		parts = append(parts, o.Unready)
	}
	return strings.Join(parts, "; ")
}
