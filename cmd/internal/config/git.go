package config

import (
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// SSH says with which keys to go to a repository's SSH server, and which servers
// to trust. What it leaves empty is what the ssh program would use.
type SSH struct {
	KeyFiles []string `json:"keyFiles,omitempty"`
	// PassphraseFile is for those of the keys that are encrypted.
	PassphraseFile string `json:"passphraseFile,omitempty"`
	// Agent is the socket of an SSH agent.
	Agent          string `json:"agent,omitempty"`
	KnownHostsFile string `json:"knownHostsFile,omitempty"`
}

// Proxy is what a repository is reached through.
type Proxy struct {
	// URL is http://, https:// or socks5://.
	URL          string `json:"url,omitempty"`
	Username     string `json:"username,omitempty"`
	PasswordFile string `json:"passwordFile,omitempty"`
}

// GitHubApp says how to get tokens as an installation of a GitHub App.
type GitHubApp struct {
	// AppID is the app's id or client id.
	AppID string `json:"appID,omitempty"`
	// InstallationID may be left out: the installation that has the repository
	// is then asked for.
	InstallationID string `json:"installationID,omitempty"`
	PrivateKeyFile string `json:"privateKeyFile,omitempty"`
	// BaseURL is that of the API; empty is GitHub's own.
	BaseURL string `json:"baseURL,omitempty"`
}

// refKeys are the keys of which one says what of a repository is followed.
var refKeys = []string{"ref", "branch", "tag", "commit", "semver"}

// gitFields are the keys of a source that only a git repository has.
func (d *decoder) gitFields(what string, s *Source) []yamldoc.Field {
	return []yamldoc.Field{
		d.refField("branch", what, "refs/heads/", s),
		d.refField("tag", what, "refs/tags/", s),
		d.refField("commit", what, "", s),
		d.pathField("certFile", what+".", &s.CertFile),
		d.pathField("keyFile", what+".", &s.KeyFile),
		on("ssh", func(n *yamldoc.Node) { d.ssh(n, what+".ssh.", &s.SSH) }),
		on("proxy", func(n *yamldoc.Node) { d.proxy(n, what+".proxy", &s.Proxy) }),
	}
}

// refField reads a ref of one kind, which becomes the full name.
func (d *decoder) refField(key, what, prefix string, s *Source) yamldoc.Field {
	return on(key, func(n *yamldoc.Node) {
		var name string
		if !d.Text(n, what+"."+key, &name) {
			return
		}
		switch {
		case prefix == "" && !commitID.MatchString(name):
			d.Fail(n, fmt.Sprintf("%s.%s %q is not the id of a commit", what, key, name), "write all its 40 digits, in lower case")
		case prefix != "" && strings.HasPrefix(name, "refs/"):
			d.Fail(n, fmt.Sprintf("%s.%s %q is a full name", what, key, name), "leave out "+prefix+", or write it as ref:")
		case prefix != "" && !refName.MatchString(name):
			d.Fail(n, fmt.Sprintf("%s.%s %q cannot be the name of one", what, key, name), "")
		}
		s.Ref, d.At[&s.Ref] = prefix+name, n
	})
}

var (
	commitID = regexp.MustCompile(`^[0-9a-f]{40}$`)
	// refName is what git allows, roughly: a server says the rest.
	refName = regexp.MustCompile(`^[^\x00-\x20\x7f~^:?*\[\\]+$`)
)

func (d *decoder) ssh(n *yamldoc.Node, what string, s *SSH) {
	d.Mapping(n, strings.TrimSuffix(what, "."),
		on("keyFile", func(n *yamldoc.Node) { s.KeyFiles = append(s.KeyFiles, d.keyPaths(what+"keyFile", n)...) }),
		on("keyFiles", func(n *yamldoc.Node) {
			s.KeyFiles = append(s.KeyFiles, d.keyPaths(what+"keyFiles", d.List(n, what+"keyFiles")...)...)
		}),
		d.pathField("passphraseFile", what, &s.PassphraseFile),
		d.pathField("agent", what, &s.Agent),
		d.pathField("knownHostsFile", what, &s.KnownHostsFile),
	)
	if s.PassphraseFile != "" && len(s.KeyFiles) == 0 {
		d.Fail(n, what+"passphraseFile is for a key, and none is named", "")
	}
}

func (d *decoder) keyPaths(what string, nodes ...*yamldoc.Node) []string {
	var out []string
	for _, n := range nodes {
		var path string
		if d.Text(n, what, &path) {
			out = append(out, absolute(d.dir, path))
		}
	}
	return out
}

func (d *decoder) proxy(n *yamldoc.Node, what string, p *Proxy) {
	before := len(d.Problems)
	d.Mapping(n, what,
		d.textField("url", what+".", &p.URL),
		d.textField("username", what+".", &p.Username),
		d.pathField("passwordFile", what+".", &p.PasswordFile),
	)
	if len(d.Problems) > before {
		return
	}
	at := cmp.Or(d.At[&p.URL], n)
	u, err := url.Parse(p.URL)
	switch {
	case p.URL == "":
		d.Fail(n, what+" has no url", "write http://host:port or socks5://host:port")
	case err != nil || u.Hostname() == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme):
		d.Fail(at, what+".url is not that of a proxy", "write http://host:port or socks5://host:port")
	case u.User != nil:
		d.Fail(at, what+".url holds credentials, and this file is no place for them", "use username and passwordFile")
	case (p.Username == "") != (p.PasswordFile == ""):
		d.Fail(n, what+" needs both username and passwordFile, or neither", "")
	}
}

