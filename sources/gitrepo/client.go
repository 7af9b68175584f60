package gitrepo

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// maxListing bounds the answer to a listing: about 600,000 refs.
	maxListing = 64 << 20
	// maxExcuse bounds what is read of an error's page.
	maxExcuse = 4 << 10
)

// guard stands between go-git and the network. go-git reads the pages of errors
// without a bound and takes any page for a listing.
type guard struct {
	base *http.Transport
	// known tells that we said to the proxy who we are.
	known bool
}

// CloseIdleConnections is what http.Client looks for.
func (g *guard) CloseIdleConnections() { g.base.CloseIdleConnections() }

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := g.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if seen, ok := req.Context().Value(sightingKey{}).(*sighting); ok {
		seen.at = req.URL
	}
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusNotFound:
		resp.Body = &body{src: resp.Body, left: maxExcuse}
		return resp, nil
	case code == http.StatusProxyAuthRequired:
		resp.Body.Close()
		return nil, proxyRefuses(g.known)
	case code >= 400:
		defer resp.Body.Close()
		return nil, answerRefused(resp)
	case code >= 300:
		// net/http would repeat what it cannot parse, piece by piece.
		if _, err := url.Parse(resp.Header.Get("Location")); err != nil {
			resp.Body.Close()
			return nil, fail(ErrUnreachable, "the server redirects to an address that cannot be parsed", "")
		}
		return resp, nil
	}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); !strings.HasPrefix(kind, "application/x-git-") {
		resp.Body.Close()
		return nil, fail(ErrUnreachable, fmt.Sprintf("the answer is %q, not git's", printable(kind, 60)),
			"check that the url is that of a repository and that no login page or proxy is in between")
	}
	if strings.HasSuffix(req.URL.Path, infoRefs) {
		buffered := bufio.NewReaderSize(resp.Body, 4<<10)
		if seen, ok := req.Context().Value(sightingKey{}).(*sighting); ok {
			head, _ := buffered.Peek(4 << 10) // what is wrong with it shows when it is read
			seen.offers = offered(func(name string) bool {
				return bytes.Contains(head, []byte(" "+name)) || bytes.Contains(head, []byte("\x00"+name))
			})
		}
		resp.Body = &body{src: struct {
			io.Reader
			io.Closer
		}{buffered, resp.Body}, left: maxListing}
	}
	return resp, nil
}

const infoRefs = "/info/refs"

// sighting is what the guard saw of a listing that go-git hides from its
// callers.
type sighting struct {
	offers offers
	// at is the URL that answered, after all redirects.
	at *url.URL
}

// sightingKey is for the context of a listing.
type sightingKey struct{}

func answerRefused(resp *http.Response) error {
	text := fmt.Sprintf("the server answers %d", resp.StatusCode)
	if name := http.StatusText(resp.StatusCode); name != "" {
		text += " " + strings.ToLower(name)
	}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "text/plain" {
		excuse, _ := io.ReadAll(io.LimitReader(resp.Body, maxExcuse)) // an addition, no loss without it
		if s := printable(string(excuse), 200); s != "" && !strings.EqualFold(s, http.StatusText(resp.StatusCode)) {
			text += ": " + s
		}
	}
	hint := ""
	if after := resp.Header.Get("Retry-After"); after != "" {
		hint = "it asks to come back after " + printable(after, 40)
	}
	return fail(ErrUnreachable, text, hint)
}

// body bounds what is read, and at its end reads the little that go-git leaves
// behind: net/http would give up the connection otherwise.
type body struct {
	src  io.ReadCloser
	left int64
}

func (b *body) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fail(ErrTooLarge, fmt.Sprintf("the answer is larger than %d bytes", maxListing), "")
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.src.Read(p)
	b.left -= int64(n)
	return n, err
}

func (b *body) Close() error {
	_, _ = io.CopyN(io.Discard, b.src, 1<<10)
	return b.src.Close()
}

// stall cancels a download that does not move for a while. A total deadline
// would make large repositories impossible behind slow lines.
type stall struct {
	timer   *time.Timer
	timeout time.Duration
	cancel  context.CancelFunc
}

func newStall(ctx context.Context, timeout time.Duration) (context.Context, *stall) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := func() { cancel(context.DeadlineExceeded) }
	return ctx, &stall{timer: time.AfterFunc(timeout, stop), timeout: timeout, cancel: stop}
}

func (s *stall) moved() { s.timer.Reset(s.timeout) }

func (s *stall) stop() {
	s.timer.Stop()
	s.cancel()
}
