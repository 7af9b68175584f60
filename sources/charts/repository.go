package charts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"go.yaml.in/yaml/v3"
)

// index is what a chart repository says of its charts.
type index struct {
	Entries map[string][]struct {
		Version string   `yaml:"version"`
		URLs    []string `yaml:"urls"`
		Digest  string   `yaml:"digest"`
	} `yaml:"entries"`
}

// fromRepository asks a repository's index where a chart is, and fetches it.
func (s *Store) fromRepository(ctx context.Context, w wanted) ([]byte, error) {
	base := *w.repo
	base.Path = strings.TrimSuffix(base.Path, "/") + "/"
	text, err := s.get(ctx, w, base.JoinPath("index.yaml"), s.o.MaxIndexBytes)
	if err != nil {
		return nil, err
	}
	var all index
	if err := yaml.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("the index of %s is not one of charts", w.repo)
	}
	versions, there := all.Entries[w.chart]
	if !there {
		return nil, problem(fmt.Sprintf("%s has no chart %q", w.repo, w.chart), "")
	}
	for _, v := range versions {
		if v.Version != w.version || len(v.URLs) == 0 {
			continue
		}
		at, err := base.Parse(v.URLs[0])
		if err != nil {
			return nil, problem(fmt.Sprintf("%s names no address for %s %s", w.repo, w.chart, w.version), "")
		}
		if _, ok := s.allowed(at); !ok {
			return nil, problem(fmt.Sprintf("%s keeps the chart at %s, which is not allowed by the daemon's configuration", w.repo, at.Redacted()), "add that address under charts.registries, too")
		}
		data, err := s.get(ctx, w, at, s.o.MaxBytes)
		if err != nil {
			return nil, err
		}
		if want := strings.TrimPrefix(v.Digest, "sha256:"); want != "" && want != digestOf(data) {
			return nil, problem(fmt.Sprintf("%s is not what its repository's index says it is: the digests differ", w), "")
		}
		return data, nil
	}
	return nil, problem(fmt.Sprintf("%s has no version %s of chart %q", w.repo, w.version, w.chart), versionsHint(len(versions)))
}

func versionsHint(n int) string { return fmt.Sprintf("it has %d others", n) }

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// get fetches an address that is allowed. Redirects are followed to where that
// is allowed, too; credentials go only where they belong.
func (s *Store) get(ctx context.Context, w wanted, at *url.URL, limit int64) ([]byte, error) {
	client := &http.Client{Transport: s.base, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) > 5 {
			return errors.New("too many redirects")
		}
		if _, ok := s.allowed(req.URL); !ok {
			return problem("it redirects to "+req.URL.Redacted()+", which is not allowed by the daemon's configuration", "add that address under charts.registries, too")
		}
		req.Header.Del("Authorization")
		return s.authorize(req)
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	if err := s.authorize(req); err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return nil, problem(at.Redacted()+" does not exist", "")
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s answered %s", at.Redacted(), resp.Status)
	}
	return readAll(resp.Body, limit, at.Redacted())
}

func (s *Store) authorize(req *http.Request) error {
	r, ok := s.allowed(req.URL)
	if !ok || r.PasswordFile == "" {
		return nil
	}
	password, err := r.password()
	if err != nil {
		return err
	}
	req.SetBasicAuth(r.Username, password)
	return nil
}

func readAll(r io.Reader, limit int64, what string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	if int64(len(data)) > limit {
		return nil, problem(fmt.Sprintf("%s %v (%d bytes)", what, errTooLarge, limit), "")
	}
	return data, nil
}
