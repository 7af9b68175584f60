package gitrepo

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
)

// maxPEM bounds a file of certificates or keys.
const maxPEM = 4 << 20

// httpWire speaks git's smart HTTP.
type httpWire struct {
	opts Options
	addr address

	mu      sync.Mutex
	now     *http.Client
	sum     [sha256.Size]byte
	retired []*http.Client
}

// open lists the refs. go-git follows redirects of the listing, and of nothing
// else, and lets the credentials go when one leads to another host.
func (w *httpWire) open(ctx context.Context, creds *credentials) (*listing, error) {
	client, err := w.client()
	if err != nil {
		return nil, err
	}
	endpoint, err := transport.NewEndpoint(w.addr.url)
	if err != nil {
		return nil, err
	}
	s, err := githttp.NewClientWithOptions(client, nil).NewUploadPackSession(endpoint, creds.auth())
	if err != nil {
		return nil, err
	}
	seen := &sighting{}
	adv, err := s.AdvertisedReferencesContext(context.WithValue(ctx, sightingKey{}, seen))
	moved := w.moved(seen.at)
	if err != nil {
		if moved != "" && errors.Is(err, transport.ErrAuthenticationRequired) && creds.auth() != nil {
			return nil, fail(ErrAuth, "the server redirects to "+moved+", which asks for credentials",
				"if that is where the repository is now, make it the source's url: credentials do not follow to another host")
		}
		return nil, err
	}
	return &listing{adv: adv, moved: moved, offers: seen.offers, session: webSession{s}}, nil
}

// moved is where the listing came from, if it was not the source's URL.
func (w *httpWire) moved(at *url.URL) string {
	if at == nil {
		return ""
	}
	clean := url.URL{Scheme: at.Scheme, Host: at.Host, Path: strings.TrimSuffix(at.Path, infoRefs)}
	if text := clean.String(); text != strings.TrimSuffix(w.addr.url, "/") {
		return printable(text, 300)
	}
	return ""
}

func (w *httpWire) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range append(w.retired, w.now) {
		if c != nil {
			c.CloseIdleConnections()
		}
	}
	w.retired, w.now = nil, nil
}

// client is that of the certificates and of the proxy's password as they are in
// their files now. Each repository has one of its own, so that certificates and
// connections are not shared between them.
func (w *httpWire) client() (*http.Client, error) {
	m, err := readMaterial(w.opts)
	if err != nil {
		return nil, err
	}
	sum := m.sum()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.now != nil && w.sum == sum {
		return w.now, nil
	}
	made, err := m.client()
	if err != nil {
		return nil, err
	}
	if w.now != nil {
		w.now.CloseIdleConnections()
		w.retired = append(w.retired, w.now) // a download may still use it
	}
	w.now, w.sum = made, sum
	return made, nil
}

// material is what connections are made with, as read from files.
type material struct {
	opts          Options
	ca, cert, key []byte
	proxy         *url.URL
}

func readMaterial(o Options) (*material, error) {
	m := &material{opts: o}
	for _, f := range []struct {
		path, what string
		into       *[]byte
	}{
		{o.CAFile, "certificates of the authority", &m.ca},
		{o.CertFile, "client certificate", &m.cert},
		{o.KeyFile, "key of the client certificate", &m.key},
	} {
		if f.path == "" {
			continue
		}
		var err error
		if *f.into, err = readBounded(f.path, maxPEM); err != nil {
			return nil, fail(ErrAuth, fmt.Sprintf("read the %s: %v", f.what, err), "")
		}
	}
	var err error
	m.proxy, err = o.Proxy.read()
	return m, err
}

func (m *material) sum() [sha256.Size]byte {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q", m.ca, m.cert, m.key, m.proxy)
	return [sha256.Size]byte(h.Sum(nil))
}

func (m *material) client() (*http.Client, error) {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = 2
	base.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if m.ca != nil {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool() // a minimal image has none
		}
		if !pool.AppendCertsFromPEM(m.ca) {
			return nil, fail(ErrAuth, fmt.Sprintf("read certificates from %s: no certificate in it", m.opts.CAFile), "")
		}
		base.TLSClientConfig.RootCAs = pool
	}
	if m.cert != nil {
		pair, err := tls.X509KeyPair(m.cert, m.key)
		if err != nil {
			return nil, fail(ErrAuth, fmt.Sprintf("read the client certificate from %s and %s: %v", m.opts.CertFile, m.opts.KeyFile, err), "")
		}
		base.TLSClientConfig.Certificates = []tls.Certificate{pair}
	}
	if m.proxy != nil {
		base.Proxy = http.ProxyURL(m.proxy)
	}
	return &http.Client{Transport: &guard{base: base, known: m.proxy != nil && m.proxy.User != nil}}, nil
}

// webSession is a listing's URL after redirects. Any number of packs can be
// asked for.
type webSession struct {
	up transport.UploadPackSession
}

func (s webSession) upload(ctx context.Context, req *packp.UploadPackRequest) (io.ReadCloser, error) {
	return s.up.UploadPack(ctx, req)
}

func (webSession) again() bool { return true }

func (webSession) close() {}
