package gitrepo

import (
	"net"
	"net/url"
	"path/filepath"
	"strings"
)

// defaultUser is who we are where only a token or a key is configured.
const defaultUser = "git"

// address is where a repository is, split from the user information that people
// put into URLs, so that the URL can be printed.
type address struct {
	// url is the address without user information, scp-like where it was.
	url string
	// scheme is http, https or ssh.
	scheme             string
	username, password string
	// host is that to connect to, host:port, and path what the server is asked
	// for; ssh only.
	host, path string
}

// CheckURL says what is wrong with the address of a repository, without
// repeating it.
func CheckURL(raw string) error {
	_, err := parseAddress(raw)
	return err
}

func parseAddress(raw string) (address, error) {
	if raw == "" {
		return address{}, fail(ErrNotFound, "the url is empty", "give the https:// url of a repository")
	}
	if !strings.Contains(raw, "://") {
		return parseSCP(raw)
	}
	u, err := url.Parse(raw)
	if err != nil { // its text repeats the URL with the credentials
		return address{}, fail(ErrNotFound, "the url cannot be parsed", "special characters in it must be percent-encoded")
	}
	switch strings.ToLower(u.Scheme) {
	case "http", "https", "ssh":
	case "file":
		return address{}, refuseLocal()
	default:
		return address{}, fail(ErrNotFound, "the url scheme "+printable(u.Scheme, 20)+":// is not supported", "use https:// or ssh://")
	}
	if u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" {
		return address{}, fail(ErrNotFound, "the url is not that of a repository",
			"use the form https://host/path.git, without query or fragment")
	}
	a := address{scheme: strings.ToLower(u.Scheme)}
	if u.User != nil {
		a.username = u.User.Username()
		a.password, _ = u.User.Password()
	}
	u.User = nil
	a.url = u.String()
	if a.scheme != "ssh" {
		return a, nil
	}
	path := u.Path
	if strings.HasPrefix(path, "/~") { // ssh://host/~ann/repo is below her home
		path = path[1:]
	}
	return a.overSSH(u.Hostname(), u.Port(), path)
}

// overSSH completes the address of a repository on an SSH server.
func (a address) overSSH(host, port, path string) (address, error) {
	if port == "" {
		port = "22"
	}
	a.host, a.path = net.JoinHostPort(host, port), path
	switch {
	case a.password != "":
		return address{}, fail(ErrNotFound, "the ssh url holds a password", "only keys are used over ssh")
	case strings.Trim(path, "/") == "":
		return address{}, fail(ErrNotFound, "the url names no repository", "use the form ssh://git@host/path.git")
	case host == "" || strings.ContainsAny(host, "[]@/\\'\"<> "):
		return address{}, fail(ErrNotFound, "the url names no host", "use the form ssh://git@host/path.git or git@host:path.git")
	case strings.HasPrefix(path, "-"), strings.HasPrefix(host, "-"):
		return address{}, fail(ErrNotFound, "the url looks like an option", "a path does not begin with a dash")
	case strings.ContainsFunc(host+path+a.username, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return address{}, fail(ErrNotFound, "the url has control characters", "")
	}
	return a, nil
}

// parseSCP reads the form user@host:path, in which ssh urls are mostly written.
func parseSCP(raw string) (address, error) {
	host, path, ok := cutSCP(raw)
	if filepath.IsAbs(raw) || strings.HasPrefix(raw, ".") || strings.HasPrefix(raw, "~") {
		return address{}, refuseLocal()
	}
	if !ok {
		return address{}, fail(ErrNotFound, "the url names no protocol", "begin it with https:// or ssh://")
	}
	a := address{scheme: "ssh"}
	if user, rest, has := strings.Cut(host, "@"); has {
		a.username, host = user, rest
	}
	if user, _, has := strings.Cut(a.username, ":"); has {
		a.username, a.password = user, "refused"
	}
	a.url = host + ":" + path
	return a.overSSH(strings.Trim(host, "[]"), "", path)
}

// cutSCP splits host and path at the colon that is not one of an IPv6 address.
func cutSCP(raw string) (host, path string, ok bool) {
	from := 0
	if open := strings.Index(raw, "["); open >= 0 {
		if end := strings.Index(raw, "]:"); end > open {
			from = end
		}
	} else if at := strings.Index(raw, "@"); at >= 0 {
		from = at
	}
	colon := strings.Index(raw[from:], ":")
	if colon < 0 {
		return "", "", false
	}
	host, path = raw[:from+colon], raw[from+colon+1:]
	return host, path, path != "" && len(host) > 1 && !strings.ContainsAny(host, `/\`)
}

// refuseLocal exists because go-git reads local repositories by running the git
// program, which Holdfast's image does not have and should not run.
func refuseLocal() error {
	return fail(ErrNotFound, "local paths and file:// urls are not supported for a git source",
		"follow a local folder as a source of type dir")
}
