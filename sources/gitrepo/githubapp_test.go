package gitrepo_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// forge is the part of GitHub that an app meets: the two calls of its API, and a
// repository that takes the tokens they give.
type forge struct {
	URL string
	t   *testing.T
	git http.Handler

	mu     sync.Mutex
	key    *rsa.PublicKey
	issued int
	// good are the tokens that are taken; lifetime is that of the next.
	good     map[string]bool
	lifetime time.Duration
	// down is what the API answers instead.
	down int
	// wide expects tokens for all repositories, of a URL that names none.
	wide    bool
	refused int
	asked   []string
	// wished are the rights that tokens were asked for with; writers are those that
	// may push.
	wished  []string
	writers map[string]bool
}

func newForge(t *testing.T, git http.Handler, key *rsa.PublicKey) *forge {
	t.Helper()
	f := &forge{t: t, git: git, key: key, good: map[string]bool{}, writers: map[string]bool{}, lifetime: time.Hour}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v3/repos/team/web/installation", f.api(func(http.ResponseWriter, *http.Request) any {
		return map[string]any{"id": 4711}
	}))
	mux.HandleFunc("POST /api/v3/app/installations/4711/access_tokens", f.api(f.issue))
	mux.HandleFunc("/team/web.git/", f.serveGit)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	f.URL = srv.URL
	return f
}

