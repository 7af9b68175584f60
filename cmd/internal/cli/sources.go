package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
)

func (a *app) sourcesCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "sources [SOURCE]", Short: "Show how the sources stand",
		Long: `Show how the sources stand: what is in force, when they last answered, what is
wrong, and what is held because history was rewritten.

Ends with 2 when a revision of a source is held, and with 1 when a source fails,
or no daemon answers.
` + connectHelp + exitHelp,
		Example: "  holdfast sources\n  holdfast sources shop\n  holdfast sources -o json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			client, err := a.connect()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return a.sourceOne(c.Context(), client, args[0])
			}
			return a.sourcesAll(c.Context(), client)
		},
	}
	a.addFormat(c)
	a.addConnect(c)
	return c
}

func (a *app) sourcesAll(ctx context.Context, client *api.Client) error {
	all, err := client.Sources(ctx)
	if err != nil {
		return failed(err)
	}
	if err := a.print(all, func(w io.Writer) { a.sourcesTable(w, all.Sources) }); err != nil {
		return failed(err)
	}
	return exit(sourcesCode(all.Sources...))
}

func (a *app) sourceOne(ctx context.Context, client *api.Client, name string) error {
	s, err := client.Source(ctx, name)
	if err != nil {
		return failed(err)
	}
	return a.printSource(s)
}

func (a *app) printSource(s api.Source) error {
	if err := a.print(s, func(w io.Writer) { a.sourceDetail(w, s) }); err != nil {
		return failed(err)
	}
	return exit(sourcesCode(s))
}

// sourcesCode is the worst of the sources' exit codes.
func sourcesCode(all ...api.Source) int {
	code := exitClean
	for _, s := range all {
		switch {
		case s.Held != nil:
			code = max(code, exitChanges)
		case len(s.Errors) > 0:
			return exitError
		}
	}
	return code
}

func (a *app) sourcesTable(w io.Writer, all []api.Source) {
	rows := make([][]string, len(all))
	for i, s := range all {
		rows[i] = []string{
			s.Name, sourceWord(s), revisionOrNone(s.Revision.Short()), cell(s.Revision.Subject, 50),
			a.ago(s.LastListing), a.ago(s.LastFetch), cell(s.URL, 70),
		}
	}
	printTable(w, []string{"source", "state", "revision", "subject", "listed", "fetched", "url"}, rows)
	for _, s := range all {
		if len(s.Errors) > 0 || s.Held != nil {
			fmt.Fprintf(w, "\n%s:\n", s.Name)
			printSourceTroubles(w, s)
		}
	}
}

func sourceWord(s api.Source) string {
	switch {
	case s.Held != nil:
		return "held"
	case len(s.Errors) > 0:
		return "failed"
	case s.Revision.ID == "":
		return "pending"
	}
	return "ok"
}

func revisionOrNone(short string) string {
	if short == "" {
		return "–"
	}
	return cell(short, 40)
}

func (a *app) ago(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return api.Age(a.now(), t) + " ago"
}

func printSourceTroubles(w io.Writer, s api.Source) {
	if h := s.Held; h != nil {
		fmt.Fprintf(w, "  held: %s  %s\n", cell(h.To.ID, 80), cell(h.To.Subject, 80))
		fmt.Fprintf(w, "  in force: %s  %s\n", cell(h.From.ID, 80), cell(h.From.Subject, 80))
	}
	printProblems(w, "  error: ", s.Errors)
}

func (a *app) sourceDetail(w io.Writer, s api.Source) {
	rows := [][]string{
		{"source", s.Name}, {"state", sourceWord(s)}, {"kind", s.Kind}, {"url", cell(s.URL, 200)},
		{"ref", revisionOrNone(s.Ref)}, {"revision", revisionLine(s.Revision)},
	}
	if s.MovedTo != "" {
		rows = append(rows, []string{"moved to", cell(s.MovedTo, 200)})
	}
	if page := commitPage(s); page != "" {
		rows = append(rows, []string{"page", cell(page, 300)})
	}
	if s.Revision.Signer != "" {
		rows = append(rows, []string{"signed by", cell(s.Revision.Signer, 160)})
	}
	if s.Head.ID != "" {
		rows = append(rows, []string{"head", revisionLine(s.Head)})
	}
	rows = append(rows, []string{"listed", a.ago(s.LastListing)}, []string{"fetched", a.fetched(s)})
	if s.MirrorBytes > 0 {
		rows = append(rows, []string{"kept", sizeText(s.MirrorBytes)})
	}
	if s.Failures > 0 {
		rows = append(rows, []string{"failures", strconv.Itoa(s.Failures) + " in a row"})
	}
	if !s.NextTry.IsZero() {
		rows = append(rows, []string{"next look", "in " + s.NextTry.Sub(a.now()).Round(time.Second).String() + ", every " + s.Interval})
	}
	if len(s.Errors) == 0 && s.LastError != "" {
		rows = append(rows, []string{"last error", a.ago(s.LastErrorAt) + ": " + cell(s.LastError, 300)})
	}
	for _, r := range rows {
		fmt.Fprintf(w, "%-12s %s\n", r[0], r[1])
	}
	for i, c := range s.Commits {
		rows := []string{"", revisionLine(c)}
		if i == 0 {
			rows[0] = "brought"
		}
		fmt.Fprintf(w, "%-12s %s\n", rows[0], rows[1])
	}
	printSourceTroubles(w, s)
}

// commitPage is where the revision in force can be looked at; empty where no web
// page is known.
func commitPage(s api.Source) string {
	if s.Web == nil || s.Revision.ID == "" {
		return ""
	}
	return strings.ReplaceAll(s.Web.Commit, "{commit}", s.Revision.ID)
}

func (a *app) fetched(s api.Source) string {
	if s.LastFetch.IsZero() {
		return "–"
	}
	return fmt.Sprintf("%s, %s in %.3fs", a.ago(s.LastFetch), sizeText(s.FetchBytes), s.FetchSeconds)
}

// sizeText is a number of bytes as people say it.
func sizeText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

func (a *app) allowCommand() *cobra.Command {
	var req api.AllowRequest
	c := &cobra.Command{
		Use: "allow SOURCE REVISION", Short: "Let a revision through that rewrites history",
		Long: `Let a revision of a source through that is held, because it does not descend from
the one in force. The revision is its full id, as holdfast sources shows it, so
that nothing else is let through. Who allowed it, and why, is recorded.
` + connectHelp + exitHelp,
		Example: `  holdfast allow shop 1f2e3d4c5b6a79801f2e3d4c5b6a79801f2e3d4c --reason "history was cleaned of a secret"`,
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			if strings.TrimSpace(req.Reason) == "" {
				return invalid(usage{"a reason is missing", `say why with --reason "…"`})
			}
			client, err := a.connect()
			if err != nil {
				return err
			}
			req.Revision = args[1]
			s, err := client.Allow(c.Context(), args[0], req)
			if err != nil {
				return failed(err)
			}
			return a.printSource(s)
		},
	}
	c.Flags().StringVar(&req.Reason, "reason", "", "why it is let through; needed")
	a.addAuthor(c, &req.Author)
	a.addFormat(c)
	a.addConnect(c)
	return c
}
