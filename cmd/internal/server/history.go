package server

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
)

// historyRoutes adds what the ledger answers.
func (s *Server) historyRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+api.PathRuns, s.runs)
	mux.HandleFunc("GET "+api.PathDriftHistory, s.driftHistory)
	mux.HandleFunc("GET "+api.PathSeries, s.series)
	mux.HandleFunc("GET "+api.PathDelivery, s.delivery)
	mux.HandleFunc("GET "+api.PathActions, s.actions)
	mux.HandleFunc("GET "+api.PathLedger, s.ledgerStats)
	mux.HandleFunc("POST "+api.PathLedgerCheck, s.ledgerCheck)
	mux.HandleFunc("POST "+api.PathLedgerBackup, s.ledgerBackup)
}

// record notes what a caller asked for, and tells those who follow.
func (s *Server) record(r *http.Request, a ledger.Action) {
	a.At, a.Request = s.opts.Now(), requestID(r)
	if a.Actor == "" {
		a.Actor = actor(r)
	}
	if s.opts.Ledger != nil {
		s.opts.Ledger.Record(a)
	}
	if s.opts.Events != nil {
		s.opts.Events.Acted(a)
	}
}

// ledgerProblem is why nothing can be recorded now.
func (s *Server) ledgerProblem() string {
	if s.opts.Ledger == nil {
		return ""
	}
	return s.opts.Ledger.Stats().Problem
}

// history is the query of a call, with the ledger; it answers itself if it
// cannot be.
func (s *Server) history(w http.ResponseWriter, r *http.Request) (q historyQuery, ok bool) {
	if s.opts.Ledger == nil {
		writeProblem(w, r, api.Problem{Status: http.StatusServiceUnavailable, Detail: "this daemon keeps no ledger"})
		return q, false
	}
	q, err := readHistoryQuery(r.URL.Query(), s.opts.Now())
	if err != nil {
		writeProblem(w, r, badRequest(err))
		return q, false
	}
	return q, true
}

// historyQuery is what all queries of the ledger share.
type historyQuery struct {
	since time.Time
	limit int
}

func readHistoryQuery(query url.Values, now time.Time) (historyQuery, error) {
	var q historyQuery
	if text := query.Get("since"); text != "" {
		span, err := api.ParseSpan(text)
		if err != nil {
			return q, fmt.Errorf("since must be a duration such as 12h or 7d, and is %q", text)
		}
		q.since = now.Add(-span)
	}
	if text := query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > ledger.MaxLimit {
			return q, fmt.Errorf("limit must be a number from 1 to %d, and is %q", ledger.MaxLimit, text)
		}
		q.limit = n
	}
	return q, nil
}

// answer writes what the ledger says, or why it says nothing.
func answer(w http.ResponseWriter, r *http.Request, v any, err error) {
	switch {
	case err == nil:
		writeJSON(w, r, http.StatusOK, v)
	case errors.As(err, new(ledger.BadQuery)):
		writeProblem(w, r, badRequest(err))
	case errors.Is(err, ledger.ErrNotFound):
		writeProblem(w, r, api.Problem{Status: http.StatusNotFound, Detail: err.Error(), Hint: "records are deleted by age and size"})
	case errors.Is(err, ledger.ErrSlow):
		writeProblem(w, r, api.Problem{Status: http.StatusServiceUnavailable, Detail: err.Error(), Hint: "ask for a shorter time with since, or for one environment"})
	default:
		writeProblem(w, r, api.Problem{
			Status: http.StatusServiceUnavailable, Detail: err.Error(),
			Hint: "reconciling goes on without it; `holdfast ledger check` looks into the file",
		})
	}
}

func (s *Server) runs(w http.ResponseWriter, r *http.Request) {
	q, ok := s.history(w, r)
	if !ok {
		return
	}
	query := r.URL.Query()
	if err := runWords(query); err != nil {
		writeProblem(w, r, badRequest(err))
		return
	}
	page, err := s.opts.Ledger.Runs(r.Context(), ledger.RunQuery{
		Environment: query.Get("environment"), Among: callerOf(r).among(), Object: query.Get("object"), Before: pageOf(query),
		Result: reconciler.Result(query.Get("result")), Reason: query.Get("reason"), Since: q.since, Limit: q.limit,
	})
	answer(w, r, page, err)
}

// runWords checks the words that runs are chosen by.
func runWords(query url.Values) error {
	err := oneOf(query, "result", reconciler.Applied, reconciler.Partial, reconciler.Unchanged, reconciler.Held, reconciler.Failed, reconciler.Superseded)
	if err != nil {
		return err
	}
	return oneOf(query, "reason", reasonWords...)
}

// reasonWords are what makes runs happen.
var reasonWords = []string{
	reconciler.ReasonOnCall.String(), reconciler.ReasonWebhook.String(), reconciler.ReasonDrift.String(), reconciler.ReasonPoll.String(), reconciler.ReasonTimer.String(),
}

// detailed is a run with what it changed, which memory may have forgotten.
func (s *Server) detailed(r *http.Request, run reconciler.Run) reconciler.Run {
	c := run.Counts
	if s.opts.Ledger == nil || len(run.Changes) > 0 || c.Created+c.Updated+c.Corrected+c.Adopted+c.Deleted+c.Failed == 0 {
		return run
	}
	// Without a record the run stays as it is: its counts are true.
	if recorded, err := s.opts.Ledger.FindRun(r.Context(), run.ID); err == nil {
		return recorded
	}
	return run
}

