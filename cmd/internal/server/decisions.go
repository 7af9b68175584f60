package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
	"github.com/holdfast-gitops/holdfast/sources"
)

// Decider carries out what people decide about environments.
type Decider interface {
	Hold(ctx context.Context, r reconciler.HoldRequest) ([]reconciler.Hold, error)
	EndHold(ctx context.Context, id string, until time.Time) (reconciler.Hold, error)
	Rollback(ctx context.Context, environment string, r reconciler.RollbackRequest) (reconciler.Run, reconciler.Plan, error)
	Release(ctx context.Context, environment, actor string) (reconciler.Run, error)
	Retry(ctx context.Context, environment, actor string) (reconciler.Run, error)
	// ConfirmRemoval lets the objects of an environment go that left git.
	ConfirmRemoval(ctx context.Context, environment, actor string) (reconciler.Run, error)
	// WaitReady returns how an environment stands when there is a verdict on its
	// health, or as it is when ctx ends.
	WaitReady(ctx context.Context, environment string) (reconciler.Status, error)
}

// Planner says what runs would do.
type Planner interface {
	Plan(ctx context.Context, environment, revision string) (reconciler.Plan, error)
	// PlanFiles plans with the files of an archive in the place of the source's.
	PlanFiles(ctx context.Context, environment string, archive io.Reader) (reconciler.Plan, error)
}

// archiveLimit bounds an archive of files that is sent to be planned.
const archiveLimit = 64 << 20

// planWait bounds how long a plan may take, rendering and dry runs included.
const planWait = 90 * time.Second

func (s *Server) decisionRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST "+api.PathHolds, s.hold)
	mux.HandleFunc("POST "+api.PathHolds+"/{id}/end", s.endHold)
	mux.HandleFunc("POST "+api.PathHolds+"/{id}/extend", s.extendHold)
	mux.HandleFunc("POST "+api.PathEnvironments+"/{name}/rollback", s.rollback)
	mux.HandleFunc("POST "+api.PathEnvironments+"/{name}/release", s.again(Decider.Release))
	mux.HandleFunc("POST "+api.PathEnvironments+"/{name}/retry", s.again(Decider.Retry))
	mux.HandleFunc("POST "+api.PathEnvironments+"/{name}/delete", s.again(Decider.ConfirmRemoval))
}

func (s *Server) planRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+api.PathEnvironments+"/{name}/plan", s.plan)
	mux.HandleFunc("POST "+api.PathEnvironments+"/{name}/plan", s.planFiles)
}

func (s *Server) hold(w http.ResponseWriter, r *http.Request) {
	var req api.HoldRequest
	if !s.body(w, r, &req) || !s.mayAll(w, r, req.Environments) || !s.allKnown(w, r, req.Environments) {
		return
	}
	until, err := api.End(s.opts.Now(), req.For, req.Until)
	if err == nil && until.IsZero() {
		err = errors.New("a hold needs an end: for or until")
	}
	if err != nil {
		writeProblem(w, r, badRequest(err))
		return
	}
	holds, err := s.opts.Decider.Hold(r.Context(), reconciler.HoldRequest{
		Environments: req.Environments, Object: req.Object, Until: until, Reason: req.Reason, Author: author(r, req.Author),
	})
	for i, h := range holds {
		if err != nil { // how much of it was done, the answer says
			break
		}
		a := ledger.Action{Actor: h.Author, Verb: "hold", Reason: h.Reason, Until: h.Until, Outcome: h.ID}
		if len(holds) == len(req.Environments) { // else it is on everything
			a.Environment = req.Environments[i]
		}
		if h.Object != nil {
			a.Subject = h.Object.String()
		}
		s.record(r, a)
	}
	s.answerHolds(w, r, holds, err)
}

func (s *Server) endHold(w http.ResponseWriter, r *http.Request) {
	s.changeHold(w, r, "unhold", func(api.HoldChange) (time.Time, error) { return time.Time{}, nil })
}

func (s *Server) extendHold(w http.ResponseWriter, r *http.Request) {
	s.changeHold(w, r, "extend", func(req api.HoldChange) (time.Time, error) {
		until, err := api.End(s.opts.Now(), req.For, req.Until)
		if err == nil && !until.After(s.opts.Now()) {
			err = errors.New("say for how long the hold goes on from now, or until when")
		}
		return until, err
	})
}

func (s *Server) changeHold(w http.ResponseWriter, r *http.Request, verb string, end func(api.HoldChange) (time.Time, error)) {
	var req api.HoldChange
	if !s.body(w, r, &req) || !s.mayHold(w, r, r.PathValue("id")) {
		return
	}
	until, err := end(req)
	if err != nil {
		writeProblem(w, r, badRequest(err))
		return
	}
	h, err := s.opts.Decider.EndHold(r.Context(), r.PathValue("id"), until)
	if err == nil {
		s.record(r, ledger.Action{Verb: verb, Subject: h.ID, Reason: h.Reason, Until: h.Until})
	}
	s.answerHolds(w, r, []reconciler.Hold{h}, err)
}

func (s *Server) answerHolds(w http.ResponseWriter, r *http.Request, holds []reconciler.Hold, err error) {
	if err != nil {
		s.refused(w, r, err)
		return
	}
	for _, h := range holds {
		s.decided(r, "hold").Str("hold", h.ID).Time("until", h.Until).Str("reason", h.Reason).Msg("decided")
	}
	writeJSON(w, r, http.StatusOK, api.Holds{Holds: orEmpty(holds)})
}

