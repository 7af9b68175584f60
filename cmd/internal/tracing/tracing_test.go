package tracing

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

// collector takes traces on the loopback.
type collector struct {
	t *testing.T
	*httptest.Server
	mu    sync.Mutex
	spans []*tracepb.Span
	calls []http.Header
	// answers are the statuses to give before taking anything.
	answers []int
	came    chan struct{}
}

func newCollector(t *testing.T, secure bool, answers ...int) *collector {
	c := &collector{t: t, answers: answers, came: make(chan struct{}, 100)}
	if c.Server = httptest.NewUnstartedServer(c); secure {
		c.StartTLS()
	} else {
		c.Start()
	}
	t.Cleanup(c.Close)
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() { c.came <- struct{}{} }()
	c.calls = append(c.calls, r.Header.Clone())
	if len(c.answers) > 0 {
		status := c.answers[0]
		c.answers = c.answers[1:]
		w.WriteHeader(status)
		return
	}
	body, err := io.ReadAll(r.Body)
	var data tracepb.TracesData
	if err == nil {
		err = proto.Unmarshal(body, &data)
	}
	if err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" || r.URL.Path != "/v1/traces" {
		c.t.Errorf("%s %s: %v", r.Method, r.URL, err)
	}
	for _, resource := range data.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			c.spans = append(c.spans, scope.Spans...)
		}
	}
}

// running runs a tracer until stop is called, which sends what is left.
func (c *collector) running(o Options) (_ *Tracer, stop func()) {
	c.t.Helper()
	o.Endpoint, o.Pause, o.Version = c.URL+"/v1/traces", time.Millisecond, "v1"
	if o.Every == 0 {
		o.Every = time.Hour
	}
	if o.SamplePercent == 0 {
		o.SamplePercent = 100
	}
	tracer, err := New(o)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- tracer.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				c.t.Error(err)
			}
		})
	}
	c.t.Cleanup(stop)
	return tracer, stop
}

// tree is what came, by name, and checks that all of it is below one root.
func (c *collector) tree(root string) map[string]*tracepb.Span {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]*tracepb.Span{}
	for _, s := range c.spans {
		out[s.Name] = s
	}
	top := out[root]
	if top == nil {
		c.t.Fatalf("no span %s in %v", root, c.spans)
	}
	for _, s := range out {
		if !bytes.Equal(s.TraceId, top.TraceId) || s != top && !bytes.Equal(s.ParentSpanId, top.SpanId) || s.EndTimeUnixNano < s.StartTimeUnixNano {
			c.t.Errorf("%s is no part of it: %v", s.Name, s)
		}
	}
	return out
}

func attributes(s *tracepb.Span) map[string]string {
	out := map[string]string{}
	for _, a := range s.Attributes {
		if out[a.Key] = a.Value.GetStringValue(); out[a.Key] == "" {
			out[a.Key] = fmt.Sprint(a.Value.GetIntValue())
		}
	}
	return out
}

func aRun() reconciler.RunTrace {
	return reconciler.RunTrace{
		Run: reconciler.Run{
			ID: "run-1", Environment: "prod", Revision: sources.Revision{ID: "abc"}, Result: reconciler.Applied, Started: at(3), Finished: at(6),
			Trigger: reconciler.Trigger{Reason: reconciler.ReasonWebhook, Actor: "webhook forge"}, Counts: reconciler.Counts{Updated: 2},
			Errors: sources.Problems{{Message: "sentinel"}},
		},
		Target: "near", Origin: reconciler.Origin{Asked: at(0), Fetched: at(1), FetchEnded: at(2)},
		Phases:  []reconciler.Phase{{Name: "render", Began: at(3), Ended: at(4)}, {Name: "apply", Began: at(4), Ended: at(6)}},
		Objects: []reconciler.Touched{{Object: sources.ID{Kind: "ConfigMap", Namespace: "web", Name: "a"}, Op: reconciler.OpUpdate, At: at(5)}},
	}
}

