package server

import (
	"net/http"

	"github.com/holdfast-gitops/holdfast/cmd/internal/server/dashboard"
)

// pages adds what people look at in a browser. Its forms and most of its reads are
// calls of the API, as the one who sent the request.
func (s *Server) pages(mux *http.ServeMux) {
	dashboard.New(dashboard.Options{
		Engine: s.opts.Engine, API: mux, Viewer: s.viewer, Links: s.opts.Links, Version: s.opts.Version, Now: s.opts.Now,
	}).Register(mux)
}

// viewer is who looks at a page.
func (s *Server) viewer(r *http.Request) dashboard.Viewer {
	who := callerOf(r)
	v := dashboard.Viewer{Name: actor(r), Role: who.role.String()}
	if who.role < RoleOperate {
		if trusted, _ := r.Context().Value(actorKey).(string); trusted != "socket" {
			return v
		}
	}
	v.May, v.MayAll = who.mayChange, who.environments == nil
	return v
}
