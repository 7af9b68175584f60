package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/cmd/internal/server/dashboard"
)

// Role is what a caller may do; each may do what the lesser ones may.
type Role int

// The roles.
const (
	// RoleNone may do what needs no token.
	RoleNone Role = iota
	RoleRead
	// RoleOperate may ask for runs and decide about environments.
	RoleOperate
	// RoleAdminister may take and check the ledger, too.
	RoleAdminister
)

var roleNames = []string{"none", "read", "operate", "administer"}

// RoleOf is the role of a name, RoleNone where there is none.
func RoleOf(name string) Role { return Role(max(0, slices.Index(roleNames, name))) }

// String is the role's name.
func (r Role) String() string { return roleNames[r] }

// Token is a bearer token that is known by a file.
type Token struct {
	// Name is who acts.
	Name string
	Role Role
	// SHA256File holds the token's SHA-256 in hexadecimal; else File holds the
	// token.
	SHA256File, File string
	// Environments are patterns of those that may be changed; none is all.
	Environments []string
}

// maxToken bounds the file of a token, and minToken what counts as one.
const (
	maxToken = 4 << 10
	minToken = 8
)

func callerOf(r *http.Request) caller {
	c, _ := r.Context().Value(callerKey).(caller)
	return c
}

func (c caller) in(r *http.Request) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), callerKey, c))
}

// tokens are all that are configured.
func (s *Server) tokens() []Token {
	all := s.opts.Tokens
	if s.opts.TokenFile != "" {
		all = append([]Token{{Name: "token", Role: RoleOperate, File: s.opts.TokenFile}}, all...)
	}
	return all
}

// errNoToken means that the caller gave none that is known.
var errNoToken = errors.New("the token is missing or wrong")

// identify finds out who makes a request: whose token it carries, or who signed in.
// The error beside a caller's is of a file that cannot be read.
func (s *Server) identify(r *http.Request) (caller, error) {
	if given := givenToken(r); given != "" {
		who, _, err := s.holder(given)
		if err == nil {
			return who, nil
		}
		if other, e := s.clusterCaller(r.Context(), given); !errors.Is(e, errNoToken) {
			return other, e
		}
		return who, err
	}
	if who, ok := s.signedIn(r); ok {
		return who, nil
	}
	_, _, err := s.holder("")
	return caller{}, err
}

// holder is whose token is given, and its digest. Hashes are compared, and all of
// them, so that neither content nor length of a token shows in the time it takes.
func (s *Server) holder(given string) (found caller, digest [sha256.Size]byte, err error) {
	digest = sha256.Sum256([]byte(given))
	var unread error
	for _, t := range s.tokens() {
		want, err := t.digest()
		if err != nil {
			s.opts.Logger.Error().Err(err).Str("token", t.Name).Msg("token cannot be read")
			unread = cmp.Or(unread, err)
			continue
		}
		if subtle.ConstantTimeCompare(digest[:], want[:]) == 1 {
			found = s.callerWith(t)
		}
	}
	switch {
	case found.role() != RoleNone:
		return found, digest, nil
	case unread != nil:
		return caller{}, digest, unread
	}
	return caller{}, digest, errNoToken
}

// callerWith is who calls with a token.
func (s *Server) callerWith(t Token) caller {
	return caller{name: t.Name, how: "the token", readsAll: !s.opts.ReadsNeedToken, grants: []Grant{{Role: t.Role, Environments: t.Environments}}}
}

// givenToken is the bearer token of a request. Where something is only read, the
// password of basic authentication counts as well, which browsers ask for.
func givenToken(r *http.Request) string {
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(given)
	}
	if _, password, ok := r.BasicAuth(); ok && !mutates(r) {
		return password
	}
	return ""
}

// digest reads the file for each call, so that a rotated token counts at once.
func (t Token) digest() (sum [sha256.Size]byte, err error) {
	text, err := readSmall(cmp.Or(t.SHA256File, t.File))
	if err != nil {
		return sum, err
	}
	if t.SHA256File == "" {
		if len(text) < minToken {
			return sum, fmt.Errorf("token in %s is shorter than %d characters", t.File, minToken)
		}
		return sha256.Sum256([]byte(text)), nil
	}
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != sha256.Size {
		// The text is not quoted: somebody may have put the token there.
		return sum, fmt.Errorf("file %s does not hold the 64 hexadecimal digits of a SHA-256 (hint: make it with `holdfast token`)", t.SHA256File)
	}
	return [sha256.Size]byte(raw), nil
}

