// Package charts fetches Helm charts from repositories and OCI registries.
//
// A chart is fetched by exact version, and only from where the daemon's
// configuration allows it. What was fetched once is kept with its digest, which
// is checked at every use: a version that is published again with other content
// changes nothing here until the cache is wiped.
package charts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/holdfast-gitops/holdfast/sources"
)

// Registry is a place that charts may come from.
type Registry struct {
	// URL is the beginning of the addresses that are allowed: oci://host/path,
	// https://host/path, or http:// where that is meant.
	URL string
	// Username and the file of a password are sent there and nowhere else.
	Username, PasswordFile string
	// Insecure talks http to an OCI registry.
	Insecure bool
}

// Options say where charts come from and where they are kept.
type Options struct {
	// Dir is the folder of the cache.
	Dir string
	// Registries are all that is allowed.
	Registries []Registry
	// MaxBytes bounds an archive. Default: 20 MiB.
	MaxBytes int64
	// MaxIndexBytes bounds the index of a repository. Default: 64 MiB.
	MaxIndexBytes int64
	// Timeout bounds one fetch. Default: one minute.
	Timeout time.Duration
}

// Store fetches and keeps charts. It is safe for concurrent use.
type Store struct {
	o    Options
	base *http.Transport
	// mu lets one fetch at a time be under way: a second for the same chart then
	// finds it kept.
	mu sync.Mutex
}

// Open makes a store. It fetches nothing.
func Open(o Options) (*Store, error) {
	o.MaxBytes = cmp.Or(o.MaxBytes, 20<<20)
	o.MaxIndexBytes = cmp.Or(o.MaxIndexBytes, 64<<20)
	o.Timeout = cmp.Or(o.Timeout, time.Minute)
	for _, r := range o.Registries {
		u, err := url.Parse(r.URL)
		if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || !slices.Contains([]string{"oci", "https", "http"}, u.Scheme) {
			return nil, fmt.Errorf("registry %q: must be oci://, https:// or http:// with a host", r.URL)
		}
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the cache of charts: %w", err)
	}
	return &Store{o: o, base: http.DefaultTransport.(*http.Transport).Clone()}, nil
}

var chartName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// Fetch gives the archive of a chart. What the spec asks for wrongly, or what is
// not there, is a sources.Problem; any other error may pass.
func (s *Store) Fetch(ctx context.Context, repo, chart, version string) ([]byte, error) {
	w, err := s.wanted(repo, chart, version)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if data, ok := s.kept(w); ok {
		return data, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	fetch := s.fromRepository
	if w.repo.Scheme == "oci" {
		fetch = s.fromRegistry
	}
	data, err := fetch(ctx, w)
	if err != nil {
		return nil, err
	}
	if err := s.keep(w, data); err != nil {
		return nil, err
	}
	return data, nil
}

// wanted is one chart, checked.
type wanted struct {
	repo           *url.URL
	chart, version string
	registry       Registry
}

func (w wanted) String() string { return w.chart + " " + w.version + " from " + w.repo.Redacted() }

func (s *Store) wanted(repo, chart, version string) (wanted, error) {
	u, err := url.Parse(repo)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return wanted{}, problem("repo must be an address without credentials or a query", "such as https://charts.example.com or oci://ghcr.io/org/charts")
	}
	if !chartName.MatchString(path.Base(chart)) || strings.Contains(chart, "..") || path.IsAbs(chart) {
		return wanted{}, problem(fmt.Sprintf("chart %q is not the name of a chart", chart), "")
	}
	if _, err := semver.StrictNewVersion(strings.TrimPrefix(version, "v")); err != nil {
		return wanted{}, problem(fmt.Sprintf("version %q is not an exact version", version), "such as 1.2.3: a range would be another chart tomorrow")
	}
	r, ok := s.allowed(u)
	if !ok {
		return wanted{}, problem(fmt.Sprintf("charts from %s are not allowed by the daemon's configuration", u), "add it under charts.registries")
	}
	return wanted{u, chart, version, r}, nil
}

// allowed is the longest registry that an address begins with, step by step.
func (s *Store) allowed(u *url.URL) (best Registry, ok bool) {
	if strings.Contains(u.EscapedPath(), "..") || strings.Contains(u.EscapedPath(), "%") {
		return best, false
	}
	for _, r := range s.o.Registries {
		a, err := url.Parse(r.URL)
		if err != nil || a.Scheme != u.Scheme || !strings.EqualFold(a.Host, u.Host) {
			continue
		}
		prefix := strings.TrimSuffix(a.Path, "/")
		if u.Path != prefix && !strings.HasPrefix(u.Path, prefix+"/") {
			continue
		}
		if !ok || len(r.URL) > len(best.URL) {
			best, ok = r, true
		}
	}
	return best, ok
}

func problem(message, hint string) error {
	return sources.Problem{Message: message, Hint: hint}
}

// password is read for each fetch, so that a rotated one counts.
func (r Registry) password() (string, error) {
	if r.PasswordFile == "" {
		return "", nil
	}
	info, err := os.Stat(r.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("read the password of %s: %w", r.URL, err)
	}
	if info.Size() > 1<<16 {
		return "", fmt.Errorf("read the password of %s: the file is too large", r.URL)
	}
	text, err := os.ReadFile(r.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("read the password of %s: %w", r.URL, err)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

var errTooLarge = errors.New("is larger than allowed")
