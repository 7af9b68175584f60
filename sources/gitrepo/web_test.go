package gitrepo_test

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// guarded lets in whom allow lets in, and counts how many it did not.
type guarded struct {
	git     http.Handler
	allow   func(*http.Request) bool
	refused int
}

func (g *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !g.allow(r) {
		g.refused++
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	g.git.ServeHTTP(w, r)
}

// behind serves the fixture's repositories behind a guard.
func (f *fixture) behind(t *testing.T, allow func(*http.Request) bool) (url string, g *guarded) {
	t.Helper()
	g = &guarded{git: f.server, allow: allow}
	srv := httptest.NewServer(g)
	t.Cleanup(srv.Close)
	return srv.URL + "/web.git", g
}

func TestBearerToken(t *testing.T) {
	f := newFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	file := filepath.Join(t.TempDir(), "bearer")
	url, _ := f.behind(t, func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer right.token" })
	r := f.open(t, func(o *gitrepo.Options) { o.URL, o.BearerFile = url, file })
	wantKind(t, r, gitrepo.ErrAuth, "read the bearer token", "no such file")
	write(t, file, "wrong.token\n")
	wantKind(t, r, gitrepo.ErrAuth, "refused the credentials")
	write(t, file, "right.token\n")
	sourcetest.WantFile(t, sourcetest.Fetch(t, r), "a", "1")
	write(t, file, "\n")
	wantKind(t, r, gitrepo.ErrAuth, "is empty")
	write(t, file, "two\nlines\n")
	wantKind(t, r, gitrepo.ErrAuth, "more than one line")
}

// A token that is replaced while a request with the old one is under way is read
// again, and the request is made once more.
func TestCredentialsRotateDuringARequest(t *testing.T) {
	t.Parallel()
	for _, suffix := range []string{"info/refs", "git-upload-pack"} {
		t.Run(suffix, func(t *testing.T) {
			f := newFixture(t)
			f.commit(t, sourcetest.Files{"a": "1"})
			file := filepath.Join(t.TempDir(), "token")
			write(t, file, "old")
			good := "old"
			url, g := f.behind(t, func(r *http.Request) bool {
				if _, password, _ := r.BasicAuth(); password == "old" && strings.HasSuffix(r.URL.Path, suffix) {
					good = "new"
					write(t, file, good)
				}
				_, password, _ := r.BasicAuth()
				return password == good
			})
			r := f.open(t, func(o *gitrepo.Options) { o.URL, o.PasswordFile = url, file })
			sourcetest.WantFile(t, sourcetest.Fetch(t, r), "a", "1")
			if g.refused != 1 {
				t.Errorf("%d requests were refused", g.refused)
			}
			good = "newest" // revoked, and nothing new in the file
			g.refused = 0
			if _, err := r.Head(t.Context()); !errors.Is(err, gitrepo.ErrAuth) || g.refused != 1 {
				t.Errorf("a revoked token was sent %d times: %v", g.refused, err)
			}
		})
	}
}

func TestClientCertificate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	ours, theirs, strangers := newAuthority(t), newAuthority(t), newAuthority(t)
	srv := theirs.serve(t, f.server, ours)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	base := func(o *gitrepo.Options) { o.URL, o.CAFile = srv.URL+"/web.git", theirs.file }
	wantKind(t, f.open(t, base), gitrepo.ErrAuth, "certificate required", "configure a client certificate")

	r := f.open(t, base, func(o *gitrepo.Options) { o.CertFile, o.KeyFile = cert, key })
	wantKind(t, r, gitrepo.ErrAuth, "read the client certificate", "no such file")
	write(t, cert, "x")
	write(t, key, "x")
	wantKind(t, r, gitrepo.ErrAuth, "read the client certificate from "+cert)
	strangers.issueTo(t, cert, key, time.Hour)
	wantKind(t, r, gitrepo.ErrAuth, "whether the server knows who issued it")
	ours.issueTo(t, cert, key, -time.Hour)
	wantKind(t, r, gitrepo.ErrAuth, "has expired")
	ours.issueTo(t, cert, key, time.Hour)
	sourcetest.WantFile(t, sourcetest.Fetch(t, r), "a", "1")
}

// The server's authority may change, too.
func TestAuthorityRotates(t *testing.T) {
	f := newFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	old, fresh := newAuthority(t), newAuthority(t)
	srv := fresh.serve(t, f.server, nil)
	file := filepath.Join(t.TempDir(), "ca")
	r := f.open(t, func(o *gitrepo.Options) { o.URL, o.CAFile = srv.URL+"/web.git", file })
	wantKind(t, r, gitrepo.ErrAuth, "read the certificates")
	write(t, file, "nothing")
	wantKind(t, r, gitrepo.ErrAuth, "no certificate in it")
	copyFile(t, old.file, file)
	wantKind(t, r, gitrepo.ErrUnreachable, "private authority")
	copyFile(t, fresh.file, file)
	sourcetest.WantFile(t, sourcetest.Fetch(t, r), "a", "1")
}

func TestProxies(t *testing.T) {
	t.Parallel()
	f := newSSHFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	ca := newAuthority(t)
	secure := ca.serve(t, f.server, nil)
	for name, tc := range map[string]struct {
		socks bool
		reach func(*gitrepo.Options)
		over  string
	}{
		"http over http":   {false, func(*gitrepo.Options) {}, strings.TrimPrefix(f.server.URL, "http://")},
		"https over http":  {false, func(o *gitrepo.Options) { o.URL, o.CAFile = secure.URL+"/web.git", ca.file }, strings.TrimPrefix(secure.URL, "https://")},
		"ssh over http":    {false, f.overSSH, f.ssh.Addr},
		"http over socks":  {true, func(*gitrepo.Options) {}, strings.TrimPrefix(f.server.URL, "http://")},
		"https over socks": {true, func(o *gitrepo.Options) { o.URL, o.CAFile = secure.URL+"/web.git", ca.file }, strings.TrimPrefix(secure.URL, "https://")},
		"ssh over socks":   {true, f.overSSH, f.ssh.Addr},
	} {
		t.Run(name, func(t *testing.T) {
			p := gitserver.StartProxy(t, tc.socks)
			file := filepath.Join(t.TempDir(), "password")
			write(t, file, "hunter22")
			through := func(more ...func(*gitrepo.Options)) *gitrepo.Repo {
				return f.fixture.open(t, append([]func(*gitrepo.Options){tc.reach, func(o *gitrepo.Options) {
					o.Dir, o.Proxy.URL = t.TempDir(), p.URL
				}}, more...)...)
			}
			sourcetest.WantFile(t, sourcetest.Fetch(t, through()), "a", "1")
			if len(p.Targets()) == 0 || p.Targets()[0] != tc.over {
				t.Errorf("the proxy was asked for %q, want %s", p.Targets(), tc.over)
			}
			p.RequireAuth("robot", "hunter22")
			p.Cut() // who is connected is not asked again
			known := through(func(o *gitrepo.Options) { o.Proxy.Username, o.Proxy.PasswordFile = "robot", file })
			sourcetest.WantFile(t, sourcetest.Fetch(t, known), "a", "1")
			wantKind(t, through(), gitrepo.ErrAuth, "proxy")
			p.RequireAuth("robot", "hunter23")
			p.Cut()
			wantKind(t, known, gitrepo.ErrAuth, "proxy")
			write(t, file, "hunter23")
			if _, err := known.Head(t.Context()); err != nil {
				t.Errorf("after the proxy's password was rotated: %v", err)
			}
			p.Close()
			wantKind(t, known, gitrepo.ErrUnreachable, "connection re")
		})
	}
	for url, want := range map[string]string{
		"ftp://proxy":              "not supported",
		"http://":                  "names no host",
		"http://robot:hush@ho st/": "cannot be parsed",
	} {
		r := f.open(t, func(o *gitrepo.Options) { o.Dir, o.Proxy.URL = t.TempDir(), url })
		wantKind(t, r, gitrepo.ErrUnreachable, want)
	}
}

// A move is said, and nothing secret goes along.
func TestRedirectIsSaid(t *testing.T) {
	t.Parallel()
	f, other := newFixture(t), newFixture(t)
	want := other.commit(t, sourcetest.Files{"a": "1"})
	f.server.SetFault(func(w http.ResponseWriter, req *http.Request, _ http.Handler) {
		http.Redirect(w, req, other.server.URL+req.URL.RequestURI(), http.StatusMovedPermanently)
	})
	file := filepath.Join(t.TempDir(), "bearer")
	write(t, file, "hunter22")
	r := f.open(t, func(o *gitrepo.Options) { o.BearerFile = file })
	if r.Moved() != "" {
		t.Errorf("before any listing it moved to %s", r.Moved())
	}
	head, err := r.Head(t.Context())
	if err != nil || head.ID != want || r.Moved() != other.server.URL+"/web.git" {
		t.Errorf("%+v, %v, moved to %q", head, err, r.Moved())
	}
	url, g := other.behind(t, func(r *http.Request) bool {
		if r.Header.Get("Authorization") != "" {
			t.Error("the token went to another host")
		}
		return false
	})
	f.server.SetFault(func(w http.ResponseWriter, req *http.Request, _ http.Handler) {
		http.Redirect(w, req, strings.TrimSuffix(url, "/web.git")+req.URL.RequestURI(), http.StatusFound)
	})
	wantKind(t, r, gitrepo.ErrAuth, "redirects to "+url, "do not follow to another host")
	if g.refused == 0 {
		t.Error("the redirect was not followed at all")
	}
	f.server.SetFault(nil)
	f.commit(t, sourcetest.Files{"a": "1"})
	if _, err := r.Head(t.Context()); err != nil || r.Moved() != "" {
		t.Errorf("back again: %v, moved to %q", err, r.Moved())
	}
	ca := newAuthority(t)
	secure := ca.serve(t, http.RedirectHandler(f.origin.URL+"/info/refs", http.StatusFound), nil)
	r = f.open(t, func(o *gitrepo.Options) { o.URL, o.CAFile = secure.URL+"/web.git", ca.file })
	wantKind(t, r, gitrepo.ErrUnreachable, `changes scheme from "https" to "http"`)
}
