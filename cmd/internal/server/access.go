package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
)

// maxToken bounds the file of the token, and minToken what counts as one.
const (
	maxToken = 4 << 10
	minToken = 8
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
		h.names = append(h.names, strings.ToLower(name))
	}
	return h
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

// guard refuses callers over TCP that are not who they should be.
func (s *Server) guard(hosts hostNames, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		changes := r.Method != http.MethodGet && r.Method != http.MethodHead
		probe := r.URL.Path == "/healthz" || r.URL.Path == "/readyz"
		if (changes || hosts.loopback && !probe) && !hosts.match(r) {
			s.refuse(w, r, api.Problem{
				Status: http.StatusMisdirectedRequest, Detail: "the Host header is none of this server's names",
				Hint: "call it by its listen address, or add the name to server.hosts in its configuration",
			})
			return
		}
		if changes {
			if p := s.authorize(r); p.Status != 0 {
				w.Header().Set("WWW-Authenticate", "Bearer")
				s.refuse(w, r, p)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// refuse answers a caller that may not, and logs it if it tried to change
// something.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, p api.Problem) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.opts.Logger.Warn().Str("request", requestID(r)).Str("remote", r.RemoteAddr).Str("method", r.Method).
			Str("path", r.URL.Path).Int("status", p.Status).Str("reason", p.Detail).Msg("call refused")
	}
	writeProblem(w, r, p)
}

// authorize compares hashes, so that neither the content nor the length of the
// token shows in the time it takes.
func (s *Server) authorize(r *http.Request) api.Problem {
	if s.opts.TokenFile == "" {
		return api.Problem{
			Status: http.StatusForbidden, Detail: "calls over TCP that change something need a token, and none is configured",
			Hint: "call over the socket holdfast.sock in the data directory, or set server.tokenFile",
		}
	}
	want, err := readToken(s.opts.TokenFile)
	if err != nil {
		s.opts.Logger.Error().Err(err).Msg("token cannot be read")
		return api.Problem{
			Status: http.StatusServiceUnavailable, Detail: "the server cannot read its token",
			Hint: "its log says why; the socket holdfast.sock in the data directory needs none",
		}
	}
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	a, b := sha256.Sum256([]byte(strings.TrimSpace(given))), sha256.Sum256([]byte(want))
	if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		return api.Problem{
			Status: http.StatusUnauthorized, Detail: "the token is missing or wrong",
			Hint: "set HOLDFAST_TOKEN or --token-file, or call over the socket holdfast.sock in the data directory",
		}
	}
	return api.Problem{}
}

// readToken reads the file for each call, so that a rotated token counts at once.
func readToken(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	switch {
	case len(data) > maxToken:
		return "", fmt.Errorf("token file %s is too large", file)
	case token == "":
		return "", errors.New("token file " + file + " is empty")
	case len(token) < minToken:
		return "", fmt.Errorf("token in %s is shorter than %d characters", file, minToken)
	}
	return token, nil
}
