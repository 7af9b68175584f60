package gitrepo

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// lfsStore keeps files of Git LFS, in a folder beside the generations or in
// memory where dir is empty. A file is known by the digest of its content, which
// is checked at each read, so it can be wiped or damaged at any time.
type lfsStore struct {
	dir string
	// fetching admits one download at a time, and guards what follows.
	fetching sync.Mutex
	memory   map[string][]byte
	held     int64
}

func newLFSStore(mirror string, memory bool) *lfsStore {
	if memory {
		return &lfsStore{memory: map[string][]byte{}}
	}
	return &lfsStore{dir: filepath.Join(mirror, "lfs")}
}

func (p pointer) matches(b []byte) bool {
	sum := sha256.Sum256(b)
	return int64(len(b)) == p.size && hex.EncodeToString(sum[:]) == p.oid
}

// get gives a file that is here, nil when it is not, or not as it should be.
func (s *lfsStore) get(p pointer) []byte {
	if s.dir == "" {
		return slices.Clone(s.memory[p.oid])
	}
	name := filepath.Join(s.dir, p.oid)
	info, err := os.Stat(name)
	if err != nil || info.Size() != p.size {
		return nil
	}
	b, err := os.ReadFile(name)
	if err != nil || !p.matches(b) {
		return nil
	}
	now := time.Now()
	_ = os.Chtimes(name, now, now) // what is in use goes last
	return b
}

// put keeps a file, and drops those longest unused where all have more than room
// bytes.
func (s *lfsStore) put(p pointer, b []byte, room int64) error {
	if s.dir == "" {
		if s.held+p.size > room {
			clear(s.memory)
			s.held = 0
		}
		if p.size <= room {
			s.memory[p.oid] = slices.Clone(b)
			s.held += p.size
		}
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return local(err)
	}
	s.trim(room - p.size)
	if err := writeAtomically(filepath.Join(s.dir, p.oid), b); err != nil {
		return local(err)
	}
	return nil
}

// trim drops files until those that stay have at most room bytes.
func (s *lfsStore) trim(room int64) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return // what is too much is seen the next time
	}
	var files []fs.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			files = append(files, info)
			room -= info.Size()
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int {
		return cmp.Or(a.ModTime().Compare(b.ModTime()), cmp.Compare(a.Name(), b.Name()))
	})
	for _, f := range files {
		if room >= 0 {
			return
		}
		if os.Remove(filepath.Join(s.dir, f.Name())) == nil {
			room += f.Size()
		}
	}
}
