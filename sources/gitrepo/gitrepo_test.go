package gitrepo_test

import (
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

func TestMain(m *testing.M) {
	sourcetest.Child(func(url, dir string) (sourcetest.Source, error) {
		return gitrepo.Open(gitrepo.Options{Name: "web", URL: url, Ref: "main", Dir: dir})
	})
	goleak.VerifyTestMain(m)
}

// fixture is one repository on one server, and the folder of its mirror.
type fixture struct {
	server *gitserver.Server
	origin *gitserver.Repo
	dir    string
	// reach, where given, makes sources reach the server in another way.
	reach func(*gitrepo.Options)
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	srv := gitserver.Start(t)
	return &fixture{server: srv, origin: srv.Repo(t, "web"), dir: filepath.Join(t.TempDir(), "mirror")}
}

func (f *fixture) commit(t *testing.T, files sourcetest.Files) string {
	t.Helper()
	return f.origin.Commit(t, files)
}

// open opens the repository as a fresh process would.
func (f *fixture) open(t *testing.T, change ...func(*gitrepo.Options)) *gitrepo.Repo {
	t.Helper()
	o := gitrepo.Options{Name: "web", URL: f.origin.URL, Ref: "main", Dir: f.dir, Timeout: 20 * time.Second}
	if f.reach != nil {
		f.reach(&o)
	}
	for _, c := range change {
		c(&o)
	}
	r, err := gitrepo.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// harness is for the laws and cases of all sources.
func (f *fixture) harness() sourcetest.Harness {
	return sourcetest.Harness{
		Write:   func(t *testing.T, files sourcetest.Files) { f.commit(t, files) },
		Open:    func(t *testing.T) sourcetest.Source { return f.open(t) },
		Restart: func(s sourcetest.Source) { s.(*gitrepo.Repo).Close() },
		Names:   f.origin.URL,
		Break: func(*testing.T) func() {
			f.server.SetFault(gitserver.Status(http.StatusBadGateway))
			return func() { f.server.SetFault(nil) }
		},
	}
}

func TestLaws(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T) sourcetest.Harness { return newFixture(t).harness() })
}