func (d *decoder) gitHubApp(n *yamldoc.Node, what string, a *GitHubApp) {
	before := len(d.Problems)
	d.Mapping(n, what,
		d.idField("appID", what+".", &a.AppID),
		d.idField("installationID", what+".", &a.InstallationID),
		d.pathField("privateKeyFile", what+".", &a.PrivateKeyFile),
		d.textField("baseURL", what+".", &a.BaseURL),
	)
	if len(d.Problems) == before && (a.AppID == "" || a.PrivateKeyFile == "") {
		d.Fail(n, what+" needs appID and privateKeyFile", "")
	}
	if at := d.At[&a.BaseURL]; at != nil {
		u, err := url.Parse(a.BaseURL)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil {
			d.Fail(at, what+".baseURL is not the url of an API", "write it as https://host/api/v3")
		}
	}
}

// idField reads an id, which people write as a number or in quotes.
func (d *decoder) idField(key, what string, into *string) yamldoc.Field {
	return on(key, func(n *yamldoc.Node) {
		if n.Also() {
			return
		}
		if n.Kind == yamldoc.Scalar && digits.MatchString(n.Value) {
			*into = n.Value
			return
		}
		d.Text(n, what+key, into)
	})
}

var digits = regexp.MustCompile(`^[0-9]{1,20}$`)

// checkGit checks what has to do with more than one key of a repository.
func (d *decoder) checkGit(n *yamldoc.Node, s *Source, what string) {
	var named []string
	for _, key := range refKeys {
		if v := n.Get(key); v != nil && !v.IsNull() {
			named = append(named, key)
		}
	}
	if len(named) > 1 {
		d.Fail(n, what+" has "+strings.Join(named, " and "), "one of "+strings.Join(refKeys, ", ")+" is followed")
	}
	if at := d.At[&s.Semver]; at != nil {
		if err := gitrepo.CheckSemver(s.Semver); err != nil {
			d.Fail(at, what+".semver "+err.Error(), "")
		}
	}
	at := d.At[&s.URL]
	ssh := isSSH(s.URL)
	switch {
	case ssh && (s.Credentials != Credentials{} || s.CAFile != "" || s.CertFile != ""):
		d.Fail(at, what+" is reached over ssh, which has neither credentials, caFile nor certFile", "keys are under ssh:, the user is in the url")
	case !ssh && !s.SSH.empty():
		d.Fail(at, what+" is not reached over ssh, and has keys for it", "use credentials:, or the ssh:// url of the repository")
	case (s.CertFile == "") != (s.KeyFile == ""):
		d.Fail(at, what+" needs both certFile and keyFile, or neither", "")
	}
}

func (s SSH) empty() bool {
	return len(s.KeyFiles) == 0 && s.PassphraseFile == "" && s.Agent == "" && s.KnownHostsFile == ""
}

// checkNotGit refuses what only makes sense for a repository.
func (d *decoder) checkNotGit(n *yamldoc.Node, s *Source, what string) {
	for _, key := range []string{"branch", "tag", "commit", "certFile", "keyFile", "ssh", "proxy"} {
		if k, _ := n.Entry(key); k != nil {
			hint := ""
			if s.OCI() && key == "tag" {
				hint = "name a tag of an artifact with ref:"
			}
			d.Fail(k, what+"."+key+" is for a git repository, and this is none", hint)
		}
	}
	if file := &s.Credentials.BearerTokenFile; *file != "" {
		d.Fail(cmp.Or(d.At[file], n), what+".credentials.bearerTokenFile is for a git repository, and this is none", "")
	}
	if s.Credentials.GitHubApp != (GitHubApp{}) {
		d.Fail(n, what+".credentials.githubApp is for a git repository, and this is none", "")
	}
}

// isSSH tells whether an address is one of an SSH server: ssh://… or
// user@host:path.
func isSSH(raw string) bool {
	if scheme, _, ok := strings.Cut(raw, "://"); ok {
		return strings.EqualFold(scheme, "ssh")
	}
	host, path, ok := strings.Cut(raw, ":")
	return ok && path != "" && len(host) > 1 && !strings.ContainsAny(host, `/\`)
}

// Git are the options of a source that is a git repository, without those that
// depend on the daemon: the folder of the mirror.
func (s Source) Git() gitrepo.Options {
	o := gitrepo.Options{
		Name: s.Name, URL: s.URL, Ref: s.Ref, Semver: s.Semver, Timeout: s.Timeout,
		Username: s.Credentials.Username, PasswordFile: cmp.Or(s.Credentials.PasswordFile, s.Credentials.TokenFile),
		BearerFile: s.Credentials.BearerTokenFile,
		CAFile:     s.CAFile, CertFile: s.CertFile, KeyFile: s.KeyFile,
		SSH:   gitrepo.SSH(s.SSH),
		Proxy: gitrepo.Proxy(s.Proxy),
	}
	if app := s.Credentials.GitHubApp; app != (GitHubApp{}) {
		o.GitHubApp = &gitrepo.GitHubApp{
			ID: app.AppID, Installation: app.InstallationID, KeyFile: app.PrivateKeyFile, BaseURL: app.BaseURL,
		}
	}
	return o
}
