package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// fakeEngine answers with values. A run ends when it is told to.
type fakeEngine struct {
	sources  map[string]sources.Problems
	statuses []reconciler.Status
	episodes []drift.Episode
	unsure   map[string]string

	mu     sync.Mutex
	runs   map[string]*fakeRun
	asked  [][]string
	trig   []reconciler.Trigger
	waited chan string
}

type fakeRun struct {
	run  reconciler.Run
	done chan struct{}
}

func newFake(names ...string) *fakeEngine {
	f := &fakeEngine{runs: map[string]*fakeRun{}, waited: make(chan string, 10)}
	for _, name := range names {
		f.statuses = append(f.statuses, reconciler.Status{Name: name, Sync: reconciler.SyncClean})
		f.runs["run-"+name] = &fakeRun{
			run:  reconciler.Run{ID: "run-" + name, Environment: name, Result: reconciler.Pending},
			done: make(chan struct{}),
		}
	}
	return f
}

// finish ends the run of an environment.
func (f *fakeEngine) finish(name string, result reconciler.Result) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.runs["run-"+name]
	r.run.Result = result
	close(r.done)
}

func (f *fakeEngine) Environments() []reconciler.Status { return f.statuses }

func (f *fakeEngine) SourceProblems() map[string]sources.Problems {
	return f.sources
}

func (f *fakeEngine) Environment(name string) (reconciler.Status, bool) {
	for _, s := range f.statuses {
		if s.Name == name {
			return s, true
		}
	}
	return reconciler.Status{}, false
}

func (f *fakeEngine) Drift(filter reconciler.Filter) reconciler.Report {
	r := reconciler.Report{At: now, Unsure: f.unsure}
	for _, e := range f.episodes {
		if (filter.Environment == "" || e.Environment == filter.Environment) && (!filter.OpenOnly || e.Ended.IsZero()) {
			r.Episodes = append(r.Episodes, e)
		}
	}
	return r
}

func (f *fakeEngine) Resync(names []string, t reconciler.Trigger) ([]reconciler.Run, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked, f.trig = append(f.asked, names), append(f.trig, t)
	if names == nil {
		for _, s := range f.statuses {
			names = append(names, s.Name)
		}
	}
	out := []reconciler.Run{}
	for _, name := range names {
		out = append(out, f.runs["run-"+name].run)
	}
	return out, nil
}

func (f *fakeEngine) Wait(ctx context.Context, id string) (reconciler.Run, error) {
	f.mu.Lock()
	r := f.runs[id]
	f.mu.Unlock()
	if r == nil {
		return reconciler.Run{}, errors.New("no run " + id)
	}
	select {
	case f.waited <- id:
	default:
	}
	select {
	case <-r.done:
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return r.run, nil
}

func (f *fakeEngine) LastResync() []reconciler.Run { return nil }

// drifted is an episode with a value that would be markup.
func drifted(environment string, ended time.Time) drift.Episode {
	state := drift.Open
	if !ended.IsZero() {
		state = drift.Corrected
	}
	return drift.Episode{
		ID: "e1", Environment: environment, Target: "default", Class: drift.Changed, Cause: drift.Manual,
		Object: sources.ID{Group: "apps", Kind: "Deployment", Namespace: "web", Name: "api"},
		Changes: []drift.Change{
			{Path: ".spec.replicas", Desired: drift.NewValue(3, false), Live: drift.NewValue(9, false), Manager: "kubectl-scale", Operation: "Update"},
			{Path: ".note", Desired: drift.Absent(), Live: drift.NewValue(`<script>alert(1)</script>`, false), Manager: `<img src=x onerror=alert(1)>`},
			{Path: ".data.password", Desired: drift.NewValue("sentinel-old", true), Live: drift.NewValue("sentinel-new", true), Manager: drift.Unknown},
		},
		State: state, FirstSeen: now.Add(-4 * time.Hour), LastSeen: now.Add(-3 * time.Hour), Ended: ended, Occurrences: 2,
		Next: "reverts now", Origin: sources.Origin{File: "web/api.yaml", Line: 7}, Revision: "a1b2c3d",
	}
}

func testServer(f *fakeEngine, o Options) *Server {
	o.Engine, o.Now = f, func() time.Time { return now }
	if o.Listen == "" {
		o.Listen = "127.0.0.1:8080"
	}
	return New(o)
}

// ask sends a request to a handler and returns the answer.
func ask(t *testing.T, h http.Handler, method, target string, edit ...func(*http.Request)) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	r.Host = "127.0.0.1:8080"
	for _, e := range edit {
		e(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func header(key, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(key, value) }
}

func host(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }

func body(media, text string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Content-Type", media)
		r.Body = io.NopCloser(strings.NewReader(text))
	}
}

func decode[T any](t *testing.T, res *http.Response) T {
	t.Helper()
	var out T
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

func text(t *testing.T, res *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func quiet(w io.Writer) zerolog.Logger { return zerolog.New(w) }
