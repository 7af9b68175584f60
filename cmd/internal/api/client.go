package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/reconciler"
)

// maxAnswer bounds what the client reads of an answer.
const maxAnswer = 256 << 20

// callTimeout is how long a call may take beside what it asks to wait.
const callTimeout = 30 * time.Second

// ClientOptions say where the daemon is.
type ClientOptions struct {
	// Server is http://host:port, https://host:port or unix:///path. Empty means
	// the socket Socket.
	Server string
	// Socket is the path of the daemon's socket.
	Socket string
	// Token goes with every call over TCP.
	Token string
	// UserAgent names the caller.
	UserAgent string
}

// Client calls a daemon. It is safe for concurrent use.
type Client struct {
	base  string
	where string
	token string
	agent string
	http  *http.Client
}

// NewClient makes a client; it calls nobody.
func NewClient(o ClientOptions) (*Client, error) {
	if o.Server == "" {
		return newSocketClient(o, o.Socket), nil
	}
	u, err := url.Parse(o.Server)
	if err != nil || !strings.Contains(o.Server, "://") {
		return nil, badServer("is no address")
	}
	switch {
	case u.Scheme == "unix" && u.Host == "" && filepath.IsAbs(u.Path):
		return newSocketClient(o, u.Path), nil
	case u.Scheme == "unix":
		return nil, badServer("must be an absolute path after unix://")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, badServer("has a scheme that is not supported")
	case u.Host == "":
		return nil, badServer("names no host")
	case u.User != nil:
		return nil, badServer("holds credentials; a token comes from HOLDFAST_TOKEN or --token-file")
	}
	return &Client{
		base: strings.TrimSuffix(u.Scheme+"://"+u.Host+u.Path, "/"), where: u.Scheme + "://" + u.Host,
		token: o.Token, agent: o.UserAgent,
		// No redirects: a token must not follow one to another host.
		http: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

func badServer(what string) error {
	return Unusable{Message: "the server's address " + what, Hint: "write http://host:port or unix:///path/holdfast.sock"}
}

func newSocketClient(o ClientOptions, path string) *Client {
	var d net.Dialer
	return &Client{
		base: "http://localhost", where: "unix://" + path, agent: o.UserAgent,
		http: &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", path) },
		}},
	}
}

// Unusable is an address that cannot be one of a daemon.
type Unusable struct{ Message, Hint string }

// Error is the message.
func (u Unusable) Error() string { return u.Message }

// Advice is the hint.
func (u Unusable) Advice() string { return u.Hint }

// Unreachable means that no daemon answered.
type Unreachable struct {
	// Where is the address that was tried.
	Where string
	Err   error
}

// Error says where nobody answers, and why.
func (u Unreachable) Error() string {
	return fmt.Sprintf("no daemon answers at %s: %s", u.Where, rootCause(u.Err))
}

// Advice says what to do about it.
func (u Unreachable) Advice() string {
	return "start `holdfast run`, or say where it is with --server or --data-dir"
}

// Unwrap is the cause.
func (u Unreachable) Unwrap() error { return u.Err }

// rootCause leaves out the layers of net and http, which repeat the address.
func rootCause(err error) string {
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		return "it did not answer in time"
	}
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err.Error()
		}
		err = next
	}
}

// Environments is what is known of all environments.
func (c *Client) Environments(ctx context.Context) (Environments, error) {
	return call[Environments](ctx, c, http.MethodGet, PathEnvironments, nil, 0)
}

// Environment is what is known of one environment.
func (c *Client) Environment(ctx context.Context, name string) (reconciler.Status, error) {
	return call[reconciler.Status](ctx, c, http.MethodGet, PathEnvironments+"/"+url.PathEscape(name), nil, 0)
}

// DriftQuery chooses what a drift report holds. A zero field does not limit.
type DriftQuery struct {
	Environment string
	Open        bool
	// Since leaves out what ended longer ago.
	Since time.Duration
	// Severity leaves out what is less severe. Manager is also a person.
	Severity, Class, Manager, Kind string
	// Labels are of the environments' specs, each "name" or "name=value".
	Labels []string
	// Blame looks up who wrote the lines that desired values come from.
	Blame bool
}

