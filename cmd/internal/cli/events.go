package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
)

func (a *app) eventsCommand() *cobra.Command {
	var q api.EventsQuery
	c := &cobra.Command{
		Use: "events [ENV...]", Short: "Follow what changes",
		Long: `Follow what changes, until it is interrupted: how environments stand, runs, drift,
sources, and what people ask for. Environments may be patterns, as in prod-*.

A daemon that restarts is waited for. Where events were lost, an event reset says
so. With -o json each event is one line.

The types are: ` + typeList() + `.
What they begin with before the dot does as well.
` + connectHelp + exitHelp,
		Example: "  holdfast events\n  holdfast events prod --type drift --type run.ended\n  holdfast events -o json | jq .environment",
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			client, err := a.connect()
			if err != nil {
				return err
			}
			q.Environments = args
			return a.follow(c.Context(), client, q, a.printEvent)
		},
	}
	c.Flags().StringArrayVar(&q.Types, "type", nil, "only events of this type; may be given several times")
	c.Flags().StringVar(&q.After, "after", "", "go on after the event with this id")
	a.addFormat(c)
	a.addConnect(c)
	return c
}

func typeList() string {
	names := make([]string, len(api.EventTypes))
	for i, t := range api.EventTypes {
		names[i] = string(t)
	}
	return strings.Join(names, ", ")
}

// comeBack is how long a daemon is left alone that does not answer.
const comeBack = 2 * time.Second

// ended carries what each said out of the stream.
type ended struct{ error }

// follow calls each for every event until ctx ends. A daemon that went away is
// waited for; one that never answered is an error.
func (a *app) follow(ctx context.Context, client *api.Client, q api.EventsQuery, each func(api.Event) error) error {
	for answered, away := false, false; ; {
		err := client.Events(ctx, q, func(e api.Event) error {
			q.After, answered, away = e.ID, true, false
			if err := each(e); err != nil {
				return ended{err}
			}
			return nil
		})
		var out ended
		var p api.Problem
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &out):
			return out.error
		case errors.As(err, &p) && (p.Status != http.StatusServiceUnavailable || !answered), err != nil && !answered:
			return failed(err)
		case err != nil && !away:
			away = true
			fmt.Fprintf(a.stderr, "the daemon has gone (%v); waiting for it\n", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(comeBack):
		}
	}
}

// printEvent writes one event, on one line where that is for people or jq.
func (a *app) printEvent(e api.Event) error {
	var err error
	switch a.format {
	case "json":
		var data []byte
		if data, err = json.Marshal(e); err == nil {
			_, err = fmt.Fprintf(a.stdout, "%s\n", data)
		}
	case "yaml":
		var data []byte
		if data, err = yaml.Marshal(e); err == nil {
			_, err = fmt.Fprintf(a.stdout, "---\n%s", data)
		}
	default:
		if e.Type != api.EventHello {
			_, err = fmt.Fprintf(a.stdout, "%s  %-16s  %-20s  %s\n", e.At.UTC().Format("15:04:05Z"), e.Type, orDash(cell(e.Environment, 40)), eventText(e))
		}
	}
	if err != nil {
		return failed(err)
	}
	return nil
}

// eventText is what an event says, on one line.
func eventText(e api.Event) string {
	switch {
	case e.Type == api.EventReset:
		return "events were lost: the daemon was restarted, or was away for long"
	case e.Status != nil:
		s := e.Status
		text := fmt.Sprintf("%s, %s, %s", s.Sync, orDash(string(s.Health)), orDash(cell(s.Applied.Short(), 40)))
		if s.OpenDrifts > 0 {
			text += fmt.Sprintf(", %d open drifts", s.OpenDrifts)
		}
		if s.Gates > 0 {
			text += fmt.Sprintf(", %d gates", s.Gates)
		}
		return text
	case e.Run != nil && e.Type == api.EventRunBegan:
		return fmt.Sprintf("%s, by %s", e.Run.ID, asker(e.Run.Trigger))
	case e.Run != nil:
		text := fmt.Sprintf("%s %s, %s, %.3fs", e.Run.ID, e.Run.Result, orNothing(api.CountsText(e.Run.Counts)), e.Run.Seconds)
		if len(e.Run.Errors) > 0 {
			text += ": " + cell(e.Run.Errors[0].Error(), 160)
		}
		return text
	case e.Drift != nil:
		return driftEventText(*e.Drift)
	case e.Source != nil:
		s := e.Source
		text := fmt.Sprintf("%s at %s", cell(s.Name, 40), orDash(cell(s.Revision.Short(), 40)))
		if s.Failing {
			text += ", failing"
		}
		if s.Held != "" {
			text += ", held " + cell(s.Held, 80)
		}
		return text
	case e.Action != nil:
		return actionEventText(*e.Action)
	}
	return ""
}

func driftEventText(d api.DriftBrief) string {
	text := fmt.Sprintf("%s %s", cell(d.Object.String(), 120), d.Class)
	if len(d.Fields) > 0 && d.Fields[0] != "" {
		text += " " + cell(d.Fields[0], 80)
	}
	if more := len(d.Fields) - 1 + d.MoreFields; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	if d.Manager != "" {
		text += " by " + cell(d.Manager, 60)
	}
	return text + ", " + string(d.State)
}

func actionEventText(r ledger.Action) string {
	text := fmt.Sprintf("%s: %s", cell(r.Actor, 60), r.Verb)
	for _, more := range []string{r.Subject, r.Outcome, r.Reason} {
		if more != "" {
			text += ", " + cell(more, 120)
		}
	}
	return text
}

// settle is how long changes are waited for that belong together.
const settle = 200 * time.Millisecond

// watch shows how things stand, and again whenever that changes, until ctx ends.
// Its error is that of the last show.
func (a *app) watch(ctx context.Context, client *api.Client, q api.EventsQuery, show func() error) error {
	var last error
	news := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	followed := make(chan error, 1)
	go func() {
		defer cancel()
		followed <- a.follow(ctx, client, q, func(api.Event) error {
			select {
			case news <- struct{}{}:
			default:
			}
			return nil
		})
	}()
	for first := true; ; first = false {
		select {
		case <-ctx.Done():
			if err := <-followed; err != nil {
				return err
			}
			return last
		case <-news:
		}
		if !first {
			select {
			case <-ctx.Done():
				continue
			case <-time.After(settle):
			}
		}
		switch {
		case isTerminal(a.stdout):
			fmt.Fprint(a.stdout, "\x1b[H\x1b[2J") // from the top of an empty screen
		case !first && a.format == "yaml":
			fmt.Fprintln(a.stdout, "---")
		case !first && a.format == "table":
			fmt.Fprintf(a.stdout, "\n%s\n", a.now().UTC().Format(time.RFC3339))
		}
		last = show()
		var o outcome
		switch {
		case !errors.As(last, &o) || o.err == nil:
		case first:
			return last
		default: // it may come back
			fmt.Fprintln(a.stderr, o.err)
		}
	}
}
