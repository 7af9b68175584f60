// Package forge knows the hosts that repositories live on: which of them an
// address is one of, and where their pages about commits, files and comparisons
// are. All of it is pure: nothing here talks to anybody.
//
// What is said to a host is in the package statuses below this one.
package forge

import (
	"net/url"
	"slices"
	"strings"
)

// Kind is what a host runs.
type Kind string

// The hosts that are known. Gitea is also Forgejo.
const (
	GitHub          Kind = "github"
	GitLab          Kind = "gitlab"
	Gitea           Kind = "gitea"
	Bitbucket       Kind = "bitbucket"
	BitbucketServer Kind = "bitbucket-server"
	AzureDevOps     Kind = "azure-devops"
)

// Kinds are all of them, as they are written in the daemon's file.
var Kinds = []string{
	string(GitHub), string(GitLab), string(Gitea), string(Bitbucket), string(BitbucketServer), string(AzureDevOps),
}

// publicHosts are those whose kind is known by their name, and the name of their
// web pages.
var publicHosts = map[string]struct {
	kind Kind
	web  string
}{
	"github.com":              {GitHub, "github.com"},
	"ssh.github.com":          {GitHub, "github.com"},
	"gitlab.com":              {GitLab, "gitlab.com"},
	"altssh.gitlab.com":       {GitLab, "gitlab.com"},
	"codeberg.org":            {Gitea, "codeberg.org"},
	"gitea.com":               {Gitea, "gitea.com"},
	"bitbucket.org":           {Bitbucket, "bitbucket.org"},
	"altssh.bitbucket.org":    {Bitbucket, "bitbucket.org"},
	"dev.azure.com":           {AzureDevOps, "dev.azure.com"},
	"ssh.dev.azure.com":       {AzureDevOps, "dev.azure.com"},
	"vs-ssh.visualstudio.com": {AzureDevOps, "dev.azure.com"},
}

// Repo is one repository on a host. The zero Repo has no pages.
type Repo struct {
	Kind Kind
	// Page is the address of its page, without a slash at the end.
	Page string
	// Host is the address of the host's pages, and with it the path where the
	// host is not at the root.
	Host string
	// Path is what the repository is called there: owner and name, or groups and
	// name; of Azure DevOps organisation, project and name. It is empty where only
	// the page is known.
	Path []string
}

// Locate finds the repository of an address that git uses, over http or ssh. Kind
// may be empty where the host's name tells it, and page where it can be derived.
// It is false where the kind is not known or the address fits no such host.
func Locate(address, kind, page string) (Repo, bool) {
	host, scheme, path, ok := split(address)
	if !ok {
		return Repo{}, false
	}
	name := strings.ToLower(hostname(host))
	known := publicHosts[name]
	switch {
	case known.kind != "":
		host = known.web
	case strings.HasSuffix(name, ".visualstudio.com"):
		known.kind = AzureDevOps
	case strings.HasSuffix(name, ".ghe.com"):
		known.kind = GitHub
	}
	r := Repo{Kind: Kind(kind)}
	if kind == "" {
		r.Kind = known.kind
	}
	if !slices.Contains(Kinds, string(r.Kind)) || !r.place(scheme+"://"+host, name, path) && page == "" {
		return Repo{}, false
	}
	if page != "" {
		r.Page = strings.TrimRight(page, "/")
	}
	if !Web(r.Page) {
		return Repo{}, false
	}
	return r, true
}

// Web reports whether an address is one that a browser may be led to: http or
// https, with a host and without credentials.
func Web(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil
}

// split parts an address of git in host, with the port of a web server where there
// is one, the scheme of its pages, and path. Credentials are left behind.
func split(address string) (host, scheme string, path []string, ok bool) {
	if !strings.Contains(address, "://") {
		before, rest, found := strings.Cut(address, ":")
		if i := strings.LastIndex(before, "@"); i >= 0 {
			before = before[i+1:]
		}
		path = segments(rest)
		return before, "https", path, found && plainHost(before) && path != nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return "", "", nil, false
	}
	path = segments(u.Path)
	switch strings.ToLower(u.Scheme) {
	case "http", "https":
		return u.Host, strings.ToLower(u.Scheme), path, path != nil
	case "ssh": // its port is not that of the pages
		host = u.Hostname()
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		return host, "https", path, path != nil
	}
	return "", "", nil, false
}

func plainHost(host string) bool {
	return host != "" && !strings.ContainsAny(host, "/\\@?#[]% ") && !strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

// segments are the parts of a repository's path; nil for a path that leads
// elsewhere.
func segments(path string) []string {
	path = strings.TrimSuffix(strings.Trim(path, "/"), ".git")
	if path == "" {
		return nil
	}
	parts := strings.Split(path, "/")
	for _, p := range parts {
		if p == "" || p == "." || p == ".." {
			return nil
		}
	}
	return parts
}

func hostname(host string) string {
	u := url.URL{Host: host}
	return u.Hostname()
}

// place fills in where the repository is, for its kind.
func (r *Repo) place(root, name string, path []string) bool {
	r.Host = root
	switch r.Kind {
	case AzureDevOps:
		return r.azure(root, name, path)
	case BitbucketServer:
		// Its http addresses have scm before project and name, perhaps below a path.
		if i := slices.Index(path, "scm"); i >= 0 && len(path) == i+3 {
			r.Host, path = join(root, path[:i]...), path[i+1:]
		}
		if len(path) != 2 {
			return false
		}
		r.Path = path
		r.Page = join(r.Host, "projects", path[0], "repos", path[1])
		if user, ok := strings.CutPrefix(path[0], "~"); ok {
			r.Page = join(r.Host, "users", user, "repos", path[1])
		}
		return true
	}
	if len(path) < 2 {
		return false
	}
	if n := len(path) - 2; n > 0 && r.Kind != GitLab { // the host is below a path
		r.Host, path = join(root, path[:n]...), path[n:]
	}
	r.Path = path
	r.Page = join(r.Host, path...)
	return true
}

// azure knows the forms of Azure DevOps: organisation, project and name, where the
// project may be left out if it is called as the repository.
func (r *Repo) azure(root, name string, path []string) bool {
	if i := slices.Index(path, "_git"); i >= 0 {
		if len(path) != i+2 {
			return false
		}
		before, repo := path[:i], path[i+1]
		if org, ok := strings.CutSuffix(name, ".visualstudio.com"); ok {
			if len(before) > 0 && strings.EqualFold(before[0], "DefaultCollection") {
				before = before[1:]
			}
			before = append([]string{org}, before...)
			root = "https://dev.azure.com"
		}
		if len(before) == 0 {
			return false
		}
		if len(before) == 1 {
			before = []string{before[0], repo}
		}
		if n := len(before) - 2; n > 0 { // a server's collections are below a path
			root, before = join(root, before[:n]...), before[n:]
		}
		r.Host, r.Path = root, []string{before[0], before[1], repo}
	} else if len(path) == 4 && path[0] == "v3" {
		r.Path = path[1:]
	} else {
		return false
	}
	r.Page = join(r.Host, r.Path[0], r.Path[1], "_git", r.Path[2])
	return true
}

// join puts escaped parts behind an address.
func join(base string, parts ...string) string {
	var b strings.Builder
	b.WriteString(strings.TrimRight(base, "/"))
	for _, p := range parts {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(p))
	}
	return b.String()
}