func (s *Server) rollback(w http.ResponseWriter, r *http.Request) {
	var req api.RollbackRequest
	name := r.PathValue("name")
	if !s.body(w, r, &req) || !s.allKnown(w, r, []string{name}) {
		return
	}
	until, err := api.End(s.opts.Now(), req.For, req.Until)
	if err != nil {
		writeProblem(w, r, badRequest(err))
		return
	}
	run, plan, err := s.opts.Decider.Rollback(r.Context(), name, reconciler.RollbackRequest{
		To: req.To, Until: until, Reason: req.Reason, Author: author(r, req.Author),
	})
	if err != nil {
		s.refused(w, r, err)
		return
	}
	s.record(r, ledger.Action{
		Actor: author(r, req.Author), Verb: "rollback", Environment: name, Subject: plan.Revision.Short(), Reason: req.Reason, Until: until, Outcome: run.ID,
	})
	s.decided(r, "rollback").Str("environment", name).Str("revision", plan.Revision.Short()).Str("run", run.ID).Msg("decided")
	writeJSON(w, r, http.StatusOK, api.Rollback{Run: run, Plan: plan})
}

// again is for what an environment is asked to do with no more than its name.
func (s *Server) again(do func(Decider, context.Context, string, string) (reconciler.Run, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req api.ActorRequest
		name := r.PathValue("name")
		if !s.body(w, r, &req) || !s.allKnown(w, r, []string{name}) {
			return
		}
		run, err := do(s.opts.Decider, r.Context(), name, author(r, req.Author))
		if err != nil {
			s.refused(w, r, err)
			return
		}
		s.record(r, ledger.Action{Actor: author(r, req.Author), Verb: path.Base(r.URL.Path), Environment: name, Outcome: run.ID})
		s.decided(r, "release").Str("environment", name).Str("run", run.ID).Str("path", r.URL.Path).Msg("decided")
		writeJSON(w, r, http.StatusOK, api.Receipts{Runs: []reconciler.Run{run}})
	}
}

func (s *Server) plan(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if !s.allKnown(w, r, []string{name}) {
		return
	}
	ctx, cancel := s.waiting(w, r, planWait)
	defer cancel()
	plan, err := s.opts.Planner.Plan(ctx, name, r.URL.Query().Get("revision"))
	s.answerPlan(w, r, plan, err)
}

// planFiles plans files that the caller sends. It changes nothing, but makes the
// daemon work and reads with its rights: so it is for those who may change.
func (s *Server) planFiles(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if !s.allKnown(w, r, []string{name}) {
		return
	}
	ctx, cancel := s.waiting(w, r, planWait)
	defer cancel()
	plan, err := s.opts.Planner.PlanFiles(ctx, name, r.Body)
	s.answerPlan(w, r, plan, err)
}

func (s *Server) answerPlan(w http.ResponseWriter, r *http.Request, plan reconciler.Plan, err error) {
	if err != nil {
		s.refused(w, r, err)
		return
	}
	plan.Operations = orEmpty(plan.Operations)
	writeJSON(w, r, http.StatusOK, plan)
}

// refused answers for something that could not be done.
func (s *Server) refused(w http.ResponseWriter, r *http.Request, err error) {
	p := api.Problem{Status: http.StatusConflict, Detail: err.Error()}
	var problems sources.Problems
	if errors.As(err, &problems) || errors.As(err, new(sources.Problem)) {
		p.Problems = sources.ProblemsOf(err)
		p.Status = http.StatusUnprocessableEntity
	}
	if errors.As(err, new(*http.MaxBytesError)) {
		p = badRequest(err)
	}
	writeProblem(w, r, p)
}

// author is who decides: what the caller is known as, and who it says it is.
func author(r *http.Request, claimed string) string {
	claimed = strings.Join(strings.Fields(claimed), " ")
	if len(claimed) > maxAuthor {
		claimed = claimed[:maxAuthor]
	}
	if claimed == "" {
		return actor(r)
	}
	return claimed + " (" + actor(r) + ")"
}

// maxAuthor bounds what a caller may call itself.
const maxAuthor = 80

// decided begins the log line of a decision.
func (s *Server) decided(r *http.Request, verb string) *zerolog.Event {
	return s.opts.Logger.Info().Str("request", requestID(r)).Str("actor", actor(r)).Str("remote", r.RemoteAddr).Str("verb", verb)
}

// allKnown answers for the first environment that there is not, or that the caller
// may not change.
func (s *Server) allKnown(w http.ResponseWriter, r *http.Request, names []string) bool {
	if len(names) > 0 && !s.mayAll(w, r, names) {
		return false
	}
	for _, name := range names {
		if _, ok := s.opts.Engine.Environment(name); !ok || !callerOf(r).mayRead(name) {
			s.unknown(w, r, name)
			return false
		}
	}
	return true
}

// body reads a JSON body; none at all is that of zero values.
func (s *Server) body(w http.ResponseWriter, r *http.Request, into any) bool {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil || errors.Is(err, io.EOF) {
		return true
	}
	p := badRequest(err)
	if p.Status == http.StatusBadRequest {
		p.Detail = fmt.Sprintf("the body is not what is asked for here: %v", err)
	}
	writeProblem(w, r, p)
	return false
}
