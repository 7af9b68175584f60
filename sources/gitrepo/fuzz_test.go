package gitrepo

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

// buildPack makes a pack of these raw objects.
func buildPack(objects ...[]byte) []byte {
	var b bytes.Buffer
	b.WriteString("PACK")
	_ = binary.Write(&b, binary.BigEndian, [2]uint32{2, uint32(len(objects))})
	for _, o := range objects {
		b.Write(o)
	}
	sum := sha1.Sum(b.Bytes())
	return append(b.Bytes(), sum[:]...)
}

func whole(t testing.TB, kind plumbing.ObjectType, content string) []byte {
	t.Helper()
	raw, err := encodeObject(zlib.NewWriter(nil), kind, []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// against makes a difference against an object given by its id.
func against(t testing.TB, base plumbing.Hash, delta string) []byte {
	t.Helper()
	raw := whole(t, plumbing.REFDeltaObject, delta)
	return append(append(raw[:1:1], base[:]...), raw[1:]...)
}

// A pack comes from a server that may be hostile: it is stored or refused,
// never worse, and what is stored can be read back.
func FuzzStorePack(f *testing.F) {
	text := "a text that is long enough to be worth a difference"
	id := plumbing.ComputeHash(plumbing.BlobObject, []byte(text))
	copyAll := string([]byte{byte(len(text)), byte(len(text)), 0x90, byte(len(text))})
	f.Add(buildPack())
	f.Add(buildPack(whole(f, plumbing.BlobObject, text)))
	f.Add(buildPack(whole(f, plumbing.BlobObject, text), against(f, id, copyAll)))
	f.Add(buildPack(against(f, id, copyAll), whole(f, plumbing.BlobObject, text)))
	f.Add(buildPack(against(f, plumbing.ZeroHash, copyAll)))
	f.Add(buildPack(whole(f, plumbing.TreeObject, "40000 a\x0001234567890123456789")))
	f.Fuzz(func(t *testing.T, data []byte) {
		// The checksum is set right, or hardly any input would be looked into.
		if len(data) > sha1.Size {
			sum := sha1.Sum(data[:len(data)-sha1.Size])
			data = append(data[:len(data)-sha1.Size:len(data)-sha1.Size], sum[:]...)
		}
		o := newObjects()
		defer o.close()
		p, err := storePack(t.TempDir(), bytes.NewReader(data), 1<<20, o)
		if err != nil || p == nil {
			return
		}
		o.add(p)
		iter, err := p.index.Entries()
		if err != nil {
			t.Fatal(err)
		}
		for e, err := iter.Next(); err == nil; e, err = iter.Next() {
			if _, _, err := o.any(e.Hash, 1<<20); err != nil && !errors.Is(err, ErrTooLarge) {
				t.Errorf("read back %s: %v", e.Hash, err)
			}
		}
	})
}

func FuzzParseDir(f *testing.F) {
	f.Add([]byte("40000 a\x0001234567890123456789100644 b\x0001234567890123456789"))
	f.Add([]byte("100644 ..\x0001234567890123456789"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := parseDir(data)
		if err != nil {
			return
		}
		for _, e := range d.entries {
			if !validName(e.name) {
				t.Errorf("the name %q was let in", e.name)
			}
		}
	})
}

func TestThinPackIsCompleted(t *testing.T) {
	text := "a text that is long enough to be worth a difference"
	id := plumbing.ComputeHash(plumbing.BlobObject, []byte(text))
	delta := string([]byte{byte(len(text)), byte(len(text) + 1), 0x90, byte(len(text)), 1, '!'})
	dir, o := t.TempDir(), newObjects()
	defer o.close()
	for _, raw := range [][]byte{buildPack(whole(t, plumbing.BlobObject, text)), buildPack(against(t, id, delta))} {
		p, err := storePack(dir, bytes.NewReader(raw), 1<<20, o)
		if err != nil {
			t.Fatal(err)
		}
		o.add(p)
	}
	// The second pack alone, checked as after a restart.
	second, err := loadPack(dir, (*o.packs.Load())[0].name, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer second.file.Close()
	for _, want := range []string{text, text + "!"} {
		obj, err := second.get(plumbing.ComputeHash(plumbing.BlobObject, []byte(want)), 1<<20)
		if err != nil || obj.Size() != int64(len(want)) {
			t.Errorf("read %q: %v, %v", want, obj, err)
		}
	}
	if _, err := storePack(dir, bytes.NewReader(buildPack(against(t, plumbing.ZeroHash, delta))), 1<<20, o); !errors.Is(err, errBadPack) {
		t.Errorf("a pack whose base nobody has: %v", err)
	}
}
