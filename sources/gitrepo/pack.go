package gitrepo

import (
	"bufio"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-billy/v5"
	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

// pack is one download. It never changes.
type pack struct {
	name string // without suffix
	// stamps are those of pack and index on disk. In memory only the size of
	// the first counts.
	stamps [2]stamp
	index  *idxfile.MemoryIndex
	file   billy.File
	// largest is the size of the largest object; 0 when it is not known, as for
	// a pack of an earlier process.
	largest int64

	mu     sync.Mutex // go-git's reader seeks, and fills caches of its own
	reader *packfile.Packfile
}

// stamp tells whether a file is still the one that was written or checked.
type stamp struct {
	size int64
	time time.Time
}

func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	return stamp{info.Size(), info.ModTime()}, nil
}

// storePack writes a pack as it arrives into dir, with its index, or into memory
// where dir is empty. It answers nil for a pack without objects.
func storePack(dir string, r io.Reader, limit int64, known *objects) (*pack, error) {
	tmp, discard, err := newScratch(dir)
	if err != nil {
		return nil, err
	}
	defer discard()
	x := &indexer{limit: limit, base: func(h plumbing.Hash) (plumbing.ObjectType, []byte, error) {
		return known.any(h, limit)
	}}
	sum, err := receive(x, r, tmp)
	if err != nil {
		return nil, err
	}
	if len(x.entries) == 0 {
		return nil, nil
	}
	if err := x.resolve(tmp); err != nil {
		return nil, err
	}
	if len(x.borrowed) > 0 {
		if sum, err = complete(tmp, x); err != nil {
			return nil, local(err)
		}
	}
	index, err := x.index(sum)
	if err != nil {
		return nil, bad(err)
	}
	p, err := keepPack(dir, "pack-"+sum.String(), tmp, index, known.cache)
	if err != nil {
		return nil, err
	}
	p.largest = x.largest
	return p, nil
}

// keepPack makes a pack that arrived whole one of those that are read.
func keepPack(dir, name string, tmp scratch, index *idxfile.MemoryIndex, objects cache.Object) (*pack, error) {
	if file, ok := tmp.(*memFile); ok {
		p := &pack{name: name, index: index, file: file}
		p.stamps[0].size = file.size
		p.reader = packfile.NewPackfileWithCache(index, nil, file, objects, 0)
		return p, nil
	}
	if err := writeIndex(filepath.Join(dir, name+".idx"), index); err != nil {
		return nil, local(err)
	}
	if err := os.Rename(tmp.(*os.File).Name(), filepath.Join(dir, name+".pack")); err != nil {
		return nil, local(err)
	}
	return newPack(dir, name, index, objects)
}

// receive copies the pack to its file while it is scanned, and reads what follows
// it, so that the connection can be used again.
func receive(x *indexer, r io.Reader, file io.Writer) (plumbing.Hash, error) {
	w := &diskWriter{w: bufio.NewWriterSize(file, 64<<10)}
	sum, err := x.scan(io.TeeReader(r, w))
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	if err == nil {
		err = w.w.Flush()
		w.err = err
	}
	if w.err != nil {
		return sum, local(w.err)
	}
	return sum, err
}

// diskWriter remembers the error of the disk, which the scanner would report as
// one of the pack.
type diskWriter struct {
	w   *bufio.Writer
	err error
}

func (d *diskWriter) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	d.err = err
	return n, err
}

// local marks an error of our own disk.
func local(err error) error {
	return &failure{
		text:  "write the mirror: " + err.Error(),
		hint:  "check space and permissions of the data directory",
		kinds: []error{errLocal},
	}
}

// errLocal means that the disk is to blame; neither the server nor a new
// generation would help.
var errLocal = errors.New("the mirror cannot be written")

