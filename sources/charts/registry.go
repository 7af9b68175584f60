package charts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// chartLayer is the media type of a chart in a registry.
const chartLayer = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"

// maxManifest bounds the manifest of an artifact.
const maxManifest = 1 << 20

// fromRegistry fetches a chart from an OCI registry: its tag's manifest, and the
// layer with the archive. Both are checked against their digests.
func (s *Store) fromRegistry(ctx context.Context, w wanted) ([]byte, error) {
	// A tag cannot hold the plus of a version's build.
	tag := strings.ReplaceAll(w.version, "+", "_")
	repo, err := s.repository(w)
	if err != nil {
		return nil, err
	}
	found, err := repo.Resolve(ctx, tag)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, problem(fmt.Sprintf("%s has no version %s of chart %q", w.repo, w.version, w.chart), "")
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", w.repo, err)
	}
	if found.Size > maxManifest {
		return nil, problem(w.String()+" has a manifest that "+errTooLarge.Error(), "")
	}
	text, err := content.FetchAll(ctx, repo, found)
	if err != nil {
		return nil, fmt.Errorf("fetch the manifest of %s: %w", w, err)
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(text, &manifest); err != nil {
		return nil, problem(w.String()+" has a manifest that cannot be read", "")
	}
	for _, layer := range manifest.Layers {
		if layer.MediaType != chartLayer {
			continue
		}
		if layer.Size > s.o.MaxBytes {
			return nil, problem(fmt.Sprintf("%s %v (%d bytes)", w, errTooLarge, s.o.MaxBytes), "")
		}
		data, err := content.FetchAll(ctx, repo, layer)
		if err != nil {
			return nil, fmt.Errorf("fetch %s: %w", w, err)
		}
		return data, nil
	}
	return nil, problem(w.String()+" is not a Helm chart", "its manifest names no layer of type "+chartLayer)
}

func (s *Store) repository(w wanted) (*remote.Repository, error) {
	name := w.repo.Host + path.Join("/", w.repo.Path, w.chart)
	repo, err := remote.NewRepository(name)
	if err != nil {
		return nil, problem(fmt.Sprintf("%s and chart %q make no name of a repository", w.repo, w.chart), "")
	}
	repo.PlainHTTP = w.registry.Insecure
	repo.MaxMetadataBytes = maxManifest
	password, err := w.registry.password()
	if err != nil {
		return nil, err
	}
	credential := auth.EmptyCredential
	if password != "" {
		credential = auth.Credential{Username: w.registry.Username, Password: password}
	}
	repo.Client = &auth.Client{
		Client:     &http.Client{Transport: guard{s.base, w.registry.Insecure}},
		Credential: auth.StaticCredential(repo.Reference.Registry, credential),
		Cache:      auth.NewCache(),
	}
	return repo, nil
}

// guard keeps a registry from leading out of TLS.
type guard struct {
	base     http.RoundTripper
	insecure bool
}

// RoundTrip implements http.RoundTripper.
func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !g.insecure {
		return nil, errors.New("the registry leads to an address without TLS, which is not followed")
	}
	return g.base.RoundTrip(req)
}