func TestARunIsOneTraceFromItsCauseToHealth(t *testing.T) {
	c := newCollector(t, false)
	tracer, stop := c.running(Options{})
	id, settled := tracer.TraceRun(aRun())
	settled(reconciler.HealthReady, at(20))
	stop()
	spans := c.tree("run")
	for name, want := range map[string][2]int{"run": {0, 20}, "trigger": {0, 1}, "fetch": {1, 2}, "render": {3, 4}, "apply": {4, 6}, "wait for health": {6, 20}} {
		s := spans[name]
		if s == nil || s.StartTimeUnixNano != uint64(at(want[0]).UnixNano()) || s.EndTimeUnixNano != uint64(at(want[1]).UnixNano()) {
			t.Errorf("%s: %v", name, s)
		}
	}
	got := attributes(spans["run"])
	for key, want := range map[string]string{
		"holdfast.run": "run-1", "holdfast.environment": "prod", "holdfast.target": "near", "holdfast.revision": "abc", "holdfast.result": "applied",
		"holdfast.reason": "webhook", "holdfast.actor": "webhook forge", "holdfast.count.updated": "2", "holdfast.errors": "1", "holdfast.health": "ready",
	} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
	if id != hex.EncodeToString(spans["run"].TraceId) || len(spans["run"].ParentSpanId) != 0 {
		t.Errorf("id %s of %v", id, spans["run"])
	}
	if e := spans["apply"].Events; len(e) != 1 || e[0].Name != "update" || e[0].Attributes[0].Value.GetStringValue() != "ConfigMap/web/a" {
		t.Errorf("events: %v", e)
	}
	if strings.Contains(fmt.Sprint(c.spans), "sentinel") {
		t.Error("the text of an error is in the trace")
	}
	if s := tracer.Stats(); s.Sent != 6 || s.Dropped != 0 {
		t.Errorf("%+v", s)
	}
}

func TestWhatFailedIsMarked(t *testing.T) {
	c := newCollector(t, false)
	tracer, stop := c.running(Options{})
	r := aRun()
	r.Phases[0].Failed, r.Objects[0].Failed = true, true
	_, settled := tracer.TraceRun(r)
	settled(reconciler.HealthFailed, at(20))
	stop()
	spans := c.tree("run")
	for name, bad := range map[string]bool{"run": true, "render": true, "apply": false, "wait for health": true, "fetch": false} {
		if got := spans[name].Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR; got != bad {
			t.Errorf("%s: failed is %v", name, got)
		}
	}
	if got := spans["apply"].Events[0].Attributes[1].Value.GetStringValue(); got != "failed" {
		t.Errorf("the object is %s", got)
	}
}

func TestARunWithNothingToWaitForEndsAtOnce(t *testing.T) {
	c := newCollector(t, false)
	tracer, stop := c.running(Options{})
	_, settled := tracer.TraceRun(aRun())
	settled("", at(6))
	stop()
	if spans := c.tree("run"); spans["wait for health"] != nil || spans["run"].EndTimeUnixNano != uint64(at(6).UnixNano()) {
		t.Errorf("%v", spans)
	}
}

func TestACorrectionIsATraceOfItsOwn(t *testing.T) {
	c := newCollector(t, false)
	tracer, stop := c.running(Options{})
	tracer.TraceCorrection(reconciler.CorrectionTrace{
		Environment: "prod", Target: "near", Sensed: at(0), Began: at(1), Read: at(2), Ended: at(3), Counts: reconciler.Counts{Corrected: 1}, Objects: aRun().Objects,
	})
	stop()
	spans := c.tree("correction")
	if len(spans) != 4 || spans["sense"] == nil || spans["read"] == nil || len(spans["apply"].Events) != 1 || attributes(spans["correction"])["holdfast.count.corrected"] != "1" {
		t.Errorf("%v", spans)
	}
}

func TestTheCallersTraceIsGoneOnWith(t *testing.T) {
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	c := newCollector(t, false)
	tracer, stop := c.running(Options{SamplePercent: -1})
	r := aRun()
	r.Origin.Parent = "00-" + trace + "-" + span + "-01" // who asks wants it, whatever our share is
	id, settled := tracer.TraceRun(r)
	settled("", at(6))
	r.Origin.Parent = "00-" + trace + "-" + span + "-00"
	if id, settled := tracer.TraceRun(r); id != "" || settled != nil {
		t.Errorf("who asks does not want it, and it is kept: %s", id)
	}
	r.Origin.Parent = ""
	if id, _ := tracer.TraceRun(r); id != "" {
		t.Error("a share of nothing is kept")
	}
	stop()
	if root := c.tree("run")["run"]; id != trace || hex.EncodeToString(root.ParentSpanId) != span {
		t.Errorf("%s below %x", id, root.ParentSpanId)
	}
}

