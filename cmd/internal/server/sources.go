package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
)

// Sources is what is known of sources.
type Sources interface {
	Sources() []api.Source
	// Allow lets the revision that a source holds through. Its error is an
	// api.Problem where the request does not fit how the source stands.
	Allow(ctx context.Context, name string, r api.AllowRequest) (api.Source, error)
}

func (s *Server) sourceRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+api.PathSources, s.sources)
	mux.HandleFunc("GET "+api.PathSources+"/{name}", s.source)
	mux.HandleFunc("POST "+api.PathSources+"/{name}/allow", s.allow)
}

func (s *Server) sources(w http.ResponseWriter, r *http.Request) {
	s.answerCached(w, r, func(context.Context) (any, any, *api.Problem) {
		return api.Sources{Sources: orEmpty(s.opts.Sources.Sources())}, nil, nil
	})
}

func (s *Server) source(w http.ResponseWriter, r *http.Request) {
	if found, ok := s.findSource(w, r); ok {
		writeJSON(w, r, http.StatusOK, found)
	}
}

// findSource answers for a source that there is not.
func (s *Server) findSource(w http.ResponseWriter, r *http.Request) (api.Source, bool) {
	name := r.PathValue("name")
	all := s.opts.Sources.Sources()
	i := slices.IndexFunc(all, func(c api.Source) bool { return c.Name == name })
	if i >= 0 {
		return all[i], true
	}
	known := make([]string, len(all))
	for i, c := range all {
		known[i] = c.Name
	}
	writeProblem(w, r, api.Problem{
		Status: http.StatusNotFound, Detail: fmt.Sprintf("there is no source %q", name),
		Hint: "there are: " + strings.Join(known, ", "), Known: known,
	})
	return api.Source{}, false
}

func (s *Server) allow(w http.ResponseWriter, r *http.Request) {
	var req api.AllowRequest
	found, ok := s.findSource(w, r)
	if !ok || !s.body(w, r, &req) {
		return
	}
	req.Reason = strings.Join(strings.Fields(req.Reason), " ")
	if req.Reason == "" || len(req.Reason) > maxReason {
		writeProblem(w, r, badRequest(fmt.Errorf("a reason of 1 to %d bytes is needed", maxReason)))
		return
	}
	req.Author = author(r, req.Author)
	after, err := s.opts.Sources.Allow(r.Context(), found.Name, req)
	var p api.Problem
	switch {
	case errors.As(err, &p):
		writeProblem(w, r, p)
		return
	case err != nil:
		s.refused(w, r, err)
		return
	}
	s.record(r, ledger.Action{
		Verb: "allow", Subject: fmt.Sprintf("source %s, revision %s", found.Name, req.Revision), Reason: req.Reason, Outcome: "by " + req.Author,
	})
	s.decided(r, "allow").Str("source", found.Name).Str("revision", req.Revision).
		Str("author", req.Author).Str("reason", req.Reason).Msg("decided")
	writeJSON(w, r, http.StatusOK, after)
}

// maxReason bounds a reason.
const maxReason = 500
