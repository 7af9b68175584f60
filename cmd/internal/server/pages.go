package server

import (
	"net/http"

	"github.com/holdfast-gitops/holdfast/cmd/internal/server/dashboard"
)

// pages adds what people look at in a browser. Its forms and most of its reads are
// calls of the API, as the one who sent the request.
func (s *Server) pages(mux *http.ServeMux) {
	dashboard.New(dashboard.Options{
		Engine: s.opts.Engine, API: s.forms(mux), Viewer: s.viewer, Links: s.opts.Links, Version: s.opts.Version, Now: s.opts.Now,
	}).Register(mux)
}

// forms is the API for the dashboard's forms: a call that one stands for needs
// what it would need by itself.
func (s *Server) forms(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if mutates(r) && !trusted(r) {
			if p := permitted(callerOf(r), r); p.Status != 0 {
				s.refuse(w, r, p)
				return
			}
		}
		api.ServeHTTP(w, r)
	})
}

// trusted reports whether a call came over the socket.
func trusted(r *http.Request) bool {
	way, _ := r.Context().Value(actorKey).(string)
	return way == "socket" && callerOf(r).name == ""
}

// viewer is who looks at a page.
func (s *Server) viewer(r *http.Request) dashboard.Viewer {
	who := callerOf(r)
	v := dashboard.Viewer{Name: actor(r), Role: who.role.String()}
	v.Sees = who.mayRead
	if who.role >= RoleOperate || trusted(r) {
		v.May, v.MayAll = who.mayChange, who.environments == nil
	}
	return v
}
