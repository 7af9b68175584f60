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

// keepRefs bounds the refs that are remembered, keepSigned the commits of each
// whose signature is known to be good.
const (
	keepRefs   = 64
	keepSigned = 16
)

// generation is one folder of packs, or packs in memory where dir is empty. Its
// fields are guarded by the mirror's lock, but for objects, which guards itself.
type generation struct {
	dir     string
	objects *objects
	record  record
	leases  int
	retired bool
}

// record is what outlives the process.
type record struct {
	// Refs is the last good revision of each ref that is followed.
	Refs map[string]sources.Revision `json:"refs"`
	// Signed are the newest commits of each ref whose signature was accepted, so
	// that a key may be rotated out without losing what it signed.
	Signed map[string][]signed `json:"signed,omitempty"`
}

// signed says who signed a commit.
type signed struct {
	Commit string `json:"commit"`
	By     string `json:"by"`
}

func newGeneration(dir string) *generation {
	return &generation{dir: dir, objects: newObjects()}
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
	g.record = rec
	for _, name := range names {
		p, err := loadPack(dir, strings.TrimSuffix(filepath.Base(name), ".pack"), g.objects.cache)
		if err != nil {
			g.objects.close()
			return nil, err
		}
		g.objects.add(p)
	}
	g.clear()
	return g, nil
}

// clear removes what a process left that was killed while it wrote: files that
// had not got their names, and indexes whose packs had not.
func (g *generation) clear() {
	left, _ := filepath.Glob(filepath.Join(g.dir, "tmp-*")) // the pattern is good
	indexes, _ := filepath.Glob(filepath.Join(g.dir, "pack-*.idx"))
	for _, index := range indexes {
		if _, err := os.Stat(strings.TrimSuffix(index, ".idx") + ".pack"); errors.Is(err, os.ErrNotExist) {
			left = append(left, index)
		}
	}
	for _, name := range left {
		_ = os.Remove(name) // what stays is tried again at the next start
	}
}

// remember records the last good revision of a ref, on disk first.
func (g *generation) remember(key string, rev sources.Revision) error {
	old, known := g.record.Refs[key]
	if known && old.ID == rev.ID && old.Ref == rev.Ref {
		return nil
	}
	next := record{Refs: maps.Clone(g.record.Refs), Signed: maps.Clone(g.record.Signed)}
	if next.Refs == nil {
		next.Refs = map[string]sources.Revision{}
	}
	if !known && len(next.Refs) >= keepRefs {
		delete(next.Refs, oldest(next.Refs))
	}
	next.Refs[key] = rev
	if rev.Signer != "" {
		if next.Signed == nil {
			next.Signed = map[string][]signed{}
		}
		list := append([]signed{{rev.ID, rev.Signer}}, next.Signed[key]...)
		next.Signed[key] = list[:min(len(list), keepSigned)]
	}
	if g.dir != "" {
		b, err := json.Marshal(next)
		if err != nil {
			return local(err)
		}
		if err := writeAtomically(filepath.Join(g.dir, recordName), b); err != nil {
			return local(err)
		}
	}
	g.record = next
	return nil
}

// oldest is the ref with the oldest commit: the least likely to be followed.
func oldest(refs map[string]sources.Revision) string {
	return slices.MinFunc(slices.Sorted(maps.Keys(refs)), func(a, b string) int {
		return refs[a].Time.Compare(refs[b].Time)
	})
}

// signer tells who signed a commit that was accepted before.
func (g *generation) signer(key, commit string) (string, bool) {
	for _, s := range g.record.Signed[key] {
		if s.Commit == commit {
			return s.By, true
		}
	}
	return "", false
}

// bytes is the size of all packs.
func (g *generation) bytes() (total int64) {
	for _, p := range *g.objects.packs.Load() {
		total += p.stamps[0].size
	}
	return total
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
	for _, key := range slices.Sorted(maps.Keys(g.record.Refs)) {
		h := plumbing.NewHash(g.record.Refs[key].ID)
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
	if g.dir == "" {
		return true
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
	if g.dir == "" {
		return
	}
	_ = os.RemoveAll(g.dir) // what stays is removed at the next start
}
