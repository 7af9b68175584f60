package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// assigned is an engine that notes what it is told.
type assigned struct {
	mu        sync.Mutex
	revisions []string
	problems  sources.Problems
}

func (a *assigned) Assign(_ context.Context, _ string, all []reconciler.Assignment, _ bool, _ reconciler.Trigger) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.revisions = append(a.revisions, all[0].Revision.ID)
}

func (a *assigned) SourceState(_ string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.problems = sources.ProblemsOf(err)
}

// stand is a daemon's data directory, a repository and what follows it.
type stand struct {
	server *gitserver.Server
	origin *gitserver.Repo
	dir    string
	config config.Source
}

func newStand(t *testing.T) *stand {
	t.Helper()
	s := &stand{server: gitserver.Start(t), dir: t.TempDir()}
	s.origin = s.server.Repo(t, "shop")
	s.origin.Git(t, "", "config", "uploadpack.allowFilter", "true")
	s.origin.Git(t, "", "config", "uploadpack.allowAnySHA1InWant", "true")
	s.config = config.Source{
		Name: "shop", URL: s.origin.URL, Ref: "main", Interval: time.Minute, Timeout: 10 * time.Second,
		Implicit: &environment.Spec{Name: "prod"},
	}
	return s
}

// start follows as a process does that has just begun.
func (s *stand) start(t *testing.T) (*follower, *assigned) {
	t.Helper()
	src, err := openSource(s.config, s.dir)
	if err != nil {
		t.Fatal(err)
	}
	told := &assigned{}
	g := &generation{config: config.Config{DataDir: s.dir}, followers: map[string]*follower{}}
	f := g.follower(s.config, src, nil, newMetrics(nil, nil), zerolog.Nop())
	f.engine = told
	g.followers[s.config.Name] = f
	f.startFromDisk(t.Context())
	var once sync.Once
	t.Cleanup(func() { once.Do(f.release) })
	return f, told
}

func (s *stand) stop(f *follower) {
	f.release()
	f.source = stopped{}
}

// stopped stands for the source of a follower that was released.
type stopped struct{ source }

func (stopped) Close() {}

func (a *assigned) want(t *testing.T, revisions ...string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Equal(a.revisions, revisions) {
		t.Errorf("assigned %v, want %v", a.revisions, revisions)
	}
}

func wantHeld(t *testing.T, f *follower, err error, from, to, ancestry string) {
	t.Helper()
	if !errors.As(err, &errHeld{}) {
		t.Fatalf("the revision is not held: %v", err)
	}
	for _, part := range []string{from, to, "stays in force", "holdfast allow shop " + to + " --reason"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error does not say %q: %v", part, err)
		}
	}
	s := f.status()
	if s.Held == nil || s.Held.From.ID != from || s.Held.To.ID != to || s.Held.Ancestry != ancestry ||
		s.Revision.ID != from || s.Head.ID != to || s.Failures != 0 || len(s.Errors) != 1 {
		t.Errorf("status %+v, held %+v", s, s.Held)
	}
}

func TestRewindIsHeldUntilAllowed(t *testing.T) {
	s := newStand(t)
	first := s.origin.Commit(t, map[string]string{"a": "1"})
	second := s.origin.Commit(t, map[string]string{"a": "2"})
	f, told := s.start(t)
	if err := f.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.origin.ForcePush(t, gitserver.Main, first)
	wantHeld(t, f, f.refresh(t.Context()), second, first, "rewinds")
	told.want(t, second)
	if len(told.problems) != 1 || !strings.Contains(told.problems[0].Message, "is held") {
		t.Errorf("the environments are told %v", told.problems)
	}
	// Another look costs a listing and no more history.
	s.server.Reset()
	wantHeld(t, f, f.refresh(t.Context()), second, first, "rewinds")
	if n := s.server.Count("git-upload-pack"); n != 0 {
		t.Errorf("%d downloads for what is known", n)
	}

	ctx := t.Context()
	for revision, want := range map[string]string{second: "holds is " + first, first[:12]: "holds is " + first} {
		_, err := f.allow(ctx, api.AllowRequest{Revision: revision, Reason: "x"})
		var p api.Problem
		if !errors.As(err, &p) || p.Status != 409 || !strings.Contains(p.Detail, want) {
			t.Errorf("allow %s: %v", revision, err)
		}
	}
	after, err := f.allow(ctx, api.AllowRequest{Revision: first, Reason: "a bad release", Author: "ada"})
	if err != nil || after.Held != nil || after.Revision.ID != first || len(after.Errors) != 0 {
		t.Errorf("after allowing: %+v, %v", after, err)
	}
	told.want(t, second, first)
	var state guardState
	b, err := os.ReadFile(filepath.Join(s.dir, "sources", "shop.json"))
	if err == nil {
		err = json.Unmarshal(b, &state)
	}
	if err != nil || state.Revision.ID != first || len(state.Allowed) != 1 || state.Allowed[0].Author != "ada" || state.Allowed[0].Reason != "a bad release" {
		t.Errorf("on record is %+v, %v", state, err)
	}
	// What was allowed then is not allowed another time round.
	s.origin.ForcePush(t, gitserver.Main, second)
	if err := f.refresh(ctx); err != nil {
		t.Fatal(err)
	}
	third := s.origin.CommitTo(t, gitserver.Main, "", map[string]string{"a": "3"})
	wantHeld(t, f, f.refresh(ctx), second, third, "diverges")
}