func TestOnlyTraceparentsAreTaken(t *testing.T) {
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for text, want := range map[string]string{
		good: good, " " + good: good, "cc" + good[2:] + "-more": "cc" + good[2:],
		"": "", "x": "", good + "-more": "", "ff" + good[2:]: "", strings.ToUpper(good): "", good[:54]: "",
		"00-00000000000000000000000000000000-b7ad6b7169203331-01": "", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01": "",
		good + "\nX: y": "", "cc" + good[2:] + "-" + strings.Repeat("x", 300): "",
	} {
		if got := ValidParent(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestACollectorIsTriedAgainWhereThatHelps(t *testing.T) {
	for _, test := range []struct {
		answers              []int
		calls, sent, dropped int
	}{
		{[]int{429, 503, 502}, 4, 4, 0},
		{[]int{400}, 1, 0, 4},
		{[]int{307}, 1, 0, 4},
		{[]int{503, 503, 503, 503, 503}, tries, 0, 4},
	} {
		c := newCollector(t, false, test.answers...)
		var log bytes.Buffer
		tracer, stop := c.running(Options{Every: time.Millisecond, Log: zerolog.New(zerolog.SyncWriter(&log))})
		tracer.TraceCorrection(reconciler.CorrectionTrace{Sensed: at(0), Began: at(1), Read: at(2), Ended: at(3)})
		for range test.calls {
			<-c.came
		}
		for s := tracer.Stats(); s.Sent+s.Dropped == 0; s = tracer.Stats() {
			runtime.Gosched()
		}
		stop()
		s := tracer.Stats()
		if len(c.calls) != test.calls || s.Sent != int64(test.sent) || s.Dropped != int64(test.dropped) {
			t.Errorf("%v: %d calls, %+v", test.answers, len(c.calls), s)
		}
		if said := strings.Contains(log.String(), "traces cannot be sent"); said != (test.dropped > 0) {
			t.Errorf("%v: %s", test.answers, log.String())
		}
	}
}

func TestWhatFindsNoRoomIsCounted(t *testing.T) {
	tracer, err := New(Options{Endpoint: "http://127.0.0.1:1/v1/traces", SamplePercent: 100})
	if err != nil {
		t.Fatal(err)
	}
	for range maxWaiting/4 + 10 {
		tracer.TraceCorrection(reconciler.CorrectionTrace{Sensed: at(0), Began: at(1), Read: at(2), Ended: at(3)})
	}
	if len(tracer.waiting) != maxWaiting || tracer.Stats().Dropped != 40 {
		t.Errorf("%d wait, %+v", len(tracer.waiting), tracer.Stats())
	}
}

func TestHeadersAndAuthoritiesComeFromFiles(t *testing.T) {
	c := newCollector(t, true)
	dir := t.TempDir()
	headers, authority := filepath.Join(dir, "headers"), filepath.Join(dir, "ca.pem")
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(headers, "# of the collector\nAuthorization: Bearer sentinel\n\nX-Tenant:  shop \n")
	write(authority, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate().Raw})))
	tracer, stop := c.running(Options{HeadersFile: headers, CAFile: authority})
	tracer.TraceCorrection(reconciler.CorrectionTrace{Sensed: at(0), Began: at(1), Read: at(2), Ended: at(3)})
	stop()
	if len(c.calls) != 1 || c.calls[0].Get("Authorization") != "Bearer sentinel" || c.calls[0].Get("X-Tenant") != "shop" || tracer.Stats().Sent != 4 {
		t.Errorf("%v, %+v", c.calls, tracer.Stats())
	}
	write(headers, "sentinel without a colon")
	if err := tracer.headers(http.Header{}); err == nil || strings.Contains(err.Error(), "sentinel") || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("bad headers: %v", err)
	}
	write(authority, "nonsense")
	if _, err := New(Options{CAFile: authority}); err == nil {
		t.Error("an authority of nonsense is taken")
	}
	unknown, err := New(Options{Endpoint: c.URL})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unknown.post(t.Context(), nil); !errors.As(err, new(x509.UnknownAuthorityError)) {
		t.Errorf("an unknown authority: %v", err)
	}
	unknown.client.CloseIdleConnections()
}

func TestAShareOfTracesIsKept(t *testing.T) {
	tracer, err := New(Options{SamplePercent: 25})
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for range 4000 {
		if _, keep := tracer.begin(""); keep {
			kept++
		}
	}
	if kept < 800 || kept > 1200 { // which chance misses once in 10^12
		t.Errorf("%d of 4000 are kept", kept)
	}
	if slices.Contains([]int{0, 4000}, kept) {
		t.Error("all or nothing")
	}
}

func TestWhatIsUnderWayAtTheEndIsSentOnceMore(t *testing.T) {
	held, entered := make(chan struct{}), make(chan struct{}, 10)
	var mu sync.Mutex
	calls := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		calls++
		first := calls == 1
		mu.Unlock()
		entered <- struct{}{}
		if first {
			<-held
		}
	}))
	defer s.Close()
	tracer, err := New(Options{Endpoint: s.URL, SamplePercent: 100, Every: time.Millisecond, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	tracer.TraceCorrection(reconciler.CorrectionTrace{Sensed: at(0), Began: at(1), Read: at(2), Ended: at(3)})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- tracer.Run(ctx) }()
	<-entered
	cancel()
	if err := <-ended; err != nil || tracer.Stats() != (Stats{Sent: 4}) {
		t.Errorf("%v, %+v", err, tracer.Stats())
	}
	close(held)
}
