package gitrepo

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"golang.org/x/net/proxy"
)

// Proxy is what connections go through. Without a URL, those over HTTP use the
// proxy of the environment (HTTPS_PROXY, HTTP_PROXY, NO_PROXY), and those over
// SSH none.
type Proxy struct {
	// URL is http://, https://, socks5:// or socks5h:// with host and port.
	URL string
	// Username and PasswordFile are for the proxy alone. The file is read anew
	// for each operation.
	Username, PasswordFile string
}

// read gives the URL with its credentials, nil when there is no proxy.
func (p Proxy) read() (*url.URL, error) {
	if p.URL == "" {
		return nil, nil
	}
	u, err := url.Parse(p.URL)
	if err != nil { // its text repeats the URL with the credentials
		return nil, fail(ErrUnreachable, "the url of the proxy cannot be parsed", "use the form http://host:port or socks5://host:port")
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
	default:
		return nil, fail(ErrUnreachable, "the proxy's scheme "+printable(u.Scheme, 20)+":// is not supported", "use http://, https:// or socks5://")
	}
	if u.Hostname() == "" {
		return nil, fail(ErrUnreachable, "the url of the proxy names no host", "use the form http://host:port or socks5://host:port")
	}
	if p.Username == "" && p.PasswordFile == "" {
		return u, nil
	}
	password := ""
	if p.PasswordFile != "" {
		if password, err = readSecret(p.PasswordFile, "password of the proxy"); err != nil {
			return nil, err
		}
	}
	u.User = url.UserPassword(p.Username, password)
	return u, nil
}

// proxyPassword is the password in a proxy's URL.
func proxyPassword(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.User == nil {
		return ""
	}
	password, _ := u.User.Password()
	return password
}

// environmentProxies are the passwords of the proxies that net/http takes from
// the environment.
func environmentProxies() []string {
	var out []string
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"} {
		if password := proxyPassword(os.Getenv(name)); password != "" {
			out = append(out, password)
		}
	}
	return out
}

// dial connects to host:port, through the proxy where there is one.
func (p Proxy) dial(ctx context.Context, address string) (net.Conn, error) {
	via, err := p.read()
	if err != nil {
		return nil, err
	}
	var direct net.Dialer
	if via == nil {
		return direct.DialContext(ctx, "tcp", address)
	}
	conn, err := dialVia(ctx, via, address)
	if err != nil && asksProxy(err) {
		return nil, proxyRefuses(via.User != nil)
	}
	if err != nil && ctx.Err() == nil && !isTimeout(err) && !isFailure(err) {
		return nil, fail(ErrUnreachable, fmt.Sprintf("through the proxy %s: %v", via.Host, err), "")
	}
	return conn, err
}

func dialVia(ctx context.Context, via *url.URL, address string) (net.Conn, error) {
	if via.Scheme == "http" || via.Scheme == "https" {
		return dialConnect(ctx, via, address)
	}
	var auth *proxy.Auth
	if via.User != nil {
		password, _ := via.User.Password()
		auth = &proxy.Auth{User: via.User.Username(), Password: password}
	}
	d, err := proxy.SOCKS5("tcp", net.JoinHostPort(via.Hostname(), cmp.Or(via.Port(), "1080")), auth, &net.Dialer{})
	if err != nil {
		return nil, err
	}
	with, ok := d.(proxy.ContextDialer)
	if !ok {
		return nil, errors.New("the SOCKS client takes no deadline")
	}
	return with.DialContext(ctx, "tcp", address)
}

// dialConnect asks an HTTP proxy for a tunnel (RFC 9110, section 9.3.6).
func dialConnect(ctx context.Context, via *url.URL, address string) (net.Conn, error) {
	port := "80"
	if via.Scheme == "https" {
		port = "443"
	}
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", net.JoinHostPort(via.Hostname(), cmp.Or(via.Port(), port)))
	if err != nil {
		return nil, err
	}
	// Whatever it waits for below ends with the context.
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	conn := raw
	if via.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{ServerName: via.Hostname(), MinVersion: tls.VersionTLS12})
	}
	tunnel, err := connect(conn, via, address)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return tunnel, nil
}

func connect(conn net.Conn, via *url.URL, address string) (net.Conn, error) {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if via.User != nil {
		password, _ := via.User.Password()
		basic := base64.StdEncoding.EncodeToString([]byte(via.User.Username() + ":" + password))
		req.Header.Set("Proxy-Authorization", "Basic "+basic)
	}
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	// What the server behind it says first may come with the proxy's answer, so
	// reading goes on from the same buffer. The answer itself is bounded.
	bounded := &io.LimitedReader{R: conn, N: 64 << 10}
	read := bufio.NewReader(bounded)
	resp, err := http.ReadResponse(read, req)
	if err != nil {
		return nil, err
	}
	bounded.N = math.MaxInt64
	switch {
	case resp.StatusCode == http.StatusProxyAuthRequired:
		return nil, proxyRefuses(via.User != nil)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("it answers %s", printable(resp.Status, 60))
	}
	return &tunnel{Conn: conn, read: read}, nil
}

// tunnel is a connection of which some bytes have been read ahead.
type tunnel struct {
	net.Conn
	read *bufio.Reader
}

func (t *tunnel) Read(p []byte) (int, error) { return t.read.Read(p) }

// asksProxy tells whether a proxy wants to know who we are. The libraries say so
// as text only.
func asksProxy(err error) bool {
	text := err.Error()
	return strings.HasSuffix(text, "Proxy Authentication Required") ||
		strings.Contains(text, "socks connect") && strings.Contains(text, "authentication")
}

func proxyRefuses(known bool) *failure {
	if known {
		return fail(ErrAuth, "the proxy refused the credentials", "check the username and the password of the proxy")
	}
	return fail(ErrAuth, "the proxy asks for credentials", "configure a username and a password for the proxy")
}