func writeIndex(path string, index *idxfile.MemoryIndex) error {
	f, err := os.CreateTemp(filepath.Dir(path), "tmp-*.idx")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	w := bufio.NewWriter(f)
	_, err = idxfile.NewEncoder(w).Encode(index)
	if err := errors.Join(err, w.Flush(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func newPack(dir, name string, index *idxfile.MemoryIndex, objects cache.Object) (*pack, error) {
	p := &pack{name: name, index: index}
	for i, suffix := range []string{".pack", ".idx"} {
		s, err := stampOf(filepath.Join(dir, name+suffix))
		if err != nil {
			return nil, local(err)
		}
		p.stamps[i] = s
	}
	file, err := osfs.New(dir, osfs.WithBoundOS()).Open(name + ".pack")
	if err != nil {
		return nil, local(err)
	}
	p.file = file
	// Without a file system the reader holds what it reads in memory; sizes are
	// checked before, and nothing above the limit for memory was let in.
	p.reader = packfile.NewPackfileWithCache(index, nil, file, objects, 0)
	return p, nil
}

// loadPack opens a pack that an earlier process left. It reads it whole once to
// check it: nothing is synced to disk when it is written, so that a crash of the
// machine may have torn it.
func loadPack(dir, name string, objects cache.Object) (*pack, error) {
	f, err := os.Open(filepath.Join(dir, name+".idx"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	index := idxfile.NewMemoryIndex()
	if err := idxfile.NewDecoder(struct {
		io.Reader
		statter
	}{bufio.NewReader(f), f}).Decode(index); err != nil {
		return nil, fmt.Errorf("read index %s: %w", name, err)
	}
	if err := checkPack(filepath.Join(dir, name+".pack"), index.PackfileChecksum); err != nil {
		return nil, err
	}
	if want := strings.TrimPrefix(name, "pack-"); want != plumbing.Hash(index.PackfileChecksum).String() {
		return nil, fmt.Errorf("read index %s: it belongs to another pack", name)
	}
	return newPack(dir, name, index, objects)
}

// statter lets the decoder of indexes check the size before it allocates.
type statter interface{ Stat() (os.FileInfo, error) }

func checkPack(path string, want [20]byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h := sha1.New()
	if _, err := io.CopyN(h, f, max(info.Size()-sha1.Size, 0)); err != nil {
		return err
	}
	trailer, err := io.ReadAll(io.LimitReader(f, sha1.Size))
	if err != nil {
		return err
	}
	if sum := [20]byte(h.Sum(nil)); sum != want || string(trailer) != string(want[:]) {
		return fmt.Errorf("check pack %s: the checksum does not match", filepath.Base(path))
	}
	return nil
}

// intact tells whether the files are still there and untouched.
func (p *pack) intact(dir string) bool {
	for i, suffix := range []string{".pack", ".idx"} {
		if s, err := stampOf(filepath.Join(dir, p.name+suffix)); err != nil || s.size != p.stamps[i].size || !s.time.Equal(p.stamps[i].time) {
			return false
		}
	}
	return true
}

func (p *pack) has(h plumbing.Hash) bool {
	ok, err := p.index.Contains(h) // reads only, hence without the lock
	return err == nil && ok
}

// size is that of an object, without reading its content.
func (p *pack) size(h plumbing.Hash) (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sizeLocked(h)
}

func (p *pack) sizeLocked(h plumbing.Hash) (int64, error) {
	offset, err := p.reader.FindOffset(h)
	if err != nil {
		return 0, err
	}
	return p.reader.GetSizeByOffset(offset)
}

// get reads an object, unless it is larger than limit.
func (p *pack) get(h plumbing.Hash, limit int64) (plumbing.EncodedObject, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.largest == 0 || p.largest > limit { // to know a size can cost half a read
		size, err := p.sizeLocked(h)
		if err != nil {
			return nil, err
		}
		if size > limit {
			return nil, fail(ErrTooLarge, fmt.Sprintf("%d bytes exceed the limit of %d", size, limit), "")
		}
	}
	return p.reader.Get(h)
}
