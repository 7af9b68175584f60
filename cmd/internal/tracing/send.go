package tracing

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// The bounds of what waits to be sent, and of the sending.
const (
	maxWaiting  = 4096
	maxBatch    = 512
	sendTimeout = 10 * time.Second
	tries       = 5
	// maxRetryAfter bounds how long a collector may make us wait.
	maxRetryAfter = time.Minute
)

// Options are what a tracer needs.
type Options struct {
	// Endpoint is where the collector takes traces, with its path.
	Endpoint string
	// HeadersFile has lines of "Name: value" to send, read for every batch, and
	// CAFile certificates to trust beside the system's.
	HeadersFile, CAFile string
	// SamplePercent is how many of a hundred traces are kept.
	SamplePercent int
	Version       string
	Log           zerolog.Logger
	// Every is how often what waits is sent; zero has a default. Pause is the first
	// one after a failure.
	Every, Pause time.Duration
}

// Stats count spans.
type Stats struct{ Sent, Dropped int64 }

// Tracer makes spans and sends them. It implements reconciler.Tracer; make it with
// New, then Run it.
type Tracer struct {
	opts   Options
	client *http.Client
	wake   chan struct{}

	mu      sync.Mutex
	waiting []*tracepb.Span

	sent, dropped atomic.Int64
	// failing: the last batch could not be sent.
	failing bool
}

// New makes a tracer; it connects nowhere.
func New(o Options) (*Tracer, error) {
	if o.Every == 0 {
		o.Every = 5 * time.Second
	}
	if o.Pause == 0 {
		o.Pause = time.Second
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConns: 1, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: sendTimeout}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tracing.caFile: %w", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tracing.caFile: %s holds no certificate in PEM", o.CAFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	client := &http.Client{
		Transport: transport, Timeout: sendTimeout,
		// Headers may hold a credential, which is for nobody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &Tracer{opts: o, client: client, wake: make(chan struct{}, 1)}, nil
}

// Stats are what became of the spans.
func (t *Tracer) Stats() Stats { return Stats{Sent: t.sent.Load(), Dropped: t.dropped.Load()} }

// put lets spans wait. What finds no room is counted and lost.
func (t *Tracer) put(spans ...*tracepb.Span) {
	t.mu.Lock()
	room := min(maxWaiting-len(t.waiting), len(spans))
	t.waiting = append(t.waiting, spans[:room]...)
	full := len(t.waiting) >= maxBatch
	t.mu.Unlock()
	t.dropped.Add(int64(len(spans) - room))
	if full {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

func (t *Tracer) take() []*tracepb.Span {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(len(t.waiting), maxBatch)
	out := t.waiting[:n:n]
	t.waiting = append([]*tracepb.Span(nil), t.waiting[n:]...)
	return out
}

// Run sends what waits until ctx ends, and then once more what is left.
func (t *Tracer) Run(ctx context.Context) error {
	defer t.client.CloseIdleConnections()
	tick := time.NewTicker(t.opts.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			t.drain(end, true)
			return nil
		case <-tick.C:
		case <-t.wake:
		}
		t.drain(ctx, false)
	}
}

// giveBack lets a batch wait again, before what came since.
func (t *Tracer) giveBack(batch []*tracepb.Span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting = append(batch, t.waiting...)
}

// drain sends all that waits; last is when there is no later.
func (t *Tracer) drain(ctx context.Context, last bool) {
	for {
		batch := t.take()
		if len(batch) == 0 {
			return
		}
		err := t.deliver(ctx, batch)
		if err != nil && ctx.Err() != nil && !last {
			t.giveBack(batch) // the end sends it
			return
		}
		if err != nil {
			t.dropped.Add(int64(len(batch)))
		} else {
			t.sent.Add(int64(len(batch)))
		}
		t.note(err)
		if err != nil {
			return
		}
	}
}

// note says once that traces cannot be sent, and once that they can again.
func (t *Tracer) note(err error) {
	if was := t.failing; was != (err != nil) {
		if t.failing = err != nil; t.failing {
			t.opts.Log.Warn().Err(err).Msg("traces cannot be sent; everything else goes on")
		} else {
			t.opts.Log.Info().Msg("traces can be sent again")
		}
	}
}

// errRefused is an answer that trying again does not change.
var errRefused = errors.New("the collector refuses traces")

// deliver sends a batch, and tries again where that can help.
func (t *Tracer) deliver(ctx context.Context, batch []*tracepb.Span) error {
	// The message that collectors take has the same form on the wire.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{{
		Resource: &resourcepb.Resource{Attributes: []*commonpb.KeyValue{text("service.name", "holdfast"), text("service.version", t.opts.Version)}},
		ScopeSpans: []*tracepb.ScopeSpans{{
			Scope: &commonpb.InstrumentationScope{Name: "github.com/holdfast-gitops/holdfast"}, Spans: batch,
		}},
	}}})
	if err != nil {
		return fmt.Errorf("encode traces: %w", err)
	}
	pause := t.opts.Pause
	for try := 1; ; try++ {
		after, err := t.post(ctx, body)
		if err == nil || errors.Is(err, errRefused) || try == tries || ctx.Err() != nil {
			return err
		}
		timer := time.NewTimer(max(pause, after))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
		pause *= 2
	}
}

func (t *Tracer) post(ctx context.Context, body []byte) (after time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.opts.Endpoint, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errRefused, err)
	}
	if err := t.headers(req.Header); err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("User-Agent", "holdfast/"+t.opts.Version)
	res, err := t.client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("send traces: %w", err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // so that the connection is used again
	switch res.StatusCode {
	case http.StatusOK, http.StatusAccepted, http.StatusNoContent:
		return 0, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if n, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && n > 0 {
			after = min(time.Duration(n)*time.Second, maxRetryAfter)
		}
		return after, fmt.Errorf("send traces: the collector answers %s", res.Status)
	}
	return 0, fmt.Errorf("%w: it answers %s", errRefused, res.Status)
}

// headers adds those of the file. Its lines are in no message: they may hold a
// credential.
func (t *Tracer) headers(h http.Header) error {
	if t.opts.HeadersFile == "" {
		return nil
	}
	f, err := os.Open(t.opts.HeadersFile)
	if err != nil {
		return fmt.Errorf("tracing.headersFile: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return fmt.Errorf("tracing.headersFile: %w", err)
	}
	for i, line := range strings.Split(string(data), "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" || strings.ContainsAny(name, " \t") {
			return fmt.Errorf("tracing.headersFile: line %d is not a name, a colon and a value", i+1)
		}
		h.Set(name, strings.TrimSpace(value))
	}
	return nil
}