func readSmall(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	text := strings.TrimSpace(string(data))
	switch {
	case len(data) > maxToken:
		return "", fmt.Errorf("token file %s is too large", file)
	case text == "":
		return "", errors.New("token file " + file + " is empty")
	}
	return text, nil
}

// authorize says who calls, or why the call is refused.
func (s *Server) authorize(r *http.Request) (caller, api.Problem) {
	if len(s.tokens()) == 0 && s.opts.OIDC == nil && s.holders == nil {
		return caller{}, api.Problem{
			Status: http.StatusForbidden, Detail: "calls over TCP that change something need a token, and none is configured",
			Hint: "call over the socket holdfast.sock in the data directory, or set server.tokenFile",
		}
	}
	who, err := s.identify(r)
	switch {
	case errors.Is(err, errNoToken):
		return who, api.Problem{
			Status: http.StatusUnauthorized, Detail: err.Error(),
			Hint: "set HOLDFAST_TOKEN or --token-file, or call over the socket holdfast.sock in the data directory; in a browser sign in at " + PathLogin,
		}
	case errors.Is(err, errCluster):
		return who, api.Problem{
			Status: http.StatusServiceUnavailable, Detail: errCluster.Error(),
			Hint: "the server's log says why; a token of the server's own works meanwhile, and the socket holdfast.sock in the data directory needs none",
		}
	case err != nil:
		return who, api.Problem{
			Status: http.StatusServiceUnavailable, Detail: "the server cannot read its token",
			Hint: "its log says why; the socket holdfast.sock in the data directory needs none",
		}
	}
	return who, who.permitted(r)
}

// permitted says why a caller who is known may not make a call; the zero value is
// that nothing speaks against it.
func (c caller) permitted(r *http.Request) api.Problem {
	need := needed(r)
	if c.role() < need {
		return api.Problem{
			Status: http.StatusForbidden, Detail: fmt.Sprintf("%s has the role %s, and this needs %s", c, c.role(), need),
			Hint: "use a token with that role, or call over the socket holdfast.sock in the data directory",
		}
	}
	if mutates(r) && !c.everywhere(need) && !scopedPath(r.URL.Path) {
		return notYours(c, "this is not about one of them")
	}
	return api.Problem{}
}

// needed is the role that a call needs.
func needed(r *http.Request) Role {
	switch {
	case !mutates(r):
		return RoleRead
	case strings.HasPrefix(r.URL.Path, api.PathLedger):
		return RoleAdminister
	}
	return RoleOperate
}

// scopedPath reports whether the handler behind a path asks mayAll, or is a form,
// which is asked for again as the call that it stands for.
func scopedPath(p string) bool {
	return strings.HasPrefix(p, api.PathEnvironments+"/") || strings.HasPrefix(p, api.PathHolds) || p == api.PathResync || dashboard.IsForm(p)
}

// mayAll reports whether the caller may change the environments, and answers if
// not. No names stand for everything.
func (s *Server) mayAll(w http.ResponseWriter, r *http.Request, names []string) bool {
	who := callerOf(r)
	if !mutates(r) || who.everywhere(RoleOperate) {
		return true
	}
	if len(names) == 0 {
		s.refuse(w, r, notYours(who, "this is about all: name the environments"))
		return false
	}
	for _, name := range names {
		if !who.mayChange(name) {
			s.refuse(w, r, notYours(who, fmt.Sprintf("%s is none of them", name)))
			return false
		}
	}
	return true
}

// mayHold reports whether the caller may change a hold: one that is known to be on
// an environment of its own, and on no other.
func (s *Server) mayHold(w http.ResponseWriter, r *http.Request, id string) bool {
	who := callerOf(r)
	if who.everywhere(RoleOperate) {
		return true
	}
	var names []string
	for _, e := range s.opts.Engine.Environments() {
		for _, g := range e.Gates {
			if g.ID == id {
				names = append(names, e.Name)
			}
		}
	}
	return s.mayAll(w, r, names)
}

func notYours(who caller, why string) api.Problem {
	return api.Problem{
		Status: http.StatusForbidden,
		Detail: fmt.Sprintf("%s may change the environments %s, and %s", who, strings.Join(who.patterns(RoleOperate), ", "), why),
	}
}
