package charts_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/ociserver"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/charts"
)

func archive(t *testing.T, name string) []byte {
	t.Helper()
	return ociserver.Archive(t, ociserver.File(name+"/Chart.yaml", "apiVersion: v2\nname: "+name+"\nversion: 1.2.3\n"))
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// repository serves an index and archives, and counts requests.
type repository struct {
	*httptest.Server
	requests atomic.Int32
	files    map[string][]byte
	moved    map[string]string
	user     string
	seenAuth atomic.Int32
}

func serve(t *testing.T) *repository {
	t.Helper()
	r := &repository{files: map[string][]byte{}, moved: map[string]string{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.requests.Add(1)
		user, _, ok := req.BasicAuth()
		if ok {
			r.seenAuth.Add(1)
		}
		if r.user != "" && user != r.user {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if to := r.moved[req.URL.Path]; to != "" {
			http.Redirect(w, req, to, http.StatusFound)
			return
		}
		data, ok := r.files[req.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write(data)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *repository) index(entries string) { r.files["/charts/index.yaml"] = []byte(entries) }

func open(t *testing.T, dir string, registries ...charts.Registry) *charts.Store {
	t.Helper()
	s, err := charts.Open(charts.Options{Dir: dir, Registries: registries, MaxBytes: 1 << 16, MaxIndexBytes: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestChartOfARepositoryIsFetchedOnceAndKept(t *testing.T) {
	r, data, dir := serve(t), archive(t, "web"), t.TempDir()
	r.files["/charts/web-1.2.3.tgz"] = data
	r.index("apiVersion: v1\nentries:\n  web:\n  - {version: 2.0.0, urls: [x]}\n  - {version: 1.2.3, urls: [web-1.2.3.tgz], digest: " + digest(data) + "}\n")
	for i := range 2 {
		s := open(t, dir, charts.Registry{URL: r.URL + "/charts"})
		got, err := s.Fetch(t.Context(), r.URL+"/charts", "web", "1.2.3")
		if err != nil || string(got) != string(data) {
			t.Fatalf("fetch %d: %v", i, err)
		}
	}
	if n := r.requests.Load(); n != 2 {
		t.Errorf("%d requests", n)
	}
}

func TestCacheIsVerified(t *testing.T) {
	r, data, dir := serve(t), archive(t, "web"), t.TempDir()
	r.files["/charts/web-1.2.3.tgz"] = data
	r.index("entries: {web: [{version: 1.2.3, urls: [web-1.2.3.tgz]}]}\n")
	s := open(t, dir, charts.Registry{URL: r.URL})
	fetch := func() ([]byte, error) { return s.Fetch(t.Context(), r.URL+"/charts", "web", "1.2.3") }
	if _, err := fetch(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if err := os.WriteFile(files[0], []byte("garbled"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := fetch(); err != nil || string(got) != string(data) {
		t.Errorf("after the cache was garbled: %v", err)
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	r.files["/charts/web-1.2.3.tgz"] = archive(t, "evil")
	if _, err := fetch(); err == nil || !strings.Contains(err.Error(), "was published again with other content") {
		t.Errorf("error %v", err)
	}
}

func TestRefusedCharts(t *testing.T) {
	r, other := serve(t), serve(t)
	data := archive(t, "web")
	other.files["/web.tgz"] = data
	r.files["/charts/large.tgz"] = make([]byte, 1<<17)
	r.files["/charts/web.tgz"] = data
	r.moved["/charts/moved.tgz"] = other.URL + "/web.tgz"
	r.index(fmt.Sprintf(`entries:
  web: [{version: 1.2.3, urls: [web.tgz], digest: %s}]
  elsewhere: [{version: 1.0.0, urls: ["%s/web.tgz"]}]
  metadata: [{version: 1.0.0, urls: ["http://169.254.169.254/latest"]}]
  large: [{version: 1.0.0, urls: [large.tgz]}]
  moved: [{version: 1.0.0, urls: [moved.tgz]}]
  missing: [{version: 1.0.0, urls: [missing.tgz]}]
`, strings.Repeat("0", 64), other.URL))
	s := open(t, t.TempDir(), charts.Registry{URL: r.URL + "/charts"})
	for _, c := range []struct{ repo, chart, version, want string }{
		{r.URL + "/charts", "web", "1.2.3", "is not what its repository's index says it is: the digests differ"},
		{r.URL + "/charts", "web", "^1.2", `version "^1.2" is not an exact version (such as 1.2.3: a range would be another chart tomorrow)`},
		{r.URL + "/charts", "web", "9.9.9", `has no version 9.9.9 of chart "web" (it has 1 others)`},
		{r.URL + "/charts", "none", "1.0.0", `has no chart "none"`},
		{r.URL + "/charts", "../x", "1.0.0", `chart "../x" is not the name of a chart`},
		{r.URL + "/charts", "elsewhere", "1.0.0", "/web.tgz, which is not allowed by the daemon's configuration (add that address under charts.registries, too)"},
		{r.URL + "/charts", "metadata", "1.0.0", "keeps the chart at http://169.254.169.254/latest, which is not allowed"},
		{r.URL + "/charts", "moved", "1.0.0", "it redirects to " + other.URL + "/web.tgz, which is not allowed"},
		{r.URL + "/charts", "large", "1.0.0", "large.tgz is larger than allowed (65536 bytes)"},
		{r.URL + "/charts", "missing", "1.0.0", "missing.tgz does not exist"},
		{r.URL + "/chartsevil", "web", "1.2.3", "are not allowed by the daemon's configuration (add it under charts.registries)"},
		{r.URL + "/charts/../other", "web", "1.2.3", "are not allowed by the daemon's configuration"},
		{"https://user:hunter2@example.com", "web", "1.2.3", "repo must be an address without credentials or a query"},
		{"file:///etc", "web", "1.2.3", "repo must be an address without credentials or a query"},
	} {
		_, err := s.Fetch(t.Context(), c.repo, c.chart, c.version)
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.As(err, new(sources.Problem)) {
			t.Errorf("%s %s %s: error %v", c.repo, c.chart, c.version, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a password is told: %v", err)
		}
	}
	if other.requests.Load() > 0 {
		t.Error("another server was asked")
	}
}

func TestCredentialsStayWhereTheyBelong(t *testing.T) {
	r, other := serve(t), serve(t)
	data, password := archive(t, "web"), filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.user, r.moved["/charts/web.tgz"], other.files["/web.tgz"] = "me", other.URL+"/web.tgz", data
	r.index("entries: {web: [{version: 1.2.3, urls: [web.tgz]}]}\n")
	s := open(t, t.TempDir(), charts.Registry{URL: r.URL, Username: "me", PasswordFile: password}, charts.Registry{URL: other.URL})
	if _, err := s.Fetch(t.Context(), r.URL+"/charts", "web", "1.2.3"); err != nil {
		t.Fatal(err)
	}
	if r.seenAuth.Load() == 0 || other.seenAuth.Load() > 0 {
		t.Errorf("credentials were sent %d times to the one and %d times to the other", r.seenAuth.Load(), other.seenAuth.Load())
	}
}

func TestServerInTroubleIsNoProblemOfTheSpec(t *testing.T) {
	r := serve(t)
	r.user = "somebody"
	s := open(t, t.TempDir(), charts.Registry{URL: r.URL})
	_, err := s.Fetch(t.Context(), r.URL+"/charts", "web", "1.2.3")
	if err == nil || errors.As(err, new(sources.Problem)) {
		t.Errorf("error %v", err)
	}
}

func TestChartOfARegistryIsFetchedOnceAndKept(t *testing.T) {
	server, dir, data := ociserver.Start(t), t.TempDir(), archive(t, "web")
	server.Publish(t, "org/charts/web", "1.2.3_4", ociserver.Artifact{Layer: data, LayerType: "application/vnd.cncf.helm.chart.content.v1.tar+gzip"})
	server.Publish(t, "org/charts/image", "1.0.0", ociserver.Artifact{Layer: data})
	s := open(t, dir, charts.Registry{URL: "oci://" + server.Host + "/org", Insecure: true})
	repo := "oci://" + server.Host + "/org/charts"
	for range 2 {
		got, err := s.Fetch(t.Context(), repo, "web", "1.2.3+4")
		if err != nil || string(got) != string(data) {
			t.Fatal(err)
		}
	}
	if n := server.Count("GET", "/blobs/"); n != 1 {
		t.Errorf("%d downloads", n)
	}
	for _, c := range []struct{ repo, chart, version, want string }{
		{repo, "image", "1.0.0", "is not a Helm chart (its manifest names no layer of type application/vnd.cncf.helm.chart.content.v1.tar+gzip)"},
		{repo, "web", "2.0.0", `has no version 2.0.0 of chart "web"`},
		{"oci://" + server.Host + "/other", "web", "1.2.3", "are not allowed by the daemon's configuration"},
	} {
		if _, err := s.Fetch(t.Context(), c.repo, c.chart, c.version); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v", c.chart, err)
		}
	}
}

func TestRegistryMayAskForCredentials(t *testing.T) {
	server, data, password := ociserver.Start(t), archive(t, "web"), filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server.Publish(t, "org/web", "1.2.3", ociserver.Artifact{Layer: data, LayerType: "application/vnd.cncf.helm.chart.content.v1.tar+gzip"})
	server.RequireAuth("me", "hunter2")
	for _, r := range []charts.Registry{
		{URL: "oci://" + server.Host, Insecure: true, Username: "me", PasswordFile: password},
		{URL: "oci://" + server.Host, Insecure: true},
	} {
		_, err := open(t, t.TempDir(), r).Fetch(t.Context(), "oci://"+server.Host+"/org", "web", "1.2.3")
		if (err == nil) != (r.PasswordFile != "") {
			t.Errorf("with password %v: error %v", r.PasswordFile != "", err)
		}
	}
}

func TestRegistriesThatAreNone(t *testing.T) {
	for _, url := range []string{"charts.example.com", "file:///x", "https://user:pw@example.com", "https://", "oci://example.com?x=y"} {
		if _, err := charts.Open(charts.Options{Dir: t.TempDir(), Registries: []charts.Registry{{URL: url}}}); err == nil {
			t.Errorf("%s is taken", url)
		}
	}
}
