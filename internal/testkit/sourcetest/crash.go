package sourcetest

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
)

// DiskFull limits how large files may become, from nothing on up to what the
// cache's largest file needs: the error names the source and blames the disk and
// nobody else, the last good revision stays, and nothing is left behind.
func DiskFull(t *testing.T, c Cache) {
	c.Write(t, Files{"a": "1", "noise": randomText(3000)})
	first := c.fetchAndClose(t)
	c.Write(t, Files{"b": randomText(4000), "c": randomText(2000)})
	for _, limit := range []string{"0", "100", "800", "1100", "4000", "6000"} {
		said, _ := c.fetchInChild(t, limit, 0)
		for _, want := range []string{c.Names, "write the", "file too large", "check space"} {
			if !strings.Contains(said, want) {
				t.Errorf("with files of %s bytes: %q, want %q in it", limit, said, want)
			}
		}
		s := c.Open(t)
		wantRevision(t, s, first)
		c.Restart(s)
		c.wantClean(t)
	}
	if said, _ := c.fetchInChild(t, "1000000", 0); !strings.HasPrefix(said, "fetched ") {
		t.Errorf("with enough room: %q", said)
	}
	c.fetchAndClose(t)
	c.wantClean(t)
}

// Killed kills a fetch at points spread over its whole length: what is in force
// afterwards is the revision before or the new one, whole, and the next fetch
// gives the new one and clears up. Each fetch is the first one into its cache if
// anew says so.
func Killed(t *testing.T, c Cache, anew bool) {
	points := 6
	if os.Getenv("HOLDFAST_LONG") != "" {
		points = 300
	}
	home := *c.Dir
	files := Files{}
	for i := range 200 {
		files[fmt.Sprintf("d%d/f%d", i%10, i)] = randomText(100 + i)
	}
	c.Write(t, files)
	before := ""
	if !anew {
		before = c.fetchAndClose(t)
	}
	c.Write(t, changed(files, 0))
	*c.Dir = filepath.Join(t.TempDir(), "measure")
	_, whole := c.fetchInChild(t, "", 0)
	*c.Dir = home
	cut := 0
	for i := range points {
		if anew {
			*c.Dir = filepath.Join(home, fmt.Sprint(i))
		}
		said, took := c.fetchInChild(t, "", time.Duration(i+1)*whole/time.Duration(points))
		if said == "" {
			cut++
		} else {
			whole = min(whole, took) // something else slowed the measured one down
		}
		after := c.recovers(t, before)
		c.wantClean(t)
		if !anew {
			before = after
			c.Write(t, changed(files, i+1))
		}
	}
	if cut == 0 {
		t.Error("no fetch was killed before its end")
	}
}

// recovers checks what is in force after a crash, and that the next fetch is as
// if there had been none. It answers the newest revision.
func (c Cache) recovers(t *testing.T, before string) string {
	t.Helper()
	s := c.Open(t)
	defer c.Restart(s)
	head, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	last, err := s.Last()
	switch {
	case err == nil:
		if id := last.Revision.ID; id != head.ID && (before == "" || id != before) {
			t.Errorf("last is %s, and neither %q nor %s", id, before, head.ID)
		}
		wantWhole(t, last)
		last.Close()
	case before != "" || !errors.Is(err, fs.ErrNotExist):
		t.Errorf("last: %v", err)
	}
	snap, err := s.Fetch(t.Context())
	if err != nil {
		t.Fatalf("fetch after a crash: %v", err)
	}
	defer snap.Close()
	if snap.Revision.ID != head.ID {
		t.Errorf("fetched %s, want %s", snap.Revision.ID, head.ID)
	}
	wantWhole(t, snap)
	return head.ID
}

func (c Cache) fetchAndClose(t *testing.T) string {
	t.Helper()
	s := c.Open(t)
	defer c.Restart(s)
	snap, err := s.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	return snap.Revision.ID
}

func (c Cache) wantClean(t *testing.T) {
	t.Helper()
	if left := c.Left(t); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func wantRevision(t *testing.T, s Source, id string) {
	t.Helper()
	last, err := s.Last()
	if err != nil {
		t.Errorf("last: %v", err)
		return
	}
	defer last.Close()
	if last.Revision.ID != id {
		t.Errorf("last is %s, want %s", last.Revision.ID, id)
	}
	wantWhole(t, last)
}

// wantWhole reads every file of a snapshot.
func wantWhole(t *testing.T, snap *sources.Snapshot) {
	t.Helper()
	err := fs.WalkDir(snap.Tree, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Type()&fs.ModeSymlink != 0 {
			return err
		}
		_, err = snap.Tree.ReadFile(name)
		return err
	})
	if err != nil {
		t.Errorf("revision %s is not whole: %v", snap.Revision.Short(), err)
	}
}

func changed(files Files, n int) Files {
	out := Files{}
	for i := range len(files) / 2 {
		out[fmt.Sprintf("d%d/f%d", i%10, i)] = randomText(120 + i + n)
	}
	return out
}

// randomText cannot be compressed much, and is the same in each run.
func randomText(n int) string {
	source := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(source.Uint32())
	}
	return string(b)
}
