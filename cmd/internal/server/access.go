package server

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
)

// hostNames are the names by which callers over TCP may call us. A page of
// another site that has its name resolve to our address (DNS rebinding) sends
// its own name, and is refused.
type hostNames struct {
	names []string
	// loopback: only this machine reaches us, so that also reading is guarded
	// against pages in a browser on it.
	loopback bool
}

func newHostNames(listen string, more []string) hostNames {
	h := hostNames{names: []string{"localhost"}}
	host, _, err := net.SplitHostPort(listen)
	if err == nil && host != "" {
		h.names = append(h.names, strings.ToLower(host))
		addr, err := netip.ParseAddr(host)
		h.loopback = host == "localhost" || err == nil && addr.IsLoopback()
	}
	for _, name := range more {
		if name != "" {
			h.names = append(h.names, strings.ToLower(name))
		}
	}
	return h
}

// hosts are the configured names, that of the address for browsers included.
func (s *Server) hosts() []string {
	u, err := url.Parse(s.opts.URL)
	if err != nil {
		return s.opts.Hosts
	}
	return append(slices.Clone(s.opts.Hosts), u.Hostname())
}

// match reports whether a request's Host header is ours: a known name, or the
// very address that the connection came in on.
func (h hostNames) match(r *http.Request) bool {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if slices.Contains(h.names, strings.TrimSuffix(host, ".")) {
		return true
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	if addr.IsLoopback() {
		return true
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil {
		return false
	}
	ap, err := netip.ParseAddrPort(local.String())
	return err == nil && ap.Addr().Unmap() == addr.Unmap()
}

// mutates reports whether a call may change something.
func mutates(r *http.Request) bool { return r.Method != http.MethodGet && r.Method != http.MethodHead }

// guard refuses callers over TCP that are not who they should be.
func (s *Server) guard(hosts hostNames, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		probe := !mutates(r) && (r.URL.Path == "/healthz" || r.URL.Path == "/readyz")
		if (mutates(r) || hosts.loopback && !probe) && !hosts.match(r) {
			s.refuse(w, r, api.Problem{
				Status: http.StatusMisdirectedRequest, Detail: "the Host header is none of this server's names",
				Hint: "call it by its listen address, or add the name to server.hosts in its configuration",
			})
			return
		}
		if !probe && s.opts.ClientCertificates && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0) {
			s.refuse(w, r, api.Problem{
				Status: http.StatusForbidden, Detail: "a client certificate is needed here",
				Hint: "show one that the authority in server.tls.clientCAFile has signed, or call over the socket holdfast.sock in the data directory",
			})
			return
		}
		switch {
		case probe || open(r.URL.Path):
		case mutates(r) || s.opts.ReadsNeedToken:
			who, ok := s.admit(w, r)
			if !ok {
				return
			}
			r = who.in(r)
		default:
			if who, ok := s.signedIn(r); ok { // what a page offers depends on who looks
				r = who.in(r)
			}
		}
		next.ServeHTTP(w, r)
	})
}

// admit says who calls; it answers those who may not.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) (caller, bool) {
	if s.guessing(w, r) {
		return caller{}, false
	}
	who, p := s.authorize(r)
	guess := p.Status == http.StatusUnauthorized && r.Header.Get("Authorization") != ""
	if (mutates(r) || guess) && s.limited(w, r, who) {
		return who, false
	}
	if p.Status == 0 {
		return who, true
	}
	if p.Status == http.StatusUnauthorized && s.askToSignIn(w, r) {
		return who, false
	}
	w.Header().Add("WWW-Authenticate", "Bearer")
	if !mutates(r) { // a browser asks for a password then, which is the token
		w.Header().Add("WWW-Authenticate", `Basic realm="holdfast"`)
	}
	s.refuse(w, who.in(r), p)
	return who, false
}

// refuse answers a caller that may not, and logs it if it tried to change
// something.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, p api.Problem) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.opts.Logger.Warn().Str("request", requestID(r)).Str("actor", actor(r)).Str("remote", r.RemoteAddr).Str("method", r.Method).
			Str("path", r.URL.Path).Int("status", p.Status).Str("reason", p.Detail).Msg("call refused")
	}
	writeProblem(w, r, p)
}
