package server

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
	"sync"
	"time"
)

// The bounds of sessions: how many there are, how long one lasts unused, and how
// long at most, by then groups and people may have changed.
const (
	maxSessions = 10_000
	sessionIdle = 8 * time.Hour
	sessionLong = 24 * time.Hour
)

// sessionCookie is the name of the cookie. Under TLS it has a prefix by which a
// browser takes it only from this very host.
const sessionCookie = "holdfast_session"

// session is one browser that signed in.
type session struct {
	who caller
	// token is the digest of the token that was used; none if none was.
	token *[sha256.Size]byte
	began time.Time
	used  time.Time
}

// sessions are known by the hashes of their cookies, and only here: a restart ends
// them.
type sessions struct {
	now func() time.Time

	mu  sync.Mutex
	all map[[sha256.Size]byte]*session
}

func newSessions(now func() time.Time) *sessions {
	return &sessions{now: now, all: map[[sha256.Size]byte]*session{}}
}

// begin makes a session and returns what the browser keeps.
func (s *sessions) begin(who caller, token *[sha256.Size]byte) (id string) {
	id = rand.Text() + rand.Text()
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.makeRoom(now)
	who.session = true
	s.all[sha256.Sum256([]byte(id))] = &session{who: who, token: token, began: now, used: now}
	return id
}

// makeRoom drops what has ended, and if that is not enough the one that has been
// unused for longest.
func (s *sessions) makeRoom(now time.Time) {
	if len(s.all) < maxSessions {
		return
	}
	var oldest [sha256.Size]byte
	var since time.Time
	for id, one := range s.all {
		if one.over(now) {
			delete(s.all, id)
		} else if since.IsZero() || one.used.Before(since) {
			oldest, since = id, one.used
		}
	}
	if len(s.all) >= maxSessions {
		delete(s.all, oldest)
	}
}

func (s *session) over(now time.Time) bool {
	return now.Sub(s.used) > sessionIdle || now.Sub(s.began) > sessionLong
}

// get is the session of a cookie, as it is now.
func (s *sessions) get(id string) (session, bool) {
	key, now := sha256.Sum256([]byte(id)), s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.all[key]
	switch {
	case one == nil:
		return session{}, false
	case one.over(now):
		delete(s.all, key)
		return session{}, false
	}
	one.used = now
	return *one, true
}

func (s *sessions) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, sha256.Sum256([]byte(id)))
}

// signedIn is who signed in with the browser that sends a request. One that
// changes something has to say which page it comes from, as every browser does: a
// cookie goes along with what other pages send.
func (s *Server) signedIn(r *http.Request) (caller, bool) {
	cookie, err := r.Cookie(s.cookieName(r))
	if err != nil || mutates(r) && r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "" {
		return caller{}, false
	}
	one, ok := s.sessions.get(cookie.Value)
	if !ok {
		return caller{}, false
	}
	if one.token == nil {
		return one.who, true
	}
	// The token still has to be there, and gives what it gives now.
	for _, t := range s.tokens() {
		want, err := t.digest()
		if err == nil && t.Name == one.who.name && subtle.ConstantTimeCompare(want[:], one.token[:]) == 1 {
			who := s.callerWith(t)
			who.session = true
			return who, true
		}
	}
	s.sessions.end(cookie.Value)
	return caller{}, false
}

// secure reports whether browsers reach us over TLS, ours or that of a proxy.
func (s *Server) secure(r *http.Request) bool {
	return r.TLS != nil || strings.HasPrefix(s.opts.URL, "https://")
}

func (s *Server) cookieName(r *http.Request) string { return s.prefixed(r, sessionCookie) }

func (s *Server) prefixed(r *http.Request, name string) string {
	if s.secure(r) {
		return "__Host-" + name
	}
	return name
}

// setCookie has a browser keep a value for a while; an empty one ends it.
func (s *Server) setCookie(w http.ResponseWriter, r *http.Request, name, value string, keep time.Duration) {
	c := &http.Cookie{
		Name: s.prefixed(r, name), Value: value, Path: "/", HttpOnly: true, Secure: s.secure(r),
		SameSite: http.SameSiteLaxMode, MaxAge: int(keep.Seconds()),
	}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}
