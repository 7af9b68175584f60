package gitrepo

import (
	"net/url"
	"path/filepath"
	"strings"
)

// address is where a repository is, split from the credentials that people put
// into URLs, so that the URL can be printed.
type address struct {
	url   string
	creds credentials
}

func parseAddress(raw string) (address, error) {
	if raw == "" {
		return address{}, fail(ErrNotFound, "the url is empty", "give the https:// url of a repository")
	}
	if !strings.Contains(raw, "://") {
		return address{}, refuseWithoutScheme(raw)
	}
	u, err := url.Parse(raw)
	if err != nil { // its text repeats the URL with the credentials
		return address{}, fail(ErrNotFound, "the url cannot be parsed", "special characters in it must be percent-encoded")
	}
	switch strings.ToLower(u.Scheme) {
	case "http", "https":
	case "file":
		return address{}, refuseLocal()
	default:
		return address{}, fail(ErrNotFound, "the url scheme "+printable(u.Scheme, 20)+":// is not supported", "use https://")
	}
	if u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return address{}, fail(ErrNotFound, "the url is not that of a repository",
			"use the form https://host/path.git, without query or fragment")
	}
	var creds credentials
	if u.User != nil {
		creds.username = u.User.Username()
		creds.password, _ = u.User.Password()
	}
	u.User = nil
	return address{url: u.String(), creds: creds}, nil
}

// refuseWithoutScheme explains what is wrong with a URL that names no protocol.
func refuseWithoutScheme(raw string) error {
	host, path, scp := strings.Cut(raw, ":")
	if scp && path != "" && !strings.ContainsAny(host, `/\`) && len(host) > 1 {
		return fail(ErrNotFound, "ssh is not supported", "use the repository's https:// url")
	}
	if filepath.IsAbs(raw) || strings.HasPrefix(raw, ".") || strings.HasPrefix(raw, "~") {
		return refuseLocal()
	}
	return fail(ErrNotFound, "the url names no protocol", "begin it with https://")
}

// refuseLocal exists because go-git reads local repositories by running the git
// program, which Holdfast's image does not have and should not run.
func refuseLocal() error {
	return fail(ErrNotFound, "local paths and file:// urls are not supported for a git source",
		"follow a local folder as a source of type dir")
}
