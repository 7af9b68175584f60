package gitrepo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// maxPointer bounds the file that Git LFS commits in place of another:
// https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
const maxPointer = 1024

// pointer is what such a file says.
type pointer struct {
	oid  string
	size int64
}

// isLFSPointer recognizes what Git LFS commits in place of a file. Taking it
// for the file itself would apply garbage.
func isLFSPointer(b []byte) bool {
	return len(b) < maxPointer && bytes.HasPrefix(b, []byte("version https://git-lfs.github.com/spec/"))
}

// parsePointer reads a pointer of version 1: lines of a key, a blank and a value,
// sorted but for the first.
func parsePointer(b []byte) (pointer, error) {
	var p pointer
	if !isLFSPointer(b) {
		return p, errors.New("it is no Git LFS pointer")
	}
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if lines[0] != "version https://git-lfs.github.com/spec/v1" {
		return p, errors.New("the Git LFS pointer is of an unknown version")
	}
	sized := false
	for _, line := range lines[1:] {
		key, value, ok := strings.Cut(line, " ")
		switch {
		case !ok:
			return p, errors.New("the Git LFS pointer is malformed")
		case strings.HasPrefix(key, "ext-"):
			return p, errors.New("the Git LFS pointer needs an extension, which is a program")
		case key == "oid" && p.oid == "":
			p.oid, ok = strings.CutPrefix(value, "sha256:")
			if !ok || !isSHA256(p.oid) {
				return p, errors.New("the Git LFS pointer has no sha256 digest")
			}
		case key == "size" && !sized:
			size, err := parseSize(value)
			if err != nil {
				return p, err
			}
			p.size, sized = size, true
		default:
			return p, errors.New("the Git LFS pointer is malformed")
		}
	}
	if p.oid == "" || !sized {
		return p, errors.New("the Git LFS pointer is malformed")
	}
	return p, nil
}

func isSHA256(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

func parseSize(s string) (int64, error) {
	var n int64
	if s == "" || len(s) > 18 {
		return 0, errors.New("the Git LFS pointer has no size")
	}
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, errors.New("the Git LFS pointer has no size")
		}
		n = n*10 + int64(c-'0')
	}
	return n, nil
}

// large gives the file that a pointer stands for, from the mirror's folder or
// from the server.
func (r *Repo) large(content []byte) ([]byte, error) {
	p, err := parsePointer(content)
	if err != nil {
		return nil, err
	}
	if p.size > r.opts.Limits.FileBytes {
		return nil, fail(ErrTooLarge, fmt.Sprintf("%d bytes exceed the limit of %d", p.size, r.opts.Limits.FileBytes), "")
	}
	store := r.mirror.lfs
	store.fetching.Lock()
	defer store.fetching.Unlock()
	if b := store.get(p); b != nil {
		return b, nil
	}
	// Whoever reads the file waits for this; there is no context to come with it.
	ctx, cancel := context.WithTimeout(context.Background(), 10*r.opts.Timeout)
	defer cancel()
	b, err := r.download(ctx, p)
	if err != nil {
		return nil, r.explain(ctx, "fetch the file from Git LFS of", err)
	}
	return b, store.put(p, b, r.opts.room())
}

const (
	lfsMedia = "application/vnd.git-lfs+json"
	// maxBatch bounds the server's answer about one file.
	maxBatch = 1 << 20
	// maxRedirects bounds how often a server may send us on.
	maxRedirects = 5
)

// batchRequest and batchAnswer are those of the batch API:
// https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md
type batchRequest struct {
	Operation string        `json:"operation"`
	Transfers []string      `json:"transfers"`
	Objects   []batchObject `json:"objects"`
	Hash      string        `json:"hash_algo"`
}

type batchObject struct {
	OID     string `json:"oid"`
	Size    int64  `json:"size"`
	Actions *struct {
		Download *batchAction `json:"download"`
	} `json:"actions,omitempty"`
	Error *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

type batchAction struct {
	Href   string            `json:"href"`
	Header map[string]string `json:"header"`
}

type batchAnswer struct {
	Transfer string        `json:"transfer"`
	Objects  []batchObject `json:"objects"`
	Message  string        `json:"message"`
}

// download gets one file from the server.
func (r *Repo) download(ctx context.Context, p pointer) ([]byte, error) {
	if r.origin.addr.scheme == "ssh" {
		return nil, fail(ErrUnreachable, "files of Git LFS are not fetched over ssh", "use the repository's https:// url")
	}
	creds, err := r.origin.keys.read(ctx)
	if err != nil {
		return nil, err
	}
	client, err := r.plainClient()
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	action, err := r.batch(ctx, client, creds, p)
	if err != nil {
		return nil, err
	}
	req, err := r.actionRequest(ctx, action, creds)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, lfsRefusal(resp)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, p.size+1))
	if err != nil {
		return nil, err
	}
	if !p.matches(b) {
		return nil, fail(ErrUnreachable, "what the server sent is not the file that the pointer names", "")
	}
	return b, nil
}

