package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	orascontent "oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/holdfast-gitops/holdfast/sources"
)

// The media types of layers. Flux publishes the first; other tools the second.
const (
	fluxLayer  = "application/vnd.cncf.flux.content.v1.tar+gzip"
	plainLayer = ocispec.MediaTypeImageLayerGzip
)

// The bounds of a listing of tags.
const (
	maxTagPages = 200
	maxTags     = 100_000
)

// session is one operation's access to the repository.
type session struct {
	artifact *Artifact
	repo     *remote.Repository
	creds    credentials
}

// session reads the credentials. Tokens that the registry gave before are used
// while the credentials are the same.
func (a *Artifact) session() (*session, error) {
	creds, err := a.credentials()
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known != creds {
		a.known, a.tokens = creds, auth.NewCache()
	}
	client := &auth.Client{Client: a.client, Cache: a.tokens}
	client.SetUserAgent("holdfast")
	client.Credential = func(_ context.Context, host string) (auth.Credential, error) {
		if host != a.ref.Host() {
			return auth.EmptyCredential, nil
		}
		return creds.forLibrary(), nil
	}
	return &session{artifact: a, creds: creds, repo: &remote.Repository{
		Client: client, Reference: a.ref, PlainHTTP: a.opts.Insecure,
		TagListMaxPages: maxTagPages, MaxMetadataBytes: maxMetadata,
		ManifestMediaTypes: []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex},
	}}, nil
}

// found is the manifest that a reference is at.
type found struct {
	tag        string
	descriptor ocispec.Descriptor
}

func (f found) revision() sources.Revision {
	return sources.Revision{ID: f.descriptor.Digest.String(), Ref: f.tag}
}

// resolve asks which manifest a reference is at.
func (s *session) resolve(ctx context.Context, wanted reference) (found, error) {
	ctx, cancel := context.WithTimeout(ctx, s.artifact.opts.Timeout)
	defer cancel()
	tag, name := wanted.tag, wanted.tag
	if wanted.within != nil {
		var err error
		if tag, err = s.pick(ctx, wanted); err != nil {
			return found{}, err
		}
		name = tag
	}
	if wanted.digest != "" {
		name = wanted.digest.String()
	}
	d, err := s.repo.Resolve(ctx, name)
	if err != nil && incompleteHead(err) {
		var body io.ReadCloser
		if d, body, err = s.repo.FetchReference(ctx, name); err == nil {
			body.Close()
		}
	}
	if err != nil {
		return found{}, s.missing(wanted, tag, err)
	}
	if err := checkDigest(d.Digest); err != nil {
		return found{}, err
	}
	return found{tag: tag, descriptor: d}, nil
}

// incompleteHead recognizes a registry that leaves out of its answers to HEAD
// what those to GET have. The library tells only by its text.
func incompleteHead(err error) bool {
	text := err.Error()
	return strings.Contains(text, "missing required header") || strings.Contains(text, "unknown response Content-Length")
}

func checkDigest(d digest.Digest) error {
	if d.Validate() != nil || d.Algorithm() != digest.SHA256 && d.Algorithm() != digest.SHA512 {
		return fail(ErrArtifact, fmt.Sprintf("the digest %q is of a kind that is not known", printable(d.String(), 100)), "")
	}
	return nil
}

func (s *session) missing(wanted reference, tag string, err error) error {
	if !errors.Is(err, errdef.ErrNotFound) {
		return err
	}
	what := "tag " + fmt.Sprintf("%q", tag)
	if wanted.digest != "" {
		what = wanted.digest.String()
	}
	return fail(ErrRefNotFound, "the registry has no "+what+" there",
		"check the url and the tag; registries also say so when the credentials give no access")
}

// pick finds the highest version within the range.
func (s *session) pick(ctx context.Context, wanted reference) (string, error) {
	var tags []string
	err := s.repo.Tags(ctx, "", func(page []string) error {
		if tags = append(tags, page...); len(tags) > maxTags {
			return fail(ErrTooLarge, fmt.Sprintf("the repository has more than %d tags", maxTags), "remove old ones, or follow a tag")
		}
		return nil
	})
	if errors.Is(err, errdef.ErrTooManyPages) {
		return "", fail(ErrTooLarge, fmt.Sprintf("the list of tags has more than %d pages", maxTagPages), "remove old ones, or follow a tag")
	}
	if err != nil {
		return "", err
	}
	tag := highest(tags, wanted.within)
	if tag == "" {
		return "", fail(ErrRefNotFound, fmt.Sprintf("none of the %d tags is a version within %q", len(tags), wanted.text), "")
	}
	if !tagForm.MatchString(tag) {
		return "", fail(ErrArtifact, fmt.Sprintf("the registry lists the tag %q, which is not valid", printable(tag, 100)), "")
	}
	return tag, nil
}

// manifest is what is used of one.
type manifest struct {
	layer       ocispec.Descriptor
	annotations map[string]string
}

