package notify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/outbox"
	"github.com/holdfast-gitops/holdfast/drift"
)

// sendError is why a receiver did not take a message.
type sendError struct {
	why string
	// status is that of HTTP or SMTP; zero where there was no answer.
	status int
	// after is how long the receiver wants to be left alone.
	after time.Duration
	// final: the message itself is what the receiver does not like.
	final bool
}

// Error is why.
func (e sendError) Error() string { return e.why }

// deliver sends to one receiver, one message after the other, until ctx ends.
func (n *Notifier) deliver(ctx context.Context, name string, r *receiver) {
	for ctx.Err() == nil {
		f, wait := n.next(name, r, n.opts.Now())
		if len(f.Notices) == 0 {
			r.rest(ctx, wait)
			continue
		}
		err := outbox.Attempt(ctx, func(ctx context.Context) error { return r.send(ctx, f.Message) })
		if ctx.Err() != nil && err != nil {
			return // it is tried again after the start
		}
		if pause := n.settle(name, f, err); pause > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	}
}

// settle takes note of how an attempt ended, and says how long to wait for the
// next.
func (n *Notifier) settle(name string, f flight, err error) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		n.opts.Count(name, "sent")
		delete(n.state.Flights, name)
		n.save()
		return 0
	}
	attempts := f.Attempts + 1
	var e sendError
	if errors.As(err, &e) && e.final && attempts >= outbox.Refusals {
		n.opts.Count(name, "dropped")
		n.opts.Logger.Error().Err(err).Str("receiver", name).Str("message", f.Title()).Msg("notification dropped: its receiver refuses it")
		delete(n.state.Flights, name)
		n.save()
		return 0
	}
	n.opts.Count(name, "failed")
	n.opts.Logger.Warn().Err(err).Str("receiver", name).Int("attempt", attempts).Msg("notification not sent; it is tried again")
	n.state.Flights[name].Attempts = attempts
	n.save()
	return max(n.opts.Backoff(attempts), min(e.after, outbox.MaxRetryAfter))
}

// rest waits for a sign, or for a while where it is not zero.
func (r *receiver) rest(ctx context.Context, wait time.Duration) {
	var timer <-chan time.Time
	if wait > 0 {
		timer = time.After(wait)
	}
	select {
	case <-ctx.Done():
	case <-r.sign:
	case <-timer:
	}
}

func (r *receiver) nudge() {
	select {
	case r.sign <- struct{}{}:
	default:
	}
}

// Outcome is how a test went.
type Outcome struct {
	Receiver string `json:"receiver"`
	Kind     string `json:"kind"`
	// Error is empty where the receiver took the message.
	Error string `json:"error,omitempty"`
}

// Test sends a message to the receiver of a name, or to all, at once and once. It
// fails if there is no such receiver.
func (n *Notifier) Test(ctx context.Context, name string) ([]Outcome, error) {
	names := slices.Sorted(maps.Keys(n.receivers))
	if name != "" && !slices.Contains(names, name) {
		return nil, fmt.Errorf("there is no receiver %q; there are: %s", name, strings.Join(names, ", "))
	}
	now := n.opts.Now()
	out := []Outcome{}
	for _, at := range names {
		if name != "" && name != at {
			continue
		}
		r := n.receivers[at]
		o := Outcome{Receiver: at, Kind: r.config.Kind}
		m := Message{ID: "test-" + now.UTC().Format("20060102T150405.000"), At: now, Link: n.opts.Config.Link, Notices: []Notice{{
			Alert: Alert{Fingerprint: "test/" + at, Kind: Test, Severity: drift.Low, Title: "a test of notifications, nothing is wrong", Since: now},
			Phase: Info, At: now,
		}}}
		if err := r.send(ctx, m); err != nil {
			o.Error = err.Error()
		}
		out = append(out, o)
	}
	return out, nil
}

// verdict makes an error of an answer; nil for success.
func verdict(res *http.Response, now time.Time) error {
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		return nil
	}
	e := sendError{why: "the receiver answered " + res.Status, status: res.StatusCode}
	switch res.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		e.final = true
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		e.after = outbox.RetryAfter(res.Header.Get("Retry-After"), now)
	}
	return e
}
