package gitrepo_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// lfsServer answers the batch API beside a git server, and hands the files out
// from a host of its own or from the same.
type lfsServer struct {
	mu    sync.Mutex
	files map[string]string
	// asked and given count batches and files; auth is what came with the files.
	asked, given int
	auth         []string
	store        *httptest.Server
	header       map[string]string
	change       func(content string) string
}

func pointerTo(content string) (oid, text string) {
	sum := sha256.Sum256([]byte(content))
	oid = hex.EncodeToString(sum[:])
	return oid, fmt.Sprintf("version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n", oid, len(content))
}

func newLFSServer(t *testing.T, f *fixture) *lfsServer {
	s := &lfsServer{files: map[string]string{}, change: func(c string) string { return c }}
	s.store = httptest.NewServer(http.HandlerFunc(s.give))
	t.Cleanup(s.store.Close)
	f.server.SetFault(func(w http.ResponseWriter, r *http.Request, git http.Handler) {
		switch {
		case r.URL.Path == "/web.git/info/lfs/objects/batch" && r.Method == http.MethodPost:
			s.batch(w, r)
		case strings.HasPrefix(r.URL.Path, "/files/"):
			s.give(w, r)
		default:
			git.ServeHTTP(w, r)
		}
	})
	return s
}

func (s *lfsServer) add(content string) (pointer string) {
	oid, text := pointerTo(content)
	s.files[oid] = content
	return strings.TrimSuffix(text, "\n")
}

