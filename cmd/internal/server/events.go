package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/cmd/internal/events"
)

const (
	// maxStreams bounds the streams of events that are open at a time.
	maxStreams = 200
	// heartbeat is how often a quiet stream says that it lives.
	heartbeat = 15 * time.Second
	// streamWrite bounds how long a reader may take for what it is sent.
	streamWrite = 10 * time.Second
	// streamLife bounds a stream: who may no longer read is refused when it comes
	// back.
	streamLife = 15 * time.Minute
)

func (s *Server) eventRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+api.PathEvents, s.events)
}

// eventFilter is what a stream is limited to.
type eventFilter struct {
	environments, types []string
	// sees says of which environments the caller may know.
	sees func(environment string) bool
}

func (s *Server) eventFilter(r *http.Request) (eventFilter, error) {
	query := r.URL.Query()
	f := eventFilter{environments: query["environment"], types: query["type"], sees: callerOf(r).mayRead}
	for _, pattern := range f.environments {
		if _, err := path.Match(pattern, ""); err != nil {
			return f, fmt.Errorf("environment %q is no pattern", pattern)
		}
	}
	for _, t := range f.types {
		if !slices.ContainsFunc(api.EventTypes, func(known api.EventType) bool { return typeMatches(t, known) }) {
			return f, fmt.Errorf("there are no events of type %q; there are: %s", t, join(api.EventTypes))
		}
	}
	return f, nil
}

// typeMatches: "run" is "run.began" and "run.ended".
func typeMatches(wanted string, t api.EventType) bool {
	return wanted == string(t) || strings.HasPrefix(string(t), wanted+".")
}

func (f eventFilter) match(e events.Entry) bool {
	if len(f.types) > 0 && !slices.ContainsFunc(f.types, func(t string) bool { return typeMatches(t, e.Type) }) {
		return false
	}
	if e.Environment == "" {
		// A source's own state names no environment; what was asked of all
		// environments concerns each.
		return true
	}
	return f.sees(e.Environment) && (len(f.environments) == 0 || slices.ContainsFunc(f.environments, func(pattern string) bool {
		ok, err := path.Match(pattern, e.Environment)
		return ok && err == nil
	}))
}

// events streams what changes until the caller goes, is too slow, or the daemon
// ends.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	filter, err := s.eventFilter(r)
	if err != nil {
		writeProblem(w, r, badRequest(err))
		return
	}
	if !s.openStream() {
		w.Header().Set("Retry-After", "5")
		writeProblem(w, r, api.Problem{
			Status: http.StatusServiceUnavailable, Detail: fmt.Sprintf("there are %d streams of events already", maxStreams),
			Hint: "close some; environments can be polled instead, at little cost with If-None-Match",
		})
		return
	}
	defer s.streams.Add(-1)
	after := r.Header.Get("Last-Event-ID")
	if after == "" {
		after = r.URL.Query().Get("after")
	}
	follower, resumed := s.opts.Events.Follow(after)
	defer follower.Close()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // a proxy must not keep what is small
	out := &stream{w: w, control: http.NewResponseController(w), patience: s.patience}
	// It fails only where there is no connection, as in tests of a handler.
	_ = out.control.SetReadDeadline(time.Time{})
	out.begin(follower.At(), after, resumed, s.opts.Now())
	ctx, cancel := context.WithTimeout(r.Context(), streamLife)
	defer cancel()
	s.follow(ctx, out, follower, filter)
}

func (s *Server) openStream() bool {
	if s.streams.Add(1) <= maxStreams {
		return true
	}
	s.streams.Add(-1)
	return false
}

// follow ends with ctx, or when the reader cannot keep up.
func (s *Server) follow(ctx context.Context, out *stream, f *events.Follower, filter eventFilter) {
	for out.err == nil && ctx.Err() == nil {
		wait, cancel := context.WithTimeout(ctx, s.heartbeat)
		entries, err := f.Next(wait)
		cancel()
		if err != nil { // it comes back, and is told to begin anew
			f.Drop()
			return
		}
		out.send(entries, filter, f.At())
	}
	if errors.Is(out.err, os.ErrDeadlineExceeded) {
		f.Drop()
	}
}

// stream writes server-sent events, each time with a deadline of its own.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	// patience is how long the reader may take for what it is sent.
	patience time.Duration
	buffer   []byte
	err      error
}

// begin says where the stream begins. The id makes a reader that is cut off at
// once resume from there.
func (o *stream) begin(at, after string, resumed bool, now time.Time) {
	o.buffer = append(o.buffer, "retry: 2000\n\n"...)
	e := api.Event{ID: at, Type: api.EventHello, At: now}
	switch {
	case resumed:
		o.buffer = append(o.buffer, ": resumed\n\n"...)
	case after != "":
		e.Type = api.EventReset
		fallthrough
	default:
		o.buffer = append(o.buffer, events.Frame(e)...)
	}
	o.flush()
}

// send writes what matches; where nothing does, it says that the stream lives,
// and what was passed over.
func (o *stream) send(entries []events.Entry, filter eventFilter, at string) {
	for _, e := range entries {
		if filter.match(e) {
			o.buffer = append(o.buffer, e.Frame...)
		}
	}
	if len(o.buffer) == 0 && len(entries) > 0 {
		return // the next heartbeat says it
	}
	if len(entries) == 0 {
		o.buffer = append(o.buffer, ": \nid: "+at+"\n\n"...)
	}
	o.flush()
}

func (o *stream) flush() {
	// It fails only where there is no connection, as in tests of a handler.
	_ = o.control.SetWriteDeadline(time.Now().Add(o.patience))
	if _, o.err = o.w.Write(o.buffer); o.err == nil {
		o.err = o.control.Flush()
	}
	o.buffer = o.buffer[:0]
}
