// Package localdir follows a folder of the machine that Holdfast runs on and
// gives its content as snapshots.
//
// A snapshot is a copy in memory: what is edited later does not reach who still
// reads an earlier one. Its revision is a digest of the content; for a folder in
// a work tree of git it is the commit that is checked out, with a mark where the
// folder differs from it. The package knows nothing of what the files mean.
package localdir

import (
	"context"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/internal/treefs"
)

// Options say which folder to follow. Zero limits mean the defaults.
type Options struct {
	// Name is the source's name in the daemon's configuration.
	Name string
	// Dir is the folder. It may be a symbolic link that is swapped, and a volume
	// made of a ConfigMap or Secret.
	Dir string
	// Backstop is how often Watch looks for itself, for file systems that do
	// not report changes: one minute.
	Backstop time.Duration
	// Settle is how long Watch waits for more changes after one, 100 ms, and
	// MaxDelay how long at most, 2 s.
	Settle, MaxDelay time.Duration
	// MaxFiles bounds files and folders, 20,000; MaxBytes their sum, 64 MiB;
	// MaxFileBytes one file, 16 MiB.
	MaxFiles     int
	MaxBytes     int64
	MaxFileBytes int64
}

func (o Options) withDefaults() Options {
	positive(&o.Backstop, time.Minute)
	positive(&o.Settle, 100*time.Millisecond)
	positive(&o.MaxDelay, 2*time.Second)
	positive(&o.MaxFiles, 20_000)
	positive(&o.MaxBytes, 64<<20)
	positive(&o.MaxFileBytes, 16<<20)
	return o
}

func positive[T int | int64 | time.Duration](v *T, otherwise T) {
	if *v <= 0 {
		*v = otherwise
	}
}

// Dir follows one folder. It is safe for concurrent use.
type Dir struct {
	opts Options

	mu   sync.Mutex
	last *tree // of the last Fetch
}

// Open checks the options. It does not touch the folder.
func Open(o Options) (*Dir, error) {
	if o.Dir == "" {
		return nil, fmt.Errorf("open dir source %q: no folder is given", o.Name)
	}
	return &Dir{opts: o.withDefaults()}, nil
}

// Head gives the revision of the folder as it is now.
func (d *Dir) Head(ctx context.Context) (sources.Revision, error) {
	t, err := d.scan(ctx)
	if err != nil {
		return sources.Revision{}, err
	}
	return t.revision(), nil
}

// Fetch copies the folder as it is now. The caller closes the snapshot.
func (d *Dir) Fetch(ctx context.Context) (*sources.Snapshot, error) {
	t, err := d.scan(ctx)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last == nil || d.last.rev.ID != t.rev.ID {
		d.last = t
	}
	return d.snapshot(d.last), nil
}

// Last gives what was fetched last in this process. The error wraps
// fs.ErrNotExist when nothing was: the folder itself is what outlives the
// process.
func (d *Dir) Last() (*sources.Snapshot, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last == nil {
		return nil, fmt.Errorf("open the last revision of folder %s: %w: nothing was fetched yet", d.opts.Dir, fs.ErrNotExist)
	}
	return d.snapshot(d.last), nil
}

func (d *Dir) snapshot(t *tree) *sources.Snapshot {
	return sources.NewSnapshot(d.opts.Name, t.revision(), t, nil)
}

// tree is the content of the folder at one time.
type tree struct {
	*treefs.FS[*node]
	rev sources.Revision
}

var (
	_ sources.Tree  = (*tree)(nil)
	_ fs.ReadLinkFS = (*tree)(nil)
)

func (t *tree) revision() sources.Revision { return t.rev }

// ContentID implements sources.Tree.
func (t *tree) ContentID(name string) (string, error) {
	n, err := t.Find("identify", name, treefs.FollowLast)
	if err != nil {
		return "", err
	}
	if err := n.Handle.err; err != nil {
		return "", treefs.PathError("identify", name, err)
	}
	return n.Handle.id, nil
}
