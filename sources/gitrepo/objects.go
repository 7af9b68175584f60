package gitrepo

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
)

const (
	cacheBytes   = 8 * cache.MiByte
	cacheEntries = 50_000
	// maxTreeBytes bounds one folder's listing: about 300,000 names.
	maxTreeBytes = 16 << 20
)

// errMissing means that the mirror lacks an object or holds it damaged.
var errMissing = errors.New("missing from the mirror or damaged")

// objects are all packs of a generation. Packs are only ever added, so that
// readers need no lock but that of the pack they read.
type objects struct {
	packs   atomic.Pointer[[]*pack]
	cache   *cache.ObjectLRU // has its own lock
	damaged atomic.Bool

	mu    sync.Mutex
	dirs  map[plumbing.Hash]*dir
	held  int                      // entries of dirs
	facts map[plumbing.Hash]*facts // of trees proven complete
}

func newObjects() *objects {
	o := &objects{cache: cache.NewObjectLRU(cacheBytes), facts: map[plumbing.Hash]*facts{}}
	o.packs.Store(&[]*pack{})
	return o
}

// add publishes a pack, newest first: what is read next is most likely there.
func (o *objects) add(p *pack) {
	old := *o.packs.Load()
	for _, q := range old {
		if q.name == p.name {
			p.file.Close() // the same download came twice
			return
		}
	}
	next := append([]*pack{p}, old...)
	o.packs.Store(&next)
}

func (o *objects) find(h plumbing.Hash) *pack {
	for _, p := range *o.packs.Load() {
		if p.has(h) {
			return p
		}
	}
	return nil
}

// read gives a copy of an object's content.
func (o *objects) read(h plumbing.Hash, kind plumbing.ObjectType, limit int64) ([]byte, error) {
	is, content, err := o.any(h, limit)
	if err == nil && is != kind {
		err = fmt.Errorf("object %s is a %s, not a %s", h, is, kind)
	}
	return content, err
}

// any gives a copy of an object of any type after checking that it is what its
// id says.
func (o *objects) any(h plumbing.Hash, limit int64) (plumbing.ObjectType, []byte, error) {
	p := o.find(h)
	if p == nil {
		return 0, nil, missing(h, "not found")
	}
	obj, err := p.get(h, limit)
	if errors.Is(err, ErrTooLarge) {
		return 0, nil, err
	}
	if err != nil {
		return 0, nil, missing(h, err.Error())
	}
	if obj.Hash() != h {
		return 0, nil, missing(h, "the content does not match")
	}
	r, err := obj.Reader()
	if err != nil {
		return 0, nil, missing(h, err.Error())
	}
	defer r.Close()
	content := make([]byte, obj.Size())
	if _, err := io.ReadFull(r, content); err != nil {
		return 0, nil, missing(h, err.Error())
	}
	return obj.Type(), content, nil
}

func (o *objects) size(h plumbing.Hash) (int64, error) {
	p := o.find(h)
	if p == nil {
		return 0, missing(h, "not found")
	}
	size, err := p.size(h)
	if err != nil {
		return 0, missing(h, err.Error())
	}
	return size, nil
}

// missing says that an object is not there as it should be. Whether that is
// damage depends on who asked: of a commit that was only just downloaded it says
// nothing about the mirror.
func missing(h plumbing.Hash, why string) error {
	return fmt.Errorf("object %s is %w: %s", h, errMissing, why)
}

// dir gives the parsed listing of a folder.
func (o *objects) dir(h plumbing.Hash) (*dir, error) {
	o.mu.Lock()
	d := o.dirs[h]
	o.mu.Unlock()
	if d != nil {
		return d, nil
	}
	content, err := o.read(h, plumbing.TreeObject, maxTreeBytes)
	if err != nil {
		return nil, err
	}
	if d, err = parseDir(content); err != nil {
		return nil, fmt.Errorf("tree %s: %w", h, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dirs == nil || o.held > cacheEntries {
		o.dirs, o.held = map[plumbing.Hash]*dir{}, 0
	}
	o.dirs[h] = d
	o.held += len(d.entries)
	return d, nil
}

// rest drops what is kept only to be quick.
func (o *objects) rest() {
	o.cache.Clear()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dirs, o.held = nil, 0
}

func (o *objects) close() {
	for _, p := range *o.packs.Load() {
		p.file.Close() // was only read
	}
}
