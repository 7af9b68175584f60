package gitrepo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

// errBadPack means that a download arrived whole but is of no use. A clone into
// a new generation may help, where trying the same again would not.
var errBadPack = errors.New("the server sent a pack that cannot be used")

// maxChain bounds chains of differences; git makes 50 by default, 4095 at most.
const maxChain = 4095

// indexer makes the index of a pack while it arrives. go-git's own parser
// inflates every object twice and holds each in memory; this one streams whole
// objects once and holds only what differences are applied to.
type indexer struct {
	limit   int64 // bytes of an object in memory
	largest int64 // bytes of any object
	entries []packEntry
	// children are the differences against the object at an offset, waiting
	// those against an object of that id.
	children map[int64][]int
	waiting  map[plumbing.Hash][]int
	// base gives an object of an earlier pack, that a thin pack builds on, and
	// borrowed are those that were needed.
	base     func(plumbing.Hash) (plumbing.ObjectType, []byte, error)
	borrowed []borrowed
	src      *packfile.Scanner // the pack once it is on disk
	held     int64             // bytes of objects in memory now
}

// borrowed is an object that has to be added to a thin pack, so that the pack
// can be read alone.
type borrowed struct {
	entry   int
	content []byte
}

type packEntry struct {
	offset int64
	crc    uint32
	kind   plumbing.ObjectType
	hash   plumbing.Hash
}

// scan reads a pack as it arrives, to its checksum, and hashes whole objects.
func (x *indexer) scan(r io.Reader) (plumbing.Hash, error) {
	s := packfile.NewScanner(r)
	_, count, err := s.Header()
	if err != nil {
		return plumbing.ZeroHash, bad(err)
	}
	x.children = map[int64][]int{}
	x.waiting = map[plumbing.Hash][]int{}
	for range count {
		if err := x.scanObject(s); err != nil {
			return plumbing.ZeroHash, bad(err)
		}
	}
	sum, err := s.Checksum()
	if err != nil {
		return plumbing.ZeroHash, bad(err)
	}
	return sum, nil
}

func (x *indexer) scanObject(s *packfile.Scanner) error {
	h, err := s.NextObjectHeader()
	if err != nil {
		return err
	}
	n := len(x.entries)
	e := packEntry{offset: h.Offset, kind: h.Type}
	switch h.Type {
	case plumbing.OFSDeltaObject:
		x.children[h.OffsetReference] = append(x.children[h.OffsetReference], n)
	case plumbing.REFDeltaObject:
		x.waiting[h.Reference] = append(x.waiting[h.Reference], n)
	case plumbing.CommitObject, plumbing.TreeObject, plumbing.BlobObject, plumbing.TagObject:
		hasher := plumbing.NewHasher(h.Type, h.Length)
		written, crc, err := s.NextObject(hasher)
		if err != nil {
			return err
		}
		if written != h.Length {
			return fmt.Errorf("object at %d has %d bytes instead of %d", h.Offset, written, h.Length)
		}
		e.crc, e.hash = crc, hasher.Sum()
		x.largest = max(x.largest, h.Length)
		x.add(e)
		return nil
	default:
		return fmt.Errorf("object at %d is of an unknown type", h.Offset)
	}
	if h.Length > x.limit {
		return tooLargeObject(h.Length)
	}
	if _, e.crc, err = s.NextObject(io.Discard); err != nil {
		return err
	}
	x.add(e)
	return nil
}

func (x *indexer) add(e packEntry) { x.entries = append(x.entries, e) }

// resolve finds the ids of the objects that are stored as differences.
func (x *indexer) resolve(pack io.ReadSeeker) error {
	if len(x.children) > 0 || len(x.waiting) > 0 {
		if err := x.resolveAll(pack); err != nil {
			return err
		}
	}
	return x.unique()
}

// unique refuses a pack that holds an object twice. Its index can name only one
// of them, and where that is a difference against what the other leads to,
// go-git's reader would go in circles until the process dies.
func (x *indexer) unique() error {
	seen := make(map[plumbing.Hash]struct{}, len(x.entries))
	for _, e := range x.entries {
		if _, twice := seen[e.hash]; twice {
			return bad(fmt.Errorf("object %s is in it twice", e.hash))
		}
		seen[e.hash] = struct{}{}
	}
	return nil
}

func (x *indexer) resolveAll(pack io.ReadSeeker) error {
	x.src = packfile.NewScanner(pack)
	for i, e := range x.entries {
		if e.kind.IsDelta() || !x.hasChildren(e) {
			continue
		}
		content, err := x.inflate(e.offset)
		if err != nil {
			return bad(err)
		}
		if err := x.resolveChildren(i, e.kind, content, 0); err != nil {
			return bad(err)
		}
	}
	if err := x.borrow(); err != nil {
		return err
	}
	for _, e := range x.entries {
		if e.hash == plumbing.ZeroHash {
			return bad(fmt.Errorf("the base of the object at %d is missing", e.offset))
		}
	}
	return nil
}

