package config

import (
	"cmp"
	"path"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/oci"
)

// checkOCI checks an OCI artifact's address and reference.
func (d *decoder) checkOCI(s *Source, what string) {
	if err := oci.CheckURL(s.URL); err != nil {
		d.Fail(d.At[&s.URL], what+".url: "+err.Error(), "")
	}
	if err := oci.CheckReference(s.Ref, s.Semver); err != nil {
		d.Fail(cmp.Or(d.At[&s.Semver], d.At[&s.Ref]), what+": "+err.Error(), "")
	}
}

// checkNotOCI refuses what only makes sense for an OCI artifact.
func (d *decoder) checkNotOCI(s *Source, what string) {
	at := cmp.Or(d.At[&s.URL], d.At[&s.Dir])
	if s.Insecure {
		d.Fail(at, what+".insecure is for an OCI artifact, and this is none", "write http:// in the url of a repository that has no TLS")
	}
	if file := &s.Credentials.DockerConfigFile; *file != "" {
		d.Fail(cmp.Or(d.At[file], at), what+".credentials.dockerConfigFile is for an OCI artifact, and this is none", "")
	}
}

// locateArtifact follows the OCI artifact that was named on the command line.
func (s *Source) locateArtifact(repo string) (base string, err error) {
	if err := oci.CheckURL(repo); err != nil {
		return "", sources.Problem{Message: "--repo: " + err.Error()}
	}
	if err := oci.CheckReference(s.Ref, ""); err != nil {
		return "", sources.Problem{Message: "--ref: " + err.Error()}
	}
	s.URL = repo
	return path.Base(repo), nil
}
