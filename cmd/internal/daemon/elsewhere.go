package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

const (
	// maxPreviewBranches bounds how many branches of one source are fetched for
	// previews.
	maxPreviewBranches = 200
	// fetchesAtOnce bounds how many refs a follower fetches beside each other.
	fetchesAtOnce = 4
)

// branched is a source that has other refs than the one that is followed.
type branched interface {
	Refs(context.Context) ([]gitrepo.Ref, error)
	At(ref string) *gitrepo.Repo
}

// place is where an environment's files lie when that is not the snapshot of its
// spec: another source at its own ref, if ref is empty, or any source at a ref.
type place struct{ source, ref string }

func (p place) String() string {
	if p.ref == "" {
		return p.source
	}
	return p.source + " at " + strings.TrimPrefix(p.ref, "refs/heads/")
}

// content is what is known of a place.
type content struct {
	// source follows the ref; nil for the head of another follower.
	source source
	// held is the newest snapshot that could be had, err why there is no newer.
	held *lease
	err  error
	// old are the leases before held, which count until the environments have
	// been assigned the new one.
	old []*lease
}

func (c *content) hold(l *lease) {
	if c.held != nil {
		c.old = append(c.old, c.held)
	}
	c.held = l
}

func (c *content) settle() {
	for _, l := range c.old {
		l.release()
	}
	c.old = nil
}

func (c *content) close() {
	c.hold(nil)
	c.settle()
	if x, ok := c.source.(interface{ Close() }); ok {
		x.Close()
	}
}

// elsewhere holds what a follower's environments take from other sources and
// refs. It belongs to the holder of the follower's work.
type elsewhere struct {
	// own is the follower's name.
	own string
	// other gives a follower that own may use.
	other    func(name string) (*follower, error)
	contents map[place]*content
	// branches are the commits of branches by source, as last listed, unlisted
	// the sources of which nothing newer could be learned, and why.
	branches map[string]map[string]string
	unlisted map[string]error
	// next is what apart becomes, gone what is not needed any more.
	next map[string]apart
	gone []*content
	// crowded are the templates that match more branches than they may.
	crowded map[string]bool

	mu   sync.Mutex
	uses map[string]bool
	// apart are the environments whose files come from a place, by name.
	apart map[string]apart
}

// apart is an environment whose files do not lie beside its spec.
type apart struct {
	spec  environment.Spec
	place place
}

func newElsewhere(own string, other func(string) (*follower, error)) *elsewhere {
	return &elsewhere{
		own: own, other: other, contents: map[place]*content{},
		branches: map[string]map[string]string{}, unlisted: map[string]error{}, uses: map[string]bool{}, crowded: map[string]bool{},
	}
}

// tell makes the environments that are apart known to those who do not hold work.
func (e *elsewhere) tell(all map[string]apart) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.apart = all
}

// noted is the environment of a name, if it is apart. It may be called at any
// time.
func (e *elsewhere) noted(name string) (apart, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a, ok := e.apart[name]
	return a, ok
}

// using are the sources that files are taken from. It may be called at any time.
func (e *elsewhere) using() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(maps.Keys(e.uses))
}

// placeOf is where a spec's files lie; ok is false if that is its own snapshot.
func (e *elsewhere) placeOf(spec environment.Spec) (p place, ok bool) {
	if spec.Source == nil {
		return place{}, false
	}
	p = place{source: spec.Source.Name, ref: spec.Source.Ref}
	if p.source == "" {
		p.source = e.own
	}
	return p, p != place{source: e.own}
}

// sourceOf is the source whose branches a template is about.
func (e *elsewhere) sourceOf(t environment.Template) string {
	if s := t.Spec.Source; s != nil && s.Name != "" {
		return s.Name
	}
	return e.own
}

// look brings all that a repository's specs need to its newest state. Offline it
// takes what is here already. What it cannot get stays as it was.
func (e *elsewhere) look(ctx context.Context, repo *environment.Repository, offline bool) {
	wanted, uses := map[place]string{}, map[string]bool{}
	for _, spec := range repo.Specs {
		if p, ok := e.placeOf(spec); ok {
			wanted[p], uses[p.source] = "", true
		}
	}
	for _, t := range repo.Templates {
		name := e.sourceOf(t)
		uses[name] = true
		e.list(ctx, name, offline)
		for _, branch := range e.matching(t) {
			wanted[place{source: name, ref: "refs/heads/" + branch}] = e.branches[name][branch]
		}
	}
	e.mu.Lock()
	e.uses = uses
	e.mu.Unlock()
	for p, c := range e.contents {
		if _, still := wanted[p]; !still {
			e.gone = append(e.gone, c)
			delete(e.contents, p)
		}
	}
	var group errgroup.Group
	group.SetLimit(fetchesAtOnce)
	for p, commit := range wanted {
		c := e.contents[p]
		if c == nil {
			c = &content{}
			e.contents[p] = c
		}
		if commit != "" && c.err == nil && c.held != nil && c.held.snap.Revision.ID == commit {
			continue // the listing says that it has not moved
		}
		group.Go(func() error { e.fetch(ctx, p, c, offline); return nil })
	}
	_ = group.Wait() // each content has its own error
}