// plainClient speaks with the same certificates and through the same proxy as
// git does. It goes nowhere that is less protected than where it was sent.
func (r *Repo) plainClient() (*http.Client, error) {
	m, err := readMaterial(r.opts)
	if err != nil {
		return nil, err
	}
	client, err := m.client()
	if err != nil {
		return nil, err
	}
	if g, ok := client.Transport.(*guard); ok {
		client.Transport = g.base
	}
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		switch {
		case len(via) > maxRedirects:
			return errors.New("too many redirects")
		case via[0].URL.Scheme == "https" && req.URL.Scheme != "https":
			return errors.New("a redirect leads from https to http")
		}
		return nil
	}
	return client, nil
}

// lfsEndpoint is where a server answers for the files of a repository.
func lfsEndpoint(repo string) string {
	repo = strings.TrimRight(repo, "/")
	if !strings.HasSuffix(repo, ".git") {
		repo += ".git"
	}
	return repo + "/info/lfs/objects/batch"
}

// batch asks where a file can be had.
func (r *Repo) batch(ctx context.Context, client *http.Client, creds *credentials, p pointer) (*batchAction, error) {
	body, err := json.Marshal(batchRequest{
		Operation: "download", Transfers: []string{"basic"}, Hash: "sha256",
		Objects: []batchObject{{OID: p.oid, Size: p.size}},
	})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, lfsEndpoint(r.origin.addr.url), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", lfsMedia)
	req.Header.Set("Content-Type", lfsMedia)
	creds.authorize(req)
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, lfsRefusal(resp)
	}
	var answer batchAnswer
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBatch)).Decode(&answer); err != nil {
		return nil, fail(ErrUnreachable, "the answer is not that of a Git LFS server", "")
	}
	return answer.action(p)
}

func (a batchAnswer) action(p pointer) (*batchAction, error) {
	if a.Transfer != "" && a.Transfer != "basic" {
		return nil, fail(ErrUnreachable, fmt.Sprintf("the server wants to send files by %q, which is not supported", printable(a.Transfer, 40)), "")
	}
	for _, o := range a.Objects {
		switch {
		case o.OID != p.oid:
		case o.Error != nil:
			return nil, fail(ErrNotFound, fmt.Sprintf("the server has no file %s: %s", p.oid[:12], printable(o.Error.Message, 200)), "push it with git lfs push --all")
		case o.Actions != nil && o.Actions.Download != nil:
			return o.Actions.Download, nil
		}
	}
	return nil, fail(ErrNotFound, fmt.Sprintf("the server does not say where the file %s is", p.oid[:12]), "")
}

// actionRequest asks for the file itself. Our credentials go along only to the
// repository's own host; what the server says to send, is meant for that place.
func (r *Repo) actionRequest(ctx context.Context, a *batchAction, creds *credentials) (*http.Request, error) {
	u, err := url.Parse(a.Href)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fail(ErrUnreachable, "the server names no http address for the file", "")
	}
	if r.origin.addr.scheme == "https" && u.Scheme != "https" {
		return nil, fail(ErrUnreachable, "the server names an address for the file that is not protected as its own is", "")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for name, value := range a.Header {
		req.Header.Set(name, value)
	}
	own := address{scheme: u.Scheme, url: (&url.URL{Scheme: u.Scheme, Host: u.Host}).String()}
	if len(a.Header) == 0 && sameHost(own, r.origin.addr) {
		creds.authorize(req)
	}
	return req, nil
}

func lfsRefusal(resp *http.Response) error {
	text := fmt.Sprintf("the Git LFS server answers %d %s", resp.StatusCode, strings.ToLower(http.StatusText(resp.StatusCode)))
	var answer batchAnswer
	excuse, _ := io.ReadAll(io.LimitReader(resp.Body, maxExcuse)) // an addition, no loss without it
	if json.Unmarshal(excuse, &answer) == nil && answer.Message != "" {
		text += ": " + printable(answer.Message, 200)
	}
	kind := ErrUnreachable
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		kind = ErrAuth
	case http.StatusNotFound:
		kind = ErrNotFound
	}
	return fail(kind, text, "")
}
