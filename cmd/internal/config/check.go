package config

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

var (
	logLevels  = []string{"trace", "debug", "info", "warn", "error"}
	logFormats = []string{"auto", "json", "console"}
)

// label is a DNS label, which names of sources, targets and namespaces are.
var label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

const labelHint = "at most 63 lower case letters, digits and dashes"

func (d *decoder) labelField(key, what string, into *string) yamldoc.Field {
	return on(key, func(n *yamldoc.Node) {
		if d.Text(n, what+key, into) && !label.MatchString(*into) {
			d.Fail(n, fmt.Sprintf("%s %q is not a valid name", what+key, *into), labelHint)
		}
	})
}

// unique checks that a thing has a name that no other of its kind has.
func (d *decoder) unique(thing *yamldoc.Node, name *string, what string, seen map[string]int) {
	at := d.At[name]
	if at == nil {
		if thing.Kind == yamldoc.Mapping && thing.Get("name") == nil {
			d.Fail(thing, what+" has no name", "names are "+labelHint)
		}
		return
	}
	if first, twice := seen[*name]; twice {
		d.Fail(at, fmt.Sprintf("%s.name %q is already used at line %d", what, *name, first), "")
		return
	}
	seen[*name] = at.Line
}

// checkDirectory refuses what only makes sense for a cluster.
func (d *decoder) checkDirectory(n *yamldoc.Node, t *Target, what string) {
	if t.Directory == "" {
		return
	}
	if t.Kubeconfig != "" || t.Context != "" || t.StateNamespace != "" || t.Concurrency != DefaultConcurrency || !t.Events || !t.HoldAnnotation {
		d.Fail(n, what+" is a directory, and has keys that are for a cluster", "beside directory, it may have a namespace, which is a folder")
	}
	if t.Directory == "/" {
		d.Fail(n, what+".directory is the whole file system", "name the folder that is to be kept")
	}
}

func (d *decoder) checkSource(n *yamldoc.Node, s *Source, what string) {
	if n.Kind != yamldoc.Mapping {
		return
	}
	switch at := d.At[&s.URL]; {
	case s.URL == "" && s.Dir == "":
		if n.Get("url") == nil && n.Get("dir") == nil {
			d.Fail(n, what+" has neither url nor dir", "url: is a git repository, dir: a local directory")
		}
	case s.URL != "" && s.Dir != "":
		d.Fail(n, what+" has both url and dir", "one source follows one of them")
	case s.OCI():
		d.checkOCI(s, what)
		d.checkNotGit(n, s, what)
	case s.URL != "":
		d.checkNotOCI(s, what)
		d.checkGit(n, s, what)
		if message, hint := checkURL(s.URL); message != "" {
			d.Fail(at, what+".url "+message, hint)
		}
	default:
		d.checkDir(n, s, what)
		d.checkNotGit(n, s, what)
	}
	if at := d.At[&s.Environments]; at != nil {
		if message := checkPattern(s.Environments); message != "" {
			d.Fail(at, what+".environments "+message, "name a folder or a glob, from the root of the source")
		}
	}
}

// checkDir refuses what only makes sense for a repository.
func (d *decoder) checkDir(n *yamldoc.Node, s *Source, what string) {
	if at := d.At[&s.Ref]; at != nil && at == n.Get("ref") {
		d.Fail(at, what+".ref is for a git repository, and this is a directory", "")
	}
	if s.Credentials != (Credentials{}) {
		d.Fail(d.At[&s.Dir], what+" has credentials, and a directory needs none", "")
	}
	if s.Semver != "" || s.CAFile != "" || s.Insecure {
		d.Fail(d.At[&s.Dir], what+" is a directory, which has neither semver, caFile nor insecure", "")
	}
}

// checkURL says what is wrong with the address of a repository. The message
// never repeats the address, which may hold credentials.
func checkURL(raw string) (message, hint string) {
	if isSSH(raw) {
		if err := gitrepo.CheckURL(raw); err != nil {
			return "is wrong: " + err.Error(), ""
		}
		return "", ""
	}
	if !strings.Contains(raw, "://") {
		return "names no protocol", "begin it with https:// or ssh://, or follow a local folder with dir:"
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return "cannot be parsed", "special characters in it must be percent-encoded"
	case u.Scheme == "file":
		return "is a local path", "follow a local folder with dir:"
	case u.Scheme != "https" && u.Scheme != "http":
		return "has a scheme that is not supported", "use https:// or ssh://"
	case u.User != nil:
		return "holds credentials, and this file is no place for them", "use credentials: with a username and a passwordFile, or a tokenFile"
	case u.Host == "" || u.RawQuery != "" || u.Fragment != "":
		return "is not that of a repository", "use the form https://host/path.git, without query or fragment"
	}
	return "", ""
}

func checkPattern(pattern string) string {
	if filepath.IsAbs(pattern) {
		return fmt.Sprintf("%q is absolute", pattern)
	}
	if slices.Contains(strings.Split(pattern, "/"), "..") {
		return fmt.Sprintf("%q leads out of the source", pattern)
	}
	return ""
}

func (d *decoder) checkGrants(c *Config, s *Source) {
	names := make([]string, len(c.Targets))
	for i, t := range c.Targets {
		names[i] = t.Name
	}
	for i := range s.Grants {
		g := &s.Grants[i]
		if slices.Contains(names, g.Target) {
			continue
		}
		at := cmp.Or(d.At[&g.Target], d.At[g])
		d.Fail(at, fmt.Sprintf("there is no target %q", g.Target), "there are: "+strings.Join(names, ", "))
	}
}

// sharedWith reads names of sources, which may stand further down.
func (d *decoder) sharedWith(n *yamldoc.Node, what string) []string {
	entries := d.List(n, what)
	out := make([]string, len(entries))
	for i, e := range entries {
		d.Text(e, fmt.Sprintf("%s[%d]", what, i), &out[i])
	}
	return out
}

func (d *decoder) checkShared(c *Config, s *Source) {
	names := make([]string, len(c.Sources))
	for i, other := range c.Sources {
		names[i] = other.Name
	}
	for i := range s.SharedWith {
		at, name := d.At[&s.SharedWith[i]], s.SharedWith[i]
		if at != nil && name != "*" && !slices.Contains(names, name) {
			d.Fail(at, fmt.Sprintf("there is no source %q", name), yamldoc.Suggest(name, names))
		}
	}
}

func (d *decoder) checkListen(c *Config) {
	at := d.At[&c.Listen]
	if at == nil {
		return
	}
	if message, hint := checkListen(c.Listen, c.AllowNonLoopback); message != "" {
		d.Fail(at, message, hint)
	}
}

// checkListen says what is wrong with an address to listen on. Reads need no
// token, so an address that others can reach has to be asked for twice.
func checkListen(listen string, anywhere bool) (message, hint string) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Sprintf("listen %q is not an address", listen), "write host:port, such as " + DefaultListen
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Sprintf("listen %q has no port from 0 to 65535", listen), "write host:port, such as " + DefaultListen
	}
	if anywhere || isLoopback(host) {
		return "", ""
	}
	return fmt.Sprintf("listen %q can be reached from other machines, and whoever reaches it can read everything unless reads need a token", listen),
		"listen on " + DefaultListen + ", or say allowNonLoopback: true as well"
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// absolute is a path that begins at dir unless it is absolute or at home.
func absolute(dir, path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest)
		}
	}
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}
