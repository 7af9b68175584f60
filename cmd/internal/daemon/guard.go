package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// keepAllowed bounds the decisions that are kept on record for a source.
const keepAllowed = 20

// ancestral is a source whose revisions descend from each other.
type ancestral interface {
	Descends(ctx context.Context, old, now string) (gitrepo.Ancestry, error)
	// Log lists what leads to a revision and not to another.
	Log(ctx context.Context, from, to string, limit int) (commits []sources.Revision, more bool, err error)
	// Revision gives a revision that was in force before.
	Revision(ctx context.Context, rev sources.Revision) (*sources.Snapshot, error)
}

// guard remembers the last revision of a source that was accepted, also when the
// process or the cache goes, and holds one that does not descend from it: a
// forced push, or a server that was set back, must not roll back environments
// that nobody watches.
type guard struct {
	source  string
	path    string
	history ancestral
	// follows is what the source is told to follow. Another is a decision of
	// those who run it, and no rewind.
	follows string
	// allows says that history may be rewritten without being held.
	allows bool
	now    func() time.Time

	mu    sync.Mutex
	state guardState
	// broken is why the state on disk cannot be used.
	broken error
	held   *api.HeldRevision
	// passed is the move that was last found to be none back: from, to.
	passed [2]string
}

// guardState is what is on disk.
type guardState struct {
	Follows  string           `json:"follows"`
	Revision sources.Revision `json:"revision"`
	At       time.Time        `json:"at"`
	// Allowed are the newest decisions to let a revision through.
	Allowed []allowed `json:"allowed,omitempty"`
}

// allowed is one decision to let a revision through.
type allowed struct {
	From   string    `json:"from"`
	To     string    `json:"to"`
	Reason string    `json:"reason"`
	Author string    `json:"author"`
	At     time.Time `json:"at"`
	// Used is when it let the revision through; it does so once.
	Used time.Time `json:"used,omitzero"`
}

// newGuard makes the guard of a source; nil for one whose revisions have no
// history. It reads nothing before load.
func newGuard(dataDir string, c config.Source, src source) *guard {
	history, ok := src.(ancestral)
	if !ok {
		return nil
	}
	return &guard{
		source: c.Name, path: filepath.Join(dataDir, "sources", c.Name+".json"), history: history,
		follows: fmt.Sprintf("%s ref=%s semver=%s", c.URL, c.Ref, c.Semver), allows: c.Rewind == config.RewindAllow, now: time.Now,
	}
}

// load reads what is remembered. What is on disk and cannot be read is no reason
// not to start: it holds every revision until somebody has looked.
func (g *guard) load() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	b, err := os.ReadFile(g.path)
	if err == nil {
		err = json.Unmarshal(b, &g.state)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		g.broken = errHeld{sources.Problem{
			Message: fmt.Sprintf("the record of the last accepted revision cannot be read: %v", err),
			Hint:    "restore " + g.path + ", or remove it to accept whatever the source is at, and start again",
		}}
	}
}

// inForce is the revision that was accepted last, if the source still follows
// the same.
func (g *guard) inForce() (sources.Revision, bool) {
	if g == nil {
		return sources.Revision{}, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state.Revision, g.state.Revision.ID != "" && g.state.Follows == g.follows
}

// heldNow is the revision that waits.
func (g *guard) heldNow() *api.HeldRevision {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held
}

// errHeld marks a revision that waits to be allowed.
type errHeld struct{ sources.Problem }

// Unwrap makes it one of the problems of its source.
func (e errHeld) Unwrap() error { return e.Problem }

// judge decides whether a revision may take the place of the one in force. An
// errHeld says that it waits; any other error that nothing could be decided.
func (g *guard) judge(ctx context.Context, head sources.Revision) error {
	if g == nil {
		return nil
	}
	old, known := g.inForce()
	g.mu.Lock()
	broken, held, passed := g.broken, g.held, g.passed
	g.mu.Unlock()
	switch {
	case broken != nil:
		return broken
	case !known || old.ID == head.ID || g.allows || passed == [2]string{old.ID, head.ID} || g.isAllowed(old.ID, head.ID) || ascends(old.Ref, head.Ref):
		g.hold(nil)
		return nil
	case held != nil && held.From.ID == old.ID && held.To.ID == head.ID:
		return g.problem(held) // it was found out before
	}
	ancestry, err := g.history.Descends(ctx, old.ID, head.ID)
	if err != nil {
		return fmt.Errorf("find out whether revision %s descends from %s: %w", head.Short(), old.Short(), err)
	}
	if ancestry == gitrepo.Descends {
		g.hold(nil)
		g.mu.Lock()
		defer g.mu.Unlock()
		g.passed = [2]string{old.ID, head.ID}
		return nil
	}
	held = &api.HeldRevision{
		From: old, To: head, Ancestry: string(ancestry), Since: g.now(),
		Command: fmt.Sprintf("holdfast allow %s %s --reason …", g.source, head.ID),
	}
	g.hold(held)
	return g.problem(held)
}

func (g *guard) hold(h *api.HeldRevision) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = h
}

