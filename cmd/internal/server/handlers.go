package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/cmd/internal/tracing"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
)

// Handler answers callers; trusted ones need no token.
func (s *Server) Handler(trusted bool) http.Handler {
	if !trusted {
		return s.untrusted(s.opts.Listen)
	}
	return s.envelope("socket", s.withAudit(s.withWebhooks(s.routes())))
}

// untrusted is for callers over TCP at an address.
func (s *Server) untrusted(listen string) http.Handler {
	return s.envelope("token", s.withAudit(s.withWebhooks(s.guard(newHostNames(listen, s.hosts()), s.routes()))))
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.PathEnvironments, s.environments)
	mux.HandleFunc("GET "+api.PathEnvironments+"/{name}", s.environment)
	mux.HandleFunc("GET "+api.PathEnvironments+"/{name}/drift", s.drift)
	mux.HandleFunc("GET "+api.PathDrift, s.drift)
	mux.HandleFunc("GET "+api.PathLastResync, s.lastResync)
	mux.HandleFunc("GET "+api.PathRuns+"/{id}", s.run)
	mux.HandleFunc("POST "+api.PathEnvironments+"/{name}/resync", s.resync)
	mux.HandleFunc("POST "+api.PathResync, s.resync)
	if s.opts.Decider != nil {
		s.decisionRoutes(mux)
	}
	if s.opts.Drifts != nil {
		s.driftRoutes(mux)
	}
	if s.opts.Planner != nil {
		s.planRoutes(mux)
	}
	if s.opts.Sources != nil {
		s.sourceRoutes(mux)
	}
	if s.opts.Notifications != nil {
		mux.HandleFunc("POST "+api.PathNotifyTest, s.testNotifications)
	}
	if s.opts.Events != nil {
		s.eventRoutes(mux)
	}
	if s.opts.Lists != nil {
		s.listRoutes(mux)
	}
	s.historyRoutes(mux)
	mux.HandleFunc("GET "+api.PathOpenAPI, openAPI)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", s.ready)
	if s.opts.Metrics != nil {
		mux.Handle("GET /metrics", s.opts.Metrics)
	}
	s.pages(mux)
	mux.HandleFunc("/", notFound)

	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, r, api.Problem{Status: http.StatusForbidden, Detail: "a page of another site may not call this"})
	}))
	return cross.Handler(mux)
}

func notFound(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/api/") && r.Method != http.MethodGet && r.Method != http.MethodPost {
		writeProblem(w, r, api.Problem{Status: http.StatusMethodNotAllowed, Detail: "the API knows GET and POST"})
		return
	}
	writeProblem(w, r, api.Problem{Status: http.StatusNotFound, Detail: "there is nothing at " + r.Method + " " + r.URL.Path})
}

func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if s.opts.Ready != nil {
		if err := s.opts.Ready(); err != nil {
			writeProblem(w, r, api.Problem{Status: http.StatusServiceUnavailable, Detail: err.Error()})
			return
		}
	}
	io.WriteString(w, "ok\n")
}

// orEmpty makes a list that is encoded as [], never as null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (s *Server) environment(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if !s.mayKnow(w, r, name) {
		return
	}
	s.answerCached(w, r, func(context.Context) (any, any, *api.Problem) {
		status, ok := s.opts.Engine.Environment(name)
		if !ok {
			return nil, nil, s.noEnvironment(callerOf(r), name)
		}
		return status, nil, nil
	})
}

// unknown answers for an environment that there is not, and names those there are.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request, name string) {
	writeProblem(w, r, *s.noEnvironment(callerOf(r), name))
}

func (s *Server) noEnvironment(who caller, name string) *api.Problem {
	known := []string{}
	for _, e := range s.opts.Engine.Environments() {
		if who.mayRead(e.Name) {
			known = append(known, e.Name)
		}
	}
	hint := "there are: " + strings.Join(known, ", ")
	if len(known) == 0 {
		hint = "there is none yet"
	}
	return &api.Problem{
		Status: http.StatusNotFound, Detail: fmt.Sprintf("there is no environment %q", name), Hint: hint, Known: known,
	}
}

