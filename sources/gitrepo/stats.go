package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
)

// Stats are what following a repository has cost.
type Stats struct {
	// Listed is when the refs were last listed, Downloaded when a download last
	// ended; zero for not since Open.
	Listed, Downloaded time.Time
	// Bytes and Took are those of the last download. Downloads and TotalBytes
	// count all since Open.
	Bytes      int64
	Took       time.Duration
	Downloads  int64
	TotalBytes int64
	// Packs is how many downloads the mirror holds, and MirrorBytes their size.
	Packs       int
	MirrorBytes int64
}

// meter counts what a Repo does.
type meter struct {
	mu  sync.Mutex
	now Stats
}

func (m *meter) listed(at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Listed = at
}

func (m *meter) downloaded(bytes int64, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Downloaded, m.now.Bytes, m.now.Took = time.Now(), bytes, took
	m.now.Downloads++
	m.now.TotalBytes += bytes
}

// Stats tells what following the repository has cost.
func (r *Repo) Stats() Stats {
	r.meter.mu.Lock()
	s := r.meter.now
	r.meter.mu.Unlock()
	s.Packs, s.MirrorBytes = r.mirror.size()
	return s
}

// Address is the repository's URL without credentials.
func (r *Repo) Address() string { return r.origin.addr.url }

// Revision gives the snapshot of a commit, whatever the ref is at: from the
// mirror, or else from the server, if it still has it. It is what a source goes
// on with while a newer revision is held. Last is not moved by it. The caller
// closes the snapshot.
func (r *Repo) Revision(ctx context.Context, rev sources.Revision) (*sources.Snapshot, error) {
	v, err := r.commitView(ctx, rev)
	if err != nil {
		return nil, r.explain(ctx, "fetch", err)
	}
	return r.snapshot(v), nil
}

func (r *Repo) commitView(ctx context.Context, rev sources.Revision) (*view, error) {
	hash, ok := pinned(rev.ID)
	if !ok {
		return nil, fail(ErrRefNotFound, fmt.Sprintf("%q is no id of a commit", printable(rev.ID, 80)), "give all 40 digits")
	}
	d := r.demand(target{ref: rev.Ref, object: hash, commit: hash})
	d.key, d.byID = "commit:"+rev.ID, true
	if v, err := r.mirror.lease(d); err != nil || v != nil {
		return v, err
	}
	l, err := r.origin.list(ctx, askedAt(ctx))
	if err != nil {
		return nil, err
	}
	defer l.release()
	v, err := r.bring(ctx, l, d)
	if errors.Is(err, errMoved) {
		return nil, fail(ErrRefNotFound, fmt.Sprintf("the server no longer has commit %s", hash), "")
	}
	return v, err
}