// Drift is what drifted.
func (c *Client) Drift(ctx context.Context, q DriftQuery) (reconciler.Report, error) {
	path, query := PathDrift, url.Values{}
	if q.Environment != "" {
		path = PathEnvironments + "/" + url.PathEscape(q.Environment) + "/drift"
	}
	if q.Open {
		query.Set("open", "true")
	}
	if q.Since > 0 {
		query.Set("since", q.Since.String())
	}
	if q.Blame {
		query.Set("blame", "true")
	}
	set(query, "severity", q.Severity)
	set(query, "class", q.Class)
	set(query, "manager", q.Manager)
	set(query, "kind", q.Kind)
	for _, label := range q.Labels {
		query.Add("label", label)
	}
	return call[reconciler.Report](ctx, c, http.MethodGet, path, query, 0)
}

// Resync asks for runs, and waits for their end as long as wait says; the
// request's own Wait does not count.
func (c *Client) Resync(ctx context.Context, r ResyncRequest, wait time.Duration) (Receipts, error) {
	query := url.Values{"environment": r.Environments}
	if r.Verify {
		query.Set("verify", "true")
	}
	if r.Approve != "" {
		query.Set("approve", r.Approve)
	}
	if len(r.Through) > 0 {
		query["through"] = r.Through
		query.Set("reason", r.Reason)
	}
	if r.Until != "" {
		query.Set("until", r.Until)
	}
	if wait > 0 {
		query.Set("wait", wait.String())
	}
	return call[Receipts](ctx, c, http.MethodPost, PathResync, query, wait)
}

// LastResync is the receipts of the newest resync, whoever asked for it.
func (c *Client) LastResync(ctx context.Context) (Receipts, error) {
	return call[Receipts](ctx, c, http.MethodGet, PathLastResync, nil, 0)
}

// Run is one run, as it stands or, if wait is not 0, when it ended.
func (c *Client) Run(ctx context.Context, id string, wait time.Duration) (reconciler.Run, error) {
	query := url.Values{}
	if wait > 0 {
		query.Set("wait", wait.String())
	}
	return call[reconciler.Run](ctx, c, http.MethodGet, PathRuns+"/"+url.PathEscape(id), query, wait)
}

// call sends a request and decodes the answer, which may take wait and a bit.
func call[T any](ctx context.Context, c *Client, method, path string, query url.Values, wait time.Duration) (T, error) {
	return exchange[T](ctx, c, method, path, query, payload{}, wait)
}

func exchange[T any](ctx context.Context, c *Client, method, path string, query url.Values, p payload, wait time.Duration) (T, error) {
	var out T
	ctx, cancel := context.WithTimeout(ctx, wait+callTimeout)
	defer cancel()
	res, err := c.send(ctx, method, path, query, p)
	if err != nil {
		return out, err
	}
	defer res.Body.Close()
	body := io.LimitReader(res.Body, maxAnswer)
	if res.StatusCode >= 300 {
		return out, c.problem(res, body)
	}
	if err := json.NewDecoder(body).Decode(&out); err != nil {
		return out, fmt.Errorf("read the answer of %s: %w", c.where, err)
	}
	return out, nil
}

// post sends a value as JSON and decodes the answer.
func post[T any](ctx context.Context, c *Client, path string, value any) (T, error) {
	var out T
	body, err := json.Marshal(value)
	if err != nil {
		return out, fmt.Errorf("encode the request: %w", err)
	}
	return exchange[T](ctx, c, http.MethodPost, path, nil, payload{"application/json", bytes.NewReader(body)}, planTimeout)
}

// payload is the body of a request.
type payload struct {
	media string
	body  io.Reader
}

func (c *Client) send(ctx context.Context, method, path string, query url.Values, p payload) (*http.Response, error) {
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, p.body)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", c.where, err)
	}
	req.Header.Set("Accept", "application/json")
	if p.media != "" {
		req.Header.Set("Content-Type", p.media)
	}
	if c.agent != "" {
		req.Header.Set("User-Agent", c.agent)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, Unreachable{Where: c.where, Err: err}
	}
	return res, nil
}

// problem makes an error of an answer that is one.
func (c *Client) problem(res *http.Response, body io.Reader) error {
	media, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if err != nil || media != ProblemType {
		return Unusable{
			Message: fmt.Sprintf("what answers at %s is no Holdfast daemon: it said %s", c.where, strconv.Itoa(res.StatusCode)),
			Hint:    "say where the daemon is with --server or --data-dir",
		}
	}
	var p Problem
	if err := json.NewDecoder(body).Decode(&p); err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.where, err)
	}
	p.Status = res.StatusCode
	return p
}
