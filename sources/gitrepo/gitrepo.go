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
// sends just what differs, whichever way the ref has moved.
//
// Packs never change once they are there. A download adds one and publishes it
// when its commit and whole tree were proven readable; readers of older
// snapshots are not disturbed and do not wait. Each pack has a lock of its own,
// because go-git's readers are not safe for concurrent use.
//
// What cannot be trusted is not repaired in place: a new generation is built
// beside the old one, which goes when its last snapshot was closed.
package gitrepo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
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
	// URL is an http:// or https:// address. Credentials in it are used, unless
	// those below are set, but never printed.
	URL string
	// Ref is a branch or tag by its short name (the branch wins when both
	// exist), a full name such as refs/heads/main, or the 40 digits of a commit.
	// Empty follows the repository's own default branch.
	Ref string
	// Dir is the folder for the mirror. All Repos with the same Dir must have
	// the same URL; they share the mirror.
	Dir string

	// Username and Password are sent by basic authentication. A token goes into
	// the password; the username is then "git" when empty.
	Username, Password string
	// PasswordFile holds the password; it is read anew for each operation, so
	// that a rotated secret is picked up.
	PasswordFile string
	// CAFile holds certificates, PEM, to trust beside the system's.
	CAFile string

	// Timeout bounds each listing, and how long a download may stall. The
	// default is one minute.
	Timeout time.Duration
	// Limits bound what a repository may cost.
	Limits Limits
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
	if l.Packs <= 0 {
		l.Packs = 50
	}
	return l
}

// Repo follows one repository at one ref. It is safe for concurrent use.
type Repo struct {
	opts   Options
	addr   address
	client *http.Client
	mirror *mirror
	closed sync.Once
}

// Open checks the options. It neither reads the mirror nor asks the server.
func Open(o Options) (*Repo, error) {
	addr, err := parseAddress(o.URL)
	if err != nil {
		return nil, fmt.Errorf("open git source %q: %w", o.Name, err)
	}
	if o.Dir == "" {
		return nil, fmt.Errorf("open git source %q: no folder for the mirror", o.Name)
	}
	if o.Timeout <= 0 {
		o.Timeout = time.Minute
	}
	o.Limits = o.Limits.withDefaults()
	o.Ref = strings.TrimSpace(o.Ref)
	client, err := newClient(o)
	if err != nil {
		return nil, fmt.Errorf("open git source %q: %w", o.Name, err)
	}
	m, err := openMirror(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open git source %q: %w", o.Name, err)
	}
	return &Repo{opts: o, addr: addr, client: client, mirror: m}, nil
}

// Close lets go of connections and, once the last snapshot is closed too, of
// the mirror's files. The mirror stays on disk. It may be called more than once,
// but nothing else after it.
func (r *Repo) Close() {
	r.closed.Do(func() {
		r.client.CloseIdleConnections()
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
	creds, err := r.credentials()
	if err != nil {
		return sources.Revision{}, err
	}
	l, err := r.list(ctx, creds)
	if err != nil {
		return sources.Revision{}, r.explain(ctx, "list refs of", creds, err)
	}
	t, err := l.resolve(r.opts.Ref)
	if err != nil {
		return sources.Revision{}, r.explain(ctx, "list refs of", creds, err)
	}
	return r.mirror.describe(t), nil
}

// Fetch gives the commit that the ref is at now, downloading what the mirror
// lacks. The caller closes the snapshot.
func (r *Repo) Fetch(ctx context.Context) (*sources.Snapshot, error) {
	unlock, err := r.mirror.lock(ctx)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", r.addr.url, err)
	}
	defer unlock()
	if hash, ok := pinned(r.opts.Ref); ok {
		if v, err := r.mirror.lease(r.key(), target{commit: hash}, r.opts.Limits); err != nil || v != nil {
			return r.snapshot(v), r.explain(ctx, "fetch", credentials{}, err)
		}
	}
	creds, err := r.credentials()
	if err != nil {
		return nil, err
	}
	v, err := r.fetch(ctx, creds)
	if errors.Is(err, errMoved) {
		// The ref moved between the listing and the download.
		v, err = r.fetch(ctx, creds)
	}
	if err != nil {
		return nil, r.explain(ctx, "fetch", creds, err)
	}
	return r.snapshot(v), nil
}

// Last gives the last good revision without the network, for a start while the
// server is away. The error wraps fs.ErrNotExist when there is none.
func (r *Repo) Last() (*sources.Snapshot, error) {
	v, err := r.mirror.last(r.key(), r.opts.Limits)
	if err != nil {
		return nil, fmt.Errorf("open the last revision of %s: %w", r.addr.url, err)
	}
	if v == nil {
		return nil, fmt.Errorf("open the last revision of %s: %w: nothing was fetched yet", r.addr.url, fs.ErrNotExist)
	}
	return r.snapshot(v), nil
}

// key is the name under which the mirror remembers the last good commit.
func (r *Repo) key() string {
	if r.opts.Ref == "" {
		return "HEAD"
	}
	return r.opts.Ref
}

func (r *Repo) snapshot(v *view) *sources.Snapshot {
	if v == nil {
		return nil
	}
	t := newTree(v.objects, v.root, v.revision.Time, r.opts.Limits.FileBytes)
	return sources.NewSnapshot(r.opts.Name, v.revision, t, v.release)
}

// anonymous tells whether no credentials are configured at all.
func (r *Repo) anonymous() bool {
	return r.opts.Password == "" && r.opts.PasswordFile == "" &&
		r.opts.Username == "" && r.addr.creds == credentials{}
}

// credentials reads what the next operation is to send.
func (r *Repo) credentials() (credentials, error) {
	c := r.addr.creds
	if r.opts.Username != "" || r.opts.Password != "" || r.opts.PasswordFile != "" {
		c = credentials{r.opts.Username, r.opts.Password}
	}
	if r.opts.PasswordFile != "" {
		b, err := os.ReadFile(r.opts.PasswordFile)
		if err != nil {
			return c, &failure{
				text:  fmt.Sprintf("read the password of git source %q: %v", r.opts.Name, err),
				kinds: []error{ErrAuth},
			}
		}
		c.password = strings.TrimRight(string(b), "\r\n")
	}
	if c.username == "" && c.password != "" {
		c.username = "git" // servers that take a token accept any name but none
	}
	return c, nil
}

// pinned tells whether a ref is the id of a commit.
func pinned(ref string) (plumbing.Hash, bool) {
	if len(ref) != 40 || !plumbing.IsHash(ref) {
		return plumbing.ZeroHash, false
	}
	return plumbing.NewHash(ref), true
}
