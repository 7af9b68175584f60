package gitrepo

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"

	"github.com/holdfast-gitops/holdfast/sources"
)

// Ancestry is how a commit stands to one that was in force before.
type Ancestry string

// What an ancestry can be.
const (
	// Descends means that the older commit is an ancestor: history only grew.
	Descends Ancestry = "descends"
	// Rewinds means that the newer commit is an ancestor of the older one.
	Rewinds Ancestry = "rewinds"
	// Diverges means that neither leads to the other, as far as the server knows
	// the older one at all.
	Diverges Ancestry = "diverges"
	// Undecided means that the bounds were reached before the answer was found.
	Undecided Ancestry = "undecided"
)

// historyDepths are how far back history is read, in steps.
var historyDepths = []int{64, 1024, 10_000}

const (
	// historyBytes bounds the download of history where the server leaves files
	// out: 100,000 commits. It is held in memory while it is looked at. Other
	// servers send the files too, to disk and bounded as any other download.
	historyBytes = 24 << 20
	// maxLog bounds the commits that are listed between two.
	maxLog = 1000
)

// history is what lies between two commits.
type history struct {
	old, now plumbing.Hash
	ancestry Ancestry
	// commits are those that lead to now and not to old, newest first.
	commits []sources.Revision
	more    bool
}

// Descends tells whether the commit now has old among its ancestors. Both are
// full ids. It asks the server for what lies between, unless one is the other's
// parent, and bounds what that may cost; what the bounds leave open is Undecided
// and no error.
func (r *Repo) Descends(ctx context.Context, old, now string) (Ancestry, error) {
	from, to, err := bothIDs(old, now)
	if err != nil {
		return Undecided, err
	}
	if from == to {
		return Descends, nil
	}
	if c := r.mirror.commit(to); c != nil && slices.Contains(c.ParentHashes, from) {
		return Descends, nil
	}
	h, err := r.between(ctx, from, to)
	if err != nil {
		return Undecided, err
	}
	return h.ancestry, nil
}

// Log lists the commits that lead to the commit to and not to from, newest
// first and at most limit of them; more tells that there are others. It asks the
// server, unless one is the other's only parent.
func (r *Repo) Log(ctx context.Context, from, to string, limit int) (commits []sources.Revision, more bool, err error) {
	old, now, err := bothIDs(from, to)
	if err != nil || old == now {
		return nil, false, err
	}
	h, err := r.between(ctx, old, now)
	if err != nil {
		return nil, false, err
	}
	commits = h.commits[:min(max(limit, 0), len(h.commits))]
	return slices.Clone(commits), h.more || len(commits) < len(h.commits), nil
}

func bothIDs(a, b string) (plumbing.Hash, plumbing.Hash, error) {
	first, ok := pinned(a)
	second, also := pinned(b)
	if !ok || !also {
		return first, second, fail(ErrRefNotFound, fmt.Sprintf("%q and %q are not both ids of commits", printable(a, 80), printable(b, 80)), "give all 40 digits")
	}
	return first, second, nil
}

// between finds what lies between two commits. The last answer is kept, for the
// ancestry and the log of one move are asked for one after the other.
func (r *Repo) between(ctx context.Context, old, now plumbing.Hash) (*history, error) {
	r.mirror.mu.Lock()
	known := r.mirror.history
	r.mirror.mu.Unlock()
	if known != nil && known.old == old && known.now == now {
		return known, nil
	}
	h := r.single(old, now)
	if h == nil {
		var err error
		if h, err = r.ask(ctx, old, now); err != nil {
			return nil, r.explain(ctx, "read the history of", err)
		}
	}
	r.mirror.mu.Lock()
	r.mirror.history = h
	r.mirror.mu.Unlock()
	return h, nil
}

// single answers for the commit that is on top of the older one, which is here.
func (r *Repo) single(old, now plumbing.Hash) *history {
	c := r.mirror.commit(now)
	if c == nil || len(c.ParentHashes) != 1 || c.ParentHashes[0] != old {
		return nil
	}
	return &history{old: old, now: now, ancestry: Descends, commits: []sources.Revision{revisionOf(now, c)}}
}

// commit reads a commit that the mirror has; nil when it has not.
func (m *mirror) commit(h plumbing.Hash) *object.Commit {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.currentLocked()
	if g == nil || g.objects.find(h) == nil {
		return nil
	}
	content, err := g.objects.read(h, plumbing.CommitObject, maxCommitBytes)
	if err != nil {
		return nil // the server is asked instead
	}
	c, err := decodeCommit(content)
	if err != nil {
		return nil
	}
	return c
}

// ask downloads history, deeper and deeper until the answer is in it.
func (r *Repo) ask(ctx context.Context, old, now plumbing.Hash) (*history, error) {
	ctx, cancel := context.WithTimeout(ctx, r.opts.Timeout)
	defer cancel()
	l, err := r.origin.list(ctx, askedAt(ctx))
	if err != nil {
		return nil, err
	}
	defer l.release()
	for _, depth := range historyDepths {
		h, err := r.askDepth(ctx, l, old, now, depth)
		if errors.Is(err, ErrTooLarge) {
			break
		}
		if err != nil || h.ancestry != Undecided {
			return h, err
		}
	}
	return &history{old: old, now: now, ancestry: Undecided, more: true}, nil
}

