package oci_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/ociserver"
	"github.com/holdfast-gitops/holdfast/internal/testkit/sourcetest"
	"github.com/holdfast-gitops/holdfast/sources/oci"
)

func special(name string, kind byte, target string) ociserver.Entry {
	return ociserver.Entry{Header: tar.Header{Name: name, Typeflag: kind, Linkname: target, Mode: 0o644}}
}

// An archive that no honest publisher makes is refused whole: the last good
// artifact stays, and the error names the entry.
func TestHostileArchivesAreRefused(t *testing.T) {
	f := newFixture(t)
	f.write(t, sourcetest.Files{"a": "1"})
	a := f.open(t)
	sourcetest.Fetch(t, a)
	fine := ociserver.File("fine", "1")
	for name, tc := range map[string]struct {
		entries []ociserver.Entry
		want    string
	}{
		"absolute":             {[]ociserver.Entry{ociserver.File("/etc/passwd", "x")}, `"/etc/passwd" is absolute`},
		"dot dot":              {[]ociserver.Entry{ociserver.File("../x", "x")}, `"../x" leads out`},
		"dot dot inside":       {[]ociserver.Entry{ociserver.File("a/../../x", "x")}, "leads out"},
		"dot dot at the end":   {[]ociserver.Entry{special("a/..", tar.TypeDir, "")}, "leads out"},
		"dot dot back again":   {[]ociserver.Entry{ociserver.File("a/../x", "x")}, "leads out"},
		"control characters":   {[]ociserver.Entry{ociserver.File("a\x1b[31m", "x")}, "control characters"},
		"a new line":           {[]ociserver.Entry{ociserver.File("a\nb", "x")}, "control characters"},
		"not UTF-8":            {[]ociserver.Entry{ociserver.File("a\xff", "x")}, "not UTF-8"},
		"too deep":             {[]ociserver.Entry{ociserver.File(strings.Repeat("d/", 300)+"x", "x")}, "deep"},
		"character device":     {[]ociserver.Entry{special("tty", tar.TypeChar, "")}, "neither a file"},
		"block device":         {[]ociserver.Entry{special("sda", tar.TypeBlock, "")}, "neither a file"},
		"named pipe":           {[]ociserver.Entry{special("pipe", tar.TypeFifo, "")}, "neither a file"},
		"no name":              {[]ociserver.Entry{ociserver.File("", "x")}, "no name of its own"},
		"the root as a file":   {[]ociserver.Entry{ociserver.File("./.", "x")}, "no name of its own"},
		"twice":                {[]ociserver.Entry{fine, fine}, `"fine" is in it twice`},
		"twice by other names": {[]ociserver.Entry{fine, ociserver.File("./fine", "2")}, "is in it twice"},
		"file as folder":       {[]ociserver.Entry{fine, ociserver.File("fine/x", "2")}, "no folder"},
		"folder as file":       {[]ociserver.Entry{ociserver.File("d/x", "2"), ociserver.File("d", "2")}, "is in it twice"},
		"through a link":       {[]ociserver.Entry{ociserver.Link("out", "/tmp"), ociserver.File("out/x", "2")}, `below "out", which is no folder`},
		"hard link out":        {[]ociserver.Entry{special("h", tar.TypeLink, "../../etc/passwd")}, "a name that is refused"},
		"hard link to nothing": {[]ociserver.Entry{special("h", tar.TypeLink, "none")}, "no file before it"},
		"hard link to a link":  {[]ociserver.Entry{ociserver.Link("l", "/etc/passwd"), special("h", tar.TypeLink, "l")}, "no file before it"},
		"link to nowhere":      {[]ociserver.Entry{ociserver.Link("l", strings.Repeat("x", 5000))}, "valid target"},
	} {
		t.Run(name, func(t *testing.T) {
			f.publish(t, "latest", ociserver.Artifact{Layer: ociserver.Archive(t, append(tc.entries, ociserver.File("z", "z"))...)})
			_, err := a.Fetch(t.Context())
			if !errors.Is(err, oci.ErrArtifact) || !strings.Contains(err.Error(), tc.want) || strings.ContainsAny(err.Error(), "\x1b\n") {
				t.Errorf("fetch: %v", err)
			}
			sourcetest.WantLast(t, a, "a", "1")
		})
	}
	if n := len(trees(t, f.dir)); n != 1 {
		t.Errorf("%d trees are left", n)
	}
}

