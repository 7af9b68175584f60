package cli

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/sources"
)

// addAuthor adds the flag that says who decides.
func (a *app) addAuthor(c *cobra.Command, into *string) {
	c.Flags().StringVar(into, "author", cmp.Or(a.env("HOLDFAST_AUTHOR"), a.env("USER")), "who decides this, for others to read")
}

func (a *app) holdCommand() *cobra.Command {
	var request api.HoldRequest
	var everything bool
	var object, extend string
	c := &cobra.Command{
		Use: "hold [ENV...]", Short: "Stop changes for a while; drift is still found and shown",
		Long: `Stop every change of the named environments, of one object of an environment, or
with --all of everything, until a time. Detection goes on: drift is reported, and
put back when the hold ends. A hold outlives restarts and lost disks, since it is
kept in the cluster.

Without the API, an annotation on the environment's parent object does the same:
  kubectl annotate configmap -n holdfast-system holdfast-prod holdfast.dev/hold-until=2026-01-31T18:00:00Z
` + connectHelp + exitHelp,
		Example: "  holdfast hold prod --for 2h --reason 'looking into the queue'\n  holdfast hold prod --object Deployment/shop/web --for 30m --reason 'scaled by hand'\n  holdfast hold --all --for 1h --reason 'network maintenance'\n  holdfast hold --extend hold-1f2e3d4c --for 1h",
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			request.Environments = args
			if err := checkHold(&request, args, object, extend, everything); err != nil {
				return invalid(err)
			}
			client, err := a.connect()
			if err != nil {
				return err
			}
			var holds api.Holds
			if extend != "" {
				holds, err = client.ExtendHold(c.Context(), extend, api.HoldChange{For: request.For, Author: request.Author})
			} else {
				holds, err = client.Hold(c.Context(), request)
			}
			if err != nil {
				return failed(err)
			}
			return a.print(holds, func(w io.Writer) { holdsTable(w, holds, args) })
		},
	}
	f := c.Flags()
	f.StringVar(&request.For, "for", "", "how long, such as 90m or 2h")
	f.StringVar(&request.Reason, "reason", "", "why, for others to read")
	f.StringVar(&object, "object", "", "hold only this object, such as Deployment/shop/web")
	f.BoolVar(&everything, "all", false, "hold everything, also environments that come later")
	f.StringVar(&extend, "extend", "", "let this hold go on, for --for from now")
	a.addAuthor(c, &request.Author)
	a.addFormat(c)
	a.addConnect(c)
	return c
}

func checkHold(r *api.HoldRequest, args []string, object, extend string, everything bool) error {
	switch {
	case r.For == "":
		return usage{"a hold needs an end", "write --for 2h"}
	case extend != "" && (len(args) > 0 || everything || object != ""):
		return usage{"--extend is about the hold that it names alone", "leave out the environments"}
	case extend != "":
		return nil
	case len(args) == 0 && !everything:
		return usage{"nothing is named to hold", "name environments, or write --all"}
	case len(args) > 0 && everything:
		return usage{"--all holds everything", "leave out the environments, or --all"}
	case r.Reason == "":
		return usage{"a hold needs a reason, which others will read", "write --reason '…'"}
	}
	if object != "" {
		id, err := sources.ParseID(object)
		if err != nil {
			return usage{err.Error(), ""}
		}
		r.Object = &id
	}
	return nil
}

func holdsTable(w io.Writer, holds api.Holds, environments []string) {
	rows := make([][]string, len(holds.Holds))
	for i, h := range holds.Holds {
		what := "everything"
		if i < len(environments) {
			what = environments[i]
		}
		if h.Object != nil {
			what += " " + h.Object.String()
		}
		rows[i] = []string{h.ID, cell(what, 80), h.Until.UTC().Format(time.RFC3339), cell(h.Author, 40), cell(h.Reason, 60)}
	}
	printTable(w, []string{"hold", "what", "until", "by", "reason"}, rows)
}

func (a *app) unholdCommand() *cobra.Command {
	var request api.HoldChange
	c := &cobra.Command{
		Use: "unhold HOLD", Short: "End a hold now; what drifted meanwhile is put back",
		Long: `End a hold before its time. Its id is in the output of hold and of status. What
drifted meanwhile is put back, and what waited is applied.
` + connectHelp + exitHelp,
		Example: "  holdfast unhold hold-1f2e3d4c",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			client, err := a.connect()
			if err != nil {
				return err
			}
			holds, err := client.EndHold(c.Context(), args[0], request)
			if err != nil {
				return failed(err)
			}
			return a.print(holds, func(w io.Writer) { fmt.Fprintf(w, "hold %s has ended\n", printable(args[0])) })
		},
	}
	a.addAuthor(c, &request.Author)
	a.addFormat(c)
	a.addConnect(c)
	return c
}
