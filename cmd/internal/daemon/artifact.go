package daemon

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
	"github.com/holdfast-gitops/holdfast/sources/oci"
)

// artifact is an OCI artifact as a source, whose status is that of a repository.
type artifact struct{ *oci.Artifact }

func openArtifact(c config.Source, dataDir string) (artifact, error) {
	// Of this source alone: what a registry gives depends on who asks.
	sum := sha256.Sum256([]byte(c.Name + "\n" + c.URL))
	a, err := oci.Open(oci.Options{
		Name: c.Name, URL: c.URL, Ref: c.Ref, Semver: c.Semver, Timeout: c.Timeout,
		Dir:              filepath.Join(dataDir, "cache", "oci", hex.EncodeToString(sum[:8])),
		Username:         c.Credentials.Username,
		PasswordFile:     cmp.Or(c.Credentials.PasswordFile, c.Credentials.TokenFile),
		DockerConfigFile: c.Credentials.DockerConfigFile, CAFile: c.CAFile, Insecure: c.Insecure,
		Limits: oci.Limits{
			LayerBytes: c.Limits.Download, UnpackedBytes: c.Limits.Repository,
			FileBytes: c.Limits.File, Files: c.Limits.Files,
		},
	})
	return artifact{a}, err
}

// Stats implements metered.
func (a artifact) Stats() gitrepo.Stats {
	s := a.Artifact.Stats()
	return gitrepo.Stats{
		Listed: s.Listed, Downloaded: s.Downloaded, Bytes: s.Bytes, Took: s.Took,
		Downloads: s.Downloads, TotalBytes: s.TotalBytes, MirrorBytes: s.CacheBytes,
	}
}
