// Package gitrepo follows a git repository at a ref and gives its commits as
// snapshots, read straight from the object store: there is no checkout and no
// git program.
//
// It owns a cache folder with a mirror per repository, which may be wiped or
// damaged at any time and then heals itself. It knows nothing of what the files
// mean.
//
// # How a mirror works
//
// A mirror is a folder of generations, gen-1, gen-2 and so on, of which one is
// current. A generation holds packs, each with its index, and a small record of
// the last good commit of each ref that is followed. It holds no refs, no loose
// objects and no configuration. Only trees and files of the commits themselves
// are downloaded, never their history: every download asks for depth 1 and
// names the commits at hand both as known and as shallow, so that the server
// sends just what differs, whichever way the ref has moved. What lies between
// two commits is asked for when somebody wants to know, and not kept.
//
// Packs never change once they are there. A download adds one and publishes it
// when its commit and whole tree were proven readable; readers of older
// snapshots are not disturbed and do not wait. Each pack has a lock of its own,
// because go-git's readers are not safe for concurrent use.
//
// What cannot be trusted is not repaired in place: a new generation is built
// beside the old one, which goes when its last snapshot was closed.
//
// # How a server is reached
//
// All Repos of one URL and one set of credentials share an origin: connections,
// what reads the credentials, and listings. Who asks while a listing is under
// way shares the next; [Asked] lets one that began after a moment answer. Over
// HTTP the messages are go-git's, through a guard that bounds and checks what
// servers say. Over SSH they are exchanged with the server's upload-pack on a
// connection of their own, which serves for a listing and the download that
// follows it; no ssh program and no ssh_config is used.
//
// Credentials are read from their files for each listing, and once more when a
// server refuses them. A keyring knows what was read lately, and takes it out of
// every error, also where a text was cut within it.
//
// Submodules are repositories with mirrors of their own, in the folder modules of
// their parent's, and files of Git LFS lie in its folder lfs. Both are fetched
// when somebody first reads them.
package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/holdfast-gitops/holdfast/sources"
)

// Options say which repository to follow and how.
type Options struct {
	// Name is the source's name in the daemon's configuration.
	Name string
	// URL is an http://, https:// or ssh:// address, or user@host:path. Credentials
	// in it are used, unless those below are set, but never printed.
	URL string
	// Ref is a branch or tag by its short name (the branch wins when both
	// exist), a full name such as refs/heads/main, or the 40 digits of a commit.
	// Empty follows the repository's own default branch.
	Ref string
	// Semver, instead of Ref, follows the tag with the highest version in a
	// range, such as ">=1.2 <2"; see CheckSemver.
	Semver string
	// Dir is the folder for the mirror. All Repos with the same Dir must have
	// the same URL; they share the mirror.
	Dir string

	// Username and Password are sent by basic authentication. A token goes into
	// the password; the username is then "git" when empty.
	Username, Password string
	// PasswordFile holds the password. Like all files of credentials it is read
	// anew for each operation, so that a rotated secret is picked up, and once
	// more when the server refuses what it held.
	PasswordFile string
	// BearerFile holds a token that is sent as such, instead of a password.
	BearerFile string
	// GitHubApp, instead of these, gets tokens as a GitHub App.
	GitHubApp *GitHubApp
	// CAFile holds certificates, PEM, to trust beside the system's.
	CAFile string
	// CertFile and KeyFile, PEM, are the certificate that is shown to the server.
	CertFile, KeyFile string
	// SSH says how to reach a server over SSH.
	SSH SSH
	// Proxy is what connections go through.
	Proxy Proxy

	// Timeout bounds each listing, and how long a download may stall. The
	// default is one minute.
	Timeout time.Duration
	// Limits bound what a repository may cost.
	Limits Limits

	// Trust says whose signatures a revision needs.
	Trust Trust
	// Submodules says which are read.
	Submodules Submodules
	// LFS says that files kept by Git LFS are fetched. Otherwise they are errors.
	LFS bool
	// Memory keeps the mirror in memory rather than in Dir, which then is just its
	// name.
	Memory bool
}

// Limits bound what a repository may cost. Zero means the default.
type Limits struct {
	// FileBytes bounds one file that is read: 16 MiB.
	FileBytes int64
	// Files bounds the files and folders of a commit: 200,000.
	Files int64
	// PackBytes bounds one download: 1 GiB.
	PackBytes int64
	// ObjectBytes bounds an object that has to be held in memory while a
	// download is indexed: 128 MiB.
	ObjectBytes int64
	// Packs bounds how many downloads are kept before the mirror is cloned
	// anew: 50.
	Packs int
	// MirrorBytes bounds all downloads that are kept for one repository, and once
	// more the files of Git LFS: 4 GiB.
	MirrorBytes int64
	// MemoryBytes takes its place for a mirror in memory: 128 MiB. While one is
	// cloned anew, there may be two of them.
	MemoryBytes int64
}

func (l Limits) withDefaults() Limits {
	set := func(v *int64, to int64) {
		if *v <= 0 {
			*v = to
		}
	}
	set(&l.FileBytes, 16<<20)
	set(&l.Files, 200_000)
	set(&l.PackBytes, 1<<30)
	set(&l.ObjectBytes, 128<<20)
	set(&l.MirrorBytes, 4<<30)
	set(&l.MemoryBytes, 128<<20)
	if l.Packs <= 0 {
		l.Packs = 50
	}
	return l
}

