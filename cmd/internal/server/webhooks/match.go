package webhooks

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// maxURL bounds the address of a repository.
const maxURL = 2048

// scp is the short form of an ssh address: user@host:path.
var scp = regexp.MustCompile(`^([^/@]+@)?([^/:@]+):([^/].*|/.*)$`)

// otherHosts are names under which a forge is reached, too.
var otherHosts = map[string]string{
	"ssh.github.com": "github.com", "altssh.gitlab.com": "gitlab.com", "altssh.bitbucket.org": "bitbucket.org", "www.github.com": "github.com",
}

// normal is host/path of a repository, the same for all ways to reach it: without
// scheme, user, port and .git, in lower case. It is empty for what is no address.
// Two repositories may look the same at worst, which costs one look.
func normal(raw string) string {
	raw = strings.TrimSpace(raw)
	if len(raw) > maxURL {
		return ""
	}
	if !strings.Contains(raw, "://") {
		m := scp.FindStringSubmatch(raw)
		if m == nil {
			return ""
		}
		raw = "ssh://" + m[2] + "/" + strings.TrimPrefix(m[3], "/")
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if other, ok := otherHosts[host]; ok {
		host = other
	}
	path := strings.Trim(strings.ToLower(u.Path), "/")
	path = strings.TrimSuffix(path, ".git")
	host, path = azure(host, path)
	// The clone address of Bitbucket Server over HTTP.
	path = strings.TrimPrefix(path, "scm/")
	if path == "" {
		return ""
	}
	return host + "/" + path
}

// azure makes one of the three addresses that a repository of Azure DevOps has.
func azure(host, path string) (string, string) {
	switch {
	case host == "ssh.dev.azure.com" || host == "vs-ssh.visualstudio.com":
		return "dev.azure.com", strings.TrimPrefix(path, "v3/")
	case host == "dev.azure.com":
	case strings.HasSuffix(host, ".visualstudio.com"):
		path = strings.TrimSuffix(host, ".visualstudio.com") + "/" + strings.TrimPrefix(path, "defaultcollection/")
		host = "dev.azure.com"
	default:
		return host, path
	}
	return host, strings.Replace(path, "/_git/", "/", 1)
}

// match names the sources that a push is about, in order.
func (e event) match(all []Source) []string {
	wanted := map[string]bool{}
	for _, u := range e.urls {
		if n := normal(u); n != "" {
			wanted[n] = true
		}
	}
	var out []string
	for _, s := range all {
		here := normal(s.URL)
		named := e.source != "" && e.source == s.Name
		same := here != "" && (wanted[here] || e.tail != "" && strings.HasSuffix(here, "/"+e.tail))
		if (named || same) && e.concerns(s) {
			out = append(out, s.Name)
		}
	}
	slices.Sort(out)
	return out
}

// concerns reports whether one of the refs may be what a source follows. In doubt
// it is: a look costs little.
func (e event) concerns(s Source) bool {
	if s.AnyRef || len(e.refs) == 0 {
		return true
	}
	return slices.ContainsFunc(e.refs, func(ref string) bool {
		switch {
		case s.Ref != "":
			return ref == s.Ref || ref == "refs/heads/"+s.Ref || ref == "refs/tags/"+s.Ref || short(ref) == s.Ref
		case e.main != "":
			return short(ref) == e.main
		}
		return strings.HasPrefix(ref, "refs/heads/") || !strings.HasPrefix(ref, "refs/")
	})
}

func short(ref string) string {
	return strings.TrimPrefix(strings.TrimPrefix(ref, "refs/heads/"), "refs/tags/")
}
