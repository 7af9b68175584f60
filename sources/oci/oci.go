// Package oci follows an OCI artifact in a registry and gives its content as
// snapshots: one layer, a compressed tar archive, as Flux publishes them.
//
// It owns a cache folder with the content of the newest artifact, which may be
// wiped or damaged at any time and is then downloaded again. It knows nothing of
// what the files mean.
//
// # How an artifact becomes a tree
//
// A look costs one HEAD of the manifest, which tells its digest; with a semver
// range, one listing of the tags before it. Only a digest that is not in the
// cache is downloaded: the manifest, then the layer, each verified against its
// digest before anything in it is looked at. The archive is never unpacked into
// a file system. The bytes of its files go one behind the other into a single
// file, beside an index of the names, so that nothing that an archive may hold
// can reach outside.
package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"sync"
	"time"

	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/holdfast-gitops/holdfast/sources"
)

// Options say which artifact to follow and how.
type Options struct {
	// Name is the source's name in the daemon's configuration.
	Name string
	// URL is that of the repository, oci://host/path, without a tag.
	URL string
	// Ref is a tag, or a digest such as "sha256:…"; "latest" when it and Semver
	// are empty.
	Ref string
	// Semver is a range of versions, such as ">=1.2.0 <2.0.0": the highest tag
	// within it is followed.
	Semver string
	// Dir is the folder for the cache, of this source alone.
	Dir string

	// Username and Password are sent when the registry asks for them.
	Username, Password string
	// PasswordFile holds the password or token. It is read anew for each
	// operation, so that a rotated secret is picked up.
	PasswordFile string
	// DockerConfigFile is a file as `docker login` writes it, or a Secret of type
	// dockerconfigjson holds it, read anew for each operation. Credential helpers
	// that it names are programs, and are not run.
	DockerConfigFile string
	// CAFile holds certificates, PEM, to trust beside the system's.
	CAFile string
	// Insecure talks http to the registry instead of https.
	Insecure bool

	// Timeout bounds each request for metadata, and how long a download may
	// stall. The default is one minute.
	Timeout time.Duration
	// Limits bound what an artifact may cost.
	Limits Limits
}

// Limits bound what an artifact may cost. Zero means the default.
type Limits struct {
	// LayerBytes bounds the compressed layer: 256 MiB.
	LayerBytes int64
	// UnpackedBytes bounds the files together: 1 GiB.
	UnpackedBytes int64
	// FileBytes bounds one file that is read: 16 MiB.
	FileBytes int64
	// Files bounds the files and folders: 200,000.
	Files int
	// Ratio bounds how many times larger than the layer the files may be, beyond
	// the first 16 MiB: 200.
	Ratio int64
}

func (l Limits) withDefaults() Limits {
	positive(&l.LayerBytes, 256<<20)
	positive(&l.UnpackedBytes, 1<<30)
	positive(&l.FileBytes, 16<<20)
	positive(&l.Files, 200_000)
	positive(&l.Ratio, 200)
	return l
}

func positive[T int | int64 | time.Duration](v *T, otherwise T) {
	if *v <= 0 {
		*v = otherwise
	}
}

// Artifact follows one artifact. It is safe for concurrent use.
type Artifact struct {
	opts   Options
	ref    registry.Reference
	wanted reference
	client *http.Client
	store  *store
	closed sync.Once
	meter  meter

	mu sync.Mutex
	// tokens are those that the registry gave for the credentials in known.
	tokens auth.Cache
	known  credentials
}

// Open checks the options. It neither reads the cache nor asks the registry.
func Open(o Options) (*Artifact, error) {
	a, err := open(o)
	if err != nil {
		return nil, fmt.Errorf("open oci source %q: %w", o.Name, err)
	}
	return a, nil
}

func open(o Options) (*Artifact, error) {
	if o.Dir == "" {
		return nil, errors.New("no folder for the cache")
	}
	ref, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	wanted, err := parseReference(o.Ref, o.Semver)
	if err != nil {
		return nil, err
	}
	positive(&o.Timeout, time.Minute)
	o.Limits = o.Limits.withDefaults()
	client, err := newClient(o)
	if err != nil {
		return nil, err
	}
	s, err := openStore(o.Dir)
	if err != nil {
		return nil, err
	}
	return &Artifact{opts: o, ref: ref, wanted: wanted, client: client, store: s, tokens: auth.NewCache()}, nil
}

// Close lets go of connections and, once the last snapshot is closed too, of
// the cache's files. The cache stays on disk. It may be called more than once,
// but nothing else after it.
func (a *Artifact) Close() {
	a.closed.Do(func() {
		a.client.CloseIdleConnections()
		a.store.close()
	})
}

// Head asks the registry which manifest the reference is at. It downloads
// nothing, and for a digest it asks nothing. Subject and time are filled in only
// for an artifact that is in the cache.
func (a *Artifact) Head(ctx context.Context) (sources.Revision, error) {
	s, err := a.session()
	if err != nil {
		return sources.Revision{}, err
	}
	found, err := s.resolve(ctx, a.wanted)
	if err != nil {
		return sources.Revision{}, a.explain(ctx, "look up", s.creds, err)
	}
	return a.store.describe(found.revision()), nil
}

// Fetch gives the artifact that the reference is at now, and downloads it if it
// is not in the cache. The caller closes the snapshot.
func (a *Artifact) Fetch(ctx context.Context) (*sources.Snapshot, error) {
	unlock, err := a.store.lock(ctx)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", a.opts.URL, err)
	}
	defer unlock()
	if a.wanted.digest != "" { // it names its own content: there is nothing to ask
		pinned := sources.Revision{ID: a.wanted.digest.String()}
		if v, err := a.store.lease(pinned, a.wanted.key()); err != nil || v != nil {
			return a.snapshot(v), a.explain(ctx, "fetch", credentials{}, err)
		}
	}
	s, err := a.session()
	if err != nil {
		return nil, err
	}
	v, err := a.fetch(ctx, s)
	if err != nil {
		return nil, a.explain(ctx, "fetch", s.creds, err)
	}
	return a.snapshot(v), nil
}

func (a *Artifact) fetch(ctx context.Context, s *session) (*view, error) {
	began := time.Now()
	found, err := s.resolve(ctx, a.wanted)
	if err != nil {
		return nil, err
	}
	a.meter.listed(began)
	rev := found.revision()
	if v, err := a.store.lease(rev, a.wanted.key()); err != nil || v != nil {
		return v, err
	}
	m, err := s.manifest(ctx, found)
	if err != nil {
		return nil, err
	}
	m.annotate(&rev)
	dir, err := a.store.create()
	if err != nil {
		return nil, err
	}
	if err := s.unpack(ctx, m.layer, dir); err != nil {
		dir.remove()
		return nil, err
	}
	a.meter.downloaded(m.layer.Size+found.descriptor.Size, time.Since(began))
	return a.store.publish(dir, a.wanted.key(), rev)
}

// Last gives the last good artifact without the network, for a start while the
// registry is away. The error wraps fs.ErrNotExist when there is none.
func (a *Artifact) Last() (*sources.Snapshot, error) {
	v := a.store.last(a.wanted.key())
	if v == nil {
		return nil, fmt.Errorf("open the last revision of %s: %w: nothing was fetched yet", a.opts.URL, fs.ErrNotExist)
	}
	return a.snapshot(v), nil
}

func (a *Artifact) snapshot(v *view) *sources.Snapshot {
	if v == nil {
		return nil
	}
	return sources.NewSnapshot(a.opts.Name, v.revision, newTree(v.content, v.revision.Time, a.opts.Limits.FileBytes), v.release)
}
