package server

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/cmd/internal/events"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// streaming serves a fake engine over TCP, with a hub whose events tests make.
func streaming(t *testing.T, o Options, edit func(*Server)) (hub *events.Hub, address string, stop func() error) {
	t.Helper()
	f := newFake("dev", "prod")
	hub = events.New(events.Options{
		Environments: f.Environments, Environment: f.Environment, Sources: func() []api.Source { return nil }, Pause: time.Millisecond,
	})
	o.Events = hub
	s := testServer(f, o)
	if edit != nil {
		edit(s)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served, ran := make(chan error, 1), make(chan struct{})
	go func() { served <- s.Serve(ctx, l, nil) }()
	go func() {
		defer close(ran)
		_ = hub.Run(ctx)
	}()
	var err2 error
	done := false
	stop = func() error {
		if !done {
			cancel()
			err2, done = <-served, true
			<-ran
		}
		return err2
	}
	t.Cleanup(func() { _ = stop() })
	return hub, l.Addr().String(), stop
}

// follow reads events into a channel, which ends with the stream.
func follow(t *testing.T, address string, q api.EventsQuery) <-chan api.Event {
	t.Helper()
	client, err := api.NewClient(api.ClientOptions{Server: "http://" + address})
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan api.Event, 100)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() {
		defer close(out)
		_ = client.Events(ctx, q, func(e api.Event) error {
			out <- e
			return nil
		})
	}()
	return out
}

func get(t *testing.T, events <-chan api.Event) api.Event {
	t.Helper()
	select {
	case e, ok := <-events:
		if !ok {
			t.Fatal("the stream ended")
		}
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("no event came")
	}
	return api.Event{}
}

func TestEventsAreStreamedFilteredAndResumed(t *testing.T) {
	hub, address, stop := streaming(t, Options{}, nil)
	all := follow(t, address, api.EventsQuery{})
	if e := get(t, all); e.Type != api.EventHello || e.ID == "" {
		t.Fatalf("a stream begins with %+v", e)
	}
	prod := follow(t, address, api.EventsQuery{Environments: []string{"pr*"}, Types: []string{"run"}})
	get(t, prod)
	hub.RunBegan(reconciler.Run{ID: "run-1", Environment: "dev"})
	hub.DriftEnded(drifted("prod", now))
	hub.RunEnded(reconciler.Run{ID: "run-2", Environment: "prod", Result: reconciler.Applied})
	first := get(t, all)
	if second, third := get(t, all), get(t, all); first.Run.ID != "run-1" || second.Drift.ID != "e1" || third.Run.ID != "run-2" {
		t.Errorf("%+v, %+v, %+v", first, second, third)
	}
	if e := get(t, prod); e.Type != api.EventRunEnded || e.Run.ID != "run-2" {
		t.Errorf("the filter lets through %+v", e)
	}
	again := follow(t, address, api.EventsQuery{After: first.ID})
	if e := get(t, again); e.Type != api.EventDriftEnded {
		t.Errorf("resumed with %+v", e)
	}
	lost := follow(t, address, api.EventsQuery{After: "another-7"})
	if e := get(t, lost); e.Type != api.EventReset {
		t.Errorf("an id of another daemon begins with %+v", e)
	}
	if err := stop(); err != nil {
		t.Errorf("a stream held up the end: %v", err)
	}
	for range all { // it ends, else the test does not
	}
}

func TestAnIDInAHeaderIsResumedFromAndAQuietStreamLives(t *testing.T) {
	hub, address, _ := streaming(t, Options{}, func(s *Server) { s.heartbeat = 5 * time.Millisecond })
	res, err := http.Get("http://" + address + api.PathEnvironments)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	id := res.Header.Get(api.EventIDHeader)
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+address+api.PathEvents+"?environment=none", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Last-Event-ID", id)
	if res, err = http.DefaultClient.Do(r); err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if media := res.Header.Get("Content-Type"); media != "text/event-stream" || id == "" {
		t.Fatalf("%q after %q", media, id)
	}
	hub.RunBegan(reconciler.Run{ID: "run-1", Environment: "dev"})
	// What the filter keeps back still moves the place to resume from.
	lines, seen := bufio.NewScanner(res.Body), []string{}
	for lines.Scan() {
		line := lines.Text()
		if seen = append(seen, line); strings.HasPrefix(line, "id: ") && line != "id: "+id {
			break
		}
	}
	text := strings.Join(seen, "\n")
	if !strings.Contains(text, ": resumed") || strings.Contains(text, "run-1") {
		t.Errorf("stream:\n%s", text)
	}
}

func TestStreamsAreBoundedAndBadFiltersRefused(t *testing.T) {
	s := testServer(newFake("dev"), Options{Events: events.New(events.Options{})})
	for _, query := range []string{"type=nonsense", "type=run.", "environment=%5B"} {
		if res := ask(t, s.Handler(true), "GET", api.PathEvents+"?"+query); res.StatusCode != 400 {
			t.Errorf("%s: %d", query, res.StatusCode)
		}
	}
	s.streams.Store(maxStreams)
	res := ask(t, s.Handler(true), "GET", api.PathEvents)
	if p := decode[api.Problem](t, res); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || p.Hint == "" {
		t.Errorf("%d: %+v", res.StatusCode, p)
	}
	if n := s.streams.Load(); n != maxStreams {
		t.Errorf("%d streams are counted", n)
	}
}

func TestAConnectionThatIsNeverReadIsDropped(t *testing.T) {
	hub, _, _ := streaming(t, Options{}, nil)
	s := testServer(newFake("dev"), Options{Events: hub})
	s.patience = 20 * time.Millisecond
	path := filepath.Join(socketDir(t), "s")
	l, err := net.Listen("unix", path) // its buffers do not grow
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, nil, l) }()
	defer func() {
		cancel()
		<-served
	}()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET "+api.PathEvents+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(20 * time.Second)
	dropped := func() uint64 {
		_, n := hub.Following()
		return n
	}
	for dropped() == 0 || s.streams.Load() > 0 {
		for range 100 {
			hub.RunEnded(reconciler.Run{ID: "run-1", Environment: "dev"})
		}
		select {
		case <-deadline:
			t.Fatalf("%d dropped, %d open", dropped(), s.streams.Load())
		case <-time.After(time.Millisecond):
		}
	}
}

func TestWhoAsksIsToldToThoseWhoFollow(t *testing.T) {
	_, address, _ := streaming(t, Options{TokenFile: writeToken(t, "sesame-open")}, nil)
	all := follow(t, address, api.EventsQuery{Types: []string{"resync"}})
	get(t, all)
	r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+address+api.PathResync+"?environment=dev", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer sesame-open")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if e := get(t, all); e.Type != api.EventResync || e.Environment != "dev" || e.Action.Actor != "token" || e.Action.Request == "" {
		t.Errorf("%+v after %s", e, text)
	}
}
