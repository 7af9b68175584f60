package oci_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/ociserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/oci"
)

// Whatever happens to whichever file of a cache, the next fetch gives the right
// content, in the same process and in the next.
func TestDamagedCacheHeals(t *testing.T) {
	for name, damage := range sourcetest.Damages() {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/restart=%v", name, restart), func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				files := 1
				for i := 0; i < files; i++ {
					f.write(t, sourcetest.Files{"a": fmt.Sprint(i), "b/c": "0"})
					a := f.open(t)
					sourcetest.Fetch(t, a).Close()
					names := sourcetest.FilesBelow(t, f.dir)
					files = len(names)
					if restart {
						a.Close()
					}
					if err := damage(names[i]); err != nil {
						t.Fatal(err)
					}
					if restart {
						a = f.open(t)
					}
					snap, err := a.Fetch(t.Context())
					if err != nil {
						t.Fatalf("fetch after %s was %s: %v", filepath.Base(names[i]), name, err)
					}
					sourcetest.WantFile(t, snap, "a", fmt.Sprint(i))
					sourcetest.WantFile(t, snap, "b/c", "0")
					snap.Close()
					a.Close()
				}
				if files != 3 {
					t.Errorf("%d files were damaged, and a cache has 3", files)
				}
				if n := len(trees(t, f.dir)); n != 1 {
					t.Errorf("%d trees are left", n)
				}
			})
		}
	}
}