func TestHistoryThatGrowsIsFollowed(t *testing.T) {
	s := newStand(t)
	var ids []string
	f, told := s.start(t)
	for range 3 {
		for range 3 {
			s.origin.Commit(t, map[string]string{"a": time.Now().String()})
		}
		id := s.origin.Commit(t, map[string]string{"b": time.Now().String()})
		ids = append(ids, id)
		if err := f.refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	told.want(t, ids...)
	if st := f.status(); st.LastListing.IsZero() || st.LastFetch.IsZero() || st.FetchBytes == 0 || st.Downloads != 3 || len(st.Commits) != 4 || st.Commits[0].ID != ids[2] || st.Revision.Author != "Ada Example" {
		t.Errorf("status %+v", st)
	}
}

// A hold outlives the process and the cache, and the revision in force is
// brought back to correct drift against.
func TestHoldOutlivesRestartAndCache(t *testing.T) {
	for name, wipe := range map[string]bool{"restart": false, "cache wiped": true} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			first := s.origin.Commit(t, map[string]string{"a": "1"})
			second := s.origin.Commit(t, map[string]string{"a": "2"})
			f, _ := s.start(t)
			if err := f.refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.origin.ForcePush(t, gitserver.Main, first)
			wantHeld(t, f, f.refresh(t.Context()), second, first, "rewinds")
			s.stop(f)
			if wipe {
				if err := os.RemoveAll(filepath.Join(s.dir, "cache")); err != nil {
					t.Fatal(err)
				}
			} else {
				s.server.SetFault(gitserver.Status(500))
			}
			again, told := s.start(t)
			if !wipe {
				told.want(t, second) // from disk, while the server is away
				s.server.SetFault(nil)
			}
			wantHeld(t, again, again.refresh(t.Context()), second, first, "rewinds")
			told.want(t, second)
			// When the head comes back, all is well.
			s.origin.ForcePush(t, gitserver.Main, second)
			if err := again.refresh(t.Context()); err != nil || again.status().Held != nil {
				t.Errorf("after the head came back: %v, %+v", err, again.status().Held)
			}
		})
	}
}

func TestWhatIsNoRewind(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, s *stand, first string){
		"another ref": func(_ *testing.T, s *stand, _ string) { s.config.Ref = "release" },
		"a commit":    func(_ *testing.T, s *stand, first string) { s.config.Ref = first },
		"allowed by setting": func(t *testing.T, s *stand, first string) {
			s.config.Rewind = config.RewindAllow
			s.origin.ForcePush(t, gitserver.Main, first)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			first := s.origin.Commit(t, map[string]string{"a": "1"})
			second := s.origin.Commit(t, map[string]string{"a": "2"})
			s.origin.ForcePush(t, "refs/heads/release", first)
			f, _ := s.start(t)
			if err := f.refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.stop(f)
			change(t, s, first)
			again, told := s.start(t)
			if err := again.refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := told.revisions; got[len(got)-1] != first {
				t.Errorf("assigned %v, want %s after %s", got, first, second)
			}
		})
	}
}

// Following a range of versions, a higher one need not descend from the lower;
// a lower one is a rewind.
func TestVersionsThatGoBack(t *testing.T) {
	s := newStand(t)
	s.config.Ref, s.config.Semver = "", ">=1.0.0"
	base := s.origin.Commit(t, map[string]string{"a": "1"})
	one := s.origin.CommitTo(t, "refs/heads/one", base, map[string]string{"a": "1.1"})
	two := s.origin.CommitTo(t, "refs/heads/two", base, map[string]string{"a": "2.0"})
	s.origin.Tag(t, "v1.1.0", one, "")
	f, told := s.start(t)
	for range 2 {
		if err := f.refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.origin.Tag(t, "v2.0.0", two, "Release two")
	}
	told.want(t, one, two)
	s.origin.DeleteRef(t, "refs/tags/v2.0.0")
	wantHeld(t, f, f.refresh(t.Context()), two, one, "diverges")
}

// What cannot be asked is a failure of the source and no decision.
func TestAncestryThatCannotBeAsked(t *testing.T) {
	s := newStand(t)
	s.origin.Commit(t, map[string]string{"a": "1"})
	f, told := s.start(t)
	if err := f.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	in := slices.Clone(told.revisions)
	for range 3 {
		s.origin.Commit(t, map[string]string{"a": time.Now().String()})
	}
	// The first download brings the commit, the second would bring its history.
	downloads := 0
	s.server.SetFault(gitserver.OnPack(func(w http.ResponseWriter, r *http.Request, git http.Handler) {
		if downloads++; downloads > 1 {
			gitserver.Status(500)(w, r, git)
			return
		}
		git.ServeHTTP(w, r)
	}))
	err := f.refresh(t.Context())
	if err == nil || errors.As(err, &errHeld{}) || f.status().Failures != 1 || f.status().Held != nil {
		t.Errorf("error %v, status %+v", err, f.status())
	}
	told.want(t, in...)
	s.server.SetFault(nil)
	if err := f.refresh(t.Context()); err != nil || f.status().Failures != 0 || len(f.status().LastError) == 0 {
		t.Errorf("error %v, status %+v", err, f.status())
	}
}

// A record that was damaged lets nothing through.
func TestDamagedRecordHolds(t *testing.T) {
	s := newStand(t)
	s.origin.Commit(t, map[string]string{"a": "1"})
	path := filepath.Join(s.dir, "sources", "shop.json")
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(`{"follows`), 0o600)); err != nil {
		t.Fatal(err)
	}
	f, told := s.start(t)
	err := f.refresh(t.Context())
	if err == nil || !strings.Contains(err.Error(), "cannot be read") || !strings.Contains(err.Error(), path) {
		t.Errorf("error: %v", err)
	}
	told.want(t)
}
