package gitrepo

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// answers is a git server that says whatever it is told to.
type answers struct {
	listing, pack atomic.Pointer[[]byte]
	url           string
}

func startAnswers(f *testing.F) *answers {
	f.Helper()
	a := &answers{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind, text := "advertisement", a.listing.Load()
		if strings.HasSuffix(r.URL.Path, "git-upload-pack") {
			kind, text = "result", a.pack.Load()
		}
		w.Header().Set("Content-Type", "application/x-git-upload-pack-"+kind)
		_, _ = w.Write(*text)
	}))
	f.Cleanup(srv.Close)
	a.url = srv.URL + "/web.git"
	return a
}

func pkt(text string) string { return fmt.Sprintf("%04x%s", len(text)+4, text) }

// advertised is a listing of refs, each at a commit, the first with what the
// server can do.
func advertised(caps string, lines ...string) []byte {
	text := pkt("# service=git-upload-pack\n") + "0000"
	for i, line := range lines {
		if i == 0 {
			line += "\x00" + caps
		}
		text += pkt(line + "\n")
	}
	return []byte(text + "0000")
}

const (
	someID   = "1234567890123456789012345678901234567890"
	usualCap = "multi_ack_detailed side-band-64k thin-pack ofs-delta shallow no-progress symref=HEAD:refs/heads/main agent=git/2.39.5"
)

// A listing comes from a server that may be hostile: it is understood or
// refused, whichever way the ref is given, and what is shown of it is fit for a
// terminal.
func FuzzAdvertisement(f *testing.F) {
	server := startAnswers(f)
	f.Add(advertised(usualCap, someID+" HEAD", someID+" refs/heads/main", someID+" refs/tags/v1.2.3", someID+" refs/tags/v1.2.3^{}"), "main")
	f.Add(advertised("", someID+" refs/heads/main"), "")
	f.Add(advertised(usualCap, strings.Repeat("0", 40)+" capabilities^{}"), "x")
	f.Add([]byte("001e# service=git-upload-pack\n0000ffff"), "\x1b")
	f.Add([]byte("0000"), "refs/heads/a")
	f.Fuzz(func(t *testing.T, listing []byte, ref string) {
		server.listing.Store(&listing)
		for _, o := range []Options{{Ref: ref}, {Semver: "*"}} {
			o.Name, o.URL, o.Dir, o.Timeout = "web", server.url, t.TempDir(), 5*time.Second
			r, err := Open(o)
			if err != nil {
				return
			}
			rev, err := r.Head(t.Context())
			r.Close()
			if err == nil && len(rev.ID) != 40 {
				t.Errorf("the commit is %q", rev.ID)
			}
			if err != nil && (strings.ContainsAny(err.Error(), "\x1b\n\a") || len(err.Error()) > 4000) {
				t.Errorf("hostile text was let in: %q", err)
			}
		}
	})
}

