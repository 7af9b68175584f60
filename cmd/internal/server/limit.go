package server

import (
	"math"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
)

// defaultRate is how many calls a minute of one client may change something.
const defaultRate = 120

// maxClients bounds how many clients are remembered.
const maxClients = 4096

// limiter bounds the calls of each client. A client may use a minute's worth at
// once, which then comes back evenly.
type limiter struct {
	rate float64 // a minute
	now  func() time.Time

	mu      sync.Mutex
	clients map[string]*allowance
}

type allowance struct {
	left float64
	at   time.Time
}

func newLimiter(perMinute int, now func() time.Time) *limiter {
	if perMinute <= 0 {
		perMinute = defaultRate
	}
	return &limiter{rate: float64(perMinute), now: now, clients: map[string]*allowance{}}
}

// take uses one call of a client's, or says after how long there is one again.
func (l *limiter) take(client string) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	a := l.clients[client]
	if a == nil {
		l.makeRoom(now)
		a = &allowance{left: l.rate, at: now}
		l.clients[client] = a
	}
	a.left = min(l.rate, a.left+now.Sub(a.at).Minutes()*l.rate)
	a.at = now
	if a.left >= 1 {
		a.left--
		return 0, true
	}
	return time.Duration((1 - a.left) / l.rate * float64(time.Minute)), false
}

// makeRoom forgets clients that have their full allowance again, which nobody can
// tell from new ones; and if there are none, all: a flood of addresses must not
// fill the memory.
func (l *limiter) makeRoom(now time.Time) {
	if len(l.clients) < maxClients {
		return
	}
	for name, a := range l.clients {
		if a.left+now.Sub(a.at).Minutes()*l.rate >= l.rate {
			delete(l.clients, name)
		}
	}
	if len(l.clients) >= maxClients {
		clear(l.clients)
	}
}

// has reports whether a client has a call left, and uses none.
func (l *limiter) has(client string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.clients[client]
	return a == nil || min(l.rate, a.left+l.now().Sub(a.at).Minutes()*l.rate) >= 1
}

// clientAddress names a client by where it calls from.
func clientAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return "address " + host
}

// limited refuses a client that calls too often. Without a token the client is the
// address, so that guesses at tokens are bounded, too.
func (s *Server) limited(w http.ResponseWriter, r *http.Request, who caller) bool {
	client := who.String()
	if who.role() == RoleNone {
		client = clientAddress(r)
	}
	wait, ok := s.limits.take(client)
	if ok {
		return false
	}
	seconds := int(math.Ceil(wait.Seconds()))
	w.Header().Set("Retry-After", strconv.Itoa(max(1, seconds)))
	s.refuse(w, r, api.Problem{
		Status: http.StatusTooManyRequests, Detail: "there were too many calls of this client that change something, or that had a wrong token",
		Hint: "wait as long as Retry-After says; server.changesPerMinute sets how many there may be",
	})
	return true
}
