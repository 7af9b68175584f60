// Package ociserver is a registry on the loopback that speaks the OCI
// distribution specification, for tests: pulls, pushes in one piece, listings of
// tags in pages, basic and token authentication.
//
// It keeps everything in memory and can be told to misbehave in the ways that
// registries and networks do. It knows nothing of the packages that are tested
// with it.
package ociserver

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
)

// Request is one request that a registry received.
type Request struct {
	Method, Path string
	// Authorization is the header as it came.
	Authorization string
}

// Server is a registry.
type Server struct {
	// Host is its address, host:port.
	Host string

	http *httptest.Server

	mu             sync.Mutex
	repos          map[string]*repo
	requests       []Request
	fault          gitserver.Fault
	user, password string
	realm          string // of tokens; none is basic authentication
	page           int
	bareHead       bool
}

// repo is one repository: blobs and manifests by digest, digests by tag.
type repo struct {
	blobs     map[string][]byte
	manifests map[string]document
	tags      map[string]string
}

type document struct {
	kind string
	text []byte
}

// Start listens on the loopback until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{repos: map[string]*repo{}}
	s.http = httptest.NewServer(s)
	s.Host = s.http.Listener.Addr().String()
	t.Cleanup(s.http.Close)
	return s
}

// URL is that of a repository, as a source names it.
func (s *Server) URL(repository string) string { return "oci://" + s.Host + "/" + repository }

// SetFault makes the registry misbehave; nil makes it behave again.
func (s *Server) SetFault(f gitserver.Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// OnBlob applies a fault to downloads of blobs only.
func OnBlob(f gitserver.Fault) gitserver.Fault { return on("/blobs/", f) }

// OnManifest applies a fault to what is asked of manifests only.
func OnManifest(f gitserver.Fault) gitserver.Fault { return on("/manifests/", f) }

func on(part string, f gitserver.Fault) gitserver.Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.URL.Path, part) && r.Method != http.MethodHead {
			f(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	}
}

// RequireAuth makes the registry ask for these credentials; an empty password
// opens it again.
func (s *Server) RequireAuth(user, password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.user, s.password, s.realm = user, password, ""
}

// RequireToken makes the registry ask for a token, which its realm gives for
// these credentials. An empty realm is the registry's own, at /token.
func (s *Server) RequireToken(user, password, realm string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if realm == "" {
		realm = s.http.URL + "/token"
	}
	s.user, s.password, s.realm = user, password, realm
}

// SetPage makes listings of tags come in pages of that many.
func (s *Server) SetPage(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.page = n
}

// SetBareHead makes answers to HEAD lack the digest, as some registries do.
func (s *Server) SetBareHead(bare bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bareHead = bare
}