// Repo follows one repository at one ref. It is safe for concurrent use. Repos
// of the same URL and credentials share their connections and listings, and
// those of the same folder the mirror.
type Repo struct {
	opts   Options
	pick   selector
	origin *origin
	mirror *mirror
	closed sync.Once

	meter    meter
	children children
}

// Open checks the options. It neither reads the mirror nor asks the server.
func Open(o Options) (*Repo, error) {
	r, err := open(o)
	if err != nil {
		return nil, fmt.Errorf("open git source %q: %w", o.Name, err)
	}
	return r, nil
}

func open(o Options) (*Repo, error) {
	addr, err := parseAddress(o.URL)
	if err != nil {
		return nil, err
	}
	if o.Dir == "" {
		return nil, errors.New("no folder for the mirror")
	}
	if o.Timeout <= 0 {
		o.Timeout = time.Minute
	}
	o.Limits = o.Limits.withDefaults()
	o.Ref = strings.TrimSpace(o.Ref)
	if _, err := newTrust(o.Trust); err != nil {
		return nil, err
	}
	if err := o.Submodules.check(); err != nil {
		return nil, err
	}
	pick, err := newSelector(o)
	if err != nil {
		return nil, err
	}
	origin, err := openOrigin(o, addr)
	if err != nil {
		return nil, err
	}
	m, err := openMirror(o.Dir, o.Memory)
	if err != nil {
		origin.leave()
		return nil, err
	}
	return &Repo{opts: o, pick: pick, origin: origin, mirror: m}, nil
}

// Rest drops what of the mirror is in memory only to be read again quickly. It is
// there again when it is needed.
func (r *Repo) Rest() { r.mirror.rest() }

// Close lets go of connections and, once the last snapshot is closed too, of
// the mirror's files. The mirror stays on disk. It may be called more than once,
// but nothing else after it.
func (r *Repo) Close() {
	r.closed.Do(func() {
		r.children.close()
		r.origin.leave()
		r.mirror.close()
	})
}

// Head asks the server which commit the ref is at. It downloads nothing, and
// for a ref that is a commit it asks nothing. Author, subject and time are
// filled in only for a commit that the mirror has.
func (r *Repo) Head(ctx context.Context) (sources.Revision, error) {
	if hash, ok := pinned(r.opts.Ref); ok {
		return r.mirror.describe(target{commit: hash}), nil
	}
	l, err := r.origin.list(ctx, askedAt(ctx))
	if err != nil {
		return sources.Revision{}, r.explain(ctx, "list refs of", err)
	}
	defer l.release()
	t, err := r.pick.from(l)
	if err != nil {
		return sources.Revision{}, r.explain(ctx, "list refs of", err)
	}
	return r.mirror.describe(t), nil
}

// Fetch gives the commit that the ref is at now, downloading what the mirror
// lacks. The caller closes the snapshot.
func (r *Repo) Fetch(ctx context.Context) (*sources.Snapshot, error) {
	if hash, ok := pinned(r.opts.Ref); ok {
		if v, err := r.mirror.lease(r.demand(target{object: hash, commit: hash})); err != nil || v != nil {
			return r.snapshot(v), r.explain(ctx, "fetch", err)
		}
	}
	v, err := r.fetch(ctx, askedAt(ctx))
	if errors.Is(err, errMoved) || errors.Is(err, errRenewed) {
		// The ref or the credentials changed between the listing and the download.
		v, err = r.fetch(ctx, time.Now())
	}
	if err != nil {
		return nil, r.explain(ctx, "fetch", err)
	}
	return r.snapshot(v), nil
}

// Last gives the last good revision without the network, for a start while the
// server is away. The error wraps fs.ErrNotExist when there is none.
func (r *Repo) Last() (*sources.Snapshot, error) {
	v, err := r.mirror.last(r.demand(target{}))
	if err != nil {
		return nil, fmt.Errorf("open the last revision of %s: %w", r.origin.addr.url, err)
	}
	if v == nil {
		return nil, fmt.Errorf("open the last revision of %s: %w: nothing was fetched yet", r.origin.addr.url, fs.ErrNotExist)
	}
	return r.snapshot(v), nil
}

// key is the name under which the mirror remembers the last good commit.
func (r *Repo) key() string {
	switch {
	case r.opts.Semver != "":
		return "semver:" + r.opts.Semver
	case r.opts.Ref == "":
		return "HEAD"
	}
	return r.opts.Ref
}

// demand is what the mirror is asked for a target.
func (r *Repo) demand(t target) demand {
	trust, err := newTrust(r.opts.Trust)
	if err != nil {
		panic(err) // Open checked it
	}
	_, byID := pinned(r.opts.Ref)
	key := trust.key(r.key())
	return demand{target: t, key: key, limits: r.opts.Limits, trust: trust, trustKey: key, byID: byID}
}

func (r *Repo) snapshot(v *view) *sources.Snapshot {
	if v == nil {
		return nil
	}
	t := newTree(r, v)
	return sources.NewSnapshot(r.opts.Name, v.revision, t, t.close)
}

// pinned tells whether a ref is the id of a commit.
func pinned(ref string) (plumbing.Hash, bool) {
	if len(ref) != 40 || !plumbing.IsHash(ref) {
		return plumbing.ZeroHash, false
	}
	return plumbing.NewHash(ref), true
}
