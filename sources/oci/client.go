package oci

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// maxMetadata bounds a manifest and a page of tags.
const maxMetadata = 4 << 20

// newClient makes a client of its own for each source, so that certificates and
// connections are not shared between them.
func newClient(o Options) (*http.Client, error) {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = 2
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read certificates: %w", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool() // a minimal image has none
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read certificates from %s: no certificate in it", o.CAFile)
		}
		base.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: &guard{base: base, insecure: o.Insecure}}, nil
}

// guard stands between the registry library and the network. It refuses to leave
// TLS, wherever a redirect or a token's realm leads, and turns the answers of
// servers in trouble into errors for people.
type guard struct {
	base     *http.Transport
	insecure bool
}

// CloseIdleConnections is what http.Client looks for.
func (g *guard) CloseIdleConnections() { g.base.CloseIdleConnections() }

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !g.insecure {
		return nil, fail(ErrUnreachable, "the registry leads to an address without TLS, which is not followed", "")
	}
	resp, err := g.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500 {
		defer resp.Body.Close()
		hint := ""
		if after := resp.Header.Get("Retry-After"); after != "" {
			hint = "it asks to come back after " + printable(after, 40)
		}
		return nil, fail(ErrUnreachable, "the registry answers "+statusText(resp.StatusCode), hint)
	}
	if resp.StatusCode < 300 && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		resp.Body.Close()
		return nil, fail(ErrUnreachable, `the answer is "text/html", not a registry's`,
			"check that the url is that of a repository and that no login page or proxy is in between")
	}
	return resp, nil
}

func statusText(code int) string {
	return strings.TrimSpace(strconv.Itoa(code) + " " + strings.ToLower(http.StatusText(code)))
}

// stall cancels a download that does not move for a while. A total deadline
// would make large artifacts impossible behind slow lines.
type stall struct {
	timer   *time.Timer
	timeout time.Duration
	cancel  context.CancelCauseFunc
}

func newStall(ctx context.Context, timeout time.Duration) (context.Context, *stall) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &stall{timeout: timeout, cancel: cancel}
	s.timer = time.AfterFunc(timeout, func() { cancel(context.DeadlineExceeded) })
	return ctx, s
}

func (s *stall) stop() {
	s.timer.Stop()
	s.cancel(context.Canceled)
}

// moving is a body that keeps the stall from firing while it is read.
type moving struct {
	io.Reader
	stall *stall
}

func (m moving) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	if n > 0 {
		m.stall.timer.Reset(m.stall.timeout)
	}
	return n, err
}

// stalled names a download that was given up because it did not move.
func stalled(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && !errors.Is(err, errLocal) {
		return context.Cause(ctx)
	}
	return err
}
