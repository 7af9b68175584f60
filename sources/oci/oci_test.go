package oci_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/ociserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/oci"
)

func TestMain(m *testing.M) {
	sourcetest.Child(func(url, dir string) (sourcetest.Source, error) {
		return oci.Open(oci.Options{Name: "web", URL: url, Dir: dir, Insecure: true})
	})
	goleak.VerifyTestMain(m)
}

const repository = "team/web"

// fixture is one repository of one registry, and the folder of its cache.
type fixture struct {
	server *ociserver.Server
	files  sourcetest.Files
	dir    string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	return &fixture{server: ociserver.Start(t), files: sourcetest.Files{}, dir: filepath.Join(t.TempDir(), "cache")}
}

// write publishes what was written so far, with changes, as the newest.
func (f *fixture) write(t *testing.T, changes sourcetest.Files) string {
	t.Helper()
	maps.Copy(f.files, changes)
	maps.DeleteFunc(f.files, func(_, content string) bool { return content == gitserver.Delete })
	return f.publish(t, "latest", ociserver.Artifact{Files: f.files})
}

func (f *fixture) publish(t *testing.T, tag string, a ociserver.Artifact) string {
	t.Helper()
	return f.server.Publish(t, repository, tag, a)
}

// open opens the artifact as a fresh process would.
func (f *fixture) open(t *testing.T, change ...func(*oci.Options)) *oci.Artifact {
	t.Helper()
	o := oci.Options{Name: "web", URL: f.server.URL(repository), Dir: f.dir, Insecure: true, Timeout: 20 * time.Second}
	for _, c := range change {
		c(&o)
	}
	a, err := oci.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// harness is for the laws and cases of all sources.
func (f *fixture) harness() sourcetest.Harness {
	return sourcetest.Harness{
		Write:   func(t *testing.T, files sourcetest.Files) { f.write(t, files) },
		Open:    func(t *testing.T) sourcetest.Source { return f.open(t) },
		Restart: func(s sourcetest.Source) { s.(*oci.Artifact).Close() },
		Names:   f.server.URL(repository),
		Break: func(*testing.T) func() {
			f.server.SetFault(gitserver.Status(http.StatusBadGateway))
			return func() { f.server.SetFault(nil) }
		},
	}
}

func TestLaws(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T) sourcetest.Harness { return newFixture(t).harness() })
}

func tag(name string) func(*oci.Options)    { return func(o *oci.Options) { o.Ref = name } }
func semver(text string) func(*oci.Options) { return func(o *oci.Options) { o.Semver = text } }

// wantRequests checks what the last operations cost.
func (f *fixture) wantRequests(t *testing.T, want map[string]int) {
	t.Helper()
	got := map[string]int{}
	for _, r := range f.server.Requests() {
		what, _, _ := strings.Cut(strings.TrimPrefix(r.Path, "/v2/"+repository+"/"), "/")
		got[r.Method+" "+what]++
	}
	if !maps.Equal(got, want) {
		t.Errorf("requests: %v, want %v", got, want)
	}
	f.server.Reset()
}

