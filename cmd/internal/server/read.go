package server

import (
	"maps"
	"net/http"
	"slices"

	"github.com/holdfast-gitops/holdfast/drift"
)

// mayRead reports whether the caller may know of an environment. Who may read may
// read of all: what a token's environments bound is what it may change.
func (c caller) mayRead(string) bool { return true }

// scope is the same for callers who may read the same, so that they may share
// answers.
func (c caller) scope() string { return "" }

// mayKnow answers for an environment of which the caller may not know, as for one
// that there is not.
func (s *Server) mayKnow(w http.ResponseWriter, r *http.Request, name string) bool {
	if callerOf(r).mayRead(name) {
		return true
	}
	s.unknown(w, r, name)
	return false
}

// readable is what of a report the caller may know.
func (c caller) readable(r drift.Report) drift.Report {
	if c.scope() == "" { // all of it
		return r
	}
	r.Episodes = slices.DeleteFunc(slices.Clone(r.Episodes), func(e drift.Episode) bool { return !c.mayRead(e.Environment) })
	r.Behind = slices.DeleteFunc(slices.Clone(r.Behind), func(b drift.Behind) bool { return !c.mayRead(b.Environment) })
	r.Detectors = slices.DeleteFunc(slices.Clone(r.Detectors), func(d drift.Detector) bool { return !c.mayRead(d.Environment) })
	r.Unsure = maps.Clone(r.Unsure)
	maps.DeleteFunc(r.Unsure, func(name, _ string) bool { return !c.mayRead(name) })
	return r.Summed()
}