func (s *Server) lastResync(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, r, http.StatusOK, api.Receipts{Runs: orEmpty(callerOf(r).readableRuns(s.opts.Engine.LastResync()))})
}

func (s *Server) run(w http.ResponseWriter, r *http.Request) {
	wait, err := waitOf(r.URL.Query().Get("wait"))
	if err != nil {
		writeProblem(w, r, badRequest(err))
		return
	}
	ctx, cancel := s.waiting(w, r, wait)
	defer cancel()
	id := r.PathValue("id")
	run, err := s.opts.Engine.Wait(ctx, id)
	who := callerOf(r)
	switch {
	case err == nil && !who.mayRead(run.Environment):
		answer(w, r, nil, fmt.Errorf("run %q: %w", id, ledger.ErrNotFound))
	case err == nil:
		writeJSON(w, r, http.StatusOK, s.detailed(r, run))
	case s.opts.Ledger == nil:
		writeProblem(w, r, api.Problem{Status: http.StatusNotFound, Detail: err.Error()})
	default:
		run, err = s.opts.Ledger.FindRun(r.Context(), id)
		if err == nil && !who.mayRead(run.Environment) {
			err = fmt.Errorf("run %q: %w", id, ledger.ErrNotFound)
		}
		answer(w, r, run, err)
	}
}

// waiting is a context that ends when the wait does. The connection's own
// deadlines are for answers that wait for nothing, and are put off.
func (s *Server) waiting(w http.ResponseWriter, r *http.Request, wait time.Duration) (context.Context, context.CancelFunc) {
	if wait > 0 {
		c := http.NewResponseController(w)
		// Both fail only where there is no connection, as in tests of a handler.
		_ = c.SetReadDeadline(time.Time{})
		_ = c.SetWriteDeadline(time.Now().Add(wait + writeTimeout))
	}
	return context.WithTimeout(r.Context(), wait)
}

func (s *Server) resync(w http.ResponseWriter, r *http.Request) {
	req, err := resyncRequest(r)
	if err != nil {
		writeProblem(w, r, badRequest(err))
		return
	}
	wait, err := waitOf(req.Wait)
	if err != nil {
		writeProblem(w, r, badRequest(err))
		return
	}
	if !s.mayAll(w, r, req.Environments) || !s.allKnown(w, r, req.Environments) {
		return
	}
	runs, err := s.opts.Engine.Resync(req.Environments, reconciler.Trigger{
		Reason: reconciler.ReasonOnCall, Actor: actor(r), Verify: req.Verify, Fetch: true, Approve: req.Approve,
		Through: req.Through, Because: req.Reason,
		Origin: &reconciler.Origin{Parent: tracing.ValidParent(r.Header.Get("traceparent")), Asked: s.opts.Now()},
	})
	if err != nil { // an environment may have gone since it was looked up
		writeProblem(w, r, api.Problem{Status: http.StatusConflict, Detail: err.Error()})
		return
	}
	s.logResync(r, req, runs)
	s.recordResync(r, req, runs)
	s.answerRuns(w, r, runs, wait, req.Until == "ready")
}

func (s *Server) logResync(r *http.Request, req api.ResyncRequest, runs []reconciler.Run) {
	ids := make([]string, len(runs))
	for i, run := range runs {
		ids[i] = run.ID
	}
	s.opts.Logger.Info().Str("request", requestID(r)).Str("actor", actor(r)).Str("remote", r.RemoteAddr).
		Strs("environments", req.Environments).Bool("verify", req.Verify).Str("approve", req.Approve).Strs("runs", ids).Msg("resync asked for")
}

// recordResync keeps who asked for what.
func (s *Server) recordResync(r *http.Request, req api.ResyncRequest, runs []reconciler.Run) {
	var what []string
	if req.Approve != "" {
		what = append(what, "approve "+req.Approve)
	}
	if req.Verify {
		what = append(what, "verify")
	}
	if len(req.Through) > 0 {
		what = append(what, "through "+strings.Join(req.Through, " "))
	}
	for _, run := range runs {
		s.record(r, ledger.Action{Verb: "resync", Environment: run.Environment, Subject: strings.Join(what, ", "), Reason: req.Reason, Outcome: run.ID})
	}
}