func TestRequestsPerOperation(t *testing.T) {
	f := newFixture(t)
	digest := f.write(t, sourcetest.Files{"a": "1"})
	poll := map[string]int{"HEAD manifests": 1}
	download := map[string]int{"HEAD manifests": 1, "GET manifests": 1, "GET blobs": 1}
	a := f.open(t)
	if _, err := a.Head(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.wantRequests(t, poll)
	sourcetest.Fetch(t, a)
	f.wantRequests(t, download)
	sourcetest.Fetch(t, a)
	f.wantRequests(t, poll)
	f.write(t, sourcetest.Files{"a": "2"})
	sourcetest.Fetch(t, a)
	f.wantRequests(t, download)
	a.Close()
	pinned := f.open(t, tag(digest))
	sourcetest.WantFile(t, sourcetest.Fetch(t, pinned), "a", "1")
	f.wantRequests(t, download)
	sourcetest.Fetch(t, pinned)
	f.wantRequests(t, map[string]int{})
}

func TestRevisionTellsWhereTheArtifactComesFrom(t *testing.T) {
	f := newFixture(t)
	digest := f.publish(t, "v1", ociserver.Artifact{Files: sourcetest.Files{"a": "1"}, Annotations: map[string]string{
		"org.opencontainers.image.revision": "main@sha1:b3b00fe35424a45d373bf4c7214178bc36fd7872",
		"org.opencontainers.image.source":   "https://git.example.com/web\x1b[31m",
		"org.opencontainers.image.created":  "2026-02-03T04:05:06Z",
		"org.opencontainers.image.authors":  "Ada Example",
	}})
	a := f.open(t, tag("v1"))
	rev := sourcetest.Fetch(t, a).Revision
	if rev.ID != digest || rev.Ref != "v1" || rev.Author != "Ada Example" || !rev.Time.Equal(time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)) {
		t.Errorf("revision %+v", rev)
	}
	if want := "main@sha1:b3b00fe35424a45d373bf4c7214178bc36fd7872 of https://git.example.com/web [31m"; rev.Subject != want {
		t.Errorf("subject %q, want %q", rev.Subject, want)
	}
	if want := "v1@" + strings.TrimPrefix(digest, "sha256:")[:7]; rev.Short() != want {
		t.Errorf("quoted as %q, want %q", rev.Short(), want)
	}
	head, err := a.Head(t.Context())
	if err != nil || head != rev {
		t.Errorf("head %+v, %v", head, err)
	}
}

func TestSemver(t *testing.T) {
	f := newFixture(t)
	for _, v := range []string{"1.0.0", "v1.4.2", "1.10.0", "2.0.0-rc.1", "2.0.0", "latest", "1.11", "3.0.0_build.5"} {
		f.publish(t, v, ociserver.Artifact{Files: sourcetest.Files{"version": v}})
	}
	f.server.SetPage(3)
	for within, want := range map[string]string{
		">=1.0.0 <1.10.0": "v1.4.2", "~1.10": "1.10.0", "1.x": "1.10.0", "^2": "2.0.0",
		">=2.0.0-0 <2.0.0": "2.0.0-rc.1", "*": "3.0.0_build.5",
	} {
		t.Run(within, func(t *testing.T) {
			a := f.open(t, semver(within), func(o *oci.Options) { o.Dir = t.TempDir() })
			snap := sourcetest.Fetch(t, a)
			sourcetest.WantFile(t, snap, "version", want)
			if snap.Revision.Ref != want {
				t.Errorf("ref %q, want %q", snap.Revision.Ref, want)
			}
		})
	}
	a := f.open(t, semver("^2"))
	sourcetest.WantFile(t, sourcetest.Fetch(t, a), "version", "2.0.0")
	f.publish(t, "2.1.0", ociserver.Artifact{Files: sourcetest.Files{"version": "2.1.0"}})
	sourcetest.WantFile(t, sourcetest.Fetch(t, a), "version", "2.1.0")
	_, err := f.open(t, semver(">=9"), func(o *oci.Options) { o.Dir = t.TempDir() }).Fetch(t.Context())
	if !errors.Is(err, oci.ErrRefNotFound) || !strings.Contains(err.Error(), `none of the 9 tags is a version within ">=9"`) {
		t.Errorf("fetch: %v", err)
	}
}

func TestPlainLayersAreRead(t *testing.T) {
	f := newFixture(t)
	f.publish(t, "latest", ociserver.Artifact{Files: sourcetest.Files{"a": "1"}, LayerType: ociserver.PlainLayer})
	sourcetest.WantFile(t, sourcetest.Fetch(t, f.open(t)), "a", "1")
}

// A registry may leave the digest out of its answer to HEAD.
func TestHeadWithoutADigest(t *testing.T) {
	f := newFixture(t)
	digest := f.write(t, sourcetest.Files{"a": "1"})
	f.server.SetBareHead(true)
	if snap := sourcetest.Fetch(t, f.open(t)); snap.Revision.ID != digest {
		t.Errorf("fetched %v", snap.Revision)
	}
}