func (s *lfsServer) batch(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	var req struct {
		Operation string
		Objects   []struct {
			OID  string
			Size int64
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil || req.Operation != "download" || len(req.Objects) != 1 ||
		r.Header.Get("Accept") != "application/vnd.git-lfs+json" {
		http.Error(w, `{"message":"a bad request"}`, http.StatusUnprocessableEntity)
		return
	}
	o := map[string]any{"oid": req.Objects[0].OID, "size": req.Objects[0].Size}
	if _, ok := s.files[req.Objects[0].OID]; ok {
		download := map[string]any{"href": s.store.URL + "/files/" + req.Objects[0].OID}
		if s.header != nil {
			download["header"] = s.header
		}
		o["actions"] = map[string]any{"download": download}
	} else {
		o["error"] = map[string]any{"code": 404, "message": "Object does not exist"}
	}
	w.Header().Set("Content-Type", "application/vnd.git-lfs+json")
	_ = json.NewEncoder(w).Encode(map[string]any{"transfer": "basic", "objects": []any{o}})
}

func (s *lfsServer) give(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.given++
	s.auth = append(s.auth, r.Header.Get("Authorization"))
	fmt.Fprint(w, s.change(s.files[strings.TrimPrefix(r.URL.Path, "/files/")]))
}

func withLFS(o *gitrepo.Options) { o.LFS = true }

func TestLFS(t *testing.T) {
	f := newFixture(t)
	s := newLFSServer(t, f)
	big := strings.Repeat("a large file\n", 1000)
	f.commit(t, sourcetest.Files{"big.bin": s.add(big), "a": "1", "small": s.add("tiny")})
	r := f.open(t, withLFS)
	snap := sourcetest.Fetch(t, r)
	for range 2 {
		got, err := snap.Tree.ReadFile("big.bin")
		if err != nil || string(got) != big {
			t.Fatalf("read %d bytes, %v", len(got), err)
		}
	}
	if info, err := snap.Tree.Stat("big.bin"); err != nil || info.Size() != int64(len(big)) {
		t.Errorf("stat: %v, %v", info, err)
	}
	sourcetest.WantFile(t, snap, "small", "tiny")
	sourcetest.WantFile(t, snap, "a", "1")
	if s.asked != 2 || s.given != 2 {
		t.Errorf("%d batches and %d files, want 2 and 2", s.asked, s.given)
	}
	// They are kept, and not trusted when they were damaged.
	kept, err := filepath.Glob(filepath.Join(f.dir, "lfs", "*"))
	if err != nil || len(kept) != 2 {
		t.Fatalf("kept are %v, %v", kept, err)
	}
	for _, name := range kept {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		content[0] ^= 1
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sourcetest.WantFile(t, snap, "small", "tiny")
	if s.given != 3 {
		t.Errorf("a damaged file was not fetched again")
	}
}

func TestLFSInMemory(t *testing.T) {
	f := newFixture(t)
	s := newLFSServer(t, f)
	f.commit(t, sourcetest.Files{"big": s.add("a large file")})
	snap := sourcetest.Fetch(t, f.open(t, withLFS, func(o *gitrepo.Options) { o.Memory = true }))
	for range 2 {
		sourcetest.WantFile(t, snap, "big", "a large file")
	}
	if s.given != 1 {
		t.Errorf("%d downloads, want 1", s.given)
	}
	if _, err := os.Stat(f.dir); !os.IsNotExist(err) {
		t.Errorf("something was written to disk: %v", err)
	}
}

func TestLFSErrors(t *testing.T) {
	f := newFixture(t)
	s := newLFSServer(t, f)
	_, absent := pointerTo("nobody has this")
	bad := s.add("what is sent is something else")
	long := s.add("what is sent is longer")
	f.commit(t, sourcetest.Files{
		"absent": strings.TrimSuffix(absent, "\n"), "bad": bad, "long": long,
		"large": strings.Replace(bad, "size 30", "size 99999999", 1),
		"ext":   "version https://git-lfs.github.com/spec/v1\next-0-foo sha256:00\noid sha256:00\nsize 1",
		"v9":    "version https://git-lfs.github.com/spec/v9\noid sha256:00\nsize 1",
	})
	s.change = func(c string) string { return strings.ToUpper(c) + strings.Repeat("x", len(c)%2*1000) }
	snap := sourcetest.Fetch(t, f.open(t, withLFS))
	for name, want := range map[string]string{
		"absent": "Object does not exist", "bad": "not the file that the pointer names", "long": "not the file that the pointer names",
		"large": "exceed the limit of 16777216", "ext": "needs an extension", "v9": "unknown version",
	} {
		_, err := snap.Tree.ReadFile(name)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := snap.Tree.ReadFile("large"); !errors.Is(err, gitrepo.ErrTooLarge) {
		t.Errorf("large: %v", err)
	}
}

// Credentials go to the repository's host, and what the server says to send goes
// where it says.
func TestLFSCredentials(t *testing.T) {
	f := newFixture(t)
	s := newLFSServer(t, f)
	f.commit(t, sourcetest.Files{"a": s.add("one"), "b": s.add("two"), "c": s.add("three")})
	f.server.RequireAuth("ada", "s3cret-word")
	snap := sourcetest.Fetch(t, f.open(t, withLFS, func(o *gitrepo.Options) { o.Username, o.Password = "ada", "s3cret-word" }))
	sourcetest.WantFile(t, snap, "a", "one")
	s.header = map[string]string{"Authorization": "Signed for-this"}
	sourcetest.WantFile(t, snap, "b", "two")
	other := s.store.URL
	s.header, s.store.URL = nil, f.server.URL
	sourcetest.WantFile(t, snap, "c", "three")
	s.store.URL = other
	if len(s.auth) != 3 || s.auth[0] != "" || s.auth[1] != "Signed for-this" || !strings.HasPrefix(s.auth[2], "Basic ") {
		t.Errorf("authorizations %q", s.auth)
	}
}

// What is kept of Git LFS is bounded, and what was used last stays.
func TestLFSIsBounded(t *testing.T) {
	f := newFixture(t)
	s := newLFSServer(t, f)
	files := sourcetest.Files{}
	for i := range 8 {
		files[fmt.Sprint("f", i)] = s.add(fmt.Sprint(i) + strings.Repeat("x", 10_000))
	}
	f.commit(t, files)
	snap := sourcetest.Fetch(t, f.open(t, withLFS, func(o *gitrepo.Options) { o.Limits.MirrorBytes = 35_000 }))
	for i := range 8 {
		if _, err := snap.Tree.ReadFile(fmt.Sprint("f", i)); err != nil {
			t.Fatal(err)
		}
	}
	if kept, _ := filepath.Glob(filepath.Join(f.dir, "lfs", "*")); len(kept) != 3 {
		t.Errorf("%d files are kept, want 3", len(kept))
	}
	sourcetest.WantFile(t, snap, "f7", "7"+strings.Repeat("x", 10_000))
	if s.given != 8 {
		t.Errorf("%d downloads, want 8", s.given)
	}
}
