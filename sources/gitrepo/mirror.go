package gitrepo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/holdfast-gitops/holdfast/sources"
)

// mirrors are those in use in this process. A reload of the configuration opens
// a Repo anew while snapshots of the old one are still read: both must know of
// each other's leases.
var mirrors = struct {
	sync.Mutex
	byDir map[string]*mirror
}{byDir: map[string]*mirror{}}

// mirror is the folder of generations of one repository, or its one generation
// in memory.
type mirror struct {
	dir    string
	memory bool
	// lfs are the files that Git LFS keeps beside the repository.
	lfs *lfsStore
	// fetching admits one fetch at a time. It is not mu, because Head and Last
	// must answer during a long download.
	fetching chan struct{}

	mu     sync.Mutex
	users  int
	loaded bool
	gen    *generation
	next   int
	// history is what was last asked about the commits between two.
	history *history
	// refused is the revision that was last refused after its download.
	refused *refusal
}

// refusal keeps a revision that is not trusted from being downloaded again and
// again.
type refusal struct {
	key    string
	target target
	keys   [sha256.Size]byte
	err    error
}

// view is a commit that was proven readable, on lease.
type view struct {
	objects  *objects
	root     plumbing.Hash
	revision sources.Revision
	release  func()
}

// demand is what is asked of a mirror.
type demand struct {
	target
	// key is the ref under which the commit is remembered as the last good one;
	// empty to remember nothing.
	key    string
	limits Limits
	// trust, when not nil, decides by the commit's signature.
	trust *trust
	// trustKey is the ref whose signed commits are known.
	trustKey string
	// byID says that the commit is asked for by its id, which not every server
	// allows.
	byID bool
}

func openMirror(dir string, memory bool) (*mirror, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	key := abs
	if memory {
		key = "memory:" + abs
	}
	mirrors.Lock()
	defer mirrors.Unlock()
	m := mirrors.byDir[key]
	if m == nil {
		m = &mirror{dir: abs, memory: memory, fetching: make(chan struct{}, 1), next: 1, lfs: newLFSStore(abs, memory)}
		mirrors.byDir[key] = m
	}
	m.users++
	return m, nil
}

// rest drops what is kept only to be quick.
func (m *mirror) rest() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gen != nil {
		m.gen.objects.rest()
	}
}

// enter counts one more who has the mirror open.
func (m *mirror) enter() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users++
}

func (m *mirror) close() {
	m.mu.Lock()
	m.users--
	m.mu.Unlock()
	m.dropIfUnused()
}

// dropIfUnused closes the files once nobody has the mirror open any more.
func (m *mirror) dropIfUnused() {
	mirrors.Lock()
	defer mirrors.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users > 0 || m.gen != nil && m.gen.leases > 0 {
		return
	}
	if m.gen != nil {
		m.gen.objects.close()
	}
	m.gen, m.loaded = nil, false
	maps.DeleteFunc(mirrors.byDir, func(_ string, other *mirror) bool { return other == m })
}

// lock waits for the turn to fetch.
func (m *mirror) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case m.fetching <- struct{}{}:
		return func() { <-m.fetching }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// describe fills in what the mirror knows of a commit.
func (m *mirror) describe(t target) sources.Revision {
	m.mu.Lock()
	defer m.mu.Unlock()
	rev := sources.Revision{ID: t.commit.String(), Ref: t.ref}
	if m.gen == nil {
		return rev
	}
	for _, known := range m.gen.record.Refs {
		if known.ID == rev.ID {
			rev.Author, rev.Subject, rev.Time, rev.Signer = known.Author, known.Subject, known.Time, known.Signer
			break
		}
	}
	return rev
}

// lease gives a commit that the mirror has, or nil when it has it not, or not
// whole.
func (m *mirror) lease(d demand) (*view, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leaseLocked(d)
}

func (m *mirror) leaseLocked(d demand) (*view, error) {
	g := m.currentLocked()
	if g == nil || g.objects.find(d.commit) == nil {
		return nil, nil
	}
	root, rev, err := g.objects.verify(d.target, d.limits.Files)
	if errors.Is(err, errBadPack) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v, err := m.publishLocked(g, d, root, rev)
	if errors.Is(err, errNoTag) {
		return nil, nil // the tag may have come after the commit
	}
	return v, err
}

// last gives the commit that is recorded for a ref, or nil.
func (m *mirror) last(d demand) (*view, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.currentLocked()
	if g == nil {
		return nil, nil
	}
	rev, ok := g.record.Refs[d.key]
	if !ok {
		return nil, nil
	}
	d.target = target{ref: rev.Ref, commit: plumbing.NewHash(rev.ID)}
	return m.leaseLocked(d)
}

