package oci_test

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/ociserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/oci"
)

const secret = "hunter22/with odd+chars%"

func password(user, password string) func(*oci.Options) {
	return func(o *oci.Options) { o.Username, o.Password = user, password }
}

// docker writes a docker configuration and uses it.
func docker(t *testing.T, text string) func(*oci.Options) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(o *oci.Options) { o.DockerConfigFile = file }
}

func TestCredentials(t *testing.T) {
	f := newFixture(t)
	f.write(t, sourcetest.Files{"a": "1"})
	auth := base64.StdEncoding.EncodeToString([]byte("ada:" + secret))
	host := f.server.Host
	for name, tc := range map[string]struct {
		change func(*oci.Options)
		want   string // of the error
	}{
		"none":           {func(*oci.Options) {}, "asks for credentials"},
		"wrong":          {password("ada", "wr0ng"), "refused the credentials"},
		"right":          {password("ada", secret), ""},
		"docker":         {docker(t, fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, "https://"+host+"/v2/", auth)), ""},
		"docker fields":  {docker(t, fmt.Sprintf(`{"auths":{%q:{"username":"ada","password":%q}}}`, host, secret)), ""},
		"docker path":    {docker(t, fmt.Sprintf(`{"auths":{%q:{"auth":"eDp5"},%q:{"auth":%q}}}`, host, host+"/team", auth)), ""},
		"docker other":   {docker(t, fmt.Sprintf(`{"auths":{"ghcr.io":{"auth":%q},%q:{"auth":%q}}}`, auth, host+"/teams", auth)), "asks for credentials"},
		"docker helper":  {docker(t, `{"credsStore":"desktop"}`), "is a program and is not run"},
		"docker garbage": {docker(t, `{"auths": hunter22`), "not JSON"},
		"docker base64":  {docker(t, fmt.Sprintf(`{"auths":{%q:{"auth":"hunter22"}}}`, host)), "not base64"},
		"docker nothing": {func(o *oci.Options) { o.DockerConfigFile = filepath.Join(t.TempDir(), "none.json") }, "none.json"},
	} {
		for kind, require := range map[string]func(){
			"basic": func() { f.server.RequireAuth("ada", secret) },
			"token": func() { f.server.RequireToken("ada", secret, "") },
		} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				require()
				a := f.open(t, tc.change, func(o *oci.Options) { o.Dir = t.TempDir() })
				_, err := a.Fetch(t.Context())
				if tc.want == "" {
					if err != nil {
						t.Fatal(err)
					}
					f.server.Reset()
					sourcetest.Fetch(t, a)
					if n := len(f.server.Requests()); n != 1 {
						t.Errorf("a poll with what the registry gave before cost %d requests", n)
					}
					return
				}
				if !errors.Is(err, oci.ErrAuth) || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter22") || strings.Contains(err.Error(), "wr0ng") {
					t.Errorf("fetch: %v", err)
				}
			})
		}
	}
}

