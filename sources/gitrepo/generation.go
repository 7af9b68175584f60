package gitrepo

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/holdfast-gitops/holdfast/sources"
)

const recordName = "last.json"

// maxHaves bounds the commits named to the server as known.
const maxHaves = 16

// generation is one folder of packs. Its fields are guarded by the mirror's
// lock, but for objects, which guards itself.
type generation struct {
	dir     string
	objects *objects
	// refs is the last good revision of each ref that is followed.
	refs    map[string]sources.Revision
	leases  int
	retired bool
}

// record is the file that outlives the process.
type record struct {
	Refs map[string]sources.Revision `json:"refs"`
}

func newGeneration(dir string) *generation {
	return &generation{dir: dir, objects: newObjects(), refs: map[string]sources.Revision{}}
}

// loadGeneration opens what an earlier process left, if it is whole.
func loadGeneration(dir string) (*generation, error) {
	b, err := os.ReadFile(filepath.Join(dir, recordName))
	if err != nil {
		return nil, err
	}
	var rec record
	if err := json.Unmarshal(b, &rec); err != nil {
		return nil, err
	}
	if len(rec.Refs) == 0 {
		return nil, errors.New("the record is empty")
	}
	names, err := filepath.Glob(filepath.Join(dir, "pack-*.pack"))
	if err != nil {
		return nil, err
	}
	g := newGeneration(dir)
	g.refs = rec.Refs
	for _, name := range names {
		p, err := loadPack(dir, strings.TrimSuffix(filepath.Base(name), ".pack"), g.objects.cache)
		if err != nil {
			g.objects.close()
			return nil, err
		}
		g.objects.add(p)
	}
	return g, nil
}

// record remembers the last good revision of a ref, on disk first.
func (g *generation) record(key string, rev sources.Revision) error {
	if old, ok := g.refs[key]; ok && old.ID == rev.ID && old.Ref == rev.Ref {
		return nil
	}
	refs := maps.Clone(g.refs)
	refs[key] = rev
	b, err := json.Marshal(record{Refs: refs})
	if err != nil {
		return local(err)
	}
	if err := writeAtomically(filepath.Join(g.dir, recordName), b); err != nil {
		return local(err)
	}
	g.refs = refs
	return nil
}

// writeAtomically leaves the old file or the new one. It does not sync: a torn
// record cannot be parsed, and then the mirror is cloned anew.
func writeAtomically(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "tmp-*.json")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// haves are the commits that this generation holds with their whole trees.
func (g *generation) haves() []plumbing.Hash {
	seen := map[plumbing.Hash]bool{}
	var hashes []plumbing.Hash
	for _, key := range slices.Sorted(maps.Keys(g.refs)) {
		h := plumbing.NewHash(g.refs[key].ID)
		if !seen[h] && len(hashes) < maxHaves {
			seen[h] = true
			hashes = append(hashes, h)
		}
	}
	return hashes
}

// intact tells whether all files are as they were written.
func (g *generation) intact() bool {
	if g.objects.damaged.Load() {
		return false
	}
	if _, err := os.Stat(filepath.Join(g.dir, recordName)); err != nil {
		return false
	}
	for _, p := range *g.objects.packs.Load() {
		if !p.intact(g.dir) {
			return false
		}
	}
	return true
}

// remove deletes the folder; nobody reads from it any more.
func (g *generation) remove() {
	g.objects.close()
	_ = os.RemoveAll(g.dir) // what stays is removed at the next start
}