// manifest downloads a manifest and checks it against its digest.
func (s *session) manifest(ctx context.Context, f found) (manifest, error) {
	ctx, cancel := context.WithTimeout(ctx, s.artifact.opts.Timeout)
	defer cancel()
	d := f.descriptor
	switch {
	case d.MediaType == ocispec.MediaTypeImageIndex:
		return manifest{}, fail(ErrArtifact, "the reference is an index of several images, not an artifact", "follow the digest of one of them")
	case d.MediaType != ocispec.MediaTypeImageManifest:
		return manifest{}, fail(ErrArtifact, fmt.Sprintf("the manifest is of type %q", printable(d.MediaType, 100)),
			"publish an artifact with an OCI manifest, as by flux push artifact")
	case d.Size > maxMetadata:
		return manifest{}, fail(ErrTooLarge, fmt.Sprintf("the manifest has %d bytes, more than %d", d.Size, maxMetadata), "")
	}
	body, err := s.repo.Manifests().Fetch(ctx, d)
	if err != nil {
		return manifest{}, moved(err)
	}
	defer body.Close()
	text, err := orascontent.ReadAll(body, d)
	if err != nil {
		return manifest{}, damaged("manifest", err)
	}
	return decodeManifest(text)
}

// moved tells of what the registry has just listed and has no longer.
func moved(err error) error {
	if errors.Is(err, errdef.ErrNotFound) {
		return fail(ErrUnreachable, "the registry lacks a part of the artifact", "publish it again")
	}
	return err
}

// damaged tells content that is not what its digest says from a bad connection.
func damaged(what string, err error) error {
	switch {
	case errors.Is(err, orascontent.ErrMismatchedDigest), errors.Is(err, orascontent.ErrTrailingData):
		return fail(ErrUnreachable, "the "+what+" is not what its digest says", "the registry or something on the way damages it")
	}
	return err
}

// decodeManifest finds the layer: the only one of Flux's type, or the only one
// at all where that is a plain archive.
func decodeManifest(text []byte) (manifest, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return manifest{}, fail(ErrArtifact, "the manifest is not valid: "+printable(err.Error(), 200), "")
	}
	var of []ocispec.Descriptor
	for _, l := range m.Layers {
		if l.MediaType == fluxLayer {
			of = append(of, l)
		}
	}
	if len(of) == 0 && len(m.Layers) == 1 && m.Layers[0].MediaType == plainLayer {
		of = m.Layers
	}
	if len(of) != 1 {
		var types []string
		for _, l := range m.Layers[:min(3, len(m.Layers))] {
			types = append(types, fmt.Sprintf("%q", printable(l.MediaType, 100)))
		}
		return manifest{}, fail(ErrArtifact,
			fmt.Sprintf("of the manifest's %d layers, %d are content that can be followed (it has %s)", len(m.Layers), len(of), strings.Join(types, ", ")),
			"publish one layer of type "+fluxLayer+", as by flux push artifact")
	}
	if err := checkDigest(of[0].Digest); err != nil {
		return manifest{}, err
	}
	if of[0].Size < 0 {
		return manifest{}, fail(ErrArtifact, "the layer's size is negative", "")
	}
	return manifest{layer: of[0], annotations: m.Annotations}, nil
}

// annotate fills in what the publisher says of where the artifact comes from.
func (m manifest) annotate(rev *sources.Revision) {
	from, at := m.annotations[ocispec.AnnotationSource], m.annotations[ocispec.AnnotationRevision]
	switch {
	case from != "" && at != "":
		rev.Subject = printable(at+" of "+from, 200)
	default:
		rev.Subject = printable(at+from, 200)
	}
	rev.Author = printable(m.annotations[ocispec.AnnotationAuthors], 100)
	if when, err := time.Parse(time.RFC3339, m.annotations[ocispec.AnnotationCreated]); err == nil {
		rev.Time = when.UTC()
	}
}

// unpack downloads a layer, checks it against its digest, and only then reads
// the archive in it.
func (s *session) unpack(ctx context.Context, layer ocispec.Descriptor, into *folder) error {
	limits := s.artifact.opts.Limits
	if layer.Size > limits.LayerBytes {
		return fail(ErrTooLarge, fmt.Sprintf("the layer has %d bytes, and the limit is %d", layer.Size, limits.LayerBytes), "raise the limit or make the artifact smaller")
	}
	file, err := into.temporary()
	if err != nil {
		return err
	}
	defer file.Close()
	if err := s.download(ctx, layer, file); err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return local(err)
	}
	return into.fill(ctx, file, layer.Size, limits)
}

func (s *session) download(ctx context.Context, layer ocispec.Descriptor, to io.Writer) error {
	ctx, stall := newStall(ctx, s.artifact.opts.Timeout)
	defer stall.stop()
	body, err := s.repo.Blobs().Fetch(ctx, layer)
	if err != nil {
		return stalled(ctx, moved(err))
	}
	defer body.Close()
	verified := orascontent.NewVerifyReader(moving{body, stall}, layer)
	w := &diskWriter{w: to}
	if _, err := io.Copy(w, verified); err != nil {
		if w.err != nil {
			return local(w.err)
		}
		return stalled(ctx, err)
	}
	return stalled(ctx, damaged("layer", verified.Verify()))
}

// diskWriter remembers the error of the disk, to tell it from the network's.
type diskWriter struct {
	w   io.Writer
	err error
}

func (d *diskWriter) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	d.err = err
	return n, err
}
