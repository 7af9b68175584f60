package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

const planted = "planted-secret-9f2c"

// call is what a receiver got.
type call struct {
	path   string
	header http.Header
	body   string
}

// sink is a receiver on loopback, which answers as it is told: the first answers
// in their order, then 200.
type sink struct {
	*httptest.Server
	mu      sync.Mutex
	answers []int
	after   string
	calls   chan call
}

func newSink(t *testing.T, answers ...int) *sink {
	s := &sink{answers: answers, calls: make(chan call, 1000)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		status := http.StatusOK
		if len(s.answers) > 0 {
			status, s.answers = s.answers[0], s.answers[1:]
		}
		s.mu.Unlock()
		if s.after != "" {
			w.Header().Set("Retry-After", s.after)
		}
		w.WriteHeader(status)
		s.calls <- call{r.URL.Path, r.Header, string(body)}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *sink) next(t *testing.T) call {
	t.Helper()
	select {
	case c := <-s.calls:
		return c
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was sent")
	}
	return call{}
}

func secretFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// world is what a notifier sees.
type world struct {
	mu   sync.Mutex
	view View
}

func (w *world) set(v View) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.view = v
}

func (w *world) look() View {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.view
}

// running is a notifier under way.
type running struct {
	*Notifier
	stop   func()
	counts map[string]int
	mu     sync.Mutex
	log    *bytes.Buffer
}

func (r *running) count(key string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[key]
}