// list asks which branches a source has, at most once in a look.
func (e *elsewhere) list(ctx context.Context, name string, offline bool) {
	refs, err := e.refs(ctx, name, offline)
	if err != nil {
		e.unlisted[name] = err
		return
	}
	delete(e.unlisted, name)
	e.branches[name] = map[string]string{}
	for _, ref := range refs {
		if branch, ok := strings.CutPrefix(ref.Name, "refs/heads/"); ok {
			e.branches[name][branch] = ref.Hash
		}
	}
}

var errOffline = errors.New("its branches were not listed yet")

func (e *elsewhere) refs(ctx context.Context, name string, offline bool) ([]gitrepo.Ref, error) {
	repo, err := e.repository(name)
	switch {
	case err != nil:
		return nil, err
	case offline:
		return nil, errOffline
	}
	return repo.Refs(ctx)
}

// repository is a source that has refs.
func (e *elsewhere) repository(name string) (branched, error) {
	f, err := e.other(name)
	if err != nil {
		return nil, err
	}
	repo, ok := f.source.(branched)
	if !ok {
		return nil, sources.Problem{
			Message: fmt.Sprintf("source %q is no git repository, and has no other refs", name), Hint: "leave spec.source.ref and spec.preview out",
		}
	}
	return repo, nil
}

// matching are the branches of a template, sorted, as far as they are looked at.
func (e *elsewhere) matching(t environment.Template) []string {
	var out []string
	for _, branch := range slices.Sorted(maps.Keys(e.branches[e.sourceOf(t)])) {
		if t.Matches(branch) && len(out) < maxPreviewBranches {
			out = append(out, branch)
		}
	}
	return out
}

func (e *elsewhere) fetch(ctx context.Context, p place, c *content, offline bool) {
	var l *lease
	l, c.err = e.newest(ctx, p, c, offline)
	if l != nil {
		c.hold(l)
	}
}

// newest is a lease of the newest snapshot at a place; nil when it is the one
// held. It is the caller's to release.
func (e *elsewhere) newest(ctx context.Context, p place, c *content, offline bool) (*lease, error) {
	if p.ref == "" {
		f, err := e.other(p.source)
		if err != nil {
			return nil, err
		}
		return f.lend(c.held)
	}
	if c.source == nil {
		repo, err := e.repository(p.source)
		if err != nil {
			return nil, err
		}
		c.source = repo.At(p.ref)
	}
	fetch := c.source.Fetch
	if offline {
		fetch = func(context.Context) (*sources.Snapshot, error) { return c.source.Last() }
	}
	snap, err := fetch(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist) && offline:
		return nil, errors.New("has not been fetched yet")
	case err != nil:
		return nil, err
	case c.held != nil && c.held.snap.Revision.ID == snap.Revision.ID:
		snap.Close()
		return nil, nil
	}
	return newLease(snap), nil
}

// settle ends what counted until the environments were assigned anew.
func (e *elsewhere) settle() {
	for _, c := range e.gone {
		c.close()
	}
	e.gone = nil
	for _, c := range e.contents {
		c.settle()
	}
}

func (e *elsewhere) close() {
	e.settle()
	for _, c := range e.contents {
		c.close()
	}
	clear(e.contents)
}

// trouble is why a place has nothing newer, told at the environments.
func (e *elsewhere) trouble(p place, err error) sources.Problems {
	out := slices.Clone(sources.ProblemsOf(err))
	for i := range out {
		if out[i].File == "" && out[i].Object == "" {
			out[i].Object = "source " + p.String()
		}
	}
	return out
}

// expired reports whether a branch has not been committed to for too long.
func expired(rev sources.Revision, lifetime time.Duration, now time.Time) bool {
	return lifetime > 0 && !rev.Time.IsZero() && now.Sub(rev.Time) > lifetime
}