// What a server sends for a pack is stored or refused, never worse; a commit is
// given only if it is the one that was asked for, and whole.
func FuzzDownload(f *testing.F) {
	server := startAnswers(f)
	tree := whole(f, plumbing.TreeObject, "")
	commit := "tree " + plumbing.ComputeHash(plumbing.TreeObject, nil).String() + "\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n"
	id := plumbing.ComputeHash(plumbing.CommitObject, []byte(commit)).String()
	listing := advertised(usualCap, id+" HEAD", id+" refs/heads/main")
	server.listing.Store(&listing)
	pack := string(buildPack(whole(f, plumbing.CommitObject, commit), tree))
	shallow := pkt("shallow "+id) + "0000"
	f.Add([]byte(shallow + pkt("NAK\n") + pkt("\x01"+pack) + "0000"))
	f.Add([]byte(shallow + pkt("NAK\n") + pkt("\x02progress\n") + pkt("\x03fatal: no\n") + "0000"))
	f.Add([]byte(pkt("ACK "+id+" ready\n") + pkt("ACK "+id+"\n") + pkt("\x01PACK") + "0000"))
	f.Add([]byte(pkt("unshallow "+id) + "00000001fffe"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		server.pack.Store(&answer)
		dir := t.TempDir()
		r, err := Open(Options{Name: "web", URL: server.url, Ref: "main", Dir: dir, Timeout: 5 * time.Second, Limits: Limits{ObjectBytes: 1 << 20, PackBytes: 1 << 20}})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		snap, err := r.Fetch(t.Context())
		if err == nil {
			defer snap.Close()
			if snap.Revision.ID != id {
				t.Errorf("fetched %s", snap.Revision.ID)
			}
			if _, err := snap.Tree.ReadDir("."); err != nil {
				t.Error(err)
			}
			return
		}
		if strings.ContainsAny(err.Error(), "\x1b\n\a") || len(err.Error()) > 4000 {
			t.Errorf("hostile text was let in: %q", err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "gen-*")); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}

// A commit is whatever somebody pushed.
func FuzzCommit(f *testing.F) {
	f.Add([]byte("tree " + someID + "\nparent " + someID + "\nauthor A B <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\nencoding x\ngpgsig -\n -\n\nsubject\n\nbody\n"))
	f.Add([]byte("tree " + someID + "\nauthor \x1b <\n>\x00 99999999999999999999 +99999\ncommitter\n\n\n\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := decodeCommit(raw)
		if err != nil {
			return
		}
		rev := revisionOf(plumbing.NewHash(someID), c)
		if strings.ContainsAny(rev.Author+rev.Subject, "\x1b\n\a\x00") || len(rev.Author)+len(rev.Subject) > 2000 {
			t.Errorf("hostile text was let in: %+v", rev)
		}
	})
}

// What lies on disk may have been torn or tampered with: a pack is opened or
// refused, and whatever is read of one is what its id says.
func FuzzLoadPack(f *testing.F) {
	dir := f.TempDir()
	o := newObjects()
	p, err := storePack(dir, bytes.NewReader(buildPack(whole(f, plumbing.BlobObject, "one"), whole(f, plumbing.BlobObject, "two"))), 1<<20, o)
	if err != nil {
		f.Fatal(err)
	}
	p.file.Close()
	read := func(suffix string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, p.name+suffix))
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	pack := read(".pack")
	f.Add(read(".idx"))
	f.Add(append([]byte("\xfftOc\x00\x00\x00\x02"), bytes.Repeat([]byte{0xff}, 1100)...))
	f.Fuzz(func(t *testing.T, index []byte) {
		dir, o := t.TempDir(), newObjects()
		defer o.close()
		if err := errors.Join(os.WriteFile(filepath.Join(dir, p.name+".pack"), pack, 0o600), os.WriteFile(filepath.Join(dir, p.name+".idx"), index, 0o600)); err != nil {
			t.Fatal(err)
		}
		loaded, err := loadPack(dir, p.name, o.cache)
		if err != nil {
			return
		}
		o.add(loaded)
		for _, text := range []string{"one", "two", "three"} {
			h := plumbing.ComputeHash(plumbing.BlobObject, []byte(text))
			if content, err := o.read(h, plumbing.BlobObject, 1<<20); err == nil && string(content) != text {
				t.Errorf("%s is %q", h, content)
			}
		}
	})
}

// The record beside the packs, too.
func FuzzLoadRecord(f *testing.F) {
	f.Add([]byte(`{"refs":{"main":{"id":"` + someID + `","ref":"refs/heads/main"}}}`))
	f.Add([]byte(`{"refs":{"main":{"id":"x"}},"signed":{"main":[{"commit":"y","by":"z"}]}}`))
	f.Fuzz(func(t *testing.T, record []byte) {
		dir := filepath.Join(t.TempDir(), "mirror")
		gen := filepath.Join(dir, genName(1))
		if err := errors.Join(os.MkdirAll(gen, 0o700), os.WriteFile(filepath.Join(gen, recordName), record, 0o600)); err != nil {
			t.Fatal(err)
		}
		r, err := Open(Options{Name: "web", URL: "http://127.0.0.1:1/web.git", Ref: "main", Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if snap, err := r.Last(); err == nil {
			snap.Close()
			t.Errorf("a mirror without packs has %v", snap.Revision)
		}
	})
}
