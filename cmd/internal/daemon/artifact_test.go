package daemon

import (
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/internal/testkit/ociserver"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// An OCI artifact of the configuration is fetched, is there after a restart
// without its registry, and has the limits and the status of any source.
func TestArtifactAsASource(t *testing.T) {
	registry := ociserver.Start(t)
	want := registry.Publish(t, "team/web", "v1.2.0", ociserver.Artifact{Files: map[string]string{"a": "1"}})
	c := config.Source{Name: "web", URL: registry.URL("team/web"), Semver: "^1", Insecure: true, Timeout: time.Minute}
	data := t.TempDir()
	src, err := openSource(c, data)
	if err != nil {
		t.Fatal(err)
	}
	snap, err := src.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	snap.Close()
	if snap.Revision.ID != want || snap.Revision.Ref != "v1.2.0" || snap.Source != "web" {
		t.Errorf("fetched %+v of %s", snap.Revision, snap.Source)
	}
	if s := src.(metered).Stats(); s.Downloads != 1 || s.Bytes == 0 || s.MirrorBytes == 0 || s.Listed.IsZero() || s == (gitrepo.Stats{}) {
		t.Errorf("its status is %+v", s)
	}
	src.(artifact).Close()
	registry.Remove("team/web")
	if src, err = openSource(c, data); err != nil {
		t.Fatal(err)
	}
	last, err := src.Last()
	if err != nil {
		t.Fatal(err)
	}
	defer last.Close()
	if b, err := last.Tree.ReadFile("a"); err != nil || string(b) != "1" {
		t.Errorf("read %q, %v", b, err)
	}
	c.Name, c.Limits.Files = "small", 1
	registry.Publish(t, "team/web", "v1.3.0", ociserver.Artifact{Files: map[string]string{"a": "1", "b": "2"}})
	small, err := openSource(c, data)
	if err != nil {
		t.Fatal(err)
	}
	if snap, err := small.Fetch(t.Context()); err == nil {
		snap.Close()
		t.Error("more files than the limit were let in")
	}
}
