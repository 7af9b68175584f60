package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-gitops/holdfast/reconciler"
)

// spans takes traces on the loopback.
type spans struct {
	mu  sync.Mutex
	all []*tracepb.Span
}

func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var data tracepb.TracesData
	if err == nil {
		err = proto.Unmarshal(body, &data)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range data.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			s.all = append(s.all, scope.Spans...)
		}
	}
}

// of are the names of the spans of a trace, and the parent of its first.
func (s *spans) of(trace string) (names map[string]bool, parent string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names = map[string]bool{}
	for _, span := range s.all {
		if hex.EncodeToString(span.TraceId) == trace {
			if names[span.Name] = true; span.Name == "run" {
				parent = hex.EncodeToString(span.ParentSpanId)
			}
		}
	}
	return names, parent
}

func TestARunIsTracedFromThePushUntilItWorks(t *testing.T) {
	t.Parallel()
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	s, _ := hostStage(t)
	got := &spans{}
	collector := httptest.NewServer(got)
	t.Cleanup(collector.Close)
	secret := filepath.Join(s.dir, "secret")
	config, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	more := fmt.Sprintf("\nwebhooks: [{name: forge, kind: github, secretFile: %s}]\ntracing: {endpoint: \"%s\"}\n", secret, collector.URL)
	if err := errors.Join(os.WriteFile(secret, []byte("a planted secret\n"), 0o600), os.WriteFile(s.config, append(config, more...), 0o600)); err != nil {
		t.Fatal(err)
	}
	spec := "apiVersion: holdfast.dev/v1alpha1\nkind: Environment\nmetadata: {name: host}\nspec: {path: files, target: host}\n"
	s.repo.Commit(t, map[string]string{"environments/host.yaml": spec, "files/a.yaml": hostFile("a", "blue")})
	s.start()
	s.settled("host", reconciler.Applied)
	pushed := s.repo.Commit(t, map[string]string{"files/a.yaml": hostFile("a", "green")})
	if status, answer := s.hook("1", "a planted secret", "traceparent: 00-"+trace+"-"+span+"-01"); status != 202 {
		t.Fatalf("%d %s", status, answer)
	}
	s.until("the push is applied", func() error {
		status, err := s.client.Environment(t.Context(), "host")
		if err == nil && (status.Applied.ID != pushed || status.LastRun.Trace != trace) {
			err = fmt.Errorf("at %s, trace %q", status.Applied.ID, status.LastRun.Trace)
		}
		return err
	})
	s.stop() // which sends what is left
	names, parent := got.of(trace)
	for _, want := range []string{"run", "trigger", "fetch", "wait for turn", "render", "compare", "plan", "apply", "wait for health"} {
		if !names[want] {
			t.Errorf("no span %q", want)
		}
	}
	if parent != span {
		t.Errorf("it is below %q", parent)
	}
	got.mu.Lock()
	defer got.mu.Unlock()
	if text := fmt.Sprint(got.all); strings.Contains(text, "green") || strings.Contains(text, "planted") {
		t.Error("a value is in a trace")
	}
}