// borrow resolves the differences against objects of earlier packs.
func (x *indexer) borrow() error {
	for h, waiting := range x.waiting {
		// One that is resolved had its base in this pack, or a second copy did.
		if !slices.ContainsFunc(waiting, func(i int) bool { return x.entries[i].hash == plumbing.ZeroHash }) {
			continue
		}
		kind, content, err := x.base(h)
		if err != nil {
			continue // another one may give it, by what it resolves to
		}
		n := len(x.entries)
		x.add(packEntry{offset: -1, kind: kind, hash: h})
		x.borrowed = append(x.borrowed, borrowed{entry: n, content: content})
		if err := x.resolveChildren(n, kind, content, 0); err != nil {
			return bad(err)
		}
	}
	return nil
}

func (x *indexer) hasChildren(e packEntry) bool {
	return len(x.children[e.offset]) > 0 || len(x.waiting[e.hash]) > 0
}

func (x *indexer) resolveChildren(base int, kind plumbing.ObjectType, content []byte, depth int) error {
	if depth > maxChain {
		return fmt.Errorf("a chain of differences is longer than %d", maxChain)
	}
	if x.held += int64(len(content)); x.held > 4*x.limit {
		return tooLargeObject(x.held)
	}
	defer func() { x.held -= int64(len(content)) }()
	e := x.entries[base]
	for _, list := range [][]int{x.children[e.offset], x.waiting[e.hash]} {
		for _, i := range list {
			if err := x.resolveDelta(i, kind, content, depth); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *indexer) resolveDelta(i int, kind plumbing.ObjectType, base []byte, depth int) error {
	e := &x.entries[i]
	if e.hash != plumbing.ZeroHash {
		return nil // reached before, through an object that the pack holds twice
	}
	delta, err := x.inflate(e.offset)
	if err != nil {
		return err
	}
	if size := deltaTarget(delta); size > x.limit {
		return tooLargeObject(size)
	}
	content, err := packfile.PatchDelta(base, delta)
	if err != nil {
		return fmt.Errorf("apply the difference at %d: %w", e.offset, err)
	}
	e.hash = plumbing.ComputeHash(kind, content)
	x.largest = max(x.largest, int64(len(content)))
	if !x.hasChildren(*e) {
		return nil
	}
	return x.resolveChildren(i, kind, content, depth+1)
}

func (x *indexer) inflate(offset int64) ([]byte, error) {
	h, err := x.src.SeekObjectHeader(offset)
	if err != nil {
		return nil, err
	}
	if h.Length > x.limit {
		return nil, tooLargeObject(h.Length)
	}
	// The length is only what the pack claims.
	buf := bytes.NewBuffer(make([]byte, 0, min(h.Length, 1<<20)+bytes.MinRead))
	if _, _, err := x.src.NextObject(buf); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// index is what is written beside the pack.
func (x *indexer) index(sum plumbing.Hash) (*idxfile.MemoryIndex, error) {
	w := &idxfile.Writer{}
	if err := w.OnHeader(uint32(len(x.entries))); err != nil {
		return nil, err
	}
	for _, e := range x.entries {
		w.Add(e.hash, uint64(e.offset), e.crc)
	}
	if err := w.OnFooter(sum); err != nil {
		return nil, err
	}
	return w.Index()
}

// deltaTarget reads the size of what a difference makes: the second of the two
// numbers that it begins with.
func deltaTarget(delta []byte) int64 {
	size := int64(0)
	for range 2 {
		size = 0
		for shift := uint(0); len(delta) > 0 && shift < 63; shift += 7 {
			c := delta[0]
			delta = delta[1:]
			size |= int64(c&0x7f) << shift
			if c < 0x80 {
				break
			}
		}
	}
	return size
}

func tooLargeObject(size int64) error {
	return fail(ErrTooLarge, fmt.Sprintf("the repository holds an object of %d MiB, which has to be held in memory", size>>20),
		"take large files out of the repository or raise the limit")
}

// bad marks what is wrong with a pack, unless it is wrong with the connection
// or a limit.
func bad(err error) error {
	var known *failure
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, packfile.ErrEmptyPackfile):
		return fail(ErrUnreachable, "the connection closed before the download was complete", "")
	}
	return fmt.Errorf("%w: %s", errBadPack, printable(err.Error(), 200))
}