func (s *Server) actions(w http.ResponseWriter, r *http.Request) {
	q, ok := s.history(w, r)
	if !ok {
		return
	}
	query := r.URL.Query()
	page, err := s.opts.Ledger.Actions(r.Context(), ledger.ActionQuery{
		Environment: query.Get("environment"), Among: callerOf(r).among(), Before: pageOf(query), Since: q.since, Limit: q.limit,
	})
	answer(w, r, page, err)
}

func (s *Server) driftHistory(w http.ResponseWriter, r *http.Request) {
	q, ok := s.history(w, r)
	if !ok {
		return
	}
	query := r.URL.Query()
	by := ledger.Grouping(query.Get("group"))
	if by != "" && !slices.Contains(ledger.Groupings, by) {
		writeProblem(w, r, badRequest(fmt.Errorf("drift cannot be grouped by %q; there are: %s", by, join(ledger.Groupings))))
		return
	}
	episodes := ledger.EpisodeQuery{
		Environment: query.Get("environment"), Among: callerOf(r).among(), Manager: query.Get("manager"), Kind: query.Get("kind"),
		Object: query.Get("object"), Before: pageOf(query), Since: q.since, Limit: q.limit,
		Class: drift.Class(query.Get("class")), AtLeast: drift.Severity(query.Get("severity")), Only: s.labelledNames(query["label"]),
	}
	if err := selectionWords(query); err != nil {
		writeProblem(w, r, badRequest(err))
		return
	}
	page, err := s.opts.Ledger.Episodes(r.Context(), episodes)
	if err != nil {
		answer(w, r, nil, err)
		return
	}
	sum, err := s.opts.Ledger.Summary(r.Context(), episodes, by)
	answer(w, r, api.DriftHistory{Summary: sum, Episodes: page.Episodes, Next: page.Next}, err)
}

func join[T ~string](all []T) string {
	texts := make([]string, len(all))
	for i, t := range all {
		texts[i] = string(t)
	}
	return strings.Join(texts, ", ")
}

// maxEnded bounds how many ended drifts of the ledger a report holds.
const maxEnded = ledger.MaxLimit

// withEnded adds to a report what ended in an earlier life of the daemon.
func (s *Server) withEnded(r *http.Request, report reconciler.Report, f reconciler.Filter, from time.Time) reconciler.Report {
	if s.opts.Ledger == nil || f.OpenOnly || from.IsZero() {
		return report
	}
	page, err := s.opts.Ledger.Episodes(r.Context(), ledger.EpisodeQuery{
		Environment: f.Environment, Since: from, EndedOnly: true, Limit: maxEnded,
	})
	if err != nil { // the report is about what drifts now, which needs no ledger
		s.opts.Logger.Debug().Err(err).Msg("ended drift of the ledger is left out")
		return report
	}
	known := map[string]bool{}
	for _, e := range report.Episodes {
		known[e.ID] = true
	}
	for _, e := range page.Episodes {
		if !known[e.ID] {
			report.Episodes = append(report.Episodes, e)
		}
	}
	slices.SortStableFunc(report.Episodes, func(a, b drift.Episode) int {
		switch {
		case a.Ended.IsZero() != b.Ended.IsZero():
			if a.Ended.IsZero() {
				return -1
			}
			return 1
		}
		return b.LastSeen.Compare(a.LastSeen)
	})
	return report
}

func (s *Server) ledgerStats(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.history(w, r); ok {
		writeJSON(w, r, http.StatusOK, s.opts.Ledger.Stats())
	}
}

func (s *Server) ledgerCheck(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.history(w, r); !ok {
		return
	}
	if !s.heavy.TryLock() {
		writeProblem(w, r, busy)
		return
	}
	defer s.heavy.Unlock()
	s.unhurried(w)
	s.record(r, ledger.Action{Verb: "ledger-check"})
	report, err := s.opts.Ledger.Check(r.Context())
	answer(w, r, report, err)
}

// busy answers a second caller of what loads the disk.
var busy = api.Problem{Status: http.StatusConflict, Detail: "the ledger is being checked or copied already", Hint: "try again when that has ended"}

func (s *Server) ledgerBackup(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.history(w, r); !ok {
		return
	}
	if !s.heavy.TryLock() {
		writeProblem(w, r, busy)
		return
	}
	defer s.heavy.Unlock()
	s.unhurried(w)
	s.record(r, ledger.Action{Verb: "ledger-backup"})
	out := &backupAnswer{ResponseWriter: w}
	err := s.opts.Ledger.Backup(r.Context(), out)
	switch {
	case err == nil:
	case !out.began:
		answer(w, r, nil, err)
	default:
		s.opts.Logger.Warn().Err(err).Str("request", requestID(r)).Msg("backup of the ledger broke off")
		panic(http.ErrAbortHandler) // what was sent must not look whole
	}
}

// backupAnswer says what is coming before the first byte.
type backupAnswer struct {
	http.ResponseWriter
	began bool
}

// Write sends a part of the file.
func (b *backupAnswer) Write(p []byte) (int, error) {
	if !b.began {
		b.began = true
		b.Header().Set("Content-Type", api.LedgerType)
		b.Header().Set("Content-Disposition", `attachment; filename="`+ledger.FileName+`"`)
	}
	return b.ResponseWriter.Write(p)
}

// unhurried puts off the connection's deadlines for what takes long.
func (s *Server) unhurried(w http.ResponseWriter) {
	c := http.NewResponseController(w)
	// Both fail only where there is no connection, as in tests of a handler.
	_ = c.SetReadDeadline(time.Time{})
	_ = c.SetWriteDeadline(time.Now().Add(15 * time.Minute))
}

// pageOf is where a page of records begins; before is another word for it.
func pageOf(query url.Values) string { return cmp.Or(query.Get("page"), query.Get("before")) }
