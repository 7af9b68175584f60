package oci

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/internal/treefs"
)

// The files of a folder of the cache.
const (
	contentName = "content"
	indexName   = "index.json"
)

// maxIndex bounds an index that is read back.
const maxIndex = 1 << 30

// content is one artifact in the cache. But for damaged, its fields are guarded
// by the store's lock or never change.
type content struct {
	dir      string
	file     *os.File
	root     *node
	revision sources.Revision
	stamps   [2]stamp
	damaged  atomic.Bool
	leases   int
	retired  bool
}

// stamp tells whether a file is still the one that was written or checked.
type stamp struct {
	size int64
	time time.Time
}

func stampsOf(dir string) (stamps [2]stamp, err error) {
	for i, name := range []string{contentName, indexName} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return stamps, err
		}
		stamps[i] = stamp{info.Size(), info.ModTime()}
	}
	return stamps, nil
}

// intact tells whether the files are still there and untouched.
func (c *content) intact() bool {
	if c.damaged.Load() {
		return false
	}
	now, err := stampsOf(c.dir)
	return err == nil && now == c.stamps
}

// folder is one that is being filled.
type folder struct {
	dir  string
	root *node
}

func (f *folder) remove() { _ = os.RemoveAll(f.dir) } // what stays is removed at the next start

// temporary is a file that is gone once it is closed.
func (f *folder) temporary() (*os.File, error) {
	file, err := os.CreateTemp(f.dir, "layer-*")
	if err != nil {
		return nil, local(err)
	}
	if err := os.Remove(file.Name()); err != nil {
		file.Close()
		return nil, local(err)
	}
	return file, nil
}

// fill unpacks a layer of so many bytes, and writes the index beside.
func (f *folder) fill(ctx context.Context, layer io.Reader, size int64, limits Limits) error {
	out, err := os.Create(filepath.Join(f.dir, contentName))
	if err != nil {
		return local(err)
	}
	defer out.Close()
	sum := sha256.New()
	w := bufio.NewWriterSize(out, 64<<10)
	root, written, err := unpack(ctx, bufio.NewReaderSize(layer, 64<<10), size, limits, io.MultiWriter(w, sum))
	if err != nil {
		return err
	}
	if err := errors.Join(w.Flush(), out.Close()); err != nil {
		return local(err)
	}
	f.root = root
	return writeIndex(filepath.Join(f.dir, indexName), root, index{Size: written, Sum: sum.Sum(nil)})
}

// index is the file beside the content: the first line is the digest of the
// rest.
type index struct {
	// Size and Sum are those of the content as a whole.
	Size    int64   `json:"size"`
	Sum     []byte  `json:"sum"`
	Entries []entry `json:"entries"`
}

// entry is one node.
type entry struct {
	Path   string      `json:"path"`
	Kind   treefs.Kind `json:"kind"`
	Offset int64       `json:"offset,omitempty"`
	Size   int64       `json:"size,omitempty"`
	Sum    []byte      `json:"sum,omitempty"`
	Link   string      `json:"link,omitempty"`
}

func writeIndex(path string, root *node, x index) error {
	err := root.visit("", func(name string, n *node) error {
		e := entry{Path: name, Kind: n.kind, Offset: n.offset, Size: n.size, Link: n.link}
		if n.kind == treefs.File || n.kind == treefs.Executable {
			e.Sum = n.sum[:]
		}
		x.Entries = append(x.Entries, e)
		return nil
	})
	if err != nil {
		return err
	}
	text, err := json.Marshal(x)
	if err != nil {
		return local(err)
	}
	if err := os.WriteFile(path, checksummed(text), 0o600); err != nil {
		return local(err)
	}
	return nil
}

func checksummed(text []byte) []byte {
	return append(fmt.Appendf(nil, "%x\n", sha256.Sum256(text)), text...)
}

var errIndex = errors.New("the index is damaged")

// readIndex gives the tree that an index describes.
func readIndex(raw []byte) (*node, index, error) {
	const head = 2*sha256.Size + 1
	var x index
	if len(raw) < head || fmt.Sprintf("%x\n", sha256.Sum256(raw[head:])) != string(raw[:head]) {
		return nil, x, errIndex
	}
	if err := json.Unmarshal(raw[head:], &x); err != nil {
		return nil, x, errIndex
	}
	b := newBuilder(len(x.Entries))
	for _, e := range x.Entries {
		name, err := cleanName(e.Path)
		if err != nil || name != e.Path || name == "" || name == "." {
			return nil, x, errIndex
		}
		n := &node{kind: e.Kind, offset: e.Offset, size: e.Size, link: e.Link}
		switch {
		case e.Kind == treefs.Dir:
			n.offset, n.size = 0, 0
		case e.Kind == treefs.Link:
			n.size = int64(len(e.Link))
		case e.Kind > treefs.Dir, len(e.Sum) != sha256.Size, e.Offset < 0, e.Size < 0, e.Size > x.Size-e.Offset:
			return nil, x, errIndex
		default:
			n.sum = [sha256.Size]byte(e.Sum)
		}
		if err := b.add(name, n); err != nil {
			return nil, x, errIndex
		}
	}
	return b.finish(), x, nil
}

// loadContent opens what an earlier process left. It reads it whole once to
// check it: nothing is synced to disk when it is written.
func loadContent(dir string, rev sources.Revision) (*content, error) {
	info, err := os.Stat(filepath.Join(dir, indexName))
	if err != nil {
		return nil, err
	}
	if info.Size() > maxIndex {
		return nil, errIndex
	}
	raw, err := os.ReadFile(filepath.Join(dir, indexName))
	if err != nil {
		return nil, err
	}
	root, x, err := readIndex(raw)
	if err != nil {
		return nil, err
	}
	c, err := openContent(dir, root, rev)
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	n, err := io.Copy(sum, c.file)
	if err == nil && (n != x.Size || string(sum.Sum(nil)) != string(x.Sum)) {
		err = errors.New("the content is damaged")
	}
	if err != nil {
		c.file.Close()
		return nil, err
	}
	return c, nil
}

func openContent(dir string, root *node, rev sources.Revision) (*content, error) {
	stamps, err := stampsOf(dir)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(filepath.Join(dir, contentName))
	if err != nil {
		return nil, err
	}
	return &content{dir: dir, file: file, root: root, revision: rev, stamps: stamps}, nil
}
