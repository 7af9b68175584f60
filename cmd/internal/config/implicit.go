package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// GrantScope is what the one environment of the form without a file may touch.
type GrantScope string

// The scopes: the namespace of the kubeconfig context, or everything.
const (
	GrantNamespace GrantScope = "namespace"
	GrantCluster   GrantScope = "cluster"
)

// ImplicitOptions are what is said on the command line instead of in a file.
type ImplicitOptions struct {
	// Repo is the URL of a git repository or an OCI artifact, or an existing local
	// directory.
	Repo string
	// Ref is a branch, a tag or a commit; empty is the default branch.
	Ref string
	// Path is the folder to apply, from the root of the repository. Default: ".".
	Path string
	// Kubeconfig and Context are as for kubectl.
	Kubeconfig, Context string
	// Grant defaults to GrantNamespace.
	Grant GrantScope
	// Interval is how often the source is looked at; zero has a default.
	Interval time.Duration
}

// Implicit is the configuration of the form without a file: one source, one
// environment, one target.
func Implicit(o ImplicitOptions) (Config, error) {
	clean, err := cleanPath(o.Path)
	if err != nil {
		return Config{}, err
	}
	s := Source{Ref: o.Ref, Interval: cmp.Or(o.Interval, DefaultInterval), Timeout: DefaultTimeout}
	if s.Interval < minInterval {
		return Config{}, sources.Problem{Message: fmt.Sprintf("--interval is %s, and must be at least %s", s.Interval, minInterval)}
	}
	base, err := s.locate(o.Repo)
	if err != nil {
		return Config{}, err
	}
	grant, err := grantOf(cmp.Or(o.Grant, GrantNamespace))
	if err != nil {
		return Config{}, err
	}
	name := base
	if clean != "." {
		name = path.Base(clean)
	}
	s.Name, s.Grants = Slug(base), []Grant{grant}
	spec := environment.New(Slug(name))
	spec.Path, spec.Target = clean, DefaultTarget
	s.Implicit = &spec
	t := defaultTarget()
	t.Context = o.Context
	if o.Kubeconfig != "" {
		if t.Kubeconfig, err = filepath.Abs(o.Kubeconfig); err != nil {
			return Config{}, fmt.Errorf("find %s: %w", o.Kubeconfig, err)
		}
	}
	c := defaults()
	c.Targets, c.Sources = []Target{t}, []Source{s}
	return c, nil
}

// locate sets the source's URL or directory, and returns what to name it after.
func (s *Source) locate(repo string) (base string, err error) {
	if repo == "" {
		return "", sources.Problem{Message: "--repo is empty", Hint: "give the https:// url of a repository, the oci:// url of an artifact, or a local directory"}
	}
	if !strings.Contains(repo, "://") {
		if info, err := os.Stat(repo); err == nil {
			return s.locateDir(repo, info)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("look at %s: %w", repo, err)
		}
	}
	if strings.HasPrefix(repo, ociScheme) {
		return s.locateArtifact(repo)
	}
	if message, hint := checkURL(repo); message != "" {
		if !strings.Contains(repo, "://") && !strings.Contains(repo, "@") {
			hint = "it is no existing directory either; " + hint
		}
		hint = strings.ReplaceAll(hint, "follow a local folder with dir:", "name an existing local directory")
		hint = strings.ReplaceAll(hint, "use credentials: with a username and a passwordFile, or a tokenFile", "write a file for --config, with credentials: below the source")
		return "", sources.Problem{Message: "the url of --repo " + strings.ReplaceAll(message, "this file", "the command line"), Hint: hint}
	}
	s.URL = repo
	if isSSH(repo) {
		where := repo[strings.LastIndex(repo, ":")+1:]
		return strings.TrimSuffix(path.Base(strings.Trim(where, "/")), ".git"), nil
	}
	u, err := url.Parse(repo)
	if err != nil { // checkURL parsed it already
		return "", sources.Problem{Message: "the url of --repo cannot be parsed"}
	}
	return cmp.Or(strings.TrimSuffix(path.Base(strings.Trim(u.Path, "/")), ".git"), u.Hostname()), nil
}

func (s *Source) locateDir(repo string, info fs.FileInfo) (base string, err error) {
	abs, err := filepath.Abs(repo)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", repo, err)
	}
	bare := info.IsDir() && isFile(filepath.Join(abs, "HEAD")) && isDir(filepath.Join(abs, "objects"))
	switch {
	case !info.IsDir():
		return "", sources.Problem{File: repo, Message: "is a file", Hint: "--repo is the url of a repository or a directory"}
	case bare:
		return "", sources.Problem{
			File: repo, Message: "is a bare git repository, whose files cannot be read as a directory",
			Hint: "serve it over http(s), or name a directory with the files themselves",
		}
	case s.Ref != "":
		return "", sources.Problem{
			File: repo, Message: "is a local directory, which has no ref: its files are followed as they are",
			Hint: "leave --ref out, or give the url of the repository",
		}
	}
	s.Dir = abs
	return filepath.Base(abs), nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func cleanPath(p string) (string, error) {
	clean := path.Clean(cmp.Or(p, "."))
	if path.IsAbs(clean) || !fs.ValidPath(clean) {
		return "", sources.Problem{
			Message: fmt.Sprintf("--path %q leads out of the repository", p),
			Hint:    "paths begin at the root of the repository, without a slash",
		}
	}
	return clean, nil
}

func grantOf(scope GrantScope) (Grant, error) {
	switch scope {
	case GrantNamespace:
		return Grant{Target: DefaultTarget, ContextNamespace: true}, nil
	case GrantCluster:
		return Grant{Target: DefaultTarget, Namespaces: []string{"*"}, Cluster: true}, nil
	}
	return Grant{}, sources.Problem{
		Message: fmt.Sprintf("--grant %q is not known", scope),
		Hint:    fmt.Sprintf("allowed are %s, %s", GrantNamespace, GrantCluster),
	}
}

var notInLabel = regexp.MustCompile(`[^a-z0-9]+`)

// maxSlug leaves room for the hash that a changed name gets.
const maxSlug = 54

// Slug makes a DNS label of a name. One that had to be changed by more than its
// case ends with a hash of the original, so that two names do not become one.
func Slug(name string) string {
	lower := strings.ToLower(name)
	if label.MatchString(lower) {
		return lower
	}
	s := strings.Trim(notInLabel.ReplaceAllString(lower, "-"), "-")
	s = strings.Trim(s[:min(len(s), maxSlug)], "-")
	sum := sha256.Sum256([]byte(name))
	parts := []string{s, hex.EncodeToString(sum[:4])}
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), "-")
}
