package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// fetch lists once and downloads only what is missing.
func (r *Repo) fetch(ctx context.Context, asked time.Time) (*view, error) {
	l, err := r.origin.list(ctx, asked)
	if err != nil {
		return nil, err
	}
	defer l.release()
	t, err := r.pick.from(l)
	if err != nil {
		return nil, err
	}
	if v, err := r.mirror.lease(r.key(), t, r.opts.Limits); err != nil || v != nil {
		return v, err
	}
	unlock, err := r.mirror.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	// Whoever had the lock before may have brought it.
	if v, err := r.mirror.lease(r.key(), t, r.opts.Limits); err != nil || v != nil {
		return v, err
	}
	v, err := r.obtain(ctx, l, t)
	if err != nil && refusesAccess(err) && r.origin.keys.renewed(ctx, l.creds) != nil {
		return nil, errRenewed
	}
	return v, err
}

// errRenewed means that a download was refused, and that the credentials are
// others than when its listing was made.
var errRenewed = errors.New("the credentials changed during the fetch")

// obtain downloads a commit: the difference to what is there; if that cannot be
// used, the whole commit; if that does not help either, into a new generation.
func (r *Repo) obtain(ctx context.Context, l *listing, t target) (*view, error) {
	if g := r.mirror.base(r.opts.Limits.Packs); g != nil {
		for _, haves := range [][]plumbing.Hash{g.haves(), nil} {
			v, err := r.add(ctx, l, t, g, haves)
			if !errors.Is(err, errBadPack) {
				return v, err
			}
		}
	}
	g, err := r.mirror.create()
	if err != nil {
		return nil, err
	}
	v, err := r.add(ctx, l, t, g, nil)
	if err != nil {
		g.remove()
	}
	return v, err
}

// add downloads into a generation, proves that the commit is readable and
// publishes it.
func (r *Repo) add(ctx context.Context, l *listing, t target, g *generation, haves []plumbing.Hash) (*view, error) {
	err := r.receive(ctx, l, g, request{wants: []plumbing.Hash{t.object}, haves: haves})
	if _, isCommit := pinned(r.opts.Ref); isCommit && errors.Is(err, errMoved) {
		// Not every server gives a commit by its id: take all history instead.
		err = r.receive(ctx, l, g, request{wants: l.tips(), history: true})
		if err == nil && g.objects.find(t.commit) == nil {
			err = fail(ErrRefNotFound, fmt.Sprintf("no branch or tag contains commit %s", t.commit), "")
		}
	}
	if err != nil {
		return nil, err
	}
	root, rev, err := g.objects.verify(t, r.opts.Limits.Files)
	if err != nil {
		return nil, err
	}
	return r.mirror.publish(g, r.key(), root, rev)
}

func (r *Repo) receive(ctx context.Context, l *listing, g *generation, q request) error {
	q.limit = r.opts.Limits.PackBytes
	return l.download(ctx, q, func(src io.Reader) error {
		p, err := storePack(g.dir, src, r.opts.Limits.ObjectBytes, g.objects)
		if err == nil && p != nil {
			g.objects.add(p)
		}
		return err
	})
}