func TestRotatedPasswordFile(t *testing.T) {
	for _, kind := range []string{"basic", "token"} {
		t.Run(kind, func(t *testing.T) {
			f := newFixture(t)
			f.write(t, sourcetest.Files{"a": "1"})
			require := func(password string) {
				if kind == "basic" {
					f.server.RequireAuth("holdfast", password)
				} else {
					f.server.RequireToken("holdfast", password, "")
				}
			}
			file := filepath.Join(t.TempDir(), "token")
			a := f.open(t, func(o *oci.Options) { o.PasswordFile = file })
			if _, err := a.Fetch(t.Context()); !errors.Is(err, oci.ErrAuth) || !strings.Contains(err.Error(), file) {
				t.Errorf("fetch without the file: %v", err)
			}
			put := func(text string) {
				t.Helper()
				if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			put("one-secret")
			require("one-secret")
			sourcetest.Fetch(t, a)
			require("two-secret")
			if _, err := a.Head(t.Context()); !errors.Is(err, oci.ErrAuth) {
				t.Errorf("head with the old one: %v", err)
			}
			put("two-secret")
			if _, err := a.Head(t.Context()); err != nil {
				t.Errorf("head with the new one: %v", err)
			}
		})
	}
}

// Whatever a registry does with the credentials, they reach no error and no file.
func TestCredentialsAreNeverShown(t *testing.T) {
	f := newFixture(t)
	f.write(t, sourcetest.Files{"a": "1"})
	f.server.RequireAuth("ada", secret)
	a := f.open(t, password("ada", secret))
	sourcetest.Fetch(t, a)
	f.write(t, sourcetest.Files{"a": "2"})
	echo := func(code int) gitserver.Fault {
		return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			user, password, _ := r.BasicAuth()
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			fmt.Fprintf(w, `{"errors":[{"code":"X","message":%q}]}`, "you sent "+user+" "+password+" "+r.Header.Get("Authorization"))
		}
	}
	faults := []gitserver.Fault{func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, "http://ada:hunter22@127.0.0.1:1/elsewhere?hunter22", http.StatusTemporaryRedirect)
	}}
	for _, code := range []int{400, 401, 403, 404, 418, 429, 500, 503} {
		faults = append(faults, echo(code), ociserver.OnManifest(echo(code)), ociserver.OnBlob(echo(code)))
	}
	basic := base64.StdEncoding.EncodeToString([]byte("ada:" + secret))
	for i, fault := range faults {
		f.server.SetFault(fault)
		_, err := a.Fetch(t.Context())
		if err == nil || strings.Contains(err.Error(), "hunter22") || strings.Contains(err.Error(), basic) {
			t.Errorf("fault %d: %v", i, err)
		}
	}
	err := filepath.WalkDir(f.dir, func(path string, e fs.DirEntry, err error) error {
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

// Credentials are for the registry they were given for, and a token's realm may
// not be on this machine when the registry is not.
func TestCredentialsDoNotFollowARedirect(t *testing.T) {
	f, other := newFixture(t), newFixture(t)
	f.write(t, sourcetest.Files{"a": "1"})
	other.write(t, sourcetest.Files{"a": "1"})
	f.server.RequireAuth("ada", secret)
	f.server.SetFault(ociserver.OnBlob(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, "http://"+other.server.Host+r.URL.RequestURI(), http.StatusTemporaryRedirect)
	}))
	sourcetest.WantFile(t, sourcetest.Fetch(t, f.open(t, password("ada", secret))), "a", "1")
	for _, r := range other.server.Requests() {
		if r.Authorization != "" {
			t.Errorf("%s carried credentials to another host", r.Path)
		}
	}
	if len(other.server.Requests()) == 0 {
		t.Error("the redirect was not followed")
	}
}

func TestPrivateAuthority(t *testing.T) {
	f := newFixture(t)
	f.write(t, sourcetest.Files{"a": "1"})
	secure := httptest.NewTLSServer(f.server)
	defer secure.Close()
	url := "oci://" + secure.Listener.Addr().String() + "/" + repository
	over := func(o *oci.Options) { o.URL, o.Insecure, o.Dir = url, false, t.TempDir() }
	if _, err := f.open(t, over).Fetch(t.Context()); !errors.Is(err, oci.ErrUnreachable) || !strings.Contains(err.Error(), "configure its certificate") {
		t.Errorf("fetch without its certificate: %v", err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	a := f.open(t, over, func(o *oci.Options) { o.CAFile = file })
	sourcetest.WantFile(t, sourcetest.Fetch(t, a), "a", "1")
	// What leads out of TLS is not followed.
	f.write(t, sourcetest.Files{"a": "2"})
	f.server.SetFault(ociserver.OnBlob(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, "http://"+f.server.Host+r.URL.RequestURI(), http.StatusTemporaryRedirect)
	}))
	if _, err := a.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "without TLS") {
		t.Errorf("fetch that leads out of TLS: %v", err)
	}
}
