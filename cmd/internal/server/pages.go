package server

import (
	"net/http"
	"net/url"

	"github.com/holdfast-gitops/holdfast/cmd/internal/server/dashboard"
)

// pages adds what people look at in a browser. Its forms and most of its reads are
// calls of the API, as the one who sent the request.
func (s *Server) pages(mux *http.ServeMux) {
	d := dashboard.New(dashboard.Options{
		Engine: s.opts.Engine, API: s.forms(mux), Viewer: s.viewer, Links: s.opts.Links, Version: s.opts.Version, Now: s.opts.Now,
	})
	d.Register(mux)
	s.signInRoutes(mux, d)
}

// forms is the API for the dashboard's forms: a call that one stands for needs
// what it would need by itself.
func (s *Server) forms(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if mutates(r) && !trusted(r) {
			if p := callerOf(r).permitted(r); p.Status != 0 {
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
	v := dashboard.Viewer{Name: actor(r), Role: who.role().String()}
	v.Sees = who.mayRead
	switch {
	case who.session:
		v.SignOut = PathLogout
	case !who.known() && !trusted(r):
		v.Name = ""
		if s.canSignIn() {
			v.SignIn = PathLogin + "?next=" + url.QueryEscape(r.URL.RequestURI())
		}
		return v
	}
	if !who.known() || who.role() >= RoleOperate {
		v.May, v.MayAll = who.mayChange, who.everywhere(RoleOperate)
	}
	return v
}
