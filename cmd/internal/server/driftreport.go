package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

func (s *Server) drift(w http.ResponseWriter, r *http.Request) {
	f := reconciler.Filter{Environment: r.PathValue("name")}
	if f.Environment != "" {
		if _, ok := s.opts.Engine.Environment(f.Environment); !ok || !callerOf(r).mayRead(f.Environment) {
			s.unknown(w, r, f.Environment)
			return
		}
	}
	s.answerCached(w, r, func(ctx context.Context) (any, any, *api.Problem) {
		report, err := s.driftReport(r.WithContext(ctx), f)
		if err != nil {
			return nil, nil, bad(err)
		}
		timeless := report
		timeless.At = time.Time{} // the same report a moment later is the same
		return report, timeless, nil
	})
}

// driftReport is what a query asks for.
func (s *Server) driftReport(r *http.Request, f reconciler.Filter) (reconciler.Report, error) {
	query := r.URL.Query()
	var err error
	if f.OpenOnly, err = flag(query, "open"); err != nil {
		return reconciler.Report{}, err
	}
	blame, err := flag(query, "blame")
	if err != nil {
		return reconciler.Report{}, err
	}
	since, err := duration(query.Get("since"), "since")
	if err == nil {
		err = selectionWords(query)
	}
	if err != nil {
		return reconciler.Report{}, err
	}
	report := s.report(f, since)
	if since > 0 {
		report = s.withEnded(r, report, f, s.opts.Now().Add(-since))
	}
	report = callerOf(r).readable(report)
	report = report.Select(s.selection(query))
	if err := grouped(&report, query); err != nil {
		return report, err
	}
	report.Episodes, report.Next, err = page(query, report.Episodes, 0, func(e drift.Episode) string { return e.ID })
	report.Episodes = orEmpty(report.Episodes)
	if blame && err == nil {
		report.Episodes = s.blamed(r.Context(), report.Episodes)
	}
	return report, err
}

// Blamer knows who wrote the lines that desired values come from.
type Blamer interface {
	// Blame gives the episodes with what can be found out of it in a moment. It
	// changes nothing of what it is given.
	Blame(ctx context.Context, episodes []drift.Episode) []drift.Episode
}

func (s *Server) blamed(ctx context.Context, episodes []drift.Episode) []drift.Episode {
	if s.opts.Blamer == nil || len(episodes) == 0 {
		return episodes
	}
	return s.opts.Blamer.Blame(ctx, episodes)
}

// selection is what of a report is asked for.
func (s *Server) selection(query url.Values) drift.Selection {
	out := drift.Selection{
		AtLeast: drift.Severity(query.Get("severity")), Class: drift.Class(query.Get("class")),
		Manager: query.Get("manager"), Kind: query.Get("kind"),
	}
	if names := s.labelledNames(query["label"]); names != nil {
		out.Environments = func(name string) bool { return slices.Contains(names, name) }
	}
	return out
}

// selectionWords checks the words that drift is chosen by.
func selectionWords(query url.Values) error {
	return errors.Join(oneOf(query, "severity", drift.Severities...), oneOf(query, "class", drift.Classes...))
}

// labelledNames are the environments that have all of some labels; nil where none
// is asked for.
func (s *Server) labelledNames(labels []string) []string {
	if len(labels) == 0 {
		return nil
	}
	names := []string{}
	for _, e := range s.opts.Engine.Environments() {
		if labelled(labels, e.Labels) {
			names = append(names, e.Name)
		}
	}
	return names
}

// grouped puts a report's episodes together, where that is asked for: then they
// are left out, unless expand is asked for, too.
func grouped(report *reconciler.Report, query url.Values) error {
	switch by := query.Get("group"); by {
	case "":
		return nil
	case "cause":
	default:
		return fmt.Errorf("an open report cannot be grouped by %q; there is: cause", by)
	}
	expand, err := flag(query, "expand")
	if err != nil {
		return err
	}
	*report = report.ByCause()
	if !expand {
		report.Episodes = []drift.Episode{}
	}
	return nil
}

// report is the engine's. Since is about what ended: an open drift shows
// whenever it was last looked at.
func (s *Server) report(f reconciler.Filter, since time.Duration) reconciler.Report {
	report := s.opts.Engine.Drift(f)
	if since > 0 {
		from := s.opts.Now().Add(-since)
		report.Episodes = slices.DeleteFunc(slices.Clone(report.Episodes), func(e drift.Episode) bool {
			return !e.Ended.IsZero() && e.Ended.Before(from)
		})
	}
	report.Episodes = orEmpty(report.Episodes)
	return report.Summed()
}
