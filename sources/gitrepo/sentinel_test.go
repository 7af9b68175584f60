package gitrepo_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// sentinel is in every secret that the tests below plant, with characters that
// are written otherwise in a URL.
const sentinel = "S3NTINEL/+%&x"

// leaks tells which form of the sentinel a text shows, even its beginning.
func leaks(text string) string {
	for _, form := range []string{"S3NT", base64.StdEncoding.EncodeToString([]byte("S3NTIN"))[:6]} {
		if strings.Contains(text, form) {
			return form
		}
	}
	for _, user := range []string{"ada:", "git:", "x-access-token:", "robot:"} {
		// Its beginning, up to some bytes of what follows the name.
		basic := base64.StdEncoding.EncodeToString([]byte(user + sentinel))[:(len(user)+6)/3*4]
		if strings.Contains(text, basic) {
			return basic
		}
	}
	return ""
}

// echo answers with all that it was sent, behind so much padding.
func echo(code, padding int) gitserver.Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		user, password, _ := r.BasicAuth()
		w.Header().Set("Retry-After", password)
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(code)
		fmt.Fprintf(w, "%s%s %s %s", strings.Repeat("x", padding), password, r.Header.Get("Authorization"), user)
	}
}

// webFaults are ways to fail, each of which knows the credentials.
func webFaults() map[string]gitserver.Fault {
	faults := map[string]gitserver.Fault{
		"html": gitserver.HTML(), "cut": gitserver.CutAfter(20), "cut pack": gitserver.OnPack(gitserver.CutAfter(20)),
		"content type": func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			_, password, _ := r.BasicAuth()
			w.Header().Set("Content-Type", "text/"+password+r.Header.Get("Authorization"))
		},
		"redirect": func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			user, password, _ := r.BasicAuth()
			w.Header().Set("Location", "http://"+user+":"+password+"@127.0.0.1:1/"+password+"/info/refs?"+password)
			w.WriteHeader(http.StatusFound)
		},
		"redirect elsewhere": func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			_, password, _ := r.BasicAuth()
			http.Redirect(w, r, "/"+password+"/other", http.StatusFound)
		},
		"git error": func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			_, password, _ := r.BasicAuth()
			line := "ERR refused " + password + r.Header.Get("Authorization")
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			fmt.Fprintf(w, "%04x%s", len(line)+4, line)
		},
		"git error in the pack": gitserver.OnPack(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			_, password, _ := r.BasicAuth()
			line := "ERR upload-pack: not our ref " + strings.Repeat("x", 150) + password + r.Header.Get("Authorization")
			w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
			fmt.Fprintf(w, "%04x%s", len(line)+4, line)
		}),
	}
	paddings := []int{190} // texts are cut at 200
	if os.Getenv("HOLDFAST_LONG") != "" {
		paddings = []int{0, 150, 180, 185, 195, 199, 280, 290, 299}
	}
	for _, code := range []int{400, 401, 403, 404, 407, 418, 429, 500, 503} {
		for _, padding := range paddings {
			faults[fmt.Sprint(code, " ", padding)] = echo(code, padding)
			faults[fmt.Sprint(code, " pack ", padding)] = gitserver.OnPack(echo(code, padding))
		}
	}
	return faults
}

