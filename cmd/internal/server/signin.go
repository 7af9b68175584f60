package server

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/holdfast-gitops/holdfast/cmd/internal/server/dashboard"
)

// Where people sign in and out.
const (
	PathLogin    = "/login"
	PathLogout   = "/logout"
	pathProvider = "/login/oidc"
	pathCallback = "/login/callback"
)

// open reports whether a path is for those who have yet to say who they are.
func open(p string) bool {
	switch p {
	case PathLogin, PathLogout, pathProvider, pathCallback:
		return true
	}
	return strings.HasPrefix(p, "/assets/")
}

// canSignIn reports whether there is anything to sign in with.
func (s *Server) canSignIn() bool { return s.opts.OIDC != nil || len(s.tokens()) > 0 }

func (s *Server) signInRoutes(mux *http.ServeMux, d *dashboard.Dashboard) {
	if !s.canSignIn() {
		return
	}
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		s.showSignIn(w, r, d, http.StatusOK, r.URL.Query().Get("next"), "")
	})
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) { s.signIn(w, r, d) })
	mux.HandleFunc("POST /logout", s.signOut)
	if s.opts.OIDC != nil {
		mux.HandleFunc("GET /login/oidc", func(w http.ResponseWriter, r *http.Request) { s.toProvider(w, r, d) })
		mux.HandleFunc("GET /login/callback", func(w http.ResponseWriter, r *http.Request) { s.fromProvider(w, r, d) })
	}
}

func (s *Server) showSignIn(w http.ResponseWriter, r *http.Request, d *dashboard.Dashboard, status int, next, problem string) {
	page := dashboard.SignIn{Token: len(s.tokens()) > 0, Next: localPath(next), Problem: problem}
	if o := s.opts.OIDC; o != nil {
		page.Provider = o.Name
		page.ProviderPath = pathProvider + "?next=" + url.QueryEscape(page.Next)
	}
	d.ShowSignIn(w, r, status, page)
}

// signIn takes a token from a form.
func (s *Server) signIn(w http.ResponseWriter, r *http.Request, d *dashboard.Dashboard) {
	if err := r.ParseForm(); err != nil {
		s.showSignIn(w, r, d, http.StatusBadRequest, "", "The form cannot be read.")
		return
	}
	if s.limited(w, r, caller{}) {
		return
	}
	next := localPath(r.PostForm.Get("next"))
	who, digest, err := s.holder(strings.TrimSpace(r.PostForm.Get("token")))
	switch {
	case errors.Is(err, errNoToken):
		s.opts.Logger.Warn().Str("request", requestID(r)).Str("remote", r.RemoteAddr).Msg("sign-in refused")
		s.showSignIn(w, r, d, http.StatusUnauthorized, next, "This token is not known.")
		return
	case err != nil:
		s.showSignIn(w, r, d, http.StatusServiceUnavailable, next, "The server cannot read its tokens; its log says why.")
		return
	}
	s.admitBrowser(w, r, who, &digest, next)
}

// admitBrowser begins a session, in the place of any that there was, and goes on
// to the page that was wanted.
func (s *Server) admitBrowser(w http.ResponseWriter, r *http.Request, who caller, digest *[32]byte, next string) {
	s.endSession(r)
	s.setCookie(w, r, sessionCookie, s.sessions.begin(who, digest), sessionLong)
	s.opts.Logger.Info().Str("request", requestID(r)).Str("actor", who.name).Str("role", who.role().String()).Str("remote", r.RemoteAddr).Msg("signed in")
	http.Redirect(w, r, next, http.StatusSeeOther)
}

func (s *Server) signOut(w http.ResponseWriter, r *http.Request) {
	s.endSession(r)
	s.setCookie(w, r, sessionCookie, "", 0)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (s *Server) endSession(r *http.Request) {
	if cookie, err := r.Cookie(s.cookieName(r)); err == nil {
		s.sessions.end(cookie.Value)
	}
}

// localPath is an address of our own to go to; anything else is the first page.
func localPath(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(u.Path, "/") ||
		strings.HasPrefix(address, "//") || strings.ContainsAny(address, "\\\r\n\t") || open(u.Path) {
		return "/"
	}
	return u.RequestURI()
}

// askToSignIn sends a browser that wants a page to where it can sign in, and
// reports whether it did. Programs get a problem instead.
func (s *Server) askToSignIn(w http.ResponseWriter, r *http.Request) bool {
	if mutates(r) || r.Header.Get("Authorization") != "" || !s.canSignIn() ||
		strings.HasPrefix(r.URL.Path, "/api/") || !strings.Contains(r.Header.Get("Accept"), "text/html") {
		return false
	}
	http.Redirect(w, r, PathLogin+"?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
	return true
}
