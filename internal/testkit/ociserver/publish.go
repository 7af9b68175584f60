package ociserver

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
)

// The media types of what Flux publishes, and of a plain layer.
const (
	ManifestType = "application/vnd.oci.image.manifest.v1+json"
	ConfigType   = "application/vnd.cncf.flux.config.v1+json"
	FluxLayer    = "application/vnd.cncf.flux.content.v1.tar+gzip"
	PlainLayer   = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// Artifact is what is published under a tag. Zero fields mean what Flux does.
type Artifact struct {
	// Files are content by path, with the marks of package gitserver.
	Files map[string]string
	// Layer, where given, is the layer's bytes in place of Files.
	Layer []byte
	// LayerType is the layer's media type.
	LayerType   string
	Annotations map[string]string
	// Layers, where given, are how often the layer is named.
	Layers int
}

// Publish puts an artifact under a tag and answers its manifest's digest.
func (s *Server) Publish(t testing.TB, repository, tag string, a Artifact) string {
	t.Helper()
	layer := a.Layer
	if layer == nil {
		layer = Archive(t, Entries(a.Files)...)
	}
	if a.LayerType == "" {
		a.LayerType = FluxLayer
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.repo(repository)
	config := []byte("{}")
	descriptor := func(kind string, b []byte) map[string]any {
		return map[string]any{"mediaType": kind, "digest": in.keep(b), "size": len(b)}
	}
	layers := []any{}
	for range max(a.Layers, 1) {
		layers = append(layers, descriptor(a.LayerType, layer))
	}
	text, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": ManifestType, "config": descriptor(ConfigType, config),
		"layers": layers, "annotations": a.Annotations,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.putLocked(in, tag, ManifestType, text)
}

// PutManifest puts any text under a tag, as a manifest of a type.
func (s *Server) PutManifest(repository, tag, kind string, text []byte) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.putLocked(s.repo(repository), tag, kind, text)
}

func (s *Server) putLocked(in *repo, tag, kind string, text []byte) string {
	digest := digestOf(text)
	in.manifests[digest] = document{kind, text}
	in.tags[tag] = digest
	return digest
}

// Tag points a tag at a manifest that the repository has.
func (s *Server) Tag(repository, tag, digest string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repo(repository).tags[tag] = digest
}

// Untag removes a tag.
func (s *Server) Untag(repository, tag string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.repo(repository).tags, tag)
}

// Remove removes a repository.
func (s *Server) Remove(repository string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.repos, repository)
}

// Garble flips a byte of every blob of a repository, behind its digest's back.
func (s *Server) Garble(repository string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for digest, b := range s.repo(repository).blobs {
		b = slices.Clone(b)
		b[len(b)/2] ^= 0x55
		s.repo(repository).blobs[digest] = b
	}
}

// Entry is one entry of an archive.
type Entry struct {
	tar.Header
	Content string
}

// File is a plain file for an archive.
func File(name, content string) Entry {
	return Entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}, content}
}

// Link is a symbolic link for an archive.
func Link(name, target string) Entry {
	return Entry{tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}, ""}
}

// Entries are files, with the marks of package gitserver, as an archive of a
// folder has them.
func Entries(files map[string]string) []Entry {
	var entries []Entry
	for _, name := range slices.Sorted(maps.Keys(files)) {
		e := File(name, files[name])
		if target, ok := strings.CutPrefix(files[name], gitserver.Symlink("")); ok {
			e = Link(name, target)
		} else if text, ok := strings.CutPrefix(files[name], gitserver.Executable("")); ok {
			e = File(name, text)
			e.Mode = 0o755
		}
		entries = append(entries, e)
	}
	return entries
}

// Archive packs entries, as they are, into a compressed archive.
func Archive(t testing.TB, entries ...Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	packed := gzip.NewWriter(&b)
	w := tar.NewWriter(packed)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.Content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := packed.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
