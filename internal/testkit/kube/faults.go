package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"k8s.io/client-go/rest"
)

// Faults stands between a client and a real server. It records every call, and
// those that a rule matches go wrong as the rule says; the first rule that
// matches counts. The zero value is ready for use, from any goroutine.
type Faults struct {
	mu      sync.Mutex
	calls   []Call
	rules   []*Rule
	dead    bool
	watches map[*watchBody]struct{}
}

// Rule is one fault. It holds until it is removed or has happened often enough.
type Rule struct {
	faults *Faults
	match  Match
	skip   int // calls that match and pass first
	times  int // how often it happens; negative is always
	act    func(next http.RoundTripper, r *http.Request, c Call) (*http.Response, error)
}

// Wrap returns a copy of a client configuration whose requests pass here.
func (f *Faults) Wrap(cfg *rest.Config) *rest.Config {
	cfg = rest.CopyConfig(cfg)
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return &transport{f, next} })
	return cfg
}

// Calls returns the calls that match, in the order they were sent.
func (f *Faults) Calls(m Match) []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []Call
	for _, c := range f.calls {
		if m.holds(c) {
			found = append(found, c)
		}
	}
	return found
}

// Count is the number of calls that match.
func (f *Faults) Count(m Match) int { return len(f.Calls(m)) }

// Reset forgets the calls, removes the rules and revives a client that died.
func (f *Faults) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls, f.rules, f.dead = nil, nil, false
}

// Respond answers matching calls with an error status in the server's form,
// without asking the server.
func (f *Faults) Respond(m Match, code int, message string) *Rule {
	return f.add(m, func(_ http.RoundTripper, r *http.Request, _ Call) (*http.Response, error) {
		return failure(r, code, message), nil
	})
}

// Forbid makes a resource ("deployments.apps") forbidden to the client, for
// every verb.
func (f *Faults) Forbid(resource string) *Rule {
	return f.Respond(Match{Resource: resource}, http.StatusForbidden, resource+" is forbidden: said by the test")
}

// Fail makes the transport return an error, as when a connection breaks before
// the request was sent.
func (f *Faults) Fail(m Match, err error) *Rule {
	return f.add(m, func(http.RoundTripper, *http.Request, Call) (*http.Response, error) { return nil, err })
}

// Lose sends matching calls and loses the answer: the server has done it, and
// the client gets an error.
func (f *Faults) Lose(m Match, err error) *Rule {
	return f.add(m, func(next http.RoundTripper, r *http.Request, _ Call) (*http.Response, error) {
		return nil, exchange(next, r, err)
	})
}

// Hang holds matching calls until the client gives up.
func (f *Faults) Hang(m Match) *Rule {
	return f.add(m, func(_ http.RoundTripper, r *http.Request, _ Call) (*http.Response, error) {
		<-r.Context().Done()
		return nil, context.Cause(r.Context())
	})
}

// Before calls do before a matching call is sent, such as to let somebody else
// write in between.
func (f *Faults) Before(m Match, do func(Call)) *Rule {
	return f.add(m, func(next http.RoundTripper, r *http.Request, c Call) (*http.Response, error) {
		do(c)
		return next.RoundTrip(r)
	})
}

// Expire lets matching watches that would go on where another ended begin, and end
// at once, as a server does that has forgotten what came since.
func (f *Faults) Expire(m Match) *Rule {
	return f.add(m, func(next http.RoundTripper, r *http.Request, c Call) (*http.Response, error) {
		if c.Verb != "watch" || r.URL.Query().Get("sendInitialEvents") == "true" {
			return next.RoundTrip(r)
		}
		resp := failure(r, http.StatusGone, "too old resource version: said by the test")
		status, err := io.ReadAll(resp.Body)
		if err != nil {
			return nil, err
		}
		event := append(append([]byte(`{"type":"ERROR","object":`), status...), "}\n"...)
		resp.Status, resp.StatusCode, resp.ContentLength = "200 OK", http.StatusOK, -1
		resp.Header.Del("Content-Length")
		resp.Body = io.NopCloser(bytes.NewReader(event))
		return resp, nil
	})
}

// CancelBefore calls cancel instead of sending the n-th matching call, counted
// from 1: the client dies just before it. Nothing it sends from then on arrives.
func (f *Faults) CancelBefore(m Match, n int, cancel func()) *Rule {
	return f.add(m, func(http.RoundTripper, *http.Request, Call) (*http.Response, error) {
		f.die()
		cancel()
		return nil, context.Canceled
	}).After(n - 1)
}

// CancelAfter sends the n-th matching call, counted from 1, waits until the
// server has done it, calls cancel and loses the answer: the client dies just
// after it. Nothing it sends from then on arrives.
func (f *Faults) CancelAfter(m Match, n int, cancel func()) *Rule {
	return f.add(m, func(next http.RoundTripper, r *http.Request, _ Call) (*http.Response, error) {
		f.die()
		err := exchange(next, r, context.Canceled)
		cancel()
		return nil, err
	}).After(n - 1)
}

// die makes every later call fail: a process that was killed sends nothing.
func (f *Faults) die() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
}

// DropWatches breaks every open watch, as a restart of a load balancer does, and
// returns how many there were.
func (f *Faults) DropWatches() int { return f.endWatches(Match{}, false) }

