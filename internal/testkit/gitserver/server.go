// Package gitserver serves git repositories over smart HTTP and SSH on the
// loopback, by the git binary's own http-backend and upload-pack, for tests,
// demonstrations and benchmarks. There are proxies to reach it through, too.
//
// It owns a folder of bare repositories, can be told to misbehave in the ways
// that servers and networks do, and needs no git configuration of the machine
// that it runs on. It knows nothing of the packages that are tested with it.
package gitserver

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// TB is what a test hands in. It is declared here so that a program that is no
// test can use this package too, with Must.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
	TempDir() string
}

// Must is the TB of programs that are no tests: it panics on a failure.
var Must TB = must{}

type must struct{}

func (must) Helper() {}

func (must) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (must) Cleanup(func()) {}

func (m must) TempDir() string {
	dir, err := os.MkdirTemp("", "gitserver")
	if err != nil {
		m.Fatalf("make a folder for repositories: %v", err)
	}
	return dir
}

// Request is one request that a server received.
type Request struct {
	Method string
	// Path is that of the URL, as in "/web.git/info/refs".
	Path string
	// User and Password are those of basic authentication, where given.
	User, Password string
}

// Server serves the repositories of one folder. It is an http.Handler, so that
// it can also be mounted into another server or behind TLS.
type Server struct {
	// URL is where it listens; empty before Listen.
	URL string

	dir     string
	backend http.Handler
	http    *http.Server

	mu sync.Mutex
	// open are the requests under way, and idle is signalled when there are none;
	// a request that comes after closed is cut off. (A WaitGroup would not do: it
	// may not grow while it is waited for.)
	open           int
	idle           *sync.Cond
	closed         bool
	requests       []Request
	fault          Fault
	user, password string
	commits        int
}

// New serves the bare repositories in dir, once Listen was called.
func New(dir string) *Server {
	s := &Server{dir: dir, backend: Handler(dir)}
	s.idle = sync.NewCond(&s.mu)
	return s
}

// Start listens on the loopback until the test ends.
func Start(t TB) *Server {
	t.Helper()
	s := New(t.TempDir())
	if err := s.Listen(); err != nil {
		t.Fatalf("start git server: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

// Listen begins to serve on a free port of the loopback.
func (s *Server) Listen() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.URL = "http://" + l.Addr().String()
	s.http = &http.Server{Handler: s}
	go func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			panic(fmt.Sprintf("git server: %v", err))
		}
	}()
	return nil
}

// Close stops serving, cuts what is under way and waits for its end. The
// repositories stay.
func (s *Server) Close() {
	if s.http != nil {
		_ = s.http.Close() // nothing is left to be done with its error
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for s.open > 0 {
		s.idle.Wait()
	}
}

// enter counts a request in, unless the server was closed.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.open++
	return true
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	s.idle.Broadcast()
}

// ServeHTTP counts the request, checks credentials, misbehaves as told and else
// hands over to git.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		panic(http.ErrAbortHandler)
	}
	defer s.leave()
	user, password, _ := r.BasicAuth()
	s.mu.Lock()
	s.requests = append(s.requests, Request{r.Method, r.URL.Path, user, password})
	fault, wantUser, wantPassword := s.fault, s.user, s.password
	s.mu.Unlock()
	if wantPassword != "" && !(same(user, wantUser) && same(password, wantPassword)) {
		w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
		http.Error(w, "authentication required", http.StatusUnauthorized)
		return
	}
	if fault != nil {
		fault(w, r, s.backend)
		return
	}
	s.backend.ServeHTTP(w, r)
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// RequireAuth makes the server ask for these credentials; an empty password
// opens it again.
func (s *Server) RequireAuth(user, password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.user, s.password = user, password
}

// Requests are those received since the start or the last Reset.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Count is how many requests had a path that ends so: "info/refs" counts
// listings, "git-upload-pack" downloads.
func (s *Server) Count(suffix string) int {
	n := 0
	for _, r := range s.Requests() {
		if strings.HasSuffix(r.Path, suffix) {
			n++
		}
	}
	return n
}

// Reset forgets the requests counted so far.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

// Handler serves the bare repositories below dir by git's own http-backend. It
// answers 500 with the reason when there is no git.
func Handler(dir string) http.Handler {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return unusable(err)
	}
	env, err := environment(abs)
	if err != nil {
		return unusable(err)
	}
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		return unusable(fmt.Errorf("find git: %w", err))
	}
	return &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"),
		Dir:  abs,
		Env:  append(env, "GIT_PROJECT_ROOT="+abs, "GIT_HTTP_EXPORT_ALL=1"),
	}
}

func unusable(err error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "git server: "+err.Error(), http.StatusInternalServerError)
	})
}

// environment makes git independent of the configuration of the machine and
// its user, and lets it serve folders that another user owns.
func environment(dir string) ([]string, error) {
	config := filepath.Join(dir, "gitconfig")
	const text = "[safe]\n\tdirectory = *\n[init]\n\tdefaultBranch = main\n[gc]\n\tauto = 0\n"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, fmt.Errorf("write git configuration: %w", err)
	}
	return []string{
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + config, "HOME=" + dir,
		"GIT_TERMINAL_PROMPT=0", "LC_ALL=C",
	}, nil
}