// Requests are those received since the start or the last Reset.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Count is how many requests had a method and a path with a part.
func (s *Server) Count(method, part string) (n int) {
	for _, r := range s.Requests() {
		if r.Method == method && strings.Contains(r.Path, part) {
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

// ServeHTTP counts the request, checks who asks, misbehaves as told and else
// answers.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, Request{r.Method, r.URL.Path, r.Header.Get("Authorization")})
	fault := s.fault
	s.mu.Unlock()
	if !s.admitted(w, r) {
		return
	}
	if fault != nil {
		fault(w, r, http.HandlerFunc(s.serve))
		return
	}
	s.serve(w, r)
}

// admitted answers for itself when it says no.
func (s *Server) admitted(w http.ResponseWriter, r *http.Request) bool {
	s.mu.Lock()
	user, password, realm := s.user, s.password, s.realm
	s.mu.Unlock()
	if password == "" {
		return true
	}
	sum := sha256.Sum256([]byte(user + ":" + password))
	token := hex.EncodeToString(sum[:])
	gotUser, gotPassword, _ := r.BasicAuth()
	byPassword := gotUser == user && gotPassword == password
	if realm == "" {
		if byPassword {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
	} else {
		if r.URL.Path == "/token" {
			if !byPassword {
				problem(w, http.StatusUnauthorized, "UNAUTHORIZED")
				return false
			}
			answer(w, map[string]string{"token": token})
			return false
		}
		if r.Header.Get("Authorization") == "Bearer "+token {
			return true
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="registry"`, realm))
	}
	problem(w, http.StatusUnauthorized, "UNAUTHORIZED")
	return false
}

var route = regexp.MustCompile(`^/v2/(.+)/(manifests|blobs|tags|blobs/uploads)/([^/]*)$`)

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	parts := route.FindStringSubmatch(r.URL.Path)
	if parts == nil {
		if r.URL.Path == "/v2/" {
			answer(w, map[string]string{})
			return
		}
		problem(w, http.StatusNotFound, "NAME_UNKNOWN")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name, what, id := parts[1], parts[2], parts[3]
	if r.Method == http.MethodPost || r.Method == http.MethodPut {
		s.push(w, r, name, what, id)
		return
	}
	in := s.repos[name]
	if in == nil {
		problem(w, http.StatusNotFound, "NAME_UNKNOWN")
		return
	}
	switch what {
	case "manifests":
		s.manifest(w, r, in, id)
	case "blobs":
		blob, ok := in.blobs[id]
		if !ok {
			problem(w, http.StatusNotFound, "BLOB_UNKNOWN")
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(len(blob)))
		_, _ = w.Write(blob)
	case "tags":
		s.tags(w, r, name, in)
	}
}

func (s *Server) manifest(w http.ResponseWriter, r *http.Request, in *repo, id string) {
	if digest, ok := in.tags[id]; ok {
		id = digest
	}
	doc, ok := in.manifests[id]
	if !ok {
		problem(w, http.StatusNotFound, "MANIFEST_UNKNOWN")
		return
	}
	w.Header().Set("Content-Type", doc.kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(doc.text)))
	if !s.bareHead {
		w.Header().Set("Docker-Content-Digest", id)
	}
	if r.Method != http.MethodHead {
		_, _ = w.Write(doc.text)
	}
}

func (s *Server) tags(w http.ResponseWriter, r *http.Request, name string, in *repo) {
	all := slices.Sorted(maps.Keys(in.tags))
	if last := r.URL.Query().Get("last"); last != "" {
		all = slices.DeleteFunc(all, func(tag string) bool { return tag <= last })
	}
	if s.page > 0 && len(all) > s.page {
		all = all[:s.page]
		w.Header().Set("Link", fmt.Sprintf(`</v2/%s/tags/list?last=%s>; rel="next"`, name, all[len(all)-1]))
	}
	answer(w, map[string]any{"name": name, "tags": all})
}

// push takes a blob or a manifest in one piece.
func (s *Server) push(w http.ResponseWriter, r *http.Request, name, what, id string) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	in := s.repo(name)
	switch {
	case what == "blobs/uploads" && r.Method == http.MethodPost:
		w.Header().Set("Location", "/v2/"+name+"/blobs/uploads/1")
		w.WriteHeader(http.StatusAccepted)
		return
	case what == "blobs/uploads":
		if digest := in.keep(body); digest != r.URL.Query().Get("digest") {
			problem(w, http.StatusBadRequest, "DIGEST_INVALID")
			return
		}
	default:
		digest := digestOf(body)
		in.manifests[digest] = document{r.Header.Get("Content-Type"), body}
		if digest != id {
			in.tags[id] = digest
		}
		w.Header().Set("Docker-Content-Digest", digest)
	}
	w.WriteHeader(http.StatusCreated)
}

func (s *Server) repo(name string) *repo {
	if s.repos[name] == nil {
		s.repos[name] = &repo{blobs: map[string][]byte{}, manifests: map[string]document{}, tags: map[string]string{}}
	}
	return s.repos[name]
}

func (in *repo) keep(blob []byte) string {
	digest := digestOf(blob)
	in.blobs[digest] = blob
	return digest
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value) // the client has gone
}

func problem(w http.ResponseWriter, code int, name string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": name, "message": "no"}}}) // the client has gone
}
