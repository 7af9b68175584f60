package daemon

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// sight is what a follower knows of its source, for those who ask.
type sight struct {
	mu        sync.Mutex
	revision  sources.Revision
	commits   []sources.Revision
	head      sources.Revision
	listed    time.Time
	failures  int
	next      time.Time
	errors    sources.Problems
	last      string
	lastErrAt time.Time
	// moved is where the server redirects to.
	moved string
}

func (s *sight) set(change func(*sight)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// looked notes how a look went.
func (s *sight) looked(at time.Time, failures int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = failures
	if failures == 0 {
		s.listed = at
	}
	s.errors = nil
	if err != nil {
		s.errors = sources.ProblemsOf(err)
		s.last, s.lastErrAt = err.Error(), at
	}
}

// keepCommits bounds the commits that are shown of a move.
const keepCommits = 20

// readCommits bounds those that go on record, for the time that they took to work.
const readCommits = 200

// brought are the newest commits that a revision brings beyond the one before it.
// They are known already from finding out whether it descends from that; without
// them nothing but the status is poorer.
func (f *follower) brought(ctx context.Context, before, now sources.Revision) []sources.Revision {
	if f.guard == nil || before.ID == "" || before.ID == now.ID {
		return nil
	}
	commits, _, err := f.guard.history.Log(ctx, before.ID, now.ID, readCommits)
	if err != nil {
		f.log.Debug().Err(err).Msg("commits cannot be listed")
	}
	if f.noteMoved != nil {
		f.noteMoved(before, now, commits)
	}
	return commits[:min(len(commits), keepCommits)]
}

// metered is a source that counts what it downloads.
type metered interface {
	Stats() gitrepo.Stats
}

// status is how the source stands.
func (f *follower) status() api.Source {
	c := f.config
	out := api.Source{
		Name: c.Name, Kind: kindOf(c), URL: cmp.Or(c.URL, c.Dir), Ref: cmp.Or(c.Ref, c.Semver), Interval: f.interval.String(),
		Held: f.guard.heldNow(),
	}
	if _, ok := f.source.(pusher); ok {
		out.Push = c.Push.Branches
	}
	if repo, ok := c.Repo(); ok {
		out.Web = repo.Templates()
	}
	if a, ok := f.source.(interface{ Address() string }); ok {
		out.URL = a.Address()
	}
	f.sight.set(func(s *sight) {
		out.Revision, out.LastListing, out.Failures, out.NextTry = s.revision, s.listed, s.failures, s.next
		out.Errors, out.LastError, out.LastErrorAt = s.errors, s.last, s.lastErrAt
		out.MovedTo, out.Commits = s.moved, s.commits
		if s.head.ID != s.revision.ID {
			out.Head = s.head
		}
	})
	if m, ok := f.source.(metered); ok {
		s := m.Stats()
		out.LastFetch, out.FetchBytes, out.FetchSeconds = s.Downloaded, s.Bytes, s.Took.Seconds()
		out.Downloads, out.DownloadedBytes, out.MirrorBytes = s.Downloads, s.TotalBytes, s.MirrorBytes
	}
	return out
}

// noteMove says once that a source's server redirects elsewhere.
func (f *follower) noteMove() {
	m, ok := f.source.(interface{ Moved() string })
	if !ok {
		return
	}
	to, news := m.Moved(), false
	f.sight.set(func(s *sight) {
		news = to != "" && to != s.moved
		s.moved = to
	})
	if news {
		f.log.Warn().Str("to", to).Msg("source has moved: its server redirects; change its url")
	}
}

func kindOf(c config.Source) string {
	switch {
	case c.Dir != "":
		return api.KindDir
	case c.OCI():
		return api.KindOCI
	}
	return api.KindGit
}

// allowTimeout bounds the look at a source after a held revision was allowed.
const allowTimeout = 5 * time.Minute

// allow lets a held revision through, and looks at the source at once.
func (f *follower) allow(ctx context.Context, r api.AllowRequest) (api.Source, error) {
	if f.guard == nil {
		return api.Source{}, api.Problem{Status: http.StatusConflict, Detail: fmt.Sprintf("source %s holds no revision", f.name), Hint: "only those of git sources descend from each other"}
	}
	if err := f.guard.allow(r); err != nil {
		return api.Source{}, err
	}
	f.log.Warn().Str("revision", r.Revision).Str("author", r.Author).Str("reason", r.Reason).Msg("held revision allowed")
	// How that look goes is in the status. It goes on when the caller has gone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), allowTimeout)
	defer cancel()
	_ = f.refresh(ctx)
	return f.status(), nil
}

// Sources implements server.Sources.
func (d *daemon) Sources() []api.Source {
	g := d.now.Load()
	if g == nil {
		return nil
	}
	out := make([]api.Source, 0, len(g.followers))
	for _, name := range slices.Sorted(maps.Keys(g.followers)) {
		out = append(out, g.followers[name].status())
	}
	return out
}

// Allow implements server.Sources.
func (d *daemon) Allow(ctx context.Context, name string, r api.AllowRequest) (api.Source, error) {
	f := d.now.Load().followers[name]
	if f == nil { // it may have gone since it was looked up
		return api.Source{}, api.Problem{Status: http.StatusNotFound, Detail: fmt.Sprintf("there is no source %q", name)}
	}
	return f.allow(ctx, r)
}