// A file that was changed behind our back is never handed out.
func TestReadOfADamagedFileIsAnError(t *testing.T) {
	f := newFixture(t)
	f.write(t, sourcetest.Files{"a": "good"})
	a := f.open(t)
	snap := sourcetest.Fetch(t, a)
	name := filepath.Join(trees(t, f.dir)[0], "content")
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte("evil"), 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(file.Close(), os.Chtimes(name, info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
	if b, err := snap.Tree.ReadFile("a"); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("read: %q, %v", b, err)
	}
	sourcetest.WantFile(t, sourcetest.Fetch(t, a), "a", "good")
}

func TestWipedCacheHeals(t *testing.T) {
	f := newFixture(t)
	f.write(t, sourcetest.Files{"a": "1"})
	a := f.open(t)
	held := sourcetest.Fetch(t, a)
	if err := os.RemoveAll(f.dir); err != nil {
		t.Fatal(err)
	}
	if last, err := a.Last(); err == nil {
		t.Errorf("a wiped cache still has %v", last.Revision)
	}
	sourcetest.WantFile(t, sourcetest.Fetch(t, a), "a", "1")
	sourcetest.WantFile(t, held, "a", "1")
}

func TestLeftoversOfACrashAreRemoved(t *testing.T) {
	f := newFixture(t)
	f.write(t, sourcetest.Files{"a": "1"})
	a := f.open(t)
	sourcetest.Fetch(t, a).Close()
	a.Close()
	for _, name := range []string{"tree-7/layer-1", "tree-9/content"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(f.dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(f.dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.server.Reset()
	sourcetest.WantFile(t, sourcetest.Fetch(t, f.open(t)), "a", "1")
	f.wantRequests(t, map[string]int{"HEAD manifests": 1})
	if got := trees(t, f.dir); len(got) != 1 || filepath.Base(got[0]) != "tree-1" {
		t.Errorf("trees: %v", got)
	}
}

// Another reference of the same source has its own last revision.
func TestLastIsOfTheReferenceThatIsFollowed(t *testing.T) {
	f := newFixture(t)
	digest := f.publish(t, "v1", ociserver.Artifact{Files: sourcetest.Files{"a": "1"}})
	f.server.Tag(repository, "v2", digest)
	one := f.open(t, tag("v1"))
	sourcetest.Fetch(t, one).Close()
	one.Close()
	two := f.open(t, tag("v2"))
	if last, err := two.Last(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("last of a tag that was never followed: %v, %v", last, err)
	}
	f.server.Reset()
	if rev := sourcetest.Fetch(t, two).Revision; rev.Ref != "v2" {
		t.Errorf("revision %v", rev)
	}
	f.wantRequests(t, map[string]int{"HEAD manifests": 1})
	two.Close()
	sourcetest.WantLast(t, f.open(t, tag("v2")), "a", "1")
}

// cache is the fixture's cache for the cases that are those of all sources with
// one on disk.
func (f *fixture) cache(t *testing.T) sourcetest.Cache {
	t.Helper()
	return sourcetest.Cache{Harness: f.harness(), URL: f.server.URL(repository), Dir: &f.dir, Left: func(t *testing.T) (left []string) {
		t.Helper()
		all := trees(t, f.dir)
		for _, name := range sourcetest.FilesBelow(t, f.dir) {
			if base := filepath.Base(name); base != "content" && base != "index.json" && base != "last.json" {
				left = append(left, name)
			}
		}
		if len(all) > 1 {
			left = append(left, all[1:]...)
		}
		return left
	}}
}

func TestDiskFull(t *testing.T) { sourcetest.DiskFull(t, newFixture(t).cache(t)) }

func TestKilledAtAnyPoint(t *testing.T) {
	t.Run("of a first fetch", func(t *testing.T) { sourcetest.Killed(t, newFixture(t).cache(t), true) })
	t.Run("of a later fetch", func(t *testing.T) { sourcetest.Killed(t, newFixture(t).cache(t), false) })
}

func TestMisbehavingRegistry(t *testing.T) {
	f := newFixture(t)
	f.write(t, sourcetest.Files{"a": "1"})
	a := f.open(t, func(o *oci.Options) { o.Timeout = 300 * time.Millisecond })
	sourcetest.Fetch(t, a)
	want := f.write(t, sourcetest.Files{"a": "2"})
	f.server.Publish(t, repository, "keep", ociserver.Artifact{Files: f.files})
	retry := func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Retry-After", "120")
		http.Error(w, "slow down", http.StatusTooManyRequests)
	}
	body := func(text string) gitserver.Fault {
		return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { _, _ = w.Write([]byte(text)) }
	}
	for name, tc := range map[string]struct {
		fault gitserver.Fault
		want  string
	}{
		"500":                       {gitserver.Status(http.StatusInternalServerError), "500"},
		"429":                       {retry, "429 too many requests (it asks to come back after 120)"},
		"a page":                    {gitserver.HTML(), "text/html"},
		"hangs":                     {gitserver.Hang(), "no answer within 300ms"},
		"500 for the manifest":      {ociserver.OnManifest(gitserver.Status(500)), "500"},
		"hangs at the manifest":     {ociserver.OnManifest(gitserver.Hang()), "no answer within"},
		"cuts the manifest":         {ociserver.OnManifest(gitserver.CutAfter(40)), "connection closed"},
		"another manifest":          {ociserver.OnManifest(body(`{"layers":[]}`)), ""},
		"404 for the layer":         {ociserver.OnBlob(gitserver.Status(404)), "lacks a part"},
		"500 for the layer":         {ociserver.OnBlob(gitserver.Status(500)), "500"},
		"a page for the layer":      {ociserver.OnBlob(gitserver.HTML()), "text/html"},
		"hangs before the layer":    {ociserver.OnBlob(gitserver.Hang()), "no answer within"},
		"hangs in the layer":        {ociserver.OnBlob(gitserver.HangAfter(40)), "no answer within"},
		"cuts the layer":            {ociserver.OnBlob(gitserver.CutAfter(40)), "connection closed"},
		"another layer":             {ociserver.OnBlob(body(strings.Repeat("x", 3000))), ""},
		"nothing for the layer":     {ociserver.OnBlob(body("")), ""},
		"redirects without an end":  {redirectToSelf, "redirects"},
		"a manifest that is no end": {ociserver.OnManifest(endless), ""},
	} {
		t.Run(name, func(t *testing.T) {
			f.server.SetFault(tc.fault)
			_, err := a.Fetch(t.Context())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("fetch: %v", err)
			} else if !errors.Is(err, oci.ErrUnreachable) {
				t.Errorf("the error is not said to be the registry's: %v", err)
			}
			sourcetest.WantLast(t, a, "a", "1")
		})
	}
	f.server.SetFault(nil)
	f.server.Garble(repository)
	if _, err := a.Fetch(t.Context()); !errors.Is(err, oci.ErrUnreachable) || !strings.Contains(err.Error(), "the layer is not what its digest says") {
		t.Errorf("fetch of a layer that was garbled: %v", err)
	}
	f.server.Garble(repository)
	if snap := sourcetest.Fetch(t, a); snap.Revision.ID != want {
		t.Errorf("after it behaves again: %v", snap.Revision)
	}
	if n := len(trees(t, f.dir)); n != 2 { // the first one is still on lease
		t.Errorf("%d trees are left", n)
	}
}

func redirectToSelf(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
}

func endless(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	w.Header().Set("Content-Type", ociserver.ManifestType)
	for r.Context().Err() == nil {
		if _, err := w.Write(make([]byte, 64<<10)); err != nil {
			return
		}
	}
}