func (f *forge) api(answer func(http.ResponseWriter, *http.Request) any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.asked = append(f.asked, r.Method+" "+r.URL.Path)
		if f.down != 0 {
			w.WriteHeader(f.down)
			fmt.Fprintf(w, `{"message": "you sent %s"}`, r.Header.Get("Authorization"))
			return
		}
		if err := f.proven(r); err != nil {
			f.asked = append(f.asked, err.Error())
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"message": "A JSON web token could not be decoded"}`)
			return
		}
		if out := answer(w, r); out != nil {
			_ = json.NewEncoder(w).Encode(out)
		}
	}
}

// proven checks the app's proof as GitHub documents it.
func (f *forge) proven(r *http.Request) error {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	parts := strings.Split(token, ".")
	if !ok || len(parts) != 3 {
		return errors.New("no web token")
	}
	var raw [3][]byte
	for i, p := range parts {
		var err error
		if raw[i], err = base64.RawURLEncoding.DecodeString(p); err != nil {
			return err
		}
	}
	var head struct{ Alg, Typ string }
	var claims struct {
		Iss      string
		Iat, Exp int64
	}
	if err := errors.Join(json.Unmarshal(raw[0], &head), json.Unmarshal(raw[1], &claims)); err != nil {
		return err
	}
	now := time.Now()
	iat, exp := time.Unix(claims.Iat, 0), time.Unix(claims.Exp, 0)
	if head.Alg != "RS256" || head.Typ != "JWT" || claims.Iss != "42" || iat.After(now) || exp.Before(now) || exp.Sub(now) > 10*time.Minute {
		return fmt.Errorf("claims %s", raw[1])
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	return rsa.VerifyPKCS1v15(f.key, crypto.SHA256, sum[:], raw[2])
}

func (f *forge) issue(_ http.ResponseWriter, r *http.Request) any {
	var wish struct {
		Repositories []string
		Permissions  map[string]string
	}
	err := json.NewDecoder(r.Body).Decode(&wish)
	if f.wide && err == nil && len(wish.Repositories) == 0 {
		wish.Repositories, wish.Permissions = []string{"web"}, map[string]string{"contents": "read"}
	}
	if err != nil || len(wish.Repositories) != 1 || wish.Repositories[0] != "web" || len(wish.Permissions) != 1 {
		f.t.Errorf("the token is wished for as %+v, %v", wish, err)
	}
	f.issued++
	token := fmt.Sprintf("ghs_secret%d", f.issued)
	f.good[token] = true
	f.wished = append(f.wished, wish.Permissions["contents"])
	f.writers[token] = wish.Permissions["contents"] == "write"
	return map[string]any{"token": token, "expires_at": time.Now().Add(f.lifetime).UTC().Format(time.RFC3339)}
}

func (f *forge) serveGit(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	f.mu.Lock()
	pushes := strings.Contains(r.URL.String(), "git-receive-pack")
	ok := user == "x-access-token" && f.good[password] && (f.writers[password] || !pushes)
	if !ok {
		f.refused++
	}
	f.mu.Unlock()
	if !ok {
		http.Error(w, "Bad credentials "+password, http.StatusUnauthorized)
		return
	}
	http.StripPrefix("/team", f.git).ServeHTTP(w, r)
}

func (f *forge) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// counts are how many tokens were issued, and requests refused.
func (f *forge) counts() (issued, refused int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.issued, f.refused
}

func writeRSA(t *testing.T, path string, pkcs8 bool) *rsa.PublicKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	if pkcs8 {
		block.Type = "PRIVATE KEY"
		if block.Bytes, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
			t.Fatal(err)
		}
	}
	write(t, path, string(pem.EncodeToMemory(block)))
	return &key.PublicKey
}

func TestGitHubApp(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	file := filepath.Join(t.TempDir(), "app.pem")
	hub := newForge(t, f.server, writeRSA(t, file, false))
	app := gitrepo.GitHubApp{ID: "42", KeyFile: file, BaseURL: hub.URL + "/api/v3/"}
	open := func(change ...func(*gitrepo.GitHubApp)) *gitrepo.Repo {
		return f.open(t, func(o *gitrepo.Options) {
			own := app
			for _, c := range change {
				c(&own)
			}
			o.Dir, o.URL, o.GitHubApp = t.TempDir(), hub.URL+"/team/web.git", &own
		})
	}
	want := func(step string, issued, refused int) {
		t.Helper()
		if i, r := hub.counts(); i != issued || r != refused {
			t.Errorf("%s: %d tokens issued, %d requests refused, want %d and %d", step, i, r, issued, refused)
		}
	}
	r := open()
	sourcetest.WantFile(t, sourcetest.Fetch(t, r), "a", "1")
	sourcetest.Fetch(t, r)
	want("a token is kept", 1, 0)
	if !slices.Equal(hub.wished, []string{"read"}) {
		t.Errorf("to read, tokens are asked for that may %q", hub.wished)
	}
	if len(hub.asked) != 2 || !strings.HasSuffix(hub.asked[0], "/repos/team/web/installation") {
		t.Errorf("the API was asked for %q", hub.asked)
	}
	named := open(func(a *gitrepo.GitHubApp) { a.Installation = "4711" })
	sourcetest.Fetch(t, named)
	want("an installation that is named is not looked up", 2, 0)

	hub.set(func() { clear(hub.good) })
	sourcetest.Fetch(t, r)
	want("a revoked token is replaced in the same operation", 3, 1)

	hub.set(func() { clear(hub.good); hub.lifetime = 4 * time.Minute })
	sourcetest.Fetch(t, r)
	want("and again", 4, 2)
	sourcetest.Fetch(t, r)
	want("one that ends soon is replaced before", 5, 2)
	hub.set(func() { hub.down = http.StatusServiceUnavailable })
	sourcetest.Fetch(t, r)
	want("while no other can be had it is used to its end", 5, 2)

	hub.set(func() { clear(hub.good) })
	if _, err := r.Head(t.Context()); !errors.Is(err, gitrepo.ErrAuth) {
		t.Errorf("the last token was revoked: %v", err)
	}
	wantKind(t, r, gitrepo.ErrUnreachable, "answers 503")
	hub.set(func() { hub.down = 0 })
	sourcetest.Fetch(t, r)
}

func TestGitHubAppErrors(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	dir := t.TempDir()
	file, other, broken := filepath.Join(dir, "app.pem"), filepath.Join(dir, "other.pem"), filepath.Join(dir, "broken.pem")
	hub := newForge(t, f.server, writeRSA(t, file, true))
	writeRSA(t, other, false)
	write(t, broken, "-----BEGIN PRIVATE KEY-----\nsecret\n")
	for name, tc := range map[string]struct {
		change func(*gitrepo.Options)
		down   int
		kind   error
		want   string
	}{
		"another key":      {func(o *gitrepo.Options) { o.GitHubApp.KeyFile = other }, 0, gitrepo.ErrAuth, "check the app's id, its private key"},
		"another app":      {func(o *gitrepo.Options) { o.GitHubApp.ID = "43" }, 0, gitrepo.ErrAuth, "answers 401"},
		"no key":           {func(o *gitrepo.Options) { o.GitHubApp.KeyFile = dir + "/none" }, 0, gitrepo.ErrAuth, "no such file"},
		"a broken key":     {func(o *gitrepo.Options) { o.GitHubApp.KeyFile = broken }, 0, gitrepo.ErrAuth, "RSA key, in PEM"},
		"not installed":    {func(o *gitrepo.Options) { o.GitHubApp.Installation = "1" }, 0, gitrepo.ErrAuth, "installed for the repository"},
		"suspended":        {func(*gitrepo.Options) {}, 403, gitrepo.ErrAuth, "answers 403"},
		"down":             {func(*gitrepo.Options) {}, 502, gitrepo.ErrUnreachable, "answers 502"},
		"not there":        {func(o *gitrepo.Options) { o.GitHubApp.BaseURL = "http://127.0.0.1:1" }, 0, gitrepo.ErrUnreachable, "connection refused"},
		"not GitHub":       {func(o *gitrepo.Options) { o.GitHubApp.BaseURL = hub.URL + "/team/web.git" }, 0, gitrepo.ErrAuth, "answers 401"},
		"sent elsewhere":   {func(*gitrepo.Options) {}, 302, gitrepo.ErrUnreachable, "answers 302"},
		"good, in PKCS #8": {func(*gitrepo.Options) {}, 0, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			hub.set(func() { hub.down = tc.down })
			defer hub.set(func() { hub.down = 0 })
			r := f.open(t, func(o *gitrepo.Options) {
				o.Dir, o.URL = t.TempDir(), hub.URL+"/team/web.git"
				o.GitHubApp = &gitrepo.GitHubApp{ID: "42", KeyFile: file, BaseURL: hub.URL + "/api/v3"}
				tc.change(o)
			})
			if tc.kind == nil {
				sourcetest.Fetch(t, r)
				return
			}
			wantKind(t, r, tc.kind, tc.want, "GitHub App")
			_, err := r.Head(t.Context())
			if strings.Contains(err.Error(), "Bearer ey") {
				t.Errorf("the proof is shown: %v", err)
			}
		})
	}
	for _, app := range []gitrepo.GitHubApp{{KeyFile: "x"}, {ID: "1"}, {ID: "1", KeyFile: "x", BaseURL: "ftp://x"}, {ID: "1", KeyFile: "x"}} {
		r, err := gitrepo.Open(gitrepo.Options{URL: "https://host/only", Dir: dir, GitHubApp: &app})
		if err == nil {
			r.Close()
			t.Errorf("%+v was taken", app)
		}
	}
}

// TestAGitHubAppAsksToWriteOnlyToPush: what reads never holds a token that could
// write, also where the two are the same app.
func TestAGitHubAppAsksToWriteOnlyToPush(t *testing.T) {
	t.Parallel()
	server := gitserver.Start(t)
	repo := server.Repo(t, "web")
	pushable(t, repo)
	file := filepath.Join(t.TempDir(), "app.pem")
	hub := newForge(t, server, writeRSA(t, file, false))
	o := gitrepo.Options{
		Name: "web", URL: hub.URL + "/team/web.git", Ref: "main", Dir: t.TempDir(),
		GitHubApp: &gitrepo.GitHubApp{ID: "42", KeyFile: file, BaseURL: hub.URL + "/api/v3"},
	}
	r, head := fetched(t, o)
	if _, err := r.Push(t.Context(), o, proposal(head)); err != nil {
		t.Fatal(err)
	}
	sourcetest.Fetch(t, r)
	if _, refused := hub.counts(); refused != 0 || !slices.Equal(hub.wished, []string{"read", "write"}) {
		t.Errorf("tokens that may %q were asked for, and %d requests refused", hub.wished, refused)
	}
	hub.set(func() { hub.down = http.StatusUnprocessableEntity })
	p := proposal(head)
	p.Branch = "holdfast/other"
	if _, err := r.Push(t.Context(), o, p); !errors.Is(err, gitrepo.ErrAuth) || !strings.Contains(err.Error(), "may read and write its contents") {
		t.Errorf("an app that may not write: %v", err)
	}
}
