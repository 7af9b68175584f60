package gitrepo

import (
	"errors"
	"io"
	"os"
)

// chunkBytes is how much a file in memory grows at a time: one slice that is
// doubled and copied would need three times the room.
const chunkBytes = 256 << 10

// scratch is a pack while it arrives: a file on disk, or one in memory.
type scratch interface {
	io.ReadWriteSeeker
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
}

// memFile is a file in memory. Like a file it has one position, so it is not
// for concurrent use.
type memFile struct {
	chunks [][]byte
	size   int64
	at     int64
}

var errNegative = errors.New("negative position")

// Name implements billy.File.
func (f *memFile) Name() string { return "memory" }

// Lock implements billy.File; nobody else has the file.
func (f *memFile) Lock() error { return nil }

// Unlock implements billy.File.
func (f *memFile) Unlock() error { return nil }

// Close implements io.Closer and lets the memory go.
func (f *memFile) Close() error {
	f.chunks, f.size = nil, 0
	return nil
}

// Read implements io.Reader.
func (f *memFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.at)
	f.at += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

// ReadAt implements io.ReaderAt.
func (f *memFile) ReadAt(p []byte, at int64) (int, error) {
	if at < 0 {
		return 0, errNegative
	}
	read := 0
	for read < len(p) && at < f.size {
		chunk := f.chunks[at/chunkBytes][at%chunkBytes:]
		chunk = chunk[:min(int64(len(chunk)), f.size-at)]
		n := copy(p[read:], chunk)
		read, at = read+n, at+int64(n)
	}
	if read < len(p) {
		return read, io.EOF
	}
	return read, nil
}

// Write implements io.Writer.
func (f *memFile) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.at)
	f.at += int64(n)
	return n, err
}

// WriteAt implements io.WriterAt.
func (f *memFile) WriteAt(p []byte, at int64) (int, error) {
	if at < 0 {
		return 0, errNegative
	}
	for int64(len(f.chunks))*chunkBytes < at+int64(len(p)) {
		f.chunks = append(f.chunks, make([]byte, chunkBytes))
	}
	f.size = max(f.size, at+int64(len(p)))
	for written := 0; written < len(p); {
		n := copy(f.chunks[at/chunkBytes][at%chunkBytes:], p[written:])
		written, at = written+n, at+int64(n)
	}
	return len(p), nil
}

// Seek implements io.Seeker.
func (f *memFile) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.at
	case io.SeekEnd:
		offset += f.size
	}
	if offset < 0 {
		return 0, errNegative
	}
	f.at = offset
	return offset, nil
}

// Truncate implements billy.File. It only ever makes a pack shorter.
func (f *memFile) Truncate(size int64) error {
	if size < 0 || size > f.size {
		return errNegative
	}
	f.size = size
	f.chunks = f.chunks[:(size+chunkBytes-1)/chunkBytes]
	return nil
}

// newScratch makes an empty file in a folder, or in memory where dir is empty.
// Discard removes it unless it was kept.
func newScratch(dir string) (file scratch, discard func(), err error) {
	if dir == "" {
		return &memFile{}, func() {}, nil
	}
	f, err := os.CreateTemp(dir, "tmp-*.pack")
	if err != nil {
		return nil, nil, local(err)
	}
	return f, func() {
		f.Close()
		os.Remove(f.Name()) // fails once it was renamed, as it should
	}, nil
}
