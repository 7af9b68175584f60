package ociserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/holdfast-gitops/holdfast/internal/testkit/ociserver"
)

// The registry is what a client of the specification takes it for: what one
// pushes, it pulls again, and lists.
func TestAClientCanPushAndPull(t *testing.T) {
	srv := ociserver.Start(t)
	srv.SetPage(1)
	repo, err := remote.NewRepository(srv.Host + "/team/web")
	if err != nil {
		t.Fatal(err)
	}
	repo.PlainHTTP = true
	push := func(kind string, content []byte) ocispec.Descriptor {
		t.Helper()
		d := ocispec.Descriptor{MediaType: kind, Digest: digest.FromBytes(content), Size: int64(len(content))}
		if err := repo.Push(t.Context(), d, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		return d
	}
	config, layer := push(ociserver.ConfigType, []byte("{}")), push(ociserver.FluxLayer, []byte("layer"))
	text, err := json.Marshal(ocispec.Manifest{MediaType: ociserver.ManifestType, Config: config, Layers: []ocispec.Descriptor{layer}})
	if err != nil {
		t.Fatal(err)
	}
	d := push(ociserver.ManifestType, text)
	for _, tag := range []string{"one", "two"} {
		if err := repo.Tag(t.Context(), d, tag); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := repo.Resolve(t.Context(), "two"); err != nil || got.Digest != d.Digest || got.Size != d.Size {
		t.Errorf("resolve: %v, %v", got, err)
	}
	var tags []string
	if err := repo.Tags(t.Context(), "", func(page []string) error { tags = append(tags, page...); return nil }); err != nil || len(tags) != 2 {
		t.Errorf("tags: %v, %v", tags, err)
	}
	if got := pull(t.Context(), t, repo, layer); got != "layer" {
		t.Errorf("the layer is %q", got)
	}
}

func pull(ctx context.Context, t *testing.T, repo *remote.Repository, d ocispec.Descriptor) string {
	t.Helper()
	body, err := repo.Fetch(ctx, d)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