// EndWatches ends the open watches that match in good order, as a server does after
// some minutes, and returns how many there were.
func (f *Faults) EndWatches(m Match) int { return f.endWatches(m, true) }

func (f *Faults) endWatches(m Match, inOrder bool) int {
	f.mu.Lock()
	open := make([]*watchBody, 0, len(f.watches))
	for w := range f.watches {
		if m.holds(w.call) {
			open = append(open, w)
		}
	}
	f.mu.Unlock()
	for _, w := range open {
		w.ended.Store(inOrder)
		w.drop()
	}
	return len(open)
}

// Times limits how often the rule happens.
func (r *Rule) Times(n int) *Rule {
	r.faults.mu.Lock()
	defer r.faults.mu.Unlock()
	r.times = n
	return r
}

// After lets the first n matching calls pass.
func (r *Rule) After(n int) *Rule {
	r.faults.mu.Lock()
	defer r.faults.mu.Unlock()
	r.skip = n
	return r
}

// Remove ends the rule.
func (r *Rule) Remove() {
	r.faults.mu.Lock()
	defer r.faults.mu.Unlock()
	r.faults.rules = slices.DeleteFunc(r.faults.rules, func(o *Rule) bool { return o == r })
}

func (f *Faults) add(m Match, act func(http.RoundTripper, *http.Request, Call) (*http.Response, error)) *Rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := &Rule{faults: f, match: m, times: -1, act: act}
	f.rules = append(f.rules, r)
	return r
}

// ofTheDead is the rule for a client that died.
var ofTheDead = &Rule{act: func(http.RoundTripper, *http.Request, Call) (*http.Response, error) {
	return nil, context.Canceled
}}

// note records a call and finds the rule that it falls under.
func (f *Faults) note(c Call) *Rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return ofTheDead
	}
	f.calls = append(f.calls, c)
	for _, r := range f.rules {
		if r.times == 0 || !r.match.holds(c) {
			continue
		}
		if r.skip > 0 {
			r.skip--
			continue
		}
		if r.times > 0 {
			r.times--
		}
		return r
	}
	return nil
}

type transport struct {
	faults *Faults
	next   http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	c := callOf(r)
	var resp *http.Response
	var err error
	if rule := t.faults.note(c); rule != nil {
		resp, err = rule.act(t.next, r, c)
		if resp == nil && r.Body != nil {
			_ = r.Body.Close() // A RoundTripper must, also when nothing was sent.
		}
	} else {
		resp, err = t.next.RoundTrip(r)
	}
	if err == nil && c.Verb == "watch" && resp.StatusCode == http.StatusOK {
		resp.Body = t.faults.track(resp.Body, c)
	}
	return resp, err
}

// WrappedRoundTripper lets client-go find the transport underneath.
func (t *transport) WrappedRoundTripper() http.RoundTripper { return t.next }

// exchange sends a request, reads the whole answer, so that the server is done,
// and returns the given error in its place.
func exchange(next http.RoundTripper, r *http.Request, instead error) error {
	resp, err := next.RoundTrip(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return instead
}

// reasons are those of the API machinery for the codes that clients look at.
var reasons = map[int]string{
	http.StatusUnauthorized: "Unauthorized", http.StatusForbidden: "Forbidden", http.StatusNotFound: "NotFound",
	http.StatusConflict: "Conflict", http.StatusGone: "Expired", http.StatusUnprocessableEntity: "Invalid",
	http.StatusTooManyRequests: "TooManyRequests", http.StatusInternalServerError: "InternalError",
	http.StatusServiceUnavailable: "ServiceUnavailable", http.StatusGatewayTimeout: "Timeout",
}

// failure makes a response in the form of the API server's own errors.
func failure(r *http.Request, code int, message string) *http.Response {
	body, err := json.Marshal(map[string]any{
		"kind": "Status", "apiVersion": "v1", "metadata": map[string]any{}, "status": "Failure",
		"code": code, "reason": reasons[code], "message": message,
	})
	if err != nil {
		panic(err) // Strings and numbers can be encoded.
	}
	if r.Body != nil {
		_ = r.Body.Close()
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", code, http.StatusText(code)), StatusCode: code,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/json"}, "Content-Length": {strconv.Itoa(len(body))}},
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)), Request: r,
	}
}

// watchBody is the body of an open watch.
type watchBody struct {
	io.ReadCloser
	call   Call
	forget func()
	// ended: what breaks it is to look like its end.
	ended atomic.Bool
}

// Read implements io.Reader.
func (w *watchBody) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err != nil && w.ended.Load() {
		err = io.EOF
	}
	return n, err
}

// track remembers an open watch until it is closed.
func (f *Faults) track(body io.ReadCloser, c Call) io.ReadCloser {
	w := &watchBody{ReadCloser: body, call: c}
	w.forget = sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watches, w)
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watches == nil {
		f.watches = map[*watchBody]struct{}{}
	}
	f.watches[w] = struct{}{}
	return w
}

// Close closes the watch from the client's side.
func (w *watchBody) Close() error {
	w.forget()
	return w.ReadCloser.Close()
}

// drop breaks the watch under the client, whose next read fails.
func (w *watchBody) drop() {
	w.forget()
	_ = w.ReadCloser.Close()
}