// What is odd but harmless is kept as it is, inside the tree.
func TestOddArchivesAreContained(t *testing.T) {
	f := newFixture(t)
	run := ociserver.File("run", "#!/bin/sh\n")
	run.Mode = 0o4755
	f.publish(t, "latest", ociserver.Artifact{Layer: ociserver.Archive(t,
		ociserver.Entry{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "made by git archive"}}},
		special("./", tar.TypeDir, ""), special("d/", tar.TypeDir, ""), special("d/", tar.TypeDir, ""),
		ociserver.File("./d/a", "1"), ociserver.File("README", "upper"), ociserver.File("readme", "lower"),
		special("hard", tar.TypeLink, "./d/a"), run, ociserver.File(".git/config", "x"), ociserver.File("sub/.git", "x"),
		ociserver.Link("out", "../../etc/passwd"), ociserver.File("-rf", "option"), ociserver.File("C:\\x", "back"),
	)})
	snap := sourcetest.Fetch(t, f.open(t))
	for name, want := range map[string]string{
		"d/a": "1", "README": "upper", "readme": "lower", "hard": "1", "run": "#!/bin/sh\n", "-rf": "option", "C:\\x": "back",
	} {
		sourcetest.WantFile(t, snap, name, want)
	}
	if _, err := snap.Tree.ReadFile("out"); err == nil || !strings.Contains(err.Error(), "leads out of the source") {
		t.Errorf("read through a link that leads out: %v", err)
	}
	entries, err := snap.Tree.ReadDir(".")
	if err != nil || len(entries) != 8 {
		t.Errorf("the root lists %v, %v", entries, err)
	}
	if info, err := snap.Tree.Stat("run"); err != nil || info.Mode() != 0o555 {
		t.Errorf("run is %v, %v", info.Mode(), err)
	}
}

func TestLimits(t *testing.T) {
	noise := make([]byte, 4000)
	source := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(source.Uint32())
	}
	files := sourcetest.Files{"a/b/c": "1", "a/b/d": "2", "big": string(noise)}
	for name, tc := range map[string]struct {
		limits oci.Limits
		want   string
	}{
		"layer":    {oci.Limits{LayerBytes: 1000}, "the limit is 1000"},
		"unpacked": {oci.Limits{UnpackedBytes: 3000}, "more than 3000 bytes"},
		"files":    {oci.Limits{Files: 4}, "more than 4 files"},
		"fits":     {oci.Limits{Files: 5, UnpackedBytes: 4002}, ""},
	} {
		f := newFixture(t)
		f.write(t, files)
		a := f.open(t, func(o *oci.Options) { o.Limits = tc.limits })
		snap, err := a.Fetch(t.Context())
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			snap.Close()
		} else if !errors.Is(err, oci.ErrTooLarge) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A large file stops who reads it, nobody else.
	f := newFixture(t)
	f.write(t, files)
	snap := sourcetest.Fetch(t, f.open(t, func(o *oci.Options) { o.Limits.FileBytes = 3999 }))
	sourcetest.WantFile(t, snap, "a/b/c", "1")
	if _, err := snap.Tree.ReadFile("big"); !errors.Is(err, oci.ErrTooLarge) {
		t.Errorf("read of a large file: %v", err)
	}
}

// An archive that unpacks to a thousand times its size is refused before it has
// filled anything.
func TestArchiveBombsAreRefused(t *testing.T) {
	f := newFixture(t)
	zeros := strings.Repeat("\x00", 1<<20)
	var many []ociserver.Entry
	for i := range 20 {
		many = append(many, ociserver.File(fmt.Sprint("f", i), zeros))
	}
	var padded bytes.Buffer
	packed := gzip.NewWriter(&padded)
	for range 60 {
		if _, err := packed.Write([]byte(zeros)); err != nil {
			t.Fatal(err)
		}
	}
	if err := packed.Close(); err != nil {
		t.Fatal(err)
	}
	sparse := ociserver.File("one", "x")
	for name, tc := range map[string]struct {
		layer []byte
		kind  error
	}{
		"many files":        {ociserver.Archive(t, many...), oci.ErrTooLarge},
		"nothing but zeros": {padded.Bytes(), nil},
		"garbage":           {[]byte("this is no gzip"), oci.ErrArtifact},
		"empty":             {[]byte{}, oci.ErrArtifact},
		"gzip of garbage":   {zip(t, strings.Repeat("garbage ", 100)), oci.ErrArtifact},
		"truncated":         {ociserver.Archive(t, sparse)[:40], oci.ErrArtifact},
		"header that lies":  {zip(t, lying(t)), oci.ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			layer := tc.layer
			f.publish(t, "latest", ociserver.Artifact{Layer: append([]byte{}, layer...)})
			a := f.open(t, func(o *oci.Options) { o.Dir, o.Limits.Ratio = t.TempDir(), 100 })
			snap, err := a.Fetch(t.Context())
			if err == nil {
				snap.Close()
			}
			if !errors.Is(err, tc.kind) {
				t.Errorf("fetch: %v", err)
			}
		})
	}
}

func zip(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	packed := gzip.NewWriter(&b)
	if _, err := packed.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := packed.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// lying is an archive whose only header promises a terabyte.
func lying(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "huge", Typeflag: tar.TypeReg, Mode: 0o644, Size: 1 << 40}); err != nil {
		t.Fatal(err)
	}
	return b.String() + strings.Repeat("x", 2048)
}