// Whatever kind of credentials, and whatever goes wrong: no part of them is in
// an error.
func TestNoCredentialIsInAnyError(t *testing.T) {
	t.Parallel()
	f := newSSHFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	write(t, secret, sentinel)
	app := filepath.Join(dir, "app.pem")
	hub := newForge(t, f.server, writeRSA(t, app, false))
	hub.wide = true
	kinds := map[string]func(*gitrepo.Options){
		"in the url":    func(o *gitrepo.Options) { o.URL = strings.Replace(o.URL, "://", "://ada:S3NTINEL%2F+%25&x@", 1) },
		"token in url":  func(o *gitrepo.Options) { o.URL = strings.Replace(o.URL, "://", "://S3NTINEL%2F+%25&x@", 1) },
		"password":      func(o *gitrepo.Options) { o.Username, o.Password = "ada", sentinel },
		"password file": func(o *gitrepo.Options) { o.PasswordFile = secret },
		"bearer file":   func(o *gitrepo.Options) { o.BearerFile = secret },
		"proxy": func(o *gitrepo.Options) {
			o.Proxy = gitrepo.Proxy{URL: "http://127.0.0.1:1", Username: "robot", PasswordFile: secret}
		},
		"proxy's url": func(o *gitrepo.Options) { o.Proxy.URL = "http://robot:S3NTINEL%2F+%25&x@127.0.0.1:1" },
		"app": func(o *gitrepo.Options) {
			o.GitHubApp = &gitrepo.GitHubApp{ID: "42", Installation: "4711", KeyFile: app, BaseURL: hub.URL + "/api/v3"}
		},
	}
	tokens := func(text string) bool { return strings.Contains(text, "ghs_s") }
	for kind, change := range kinds {
		t.Run(kind, func(t *testing.T) {
			for name, fault := range webFaults() {
				r := f.fixture.open(t, func(o *gitrepo.Options) {
					o.Dir, o.Timeout = filepath.Join(dir, "mirror", kind, name), 5*time.Second
				}, change)
				f.server.SetFault(fault)
				_, headErr := r.Head(t.Context())
				_, fetchErr := r.Fetch(t.Context())
				_, refsErr := r.Refs(t.Context())
				for _, err := range []error{headErr, fetchErr, refsErr} {
					if err == nil {
						continue
					}
					if form := leaks(fmt.Sprintf("%v %+v %#v", err, err, err)); form != "" || tokens(err.Error()) {
						t.Errorf("%s shows %q: %v", name, form, err)
					}
				}
				if fetchErr == nil {
					t.Errorf("%s was no error", name)
				}
				if moved := r.Moved(); leaks(moved) != "" {
					t.Errorf("%s: moved to %s", name, moved)
				}
				r.Close()
				f.server.SetFault(nil)
			}
		})
	}
}

func TestNoSSHSecretIsInAnyError(t *testing.T) {
	t.Parallel()
	f := newSSHFixture(t)
	f.commit(t, sourcetest.Files{"a": "1"})
	dir := t.TempDir()
	locked, passphrase, broken := filepath.Join(dir, "locked"), filepath.Join(dir, "pass"), filepath.Join(dir, "broken")
	f.ssh.Authorize(gitserver.WriteKey(t, locked, sentinel))
	write(t, passphrase, sentinel)
	pem, err := os.ReadFile(locked)
	if err != nil {
		t.Fatal(err)
	}
	write(t, broken, strings.Replace(string(pem), "KEY-----\n", "KEY-----\nS3NTINEL", 1))
	for name, change := range map[string]func(*gitrepo.Options){
		"wrong passphrase": func(o *gitrepo.Options) { o.SSH.PassphraseFile = f.known },
		"broken key":       func(o *gitrepo.Options) { o.SSH.KeyFiles = []string{broken} },
		"two lines": func(o *gitrepo.Options) {
			write(t, passphrase+"2", sentinel+"\nx")
			o.SSH.PassphraseFile = passphrase + "2"
		},
		"server says it":   func(*gitrepo.Options) { f.ssh.SetFault(gitserver.SSHFault{Say: strings.Repeat("x", 290) + sentinel}) },
		"server prints it": func(*gitrepo.Options) { f.ssh.SetFault(gitserver.SSHFault{Print: sentinel}) },
		"password in url": func(o *gitrepo.Options) {
			o.URL = "ssh://git:S3NTINEL@" + f.ssh.Addr + "/web.git"
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer f.ssh.SetFault(gitserver.SSHFault{})
			o := gitrepo.Options{Name: "web", Dir: t.TempDir(), Timeout: 5 * time.Second}
			f.overSSH(&o)
			o.SSH.KeyFiles, o.SSH.PassphraseFile = []string{locked}, passphrase
			change(&o)
			r, err := gitrepo.Open(o)
			if err == nil {
				defer r.Close()
				_, err = r.Fetch(t.Context())
			}
			if err == nil || leaks(fmt.Sprintf("%v %#v", err, err)) != "" {
				t.Errorf("error: %v", err)
			}
		})
	}
}

// The API of an app may echo what it is sent, too.
func TestNoProofIsInAnyError(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := filepath.Join(dir, "app.pem")
	writeRSA(t, key, false)
	step := 17
	if os.Getenv("HOLDFAST_LONG") != "" {
		step = 1
	}
	for padding := 0; padding < 200; padding += step {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			fmt.Fprintf(w, `{"message": "%s%s"}`, strings.Repeat("-", padding), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		}))
		r, err := gitrepo.Open(gitrepo.Options{
			Name: "web", Dir: dir, URL: srv.URL + "/team/web",
			GitHubApp: &gitrepo.GitHubApp{ID: "42", KeyFile: key, BaseURL: srv.URL},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = r.Head(t.Context()); err == nil || strings.Contains(err.Error(), "eyJ") {
			t.Errorf("error: %v", err)
		}
		r.Close()
		srv.Close()
	}
}