func TestOpenRefusesWhatItCannotFollow(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*oci.Options)
		want   string
	}{
		"no url":         {func(o *oci.Options) { o.URL = "" }, "url is empty"},
		"https":          {func(o *oci.Options) { o.URL = "https://ghcr.io/a/b" }, "oci://"},
		"no repository":  {func(o *oci.Options) { o.URL = "oci://ghcr.io" }, "names no repository"},
		"a tag":          {func(o *oci.Options) { o.URL = "oci://ghcr.io/a/b:v1" }, "put it into ref"},
		"credentials":    {func(o *oci.Options) { o.URL = "oci://ada:hush@ghcr.io/a/b" }, "credentials"},
		"upper case":     {func(o *oci.Options) { o.URL = "oci://ghcr.io/A/b" }, "no valid repository"},
		"a bad digest":   {tag("sha256:12"), "is no digest"},
		"an option":      {tag("--upload-pack=x"), "no valid tag"},
		"a bad range":    {semver("not a range"), "cannot be read"},
		"two references": {func(o *oci.Options) { o.Ref, o.Semver = "a", "1.x" }, "both"},
		"no folder":      {func(o *oci.Options) { o.Dir = "" }, "no folder"},
		"no certificate": {func(o *oci.Options) { o.CAFile = filepath.Join(t.TempDir(), "ca.pem") }, "ca.pem"},
	} {
		o := oci.Options{Name: "web", URL: "oci://ghcr.io/a/b", Dir: t.TempDir()}
		tc.change(&o)
		_, err := oci.Open(o)
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), `"web"`) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestErrorsForPeople(t *testing.T) {
	f := newFixture(t)
	f.write(t, sourcetest.Files{"a": "1"})
	f.server.PutManifest(repository, "index", "application/vnd.oci.image.index.v1+json", []byte(`{"schemaVersion":2,"manifests":[]}`))
	f.server.PutManifest(repository, "broken", ociserver.ManifestType, []byte(`{"layers":`))
	f.publish(t, "two", ociserver.Artifact{Files: f.files, Layers: 2})
	f.publish(t, "other", ociserver.Artifact{Files: f.files, LayerType: "application/vnd.example"})
	for name, tc := range map[string]struct {
		change func(*oci.Options)
		kind   error
		want   string
	}{
		"no repository": {func(o *oci.Options) { o.URL += "x" }, oci.ErrRefNotFound, "check the url"},
		"no tag":        {tag("none"), oci.ErrRefNotFound, `no tag "none"`},
		"no digest":     {tag("sha256:" + strings.Repeat("12", 32)), oci.ErrRefNotFound, "sha256:1212"},
		"an index":      {tag("index"), oci.ErrArtifact, "index of several images"},
		"no JSON":       {tag("broken"), oci.ErrArtifact, "manifest is not valid"},
		"two layers":    {tag("two"), oci.ErrArtifact, "2 layers, 2 are content"},
		"another type":  {tag("other"), oci.ErrArtifact, `"application/vnd.example"`},
		"no registry":   {func(o *oci.Options) { o.URL = "oci://127.0.0.1:1/a/b" }, oci.ErrUnreachable, "connection refused"},
		"http":          {func(o *oci.Options) { o.Insecure = false }, oci.ErrUnreachable, "insecure: true"},
	} {
		t.Run(name, func(t *testing.T) {
			a := f.open(t, tc.change, func(o *oci.Options) { o.Dir = t.TempDir() })
			_, err := a.Fetch(t.Context())
			if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "oci://127.0.0.1") {
				t.Errorf("error: %v", err)
			}
			if _, err := a.Last(); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("last: %v", err)
			}
		})
	}
}

func TestAllThatWasFetchedBeforeStaysReadable(t *testing.T) {
	f := newFixture(t)
	f.write(t, sourcetest.Files{"a": "1"})
	before := f.open(t)
	old := sourcetest.Fetch(t, before)
	after := f.open(t) // a reload of the configuration
	before.Close()
	for i := range 3 {
		f.write(t, sourcetest.Files{"a": fmt.Sprint("new ", i)})
		sourcetest.Fetch(t, after).Close()
	}
	sourcetest.WantFile(t, old, "a", "1")
	if n := len(trees(t, f.dir)); n != 2 {
		t.Errorf("%d trees while an old one is read", n)
	}
	old.Close()
	if n := len(trees(t, f.dir)); n != 1 {
		t.Errorf("%d trees after it was closed", n)
	}
}

func trees(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "tree-*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}
