package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/codify"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
	"github.com/holdfast-gitops/holdfast/sources"
)

// Drifts carries out what people decide about single drifts.
type Drifts interface {
	// Revert puts an object's drift back once.
	Revert(ctx context.Context, environment string, object sources.ID, actor string) (reconciler.Run, error)
	// Accept leaves drift as it is for a time.
	Accept(ctx context.Context, environment string, r reconciler.AcceptRequest) (drift.Decision, error)
	// IgnoreRules are the narrowest rules that leave drift alone for good.
	IgnoreRules(environment string, object sources.ID, path string) ([]string, error)
	// Codify is the change of the source by which git says what is live.
	Codify(ctx context.Context, environment string, object sources.ID, path string) (codify.Patch, error)
	// Propose pushes that change as a new branch. Its error is an api.Problem where
	// that is not allowed.
	Propose(ctx context.Context, environment string, r api.ProposeRequest) (api.Proposal, error)
}

func (s *Server) driftRoutes(mux *http.ServeMux) {
	of := api.PathEnvironments + "/{name}/drift/"
	mux.HandleFunc("POST "+of+"revert", s.revert)
	mux.HandleFunc("POST "+of+"accept", s.accept)
	mux.HandleFunc("GET "+of+"ignore", s.ignoreRules)
	mux.HandleFunc("POST "+of+"codify", s.codify)
	mux.HandleFunc("POST "+of+"propose", s.propose)
}

var errNoObject = errors.New("name the object, as in Deployment/shop/web")

func (s *Server) revert(w http.ResponseWriter, r *http.Request) {
	var req api.RevertRequest
	name := r.PathValue("name")
	if !s.body(w, r, &req) || !s.allKnown(w, r, []string{name}) {
		return
	}
	if req.Object == nil {
		writeProblem(w, r, badRequest(errNoObject))
		return
	}
	run, err := s.opts.Drifts.Revert(r.Context(), name, *req.Object, author(r, req.Author))
	if err != nil {
		s.refused(w, r, err)
		return
	}
	s.record(r, ledger.Action{
		Actor: author(r, req.Author), Verb: "revert", Environment: name, Subject: req.Object.String(), Reason: req.Reason, Outcome: run.ID,
	})
	s.decided(r, "revert").Str("environment", name).Str("object", req.Object.String()).Str("run", run.ID).Msg("decided")
	writeJSON(w, r, http.StatusOK, api.Receipts{Runs: []reconciler.Run{run}})
}

func (s *Server) accept(w http.ResponseWriter, r *http.Request) {
	var req api.AcceptRequest
	name := r.PathValue("name")
	if !s.body(w, r, &req) || !s.allKnown(w, r, []string{name}) {
		return
	}
	until, err := api.End(s.opts.Now(), req.For, req.Until)
	if err == nil && req.Object == nil {
		err = errNoObject
	}
	if err != nil {
		writeProblem(w, r, badRequest(err))
		return
	}
	d, err := s.opts.Drifts.Accept(r.Context(), name, reconciler.AcceptRequest{
		Object: *req.Object, Path: req.Field, Until: until, Reason: req.Reason, Author: author(r, req.Author),
	})
	if err != nil {
		s.refused(w, r, err)
		return
	}
	subject := d.Object.String()
	if d.Path != "" {
		subject += " " + d.Path
	}
	s.record(r, ledger.Action{
		Actor: d.Author, Verb: "accept", Environment: name, Subject: subject, Reason: d.Reason, Until: d.Until, Outcome: d.ID,
	})
	s.decided(r, "accept").Str("environment", name).Str("object", d.Object.String()).Str("field", d.Path).Time("until", d.Until).Msg("decided")
	writeJSON(w, r, http.StatusOK, d)
}

// aboutDrift reads which drift a query is about.
func (s *Server) aboutDrift(w http.ResponseWriter, r *http.Request) (name string, id sources.ID, path string, ok bool) {
	name = r.PathValue("name")
	if !s.allKnown(w, r, []string{name}) {
		return name, id, path, false
	}
	id, err := sources.ParseID(r.URL.Query().Get("object"))
	if err != nil {
		writeProblem(w, r, badRequest(err))
		return name, id, path, false
	}
	return name, id, r.URL.Query().Get("field"), true
}

func (s *Server) ignoreRules(w http.ResponseWriter, r *http.Request) {
	name, id, path, ok := s.aboutDrift(w, r)
	if !ok {
		return
	}
	rules, err := s.opts.Drifts.IgnoreRules(name, id, path)
	if err != nil {
		s.refused(w, r, err)
		return
	}
	writeJSON(w, r, http.StatusOK, api.IgnoreRules{Rules: orEmpty(rules)})
}

// codify changes nothing, but makes the daemon work, and shows lines of the
// source's files: so it is for those who may change.
func (s *Server) codify(w http.ResponseWriter, r *http.Request) {
	name, id, path, ok := s.aboutDrift(w, r)
	if !ok {
		return
	}
	ctx, cancel := s.waiting(w, r, planWait)
	defer cancel()
	patch, err := s.opts.Drifts.Codify(ctx, name, id, path)
	if err != nil {
		s.refused(w, r, err)
		return
	}
	writeJSON(w, r, http.StatusOK, patch)
}

// propose pushes what codify found as a new branch.
func (s *Server) propose(w http.ResponseWriter, r *http.Request) {
	var req api.ProposeRequest
	name := r.PathValue("name")
	if !s.body(w, r, &req) || !s.allKnown(w, r, []string{name}) {
		return
	}
	req.Reason = strings.Join(strings.Fields(req.Reason), " ")
	var err error
	switch {
	case req.Object == nil:
		err = errNoObject
	case req.Branch == "" || len(req.Branch) > maxBranch:
		err = fmt.Errorf("name the new branch, in at most %d bytes", maxBranch)
	case req.Reason == "" || len(req.Reason) > maxReason:
		err = fmt.Errorf("a reason of 1 to %d bytes is needed", maxReason)
	}
	if err != nil {
		writeProblem(w, r, badRequest(err))
		return
	}
	req.Author = author(r, req.Author)
	ctx, cancel := s.waiting(w, r, planWait)
	defer cancel()
	pushed, err := s.opts.Drifts.Propose(ctx, name, req)
	var p api.Problem
	switch {
	case errors.As(err, &p):
		writeProblem(w, r, p)
		return
	case err != nil:
		s.refused(w, r, err)
		return
	}
	subject := req.Object.String()
	if req.Field != "" {
		subject += " " + req.Field
	}
	s.record(r, ledger.Action{
		Actor: req.Author, Verb: "codify", Environment: name, Subject: subject, Reason: req.Reason, Outcome: pushed.Branch + " " + pushed.Commit,
	})
	s.decided(r, "codify").Str("environment", name).Str("object", req.Object.String()).Str("field", req.Field).
		Str("branch", pushed.Branch).Str("commit", pushed.Commit).Msg("decided")
	writeJSON(w, r, http.StatusOK, pushed)
}

// maxBranch bounds the name of a branch.
const maxBranch = 200