func (g *guard) problem(h *api.HeldRevision) error {
	how := map[string]string{
		string(gitrepo.Rewinds):   "is older than",
		string(gitrepo.Diverges):  "does not descend from",
		string(gitrepo.Undecided): "cannot be shown to descend from",
	}[h.Ancestry]
	return errHeld{sources.Problem{
		Message: fmt.Sprintf("revision %s of source %s is held: it %s %s, which stays in force", h.To.ID, g.source, how, h.From.ID),
		Hint:    h.Command,
	}}
}

func (g *guard) isAllowed(from, to string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, a := range g.state.Allowed {
		if a.From == from && a.To == to && a.Used.IsZero() {
			return true
		}
	}
	return false
}

// ascends tells whether both refs are tags with versions, and the second is the
// higher: following a range of versions, they need not descend from each other.
func ascends(old, now string) bool {
	a, b := version(old), version(now)
	return a != nil && b != nil && b.GreaterThan(a)
}

func version(ref string) *semver.Version {
	tag, ok := strings.CutPrefix(ref, "refs/tags/")
	if !ok {
		return nil
	}
	v, err := semver.StrictNewVersion(strings.TrimPrefix(tag, "v"))
	if err != nil {
		return nil
	}
	return v
}

// accepted remembers the revision that is in force now, before it is.
func (g *guard) accepted(rev sources.Revision) error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.broken != nil {
		return g.broken
	}
	if g.state.Revision.ID == rev.ID && g.state.Revision.Ref == rev.Ref && g.state.Follows == g.follows {
		return nil
	}
	next := g.state
	next.Allowed = slices.Clone(g.state.Allowed)
	for i, a := range next.Allowed {
		// A decision counts once: the same rewind a month later is another.
		if a.To == rev.ID && a.From == g.state.Revision.ID && a.Used.IsZero() {
			next.Allowed[i].Used = g.now().UTC()
		}
	}
	next.Follows, next.Revision, next.At = g.follows, rev, g.now().UTC()
	return g.saveLocked(next)
}

// allow lets the revision through that is held.
func (g *guard) allow(r api.AllowRequest) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.held == nil && g.state.Revision.ID == r.Revision:
		return nil // it is in force already
	case g.held == nil:
		return api.Problem{Status: http.StatusConflict, Detail: fmt.Sprintf("source %s holds no revision", g.source)}
	case g.held.To.ID != r.Revision:
		return api.Problem{
			Status: http.StatusConflict, Detail: fmt.Sprintf("the revision that source %s holds is %s", g.source, g.held.To.ID),
			Hint: "give its full id, after looking at it",
		}
	}
	next := g.state
	next.Allowed = append([]allowed{{
		From: g.held.From.ID, To: g.held.To.ID, Reason: r.Reason, Author: r.Author, At: g.now().UTC(),
	}}, g.state.Allowed...)
	next.Allowed = next.Allowed[:min(len(next.Allowed), keepAllowed)]
	return g.saveLocked(next)
}

// saveLocked writes the state so that a crash of the machine leaves the old one or
// the new one.
func (g *guard) saveLocked(next guardState) error {
	b, err := json.MarshalIndent(next, "", "  ")
	if err == nil {
		err = writeDurably(g.path, append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("remember the accepted revision of source %s: %w", g.source, err)
	}
	g.state = next
	return nil
}

func writeDurably(path string, b []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "tmp-*.json")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it was renamed, as it should
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
