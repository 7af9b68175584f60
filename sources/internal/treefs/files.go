package treefs

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// openFile is an open file.
type openFile[H any] struct {
	fs     *FS[H]
	path   string
	node   Node[H]
	info   fs.FileInfo
	reader *bytes.Reader
	closed bool
}

// Stat implements fs.File.
func (f *openFile[H]) Stat() (fs.FileInfo, error) {
	if f.closed {
		return nil, PathError("stat", f.path, fs.ErrClosed)
	}
	return f.info, nil
}

// Read implements fs.File.
func (f *openFile[H]) Read(p []byte) (int, error) {
	if f.closed {
		return 0, PathError("read", f.path, fs.ErrClosed)
	}
	if f.reader == nil {
		content, err := f.fs.store.Content(f.node.Handle)
		if err != nil {
			return 0, PathError("read", f.path, err)
		}
		f.reader = bytes.NewReader(content)
	}
	return f.reader.Read(p)
}

// Close implements fs.File.
func (f *openFile[H]) Close() error {
	if f.closed {
		return PathError("close", f.path, fs.ErrClosed)
	}
	f.closed, f.reader = true, nil
	return nil
}

// openDir is an open folder.
type openDir[H any] struct {
	fs   *FS[H]
	path string
	node Node[H]
	info fs.FileInfo
	list []fs.DirEntry
	read bool
}

// Stat implements fs.File.
func (d *openDir[H]) Stat() (fs.FileInfo, error) { return d.info, nil }

// Read implements fs.File; a folder has no bytes.
func (d *openDir[H]) Read([]byte) (int, error) { return 0, PathError("read", d.path, errIsDir) }

// Close implements fs.File.
func (d *openDir[H]) Close() error { return nil }

// ReadDir implements fs.ReadDirFile.
func (d *openDir[H]) ReadDir(n int) ([]fs.DirEntry, error) {
	if !d.read {
		list, err := d.fs.list(d.node)
		if err != nil {
			return nil, PathError("readdir", d.path, err)
		}
		d.list, d.read = list, true
	}
	if n <= 0 {
		n = len(d.list)
	} else if len(d.list) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.list))
	list := d.list[:n:n]
	d.list = d.list[n:]
	return list, nil
}

// dirEntry is one name of a folder.
type dirEntry[H any] struct {
	fs   *FS[H]
	node Node[H]
}

// Name implements fs.DirEntry.
func (e dirEntry[H]) Name() string { return e.node.Name }

// IsDir implements fs.DirEntry.
func (e dirEntry[H]) IsDir() bool { return e.node.Kind == Dir }

// Type implements fs.DirEntry.
func (e dirEntry[H]) Type() fs.FileMode { return e.node.Kind.mode().Type() }

// Info implements fs.DirEntry; it does not follow symbolic links.
func (e dirEntry[H]) Info() (fs.FileInfo, error) { return e.fs.info(e.node) }

// String implements fmt.Stringer.
func (e dirEntry[H]) String() string { return fs.FormatDirEntry(e) }

// fileInfo describes a file.
type fileInfo struct {
	name string
	size int64
	mode fs.FileMode
	when time.Time
}

// Name implements fs.FileInfo.
func (i fileInfo) Name() string { return i.name }

// Size implements fs.FileInfo.
func (i fileInfo) Size() int64 { return i.size }

// Mode implements fs.FileInfo.
func (i fileInfo) Mode() fs.FileMode { return i.mode }

// ModTime implements fs.FileInfo.
func (i fileInfo) ModTime() time.Time { return i.when }

// IsDir implements fs.FileInfo.
func (i fileInfo) IsDir() bool { return i.mode.IsDir() }

// Sys implements fs.FileInfo.
func (i fileInfo) Sys() any { return nil }

// String implements fmt.Stringer.
func (i fileInfo) String() string { return fmt.Sprintf("%s %d %s", i.mode, i.size, i.name) }
