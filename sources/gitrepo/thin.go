package gitrepo

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/go-git/go-git/v5/plumbing"
)

// complete appends to a thin pack the objects of earlier packs that it builds
// on, as git does too, so that each pack can be read alone. It answers the
// pack's new checksum.
func complete(file scratch, x *indexer) (plumbing.Hash, error) {
	end, err := file.Seek(-sha1.Size, io.SeekEnd)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	z := zlib.NewWriter(nil) // one for all: each takes a megabyte
	for _, b := range x.borrowed {
		e := &x.entries[b.entry]
		raw, err := encodeObject(z, e.kind, b.content)
		if err != nil {
			return plumbing.ZeroHash, err
		}
		if _, err := file.WriteAt(raw, end); err != nil {
			return plumbing.ZeroHash, err
		}
		e.offset, e.crc = end, crc32.ChecksumIEEE(raw)
		x.largest = max(x.largest, int64(len(b.content)))
		end += int64(len(raw))
	}
	const countAt = 8 // after the signature and the version
	var count [4]byte
	binary.BigEndian.PutUint32(count[:], uint32(len(x.entries)))
	if _, err := file.WriteAt(count[:], countAt); err != nil {
		return plumbing.ZeroHash, err
	}
	h := sha1.New()
	if _, err := io.Copy(h, io.NewSectionReader(file, 0, end)); err != nil {
		return plumbing.ZeroHash, err
	}
	sum := plumbing.Hash(h.Sum(nil))
	if _, err := file.WriteAt(sum[:], end); err != nil {
		return plumbing.ZeroHash, err
	}
	return sum, file.Truncate(end + sha1.Size)
}

// encodeObject writes an object as a pack holds it: its type and size in groups
// of seven bits, four in the first byte, then its compressed content.
func encodeObject(z *zlib.Writer, kind plumbing.ObjectType, content []byte) ([]byte, error) {
	var b bytes.Buffer
	size := uint64(len(content))
	c := byte(kind)<<4 | byte(size&0x0f)
	for size >>= 4; size > 0; size >>= 7 {
		b.WriteByte(c | 0x80)
		c = byte(size & 0x7f)
	}
	b.WriteByte(c)
	z.Reset(&b)
	if _, err := z.Write(content); err != nil {
		return nil, err
	}
	err := z.Close()
	return b.Bytes(), err
}
