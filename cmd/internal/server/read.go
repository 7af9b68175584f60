package server

import (
	"maps"
	"net/http"
	"slices"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

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

// among are the patterns of the environments that the caller may know of; nil is
// all.
func (c caller) among() []string {
	if c.scope() == "" {
		return nil
	}
	return append([]string{}, c.patterns(RoleRead)...)
}

// readableRuns are those of runs that the caller may know of.
func (c caller) readableRuns(all []reconciler.Run) []reconciler.Run {
	return slices.DeleteFunc(slices.Clone(all), func(r reconciler.Run) bool { return !c.mayRead(r.Environment) })
}
