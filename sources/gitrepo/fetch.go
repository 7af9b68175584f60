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
	r.meter.listed(l.begun)
	t, err := r.pick.from(l)
	if err != nil {
		return nil, err
	}
	return r.bring(ctx, l, r.demand(t))
}

// bring gives a commit that the mirror has, or downloads it.
func (r *Repo) bring(ctx context.Context, l *listing, d demand) (*view, error) {
	if v, err := r.mirror.lease(d); err != nil || v != nil {
		return v, err
	}
	if err := r.mirror.refusal(d); err != nil {
		return nil, err
	}
	unlock, err := r.mirror.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	// Whoever had the lock before may have brought it.
	if v, err := r.mirror.lease(d); err != nil || v != nil {
		return v, err
	}
	v, err := r.obtain(ctx, l, d)
	if errors.Is(err, ErrUntrusted) && d.trust != nil {
		r.mirror.refuse(d, err)
	}
	if err != nil && refusesAccess(err) && r.origin.keys.renewed(ctx, l.creds) != nil {
		return nil, errRenewed
	}
	return v, err
}

// errRenewed means that a download was refused, and that the credentials are
// others than when its listing was made.
var errRenewed = errors.New("the credentials changed during the fetch")

// obtain downloads a commit: the difference to what is there; if that cannot be
// used, the whole commit; if that does not help either, or there is no more room,
// into a new generation.
func (r *Repo) obtain(ctx context.Context, l *listing, d demand) (*view, error) {
	if g := r.mirror.base(r.opts.Limits.Packs); g != nil {
		for _, haves := range [][]plumbing.Hash{g.haves(), nil} {
			v, err := r.add(ctx, l, d, g, haves)
			if errors.Is(err, errFull) {
				break
			}
			if !errors.Is(err, errBadPack) {
				return v, err
			}
		}
	}
	g, err := r.mirror.create()
	if err != nil {
		return nil, err
	}
	v, err := r.add(ctx, l, d, g, nil)
	if err != nil {
		g.remove()
	}
	return v, err
}

// add downloads into a generation, proves that the commit is readable and
// publishes it.
func (r *Repo) add(ctx context.Context, l *listing, d demand, g *generation, haves []plumbing.Hash) (*view, error) {
	err := r.receive(ctx, l, g, request{wants: []plumbing.Hash{d.object}, haves: haves})
	if d.byID && errors.Is(err, errMoved) {
		// Not every server gives a commit by its id: take all history instead.
		err = r.receive(ctx, l, g, request{wants: l.tips(), history: true})
		if err == nil && g.objects.find(d.commit) == nil {
			err = fail(ErrRefNotFound, fmt.Sprintf("no branch or tag contains commit %s", d.commit), "")
		}
	}
	if err != nil {
		return nil, err
	}
	root, rev, err := g.objects.verify(d.target, r.opts.Limits.Files)
	if err != nil {
		return nil, err
	}
	v, err := r.mirror.publish(g, d, root, rev)
	if errors.Is(err, errNoTag) {
		return nil, fmt.Errorf("%w: %w", errBadPack, err)
	}
	return v, err
}

func (r *Repo) receive(ctx context.Context, l *listing, g *generation, q request) error {
	q.limit = r.opts.Limits.PackBytes
	started := time.Now()
	room := &room{left: r.opts.room() - g.bytes(), memory: r.opts.Memory}
	defer func() { r.meter.downloaded(room.read, time.Since(started)) }()
	return l.download(ctx, q, func(src io.Reader) error {
		room.src = src
		p, err := storePack(g.dir, room, r.opts.Limits.ObjectBytes, g.objects)
		if err == nil && p != nil {
			g.objects.add(p)
		}
		if room.err != nil {
			return room.err
		}
		return err
	})
}

// room is how many bytes the downloads of one generation may have.
func (o Options) room() int64 {
	if o.Memory {
		return o.Limits.MemoryBytes
	}
	return o.Limits.MirrorBytes
}

// errFull means that a generation has no room for a download.
var errFull = errors.New("the mirror is full")

// room counts a download, and bounds what a mirror holds.
type room struct {
	src    io.Reader
	memory bool
	left   int64
	read   int64
	err    error
}

// Read implements io.Reader.
func (m *room) Read(p []byte) (int, error) {
	if m.err != nil {
		return 0, m.err
	}
	n, err := m.src.Read(p)
	m.read += int64(n)
	if m.left -= int64(n); m.left < 0 {
		text, hint := "the repository exceeds the limit of bytes for a mirror", "raise the limit or make the repository smaller"
		if m.memory {
			text, hint = "the repository exceeds the limit of bytes in memory", "raise the limit or keep the mirror on disk"
		}
		m.err = &failure{text: text, hint: hint, kinds: []error{ErrTooLarge, errFull}}
		return 0, m.err
	}
	return n, err
}