// askDepth downloads history to a depth, and looks at it.
func (r *Repo) askDepth(ctx context.Context, l *listing, old, now plumbing.Hash, depth int) (*history, error) {
	dir, limit := "", min(historyBytes, r.opts.Limits.PackBytes)
	if !r.opts.Memory && !l.adv.Capabilities.Supports(capability.Filter) {
		var err error
		if dir, err = r.mirror.scratch(); err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir) // what stays is removed at the next start
		limit = r.opts.Limits.PackBytes
	}
	pack := newObjects()
	defer pack.close()
	err := l.download(ctx, request{
		wants: []plumbing.Hash{now}, haves: []plumbing.Hash{old}, depth: depth, limit: limit,
	}, func(src io.Reader) error {
		p, err := storePack(dir, src, r.opts.Limits.ObjectBytes, pack)
		if err == nil && p != nil {
			pack.add(p)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return readHistory(pack, old, now, depth), nil
}

// readHistory looks at a pack of what the server has from now back to what leads
// to old, cut at a depth. Old was named as known, so a parent that is missing is
// old, leads to old, or is beyond the depth.
func readHistory(pack *objects, old, now plumbing.Hash, depth int) *history {
	h := &history{old: old, now: now, ancestry: Undecided}
	if pack.find(now) == nil {
		h.ancestry = Rewinds // the server has nothing to add to old
		return h
	}
	commits, found, cut := walkBack(pack, old, now, depth)
	switch {
	case found:
		h.ancestry = Descends
	case !cut:
		h.ancestry = Diverges
	}
	h.more = cut
	h.list(commits)
	return h
}

// walkBack reads the commits of a pack from now on back, and tells whether old is
// among their parents and whether the depth cut anything off.
func walkBack(pack *objects, old, now plumbing.Hash, depth int) (commits map[plumbing.Hash]*object.Commit, found, cut bool) {
	commits = map[plumbing.Hash]*object.Commit{}
	level := []plumbing.Hash{now}
	for n := 1; len(level) > 0; n++ {
		var next []plumbing.Hash
		for _, id := range level {
			if commits[id] != nil {
				continue
			}
			c := readCommit(pack, id)
			if c == nil {
				cut = true // nothing can be said of what cannot be read
				continue
			}
			commits[id] = c
			for _, parent := range c.ParentHashes {
				switch {
				case parent == old:
					found = true
				case pack.find(parent) != nil:
					next = append(next, parent)
				case n >= depth:
					cut = true
				}
			}
		}
		level = next
	}
	return commits, found, cut
}

func readCommit(pack *objects, id plumbing.Hash) *object.Commit {
	content, err := pack.read(id, plumbing.CommitObject, maxCommitBytes)
	if err != nil {
		return nil
	}
	c, err := decodeCommit(content)
	if err != nil {
		return nil
	}
	return c
}

// list orders the commits as people read them: the newest first, and none before
// one that builds on it.
func (h *history) list(commits map[plumbing.Hash]*object.Commit) {
	queue := &byTime{{h.now, commits[h.now]}}
	queued := map[plumbing.Hash]bool{h.now: true}
	for queue.Len() > 0 {
		next := heap.Pop(queue).(dated)
		if next.commit == nil {
			continue
		}
		if len(h.commits) == maxLog {
			h.more = true
			return
		}
		h.commits = append(h.commits, revisionOf(next.id, next.commit))
		for _, parent := range next.commit.ParentHashes {
			if commits[parent] != nil && !queued[parent] {
				queued[parent] = true
				heap.Push(queue, dated{parent, commits[parent]})
			}
		}
	}
}

// revisionOf describes a commit.
func revisionOf(id plumbing.Hash, c *object.Commit) sources.Revision {
	subject, _, _ := strings.Cut(strings.TrimLeft(c.Message, "\n"), "\n")
	return sources.Revision{
		ID: id.String(), Author: printable(c.Author.Name, 100),
		Subject: printable(subject, 200), Time: c.Committer.When.UTC(),
	}
}

// dated is a commit that waits to be listed.
type dated struct {
	id     plumbing.Hash
	commit *object.Commit
}

// byTime is a heap with the newest commit on top.
type byTime []dated

func (q byTime) Len() int { return len(q) }

func (q byTime) Less(i, j int) bool {
	if q[i].commit == nil || q[j].commit == nil {
		return q[j].commit == nil && q[i].commit != nil
	}
	return cmp.Or(q[j].commit.Committer.When.Compare(q[i].commit.Committer.When),
		cmp.Compare(q[i].id.String(), q[j].id.String())) < 0
}

func (q byTime) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *byTime) Push(x any) { *q = append(*q, x.(dated)) }

// Pop implements heap.Interface.
func (q *byTime) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
