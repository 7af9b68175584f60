package oci

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/holdfast-gitops/holdfast/sources"
)

const recordName = "last.json"

// stores are those in use in this process. A reload of the configuration opens
// an Artifact anew while snapshots of the old one are still read: both must know
// of each other's leases.
var stores = struct {
	sync.Mutex
	byDir map[string]*store
}{byDir: map[string]*store{}}

// store is the cache of one source: folders tree-1, tree-2 and so on, of which
// the record names the one that is good.
type store struct {
	dir string
	// fetching admits one fetch at a time. It is not mu, because Head and Last
	// must answer during a long download.
	fetching chan struct{}

	mu      sync.Mutex
	users   int
	loaded  bool
	key     string
	current *content
	next    int
}

// view is an artifact on lease.
type view struct {
	content  *content
	revision sources.Revision
	release  func()
}

// record is the file that outlives the process.
type record struct {
	// Key is the reference that was followed.
	Key      string           `json:"key"`
	Folder   string           `json:"folder"`
	Revision sources.Revision `json:"revision"`
}

func openStore(dir string) (*store, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	stores.Lock()
	defer stores.Unlock()
	s := stores.byDir[abs]
	if s == nil {
		s = &store{dir: abs, fetching: make(chan struct{}, 1), next: 1}
		stores.byDir[abs] = s
	}
	s.users++
	return s, nil
}

func (s *store) close() {
	s.mu.Lock()
	s.users--
	s.mu.Unlock()
	s.dropIfUnused()
}

// dropIfUnused closes the files once nobody has the cache open any more.
func (s *store) dropIfUnused() {
	stores.Lock()
	defer stores.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users > 0 || s.current != nil && s.current.leases > 0 {
		return
	}
	if s.current != nil {
		s.current.file.Close() // was only read
	}
	s.current, s.loaded = nil, false
	if stores.byDir[s.dir] == s {
		delete(stores.byDir, s.dir)
	}
}

// lock waits for the turn to fetch.
func (s *store) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case s.fetching <- struct{}{}:
		return func() { <-s.fetching }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// describe fills in what the cache knows of a revision.
func (s *store) describe(rev sources.Revision) sources.Revision {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.currentLocked(); c != nil && c.revision.ID == rev.ID {
		rev.Author, rev.Subject, rev.Time = c.revision.Author, c.revision.Subject, c.revision.Time
	}
	return rev
}

// lease gives the artifact of a revision and remembers by which reference it was
// found, or nil when the cache does not have it whole.
func (s *store) lease(rev sources.Revision, key string) (*view, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.currentLocked()
	if c == nil || c.revision.ID != rev.ID {
		return nil, nil
	}
	if s.key != key || c.revision.Ref != rev.Ref {
		named := c.revision
		named.Ref = rev.Ref
		if err := s.recordLocked(record{Key: key, Folder: filepath.Base(c.dir), Revision: named}); err != nil {
			return nil, err
		}
		s.key, c.revision = key, named
	}
	return s.leaseLocked(c), nil
}

// last gives the artifact that is recorded for a reference, or nil.
func (s *store) last(key string) *view {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.currentLocked()
	if c == nil || s.key != key {
		return nil
	}
	return s.leaseLocked(c)
}

func (s *store) leaseLocked(c *content) *view {
	c.leases++
	return &view{content: c, revision: c.revision, release: func() { s.release(c) }}
}

func (s *store) release(c *content) {
	s.mu.Lock()
	if c.leases--; c.leases == 0 && c.retired {
		c.remove()
	}
	s.mu.Unlock()
	s.dropIfUnused()
}

func (s *store) retireLocked(c *content) {
	if c == nil {
		return
	}
	c.retired = true
	if c.leases == 0 {
		c.remove()
	}
}

func (c *content) remove() {
	c.file.Close()
	_ = os.RemoveAll(c.dir) // what stays is removed at the next start
}

// create makes an empty folder beside the current one.
func (s *store) create() (*folder, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.currentLocked() // so that numbers in use are known
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, local(err)
	}
	for {
		dir := filepath.Join(s.dir, "tree-"+strconv.Itoa(s.next))
		s.next++
		err := os.Mkdir(dir, 0o700)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return nil, local(err)
		}
		return &folder{dir: dir}, nil
	}
}

// publish makes a filled folder the current one, and leases it.
func (s *store) publish(f *folder, key string, rev sources.Revision) (*view, error) {
	c, err := openContent(f.dir, f.root, rev)
	if err != nil {
		f.remove()
		return nil, local(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.recordLocked(record{Key: key, Folder: filepath.Base(f.dir), Revision: rev}); err != nil {
		c.remove()
		return nil, err
	}
	s.retireLocked(s.current)
	s.current, s.key = c, key
	return s.leaseLocked(c), nil
}

// recordLocked leaves the old record or the new one.
func (s *store) recordLocked(r record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return local(err)
	}
	f, err := os.CreateTemp(s.dir, "tmp-*")
	if err != nil {
		return local(err)
	}
	defer os.Remove(f.Name()) // fails once it was renamed, as it should
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return local(err)
	}
	if err := os.Rename(f.Name(), filepath.Join(s.dir, recordName)); err != nil {
		return local(err)
	}
	return nil
}

// currentLocked is the artifact in force, unless there is none or its files were
// damaged.
func (s *store) currentLocked() *content {
	if !s.loaded {
		s.loadLocked()
		s.loaded = true
	}
	if s.current != nil && (!s.current.intact() || !exists(filepath.Join(s.dir, recordName))) {
		s.retireLocked(s.current)
		s.current = nil
	}
	return s.current
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// loadLocked opens what the record names, and removes what an earlier process
// left besides.
func (s *store) loadLocked() {
	rec := readRecord(filepath.Join(s.dir, recordName))
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return // no folder, no cache: a fetch will tell if it cannot be made
	}
	for _, e := range entries {
		name := e.Name()
		number, isTree := strings.CutPrefix(name, "tree-")
		if n, err := strconv.Atoi(number); isTree && err == nil {
			s.next = max(s.next, n+1)
		}
		if isTree && name == rec.Folder {
			if c, err := loadContent(filepath.Join(s.dir, name), rec.Revision); err == nil {
				s.current, s.key = c, rec.Key
				continue
			}
		}
		if isTree || strings.HasPrefix(name, "tmp-") {
			_ = os.RemoveAll(filepath.Join(s.dir, name)) // what stays is tried again at the next start
		}
	}
}

// readRecord gives an empty record where there is none that can be read.
func readRecord(path string) (rec record) {
	text, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(text, &rec) != nil || rec.Revision.ID == "" {
		return record{}
	}
	return rec
}