func start(t *testing.T, dir string, c config.Notifications, w *world) *running {
	t.Helper()
	r := &running{counts: map[string]int{}, log: &bytes.Buffer{}}
	c.Remind, c.Digest = 4*time.Hour, "off"
	n, err := Open(Options{
		Config: c, DataDir: dir, Look: w.look, Every: 10 * time.Millisecond, Logger: zerolog.New(zerolog.SyncWriter(r.log)),
		Backoff: func(int) time.Duration { return time.Millisecond },
		Count: func(receiver, outcome string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.counts[receiver+" "+outcome]++
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Notifier = n
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.After(20 * time.Second); !ok(); {
		select {
		case <-deadline:
			t.Fatal(what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func jsonOf(t *testing.T, text string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return out
}

// example is one message of a failed environment.
func example(phase Phase) Message {
	return Message{ID: "msg-1", At: noon, Link: "https://holdfast.example.org", Notices: []Notice{{
		Alert: Alert{
			Fingerprint: "failed/prod", Kind: Failed, Environment: "prod", Severity: drift.High, Title: "it failed",
			Text: "deploy.yaml:3:5: <!channel> [wrong](http://evil.example)", Labels: map[string]string{"team": "shop"}, Since: noon,
		}, Phase: phase, At: noon,
	}}}
}

func TestEachSenderSpeaksAsItsReceiverReads(t *testing.T) {
	for kind, check := range map[string]func(t *testing.T, c call, body map[string]any){
		"slack": func(t *testing.T, c call, body map[string]any) {
			if text := body["text"].(string); !strings.Contains(text, "&lt;!channel&gt;") || !strings.Contains(text, "prod: it failed") {
				t.Errorf("text %s", text)
			}
		},
		"teams": func(t *testing.T, c call, body map[string]any) {
			if !strings.Contains(c.body, `"type":"AdaptiveCard"`) || !strings.Contains(c.body, `\\[wrong\\]`) {
				t.Errorf("body %s", c.body)
			}
		},
		"discord": func(t *testing.T, c call, body map[string]any) {
			if !strings.Contains(c.body, `"allowed_mentions":{"parse":[]}`) || !strings.Contains(body["content"].(string), "it failed") {
				t.Errorf("body %s", c.body)
			}
		},
		"webhook": func(t *testing.T, c call, body map[string]any) {
			mac := hmac.New(sha256.New, []byte(planted))
			mac.Write([]byte(c.header.Get("X-Holdfast-Timestamp") + "." + c.body))
			if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); c.header.Get("X-Holdfast-Signature") != want || body["id"] != "msg-1" {
				t.Errorf("signature %s, want %s; id %v", c.header.Get("X-Holdfast-Signature"), want, body["id"])
			}
		},
		"pagerduty": func(t *testing.T, c call, body map[string]any) {
			payload := body["payload"].(map[string]any)
			if body["routing_key"] != planted || body["dedup_key"] != "failed/prod" || body["event_action"] != "trigger" || payload["severity"] != "error" {
				t.Errorf("body %s", c.body)
			}
		},
		"opsgenie": func(t *testing.T, c call, body map[string]any) {
			if c.path != "/v2/alerts" || body["alias"] != "failed/prod" || body["priority"] != "P2" || c.header.Get("Authorization") != "GenieKey "+planted {
				t.Errorf("%s: %s", c.path, c.body)
			}
		},
		"cloudevents": func(t *testing.T, c call, body map[string]any) {
			if body["specversion"] != "1.0" || body["id"] != "msg-1" || c.header.Get("Content-Type") != "application/cloudevents+json" || c.header.Get("Authorization") != "Bearer "+planted {
				t.Errorf("body %s", c.body)
			}
		},
	} {
		t.Run(kind, func(t *testing.T) {
			s := newSink(t)
			r, err := newReceiver(config.Receiver{Name: "x", Kind: kind, URL: s.URL, SecretFile: secretFile(t, planted)}, config.Notifications{})
			if err != nil {
				t.Fatal(err)
			}
			if err := r.send(t.Context(), example(New)); err != nil {
				t.Fatal(err)
			}
			c := s.next(t)
			check(t, c, jsonOf(t, c.body))
		})
	}
}

func TestIncidentsEndUnderTheirOwnName(t *testing.T) {
	s := newSink(t)
	send := func(kind string) call {
		r, err := newReceiver(config.Receiver{Name: "x", Kind: kind, URL: s.URL, SecretFile: secretFile(t, planted)}, config.Notifications{Remind: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.send(t.Context(), example(Resolved)); err != nil {
			t.Fatal(err)
		}
		return s.next(t)
	}
	if c := send("pagerduty"); jsonOf(t, c.body)["event_action"] != "resolve" {
		t.Errorf("pagerduty: %s", c.body)
	}
	if c := send("opsgenie"); c.path != "/v2/alerts/failed/prod/close" {
		t.Errorf("opsgenie: %s", c.path)
	}
	c := send("alertmanager")
	var alerts []map[string]any
	if err := json.Unmarshal([]byte(c.body), &alerts); err != nil || c.path != "/api/v2/alerts" {
		t.Fatalf("%s: %v", c.path, err)
	}
	labels := alerts[0]["labels"].(map[string]any)
	if alerts[0]["endsAt"] != "2026-05-01T12:00:00Z" || labels["environment"] != "prod" || labels["label_team"] != "shop" {
		t.Errorf("alertmanager: %s", c.body)
	}
}

func TestAMessageComesOnceWhateverTheReceiverSaysFirst(t *testing.T) {
	for name, answers := range map[string][]int{
		"at once": nil, "5xx": {500, 502, 503}, "429": {429}, "a password that is put right": {401, 403, 401, 401},
	} {
		t.Run(name, func(t *testing.T) {
			s, w := newSink(t, answers...), &world{view: env("prod", failing("one"))}
			n := start(t, t.TempDir(), config.Notifications{Receivers: []config.Receiver{{Name: "hook", Kind: "webhook", URL: s.URL, SecretFile: secretFile(t, planted)}}}, w)
			var ids []string
			for range len(answers) + 1 {
				ids = append(ids, s.next(t).header.Get("X-Holdfast-Id"))
			}
			if ids = slices.Compact(ids); len(ids) != 1 {
				t.Errorf("ids %v", ids)
			}
			eventually(t, "it is not settled", func() bool { return n.count("hook sent") == 1 && n.Waiting()["hook"] == 0 })
			w.set(env("prod"))
			if c := s.next(t); !strings.Contains(c.body, `"phase":"resolved"`) {
				t.Errorf("then %s", c.body)
			}
			n.stop()
			if len(s.calls) > 0 || strings.Contains(n.log.String(), planted) {
				t.Errorf("%d more calls, log %s", len(s.calls), n.log)
			}
		})
	}
}

func TestWhatAReceiverRefusesDoesNotBlockTheNext(t *testing.T) {
	s, w := newSink(t, 400, 400, 400), &world{view: env("prod", failing("one"))}
	n := start(t, t.TempDir(), config.Notifications{Receivers: []config.Receiver{{Name: "chat", Kind: "slack", URL: s.URL}}}, w)
	eventually(t, "it is not dropped", func() bool { return n.count("chat dropped") == 1 })
	w.set(env("prod"))
	for range 4 {
		s.next(t)
	}
	eventually(t, "the next is not sent", func() bool { return n.count("chat sent") == 1 })
}

func TestNothingIsLostOrDoubledOverARestart(t *testing.T) {
	dir, w := t.TempDir(), &world{view: env("prod", failing("one"))}
	failures := make([]int, 500)
	for i := range failures {
		failures[i] = 503
	}
	s := newSink(t, failures...)
	c := config.Notifications{Receivers: []config.Receiver{{Name: "hook", Kind: "webhook", URL: s.URL, SecretFile: secretFile(t, planted)}}}
	first := start(t, dir, c, w)
	id := s.next(t).header.Get("X-Holdfast-Id")
	first.stop()
	s.mu.Lock()
	s.answers = nil
	s.mu.Unlock()
	for len(s.calls) > 0 {
		<-s.calls
	}
	// The new process knows nothing of the environment yet.
	w.set(View{})
	second := start(t, dir, c, w)
	if got := s.next(t); got.header.Get("X-Holdfast-Id") != id || !strings.Contains(got.body, `"phase":"new"`) {
		t.Errorf("after the start: %s %s, want %s", got.header.Get("X-Holdfast-Id"), got.body, id)
	}
	eventually(t, "it is not settled", func() bool { return second.Waiting()["hook"] == 0 })
	w.set(env("prod", failing("one")))
	second.RunEnded(reconciler.Run{})
	second.stop()
	third := start(t, dir, c, w)
	third.stop()
	if len(s.calls) > 0 {
		t.Errorf("told again: %s", (<-s.calls).body)
	}
	w.set(env("prod"))
	start(t, dir, c, w)
	if got := s.next(t); !strings.Contains(got.body, `"phase":"resolved"`) {
		t.Errorf("the end: %s", got.body)
	}
	if data, err := os.ReadFile(filepath.Join(dir, FileName)); err != nil || strings.Contains(string(data), planted) {
		t.Errorf("%v: %s", err, data)
	}
}

func TestABrokenFileIsPutAside(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSink(t)
	start(t, dir, config.Notifications{Receivers: []config.Receiver{{Name: "chat", Kind: "slack", URL: s.URL}}}, &world{view: env("prod", failing("one"))})
	s.next(t)
	if _, err := os.Stat(filepath.Join(dir, FileName+".broken")); err != nil {
		t.Error(err)
	}
}

func TestWhatHappensTogetherIsToldTogether(t *testing.T) {
	s, w := newSink(t), &world{}
	v := View{Settled: true}
	for i := range 30 {
		v.Environments = append(v.Environments, env("env-"+itoa(i), failing("one")).Environments...)
	}
	w.set(v)
	start(t, t.TempDir(), config.Notifications{Group: 50 * time.Millisecond, Receivers: []config.Receiver{{Name: "chat", Kind: "slack", URL: s.URL}}}, w)
	text := jsonOf(t, s.next(t).body)["text"].(string)
	if !strings.HasPrefix(text, "Holdfast: 30 new failed\n") || !strings.Contains(text, "and 10 more") {
		t.Errorf("text %s", text)
	}
}

func TestWhatReceiversAskForIsWaitedFor(t *testing.T) {
	s := newSink(t, 429)
	s.after = "90"
	n, err := Open(Options{
		Config:  config.Notifications{Receivers: []config.Receiver{{Name: "chat", Kind: "slack", URL: s.URL}}, Digest: "off"},
		DataDir: t.TempDir(), Look: func() View { return env("prod", failing("one")) }, Now: func() time.Time { return noon },
	})
	if err != nil {
		t.Fatal(err)
	}
	n.look(noon)
	r := n.receivers["chat"]
	f, _ := n.next("chat", r, noon)
	if pause := n.settle("chat", f, r.send(t.Context(), f.Message)); pause != 90*time.Second {
		t.Errorf("it is left alone for %s", pause)
	}
}

func TestErrorsNameNoAddressAndNoSecret(t *testing.T) {
	file := secretFile(t, "http://127.0.0.1:1/services/"+planted)
	r, err := newReceiver(config.Receiver{Name: "chat", Kind: "slack", URLFile: file}, config.Notifications{})
	if err != nil {
		t.Fatal(err)
	}
	err = r.send(t.Context(), example(New))
	var e sendError
	if !errors.As(err, &e) || strings.Contains(err.Error(), planted) {
		t.Errorf("error %v", err)
	}
}

func TestTemplatesAreBoundedAndTriedFirst(t *testing.T) {
	for text, want := range map[string]string{
		"{{.Title}}!": "[new] prod: it failed!", "{{range .Notices}}{{.Environment}} {{.Severity}}{{end}}": "prod high",
	} {
		r, err := newReceiver(config.Receiver{Kind: "slack", Template: text}, config.Notifications{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.body(example(New)); err != nil || got != want {
			t.Errorf("%s = %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"{{", "{{.Nothing}}", `{{env "HOME"}}`, "{{range 100000}}xxxxxxxxxx{{end}}"} {
		if _, err := newReceiver(config.Receiver{Kind: "slack", Template: text}, config.Notifications{}); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}

func TestATestSaysWhatCameOfIt(t *testing.T) {
	good, bad := newSink(t), newSink(t, 500, 500)
	n := start(t, t.TempDir(), config.Notifications{Receivers: []config.Receiver{{Name: "good", Kind: "slack", URL: good.URL}, {Name: "bad", Kind: "slack", URL: bad.URL}}}, &world{})
	all, err := n.Test(t.Context(), "")
	if err != nil || len(all) != 2 || all[0].Error != "the receiver answered 500 Internal Server Error" || all[1].Error != "" {
		t.Errorf("%v, %v", all, err)
	}
	if one, err := n.Test(t.Context(), "good"); err != nil || len(one) != 1 {
		t.Errorf("%v, %v", one, err)
	}
	if _, err := n.Test(t.Context(), "gud"); err == nil || !strings.Contains(err.Error(), "bad, good") {
		t.Errorf("%v", err)
	}
}

func TestAnAttemptUnderWayIsNotCutOffByTheEnd(t *testing.T) {
	came, goOn := make(chan string, 10), make(chan bool)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		came <- r.Header.Get("X-Holdfast-Id")
		<-goOn
	}))
	defer server.Close()
	dir, w := t.TempDir(), &world{view: env("prod", failing("one"))}
	c := config.Notifications{Receivers: []config.Receiver{{Name: "hook", Kind: "webhook", URL: server.URL, SecretFile: secretFile(t, planted)}}}
	first := start(t, dir, c, w)
	<-came
	stopped := make(chan bool)
	go func() {
		defer close(stopped)
		first.stop()
	}()
	close(goOn)
	<-stopped
	second := start(t, dir, c, w)
	second.stop()
	if len(came) > 0 || first.count("hook sent") != 1 {
		t.Errorf("%d more calls, %d sent", len(came), first.count("hook sent"))
	}
}
