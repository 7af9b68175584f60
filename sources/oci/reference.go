package oci

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/registry"
)

// tagForm is what the distribution specification allows for a tag.
var tagForm = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

// CheckURL says what is wrong with the address of a repository.
func CheckURL(raw string) error {
	_, err := parseURL(raw)
	return err
}

// CheckReference says what is wrong with a tag or digest, or with a range of
// versions.
func CheckReference(ref, semver string) error {
	_, err := parseReference(ref, semver)
	return err
}

// parseURL reads oci://host/path. Errors never repeat the address, which may
// hold credentials.
func parseURL(raw string) (registry.Reference, error) {
	if raw == "" {
		return registry.Reference{}, errors.New("the url is empty")
	}
	rest, ok := strings.CutPrefix(raw, "oci://")
	if !ok {
		return registry.Reference{}, errors.New("the url does not begin with oci://")
	}
	host, path, ok := strings.Cut(rest, "/")
	switch {
	case strings.Contains(host, "@"):
		return registry.Reference{}, errors.New("the url holds credentials (configure them beside it)")
	case !ok || path == "" || host == "":
		return registry.Reference{}, errors.New("the url names no repository (use the form oci://host/path)")
	case strings.ContainsAny(path, "@:"):
		return registry.Reference{}, errors.New("the url holds a tag or a digest (put it into ref)")
	}
	ref := registry.Reference{Registry: host, Repository: strings.TrimSuffix(path, "/")}
	if ref.ValidateRegistry() != nil {
		return registry.Reference{}, errors.New("the url has no valid host")
	}
	if ref.ValidateRepository() != nil {
		return registry.Reference{}, errors.New("the url has no valid repository (lower case letters, digits and . _ - between slashes)")
	}
	return ref, nil
}

// reference says which artifact of a repository is wanted: one of the three is
// set.
type reference struct {
	tag    string
	digest digest.Digest
	within *semver.Constraints
	text   string // of within
}

func parseReference(ref, within string) (reference, error) {
	ref, within = strings.TrimSpace(ref), strings.TrimSpace(within)
	switch {
	case ref != "" && within != "":
		return reference{}, errors.New("both a ref and a semver range are given, and one is followed")
	case within != "":
		c, err := semver.NewConstraint(within)
		if err != nil {
			return reference{}, fmt.Errorf("the semver range %q cannot be read (write it as in \">=1.2.0 <2.0.0\")", within)
		}
		return reference{within: c, text: within}, nil
	case ref == "":
		return reference{tag: "latest"}, nil
	case strings.Contains(ref, ":"):
		d, err := digest.Parse(ref)
		if err != nil {
			return reference{}, fmt.Errorf("ref %q is no digest (write sha256: and its 64 digits)", ref)
		}
		return reference{digest: d}, nil
	case !tagForm.MatchString(ref):
		return reference{}, fmt.Errorf("ref %q is no valid tag (letters, digits and . _ -, at most 128)", ref)
	}
	return reference{tag: ref}, nil
}

// key is the name under which the cache remembers what was fetched.
func (r reference) key() string {
	switch {
	case r.within != nil:
		return "semver " + r.text
	case r.digest != "":
		return r.digest.String()
	}
	return r.tag
}

// maxTag bounds the names that are tried as versions: a registry may list
// anything.
const maxTag = 128

// highest is the tag with the highest version within the range; empty when there
// is none. As with git, tags are versions when they are three numbers with dots
// between, with or without a leading v.
func highest(tags []string, within *semver.Constraints) string {
	var best *semver.Version
	name := ""
	for _, tag := range tags {
		v := tagVersion(tag)
		if v == nil || !within.Check(v) {
			continue
		}
		if best == nil || v.GreaterThan(best) || v.Equal(best) && tag > name {
			best, name = v, tag
		}
	}
	return name
}

// tagVersion is the version that a tag stands for, nil when it does for none. A
// tag cannot hold the plus sign of build metadata; publishers write an underscore
// in its place.
func tagVersion(tag string) *semver.Version {
	if len(tag) > maxTag {
		return nil
	}
	v, err := semver.StrictNewVersion(strings.Replace(strings.TrimPrefix(tag, "v"), "_", "+", 1))
	if err != nil {
		return nil
	}
	return v
}
