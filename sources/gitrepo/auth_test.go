package gitrepo_test

import (
	"encoding/base64"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

const secret = "s3cret/with odd+chars%"

func TestCredentials(t *testing.T) {
	f := newFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	f.server.RequireAuth("ada", secret)
	withURL := strings.Replace(f.origin.URL, "http://", "http://ada:s3cret%2Fwith%20odd%2Bchars%25@", 1)
	for name, tc := range map[string]struct {
		change func(*gitrepo.Options)
		kind   error
		want   string
	}{
		"none":   {func(*gitrepo.Options) {}, gitrepo.ErrAuth, "asks for credentials"},
		"wrong":  {func(o *gitrepo.Options) { o.Username, o.Password = "ada", "wr0ng-secret" }, gitrepo.ErrAuth, "refused the credentials"},
		"right":  {func(o *gitrepo.Options) { o.Username, o.Password = "ada", secret }, nil, ""},
		"in url": {func(o *gitrepo.Options) { o.URL = withURL }, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := f.open(t, tc.change, func(o *gitrepo.Options) { o.Dir = t.TempDir() })
			snap, err := r.Fetch(t.Context())
			if tc.kind == nil {
				if err != nil {
					t.Fatal(err)
				}
				snap.Close()
				return
			}
			if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "wr0ng") {
				t.Errorf("fetch: %v", err)
			}
		})
	}
}

func TestRotatedPasswordFile(t *testing.T) {
	f := newFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	file := filepath.Join(t.TempDir(), "token")
	put := func(token string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := f.open(t, func(o *gitrepo.Options) { o.PasswordFile = file })
	if _, err := r.Fetch(t.Context()); !errors.Is(err, gitrepo.ErrAuth) {
		t.Errorf("fetch without the file: %v", err)
	}
	put("one")
	f.server.RequireAuth("git", "one")
	sourcetest.Fetch(t, r)
	f.server.RequireAuth("git", "two")
	if _, err := r.Head(t.Context()); !errors.Is(err, gitrepo.ErrAuth) {
		t.Errorf("head with the old token: %v", err)
	}
	put("two")
	if _, err := r.Head(t.Context()); err != nil {
		t.Errorf("head with the new token: %v", err)
	}
}

// Whatever a server does with the credentials, they reach no error and no file.
func TestCredentialsAreNeverShown(t *testing.T) {
	f := newFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	dir := filepath.Join(t.TempDir(), "mirror")
	r := f.open(t, func(o *gitrepo.Options) {
		o.Dir = dir
		o.URL = strings.Replace(o.URL, "http://", "http://ada:hunter22@", 1)
	})
	basic := base64.StdEncoding.EncodeToString([]byte("ada:hunter22"))
	echo := func(code int) gitserver.Fault {
		return func(w http.ResponseWriter, req *http.Request, _ http.Handler) {
			user, password, _ := req.BasicAuth()
			http.Error(w, "you sent "+user+" "+password+" "+req.Header.Get("Authorization"), code)
		}
	}
	sourcetest.Fetch(t, r)
	faults := []gitserver.Fault{gitserver.HTML(), gitserver.CutAfter(10), func(w http.ResponseWriter, req *http.Request, _ http.Handler) {
		http.Redirect(w, req, "http://ada:hunter22@127.0.0.1:1/elsewhere/info/refs?hunter22", http.StatusFound)
	}}
	for _, code := range []int{400, 401, 403, 404, 418, 500, 503} {
		faults = append(faults, echo(code), gitserver.OnPack(echo(code)))
	}
	f.commit(t, sourcetest.Files{"a": "2"})
	for i, fault := range faults {
		f.server.SetFault(fault)
		_, headErr := r.Head(t.Context())
		_, fetchErr := r.Fetch(t.Context())
		if fetchErr == nil {
			t.Errorf("fault %d was no error", i)
		}
		for _, err := range []error{headErr, fetchErr} {
			if err != nil && (strings.Contains(err.Error(), "hunter22") || strings.Contains(err.Error(), basic)) {
				t.Errorf("fault %d shows the credentials: %v", i, err)
			}
		}
	}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), "hunter22") {
			t.Errorf("%s holds the password", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Credentials are for the server they were given for.
func TestCredentialsDoNotFollowARedirect(t *testing.T) {
	f, other := newFixture(t), newFixture(t)
	other.commit(t, sourcetest.Files{"a": "1"})
	f.server.SetFault(func(w http.ResponseWriter, req *http.Request, _ http.Handler) {
		http.Redirect(w, req, other.server.URL+req.URL.RequestURI(), http.StatusFound)
	})
	r := f.open(t, func(o *gitrepo.Options) { o.Username, o.Password = "ada", secret })
	sourcetest.Fetch(t, r)
	for _, req := range other.server.Requests() {
		if req.Password != "" {
			t.Errorf("%s carried the password to another server", req.Path)
		}
	}
}