// answerRuns waits for the runs, where asked for also until all works, and
// answers 200 if all ended, else 202.
func (s *Server) answerRuns(w http.ResponseWriter, r *http.Request, runs []reconciler.Run, wait time.Duration, untilReady bool) {
	status := http.StatusOK
	ctx, cancel := s.waiting(w, r, wait)
	defer cancel()
	for i, run := range runs {
		if wait > 0 {
			// An error means that the run is forgotten already: the receipt stays
			// as it was.
			if now, err := s.opts.Engine.Wait(ctx, run.ID); err == nil {
				runs[i] = now
			}
		}
		if wait > 0 && untilReady && s.opts.Decider != nil {
			if now, err := s.opts.Decider.WaitReady(ctx, run.Environment); err == nil {
				runs[i].Health, runs[i].Unready = now.Health, now.Unready
			}
			if h := runs[i].Health; h == reconciler.HealthProgressing {
				status = http.StatusAccepted
			}
		}
		if runs[i].Result == reconciler.Pending {
			status = http.StatusAccepted
		}
	}
	writeJSON(w, r, status, api.Receipts{Runs: orEmpty(runs)})
}

// resyncRequest reads the query, the body and the path.
func resyncRequest(r *http.Request) (api.ResyncRequest, error) {
	var req api.ResyncRequest
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return req, err
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil && media == "application/json" && len(data) > 0 {
		dec := json.NewDecoder(strings.NewReader(string(data)))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&req); err != nil {
			return req, fmt.Errorf("the body is no resync request: %w", err)
		}
	}
	query := r.URL.Query()
	req.Environments = append(req.Environments, query["environment"]...)
	verify, err := flag(query, "verify")
	if err != nil {
		return req, err
	}
	req.Verify = req.Verify || verify
	if approve := query.Get("approve"); approve != "" {
		req.Approve = approve
	}
	req.Through = append(req.Through, query["through"]...)
	req.Reason = cmp.Or(query.Get("reason"), req.Reason)
	req.Until = cmp.Or(query.Get("until"), req.Until)
	switch {
	case len(req.Through) > 0 && strings.TrimSpace(req.Reason) == "":
		return req, errors.New("passing a hold needs a reason, which others will read")
	case req.Until != "" && req.Until != "applied" && req.Until != "ready":
		return req, fmt.Errorf("until must be applied or ready, and is %q", req.Until)
	}
	if wait := query.Get("wait"); wait != "" {
		req.Wait = wait
	}
	if name := r.PathValue("name"); name != "" {
		req.Environments = []string{name}
	}
	slices.Sort(req.Environments)
	req.Environments = slices.Compact(req.Environments)
	if len(req.Environments) == 0 {
		req.Environments = nil // to the engine nil means all, and an empty list none
	}
	return req, nil
}

func badRequest(err error) api.Problem {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return api.Problem{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("the body is larger than %d bytes", large.Limit)}
	}
	return api.Problem{Status: http.StatusBadRequest, Detail: err.Error()}
}

// flag is a boolean parameter: ?open, ?open=true and ?open=1 are true.
func flag(query url.Values, name string) (bool, error) {
	if !query.Has(name) || query.Get(name) == "" {
		return query.Has(name), nil
	}
	v, err := strconv.ParseBool(query.Get(name))
	if err != nil {
		return false, fmt.Errorf("%s must be true or false, and is %q", name, query.Get(name))
	}
	return v, nil
}

// waitOf reads how long to wait; what is longer than allowed waits as long as
// allowed.
func waitOf(text string) (time.Duration, error) {
	d, err := duration(text, "wait")
	return min(d, api.MaxWait), err
}

func duration(text, name string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := api.ParseSpan(text)
	if err != nil {
		return 0, fmt.Errorf("%s must be a duration such as 60s, and is %q", name, text)
	}
	return d, nil
}
