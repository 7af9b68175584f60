package oci

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
)

// archive packs headers, as they are, without compression.
func archive(f *testing.F, headers ...tar.Header) []byte {
	f.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		content := strings.Repeat("x", int(h.Size))
		if err := w.WriteHeader(&h); err != nil {
			f.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	return b.Bytes()
}

// An archive comes from a registry that may be hostile: it is unpacked or
// refused, never worse; what is unpacked can be read, walked and identified,
// stays within the limits, and is the same after a restart.
func FuzzUnpack(f *testing.F) {
	f.Add(archive(f, tar.Header{Name: "a/b", Typeflag: tar.TypeReg, Size: 5, Mode: 0o644}))
	f.Add(archive(f, tar.Header{Name: "d/", Typeflag: tar.TypeDir}, tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../d"}))
	f.Add(archive(f, tar.Header{Name: "a", Typeflag: tar.TypeReg, Size: 1}, tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "a"}))
	f.Add(archive(f, tar.Header{Name: "../a", Typeflag: tar.TypeReg}, tar.Header{Name: "/b", Typeflag: tar.TypeFifo}))
	limits := Limits{UnpackedBytes: 1 << 20, Files: 100, FileBytes: 1 << 16}.withDefaults()
	f.Fuzz(func(t *testing.T, raw []byte) {
		var layer bytes.Buffer
		w := gzip.NewWriter(&layer)
		_, _ = w.Write(raw)
		_ = w.Close()
		dir := &folder{dir: t.TempDir()}
		if dir.fill(t.Context(), &layer, int64(layer.Len()), limits) != nil {
			return
		}
		c, err := loadContent(dir.dir, sources.Revision{ID: "x"})
		if err != nil {
			t.Fatalf("what was unpacked cannot be loaded: %v", err)
		}
		defer c.file.Close()
		if c.root.id != dir.root.id {
			t.Error("the tree is another one after a restart")
		}
		if c.stamps[0].size > limits.UnpackedBytes {
			t.Errorf("%d bytes were unpacked", c.stamps[0].size)
		}
		walk(t, newTree(c, time.Time{}, limits.FileBytes))
		names, err := filepath.Glob(filepath.Join(dir.dir, "..", "*"))
		if err != nil || len(names) != 1 {
			t.Errorf("beside the folder are %v, %v", names, err)
		}
	})
}

func walk(t *testing.T, tr *tree) {
	t.Helper()
	err := fs.WalkDir(tr, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !fs.ValidPath(name) {
			t.Errorf("the name %q was let in", name)
		}
		if e.Type()&fs.ModeSymlink != 0 {
			return nil // may lead nowhere
		}
		if _, err := tr.ContentID(name); err != nil {
			return err
		}
		if info, err := e.Info(); err == nil && !e.IsDir() && info.Size() <= 1<<16 {
			_, err := tr.ReadFile(name)
			return err
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func FuzzReadIndex(f *testing.F) {
	good, err := json.Marshal(index{Size: 3, Entries: []entry{{Path: "a", Size: 3, Sum: make([]byte, 32)}, {Path: "d", Kind: 3}, {Path: "d/l", Kind: 2, Link: "../a"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"entries":[{"path":"../a"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		// The checksum is set right, or hardly any input would be looked into.
		root, x, err := readIndex(checksummed(text))
		if err != nil {
			return
		}
		file, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		_ = root.visit("", func(_ string, n *node) error {
			if n.offset < 0 || n.size < 0 || len(n.children) == 0 && n.kind < 2 && n.offset+n.size > x.Size {
				t.Errorf("%q is at %d to %d of %d", n.name, n.offset, n.offset+n.size, x.Size)
			}
			return nil
		})
		_, _ = newTree(&content{file: file, root: root}, time.Time{}, 1<<20).ContentID(".")
	})
}

func FuzzDecodeManifest(f *testing.F) {
	f.Add([]byte(`{"layers":[{"mediaType":"application/vnd.cncf.flux.content.v1.tar+gzip","digest":"sha256:` + strings.Repeat("ab", 32) + `","size":3}]}`))
	f.Add([]byte(`{"layers":[{}],"annotations":{"org.opencontainers.image.created":"x"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := decodeManifest(text)
		if err != nil {
			return
		}
		if m.layer.Size < 0 || m.layer.Digest.Validate() != nil {
			t.Errorf("the layer %+v was let in", m.layer)
		}
		var rev sources.Revision
		m.annotate(&rev)
		if strings.ContainsAny(rev.Subject+rev.Author, "\n\x1b") {
			t.Errorf("control characters were let in: %+v", rev)
		}
	})
}

func FuzzDockerConfig(f *testing.F) {
	f.Add([]byte(`{"auths":{"https://index.docker.io/v1/":{"auth":"YTpi"},"ghcr.io/team":{"username":"a","password":"b"}}}`), "ghcr.io", "team/web")
	f.Fuzz(func(_ *testing.T, text []byte, host, repository string) {
		_, _ = dockerConfig(text, host, host, repository)
	})
}