// publish records a commit as the last good one, if it may be trusted, makes its
// generation the current one and leases it.
func (m *mirror) publish(g *generation, d demand, root plumbing.Hash, rev sources.Revision) (*view, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.publishLocked(g, d, root, rev)
}

func (m *mirror) publishLocked(g *generation, d demand, root plumbing.Hash, rev sources.Revision) (*view, error) {
	if d.trust != nil {
		by, known := g.signer(d.trustKey, rev.ID)
		if !known {
			var err error
			if by, err = d.trust.check(g.objects, d.target); err != nil {
				return nil, err
			}
		}
		rev.Signer = by
	}
	if d.key != "" {
		if err := g.remember(d.key, rev); err != nil {
			return nil, err
		}
	}
	if m.gen != g {
		m.retireLocked(m.gen)
		m.gen = g
	}
	g.leases++
	return &view{objects: g.objects, root: root, revision: rev, release: func() { m.release(g) }}, nil
}

func (m *mirror) release(g *generation) {
	m.mu.Lock()
	g.leases--
	if g.leases == 0 {
		if g.retired {
			g.remove()
		} else {
			g.objects.rest()
		}
	}
	m.mu.Unlock()
	m.dropIfUnused()
}

// retireLocked lets a generation go when its last snapshot is closed.
func (m *mirror) retireLocked(g *generation) {
	if g == nil {
		return
	}
	g.retired = true
	if g.leases == 0 {
		g.remove()
	}
}

// currentLocked is the generation to read from and add to, unless there is none
// or its files were damaged.
func (m *mirror) currentLocked() *generation {
	if !m.loaded && m.memory {
		m.loaded = true
	}
	if !m.loaded {
		m.gen = m.loadLocked()
		m.loaded = true
	}
	if m.gen != nil && !m.gen.intact() {
		m.retireLocked(m.gen)
		m.gen = nil
	}
	return m.gen
}

// refuse remembers that a revision is not trusted.
func (m *mirror) refuse(d demand, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refused = &refusal{key: d.trustKey, target: d.target, keys: d.trust.digest(), err: err}
}

// refusal is the answer of the last time, as long as the keys are the same.
func (m *mirror) refusal(d demand) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.refused
	if d.trust == nil || was == nil || was.key != d.trustKey || was.target != d.target || was.keys != d.trust.digest() {
		return nil
	}
	return was.err
}

// base is the generation that a download can be added to, or nil when a new one
// is due.
func (m *mirror) base(maxPacks int) *generation {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.currentLocked()
	if g == nil || len(*g.objects.packs.Load()) >= maxPacks {
		return nil
	}
	return g
}

// loadLocked finds the newest generation on disk that is whole, and removes
// what an earlier process left besides.
func (m *mirror) loadLocked() *generation {
	var found *generation
	left, _ := filepath.Glob(filepath.Join(m.dir, scratchPrefix+"*")) // the pattern is good
	for _, dir := range left {
		_ = os.RemoveAll(dir) // what stays is tried again at the next start
	}
	for _, n := range m.numbersLocked() {
		m.next = max(m.next, n+1)
		dir := filepath.Join(m.dir, genName(n))
		if found == nil {
			if g, err := loadGeneration(dir); err == nil {
				found = g
				continue
			}
		}
		_ = os.RemoveAll(dir) // what stays is tried again at the next start
	}
	return found
}

// numbersLocked lists the generations on disk, newest first.
func (m *mirror) numbersLocked() []int {
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return nil // no folder, no generations: a clone will tell if it cannot be made
	}
	var numbers []int
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), "gen-")
		if n, err := strconv.Atoi(rest); ok && err == nil && n > 0 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	return numbers
}

// create makes an empty generation beside the current one.
func (m *mirror) create() (*generation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.memory {
		return newGeneration(""), nil
	}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return nil, local(err)
	}
	for {
		dir := filepath.Join(m.dir, genName(m.next))
		m.next++
		err := os.Mkdir(dir, 0o700)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return nil, local(err)
		}
		return newGeneration(dir), nil
	}
}

// scratch makes a folder for what is looked at once.
func (m *mirror) scratch() (string, error) {
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return "", local(err)
	}
	dir, err := os.MkdirTemp(m.dir, scratchPrefix)
	if err != nil {
		return "", local(err)
	}
	return dir, nil
}

// size tells how many packs are held, and their bytes.
func (m *mirror) size() (packs int, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gen == nil {
		return 0, 0
	}
	return len(*m.gen.objects.packs.Load()), m.gen.bytes()
}

// scratchPrefix is what the names of folders for passing use begin with.
const scratchPrefix = "tmp-"

func genName(n int) string { return fmt.Sprintf("gen-%d", n) }
