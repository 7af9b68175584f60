// Package webhooks receives what forges and others say about pushes, and takes
// from it one thing only: which sources to look at now.
//
// Nothing of a call is parsed before its signature or token was checked over a
// bounded body. What a push names, its commits included, is never believed: the
// source is asked.
package webhooks

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
)

const (
	// Path is where receivers are, with their name behind it.
	Path = "/webhooks/"
	// MaxBody bounds a call's body, in bytes.
	MaxBody = 1 << 20
	// readTimeout is how long a body may take to come.
	readTimeout = 10 * time.Second
	// atOnce bounds the bodies in memory.
	atOnce = 16
)

// Source is what a push is matched with.
type Source struct {
	Name string
	// URL is that of its repository; empty for a directory.
	URL string
	// Ref is a branch or a tag, in short or in full; empty is the default branch.
	Ref string
	// AnyRef: more than Ref is of interest, such as branches for previews.
	AnyRef bool
}

// Options are what a handler needs. All but Count and Now are required.
type Options struct {
	// Receivers and Sources are those of the configuration in force.
	Receivers func() []config.Webhook
	Sources   func() []Source
	// Look asks for a look at a source now. It must not wait for it. Traceparent is
	// what the caller sent as such, unchecked.
	Look func(source, actor, traceparent string)
	// Count is told of each call of a receiver there is, and what became of it.
	Count  func(receiver, outcome string)
	Logger zerolog.Logger
	Now    func() time.Time
}

// Handler receives. Create it with New.
type Handler struct {
	opts    Options
	clients *clients
	seen    *memory
	slots   chan struct{}
}

// New makes a handler.
func New(o Options) *Handler {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Count == nil {
		o.Count = func(string, string) {}
	}
	return &Handler{opts: o, clients: newClients(), seen: newMemory(), slots: make(chan struct{}, atOnce)}
}

// Answer is what a sender reads.
type Answer struct {
	// Sources are those that are looked at now.
	Sources []string `json:"sources"`
	Detail  string   `json:"detail"`
}

// The outcomes that are counted.
const (
	Looked    = "looked"
	Ignored   = "ignored"
	Unmatched = "unmatched"
	Refused   = "refused"
	Replayed  = "replayed"
	Malformed = "malformed"
	Limited   = "limited"
)

// refusal is why a call comes to nothing.
type refusal struct {
	status  int
	outcome string
	detail  string
}

// Error is the detail.
func (r refusal) Error() string { return r.detail }

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, Path)
	now := h.opts.Now()
	if !h.clients.allow(r.RemoteAddr, now) {
		// Whose calls are too many is not told which receivers there are.
		w.Header().Set("Retry-After", "10")
		problem(w, http.StatusTooManyRequests, "too many calls from this address")
		return
	}
	all := h.opts.Receivers()
	i := slices.IndexFunc(all, func(c config.Webhook) bool { return c.Name == name })
	if i < 0 {
		problem(w, http.StatusNotFound, "there is no receiver of this name")
		return
	}
	if r.Method == http.MethodOptions && all[i].Kind == "cloudevents" {
		handshake(w, r)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		problem(w, http.StatusMethodNotAllowed, "receivers take POST")
		return
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		w.Header().Set("Retry-After", "5")
		problem(w, http.StatusServiceUnavailable, "too many calls at the same time")
		h.opts.Count(name, Limited)
		return
	}
	h.receive(w, r, all[i], now)
}

func (h *Handler) receive(w http.ResponseWriter, r *http.Request, c config.Webhook, now time.Time) {
	answer, outcome, err := h.judge(w, r, c, now)
	var no refusal
	if errors.As(err, &no) {
		h.opts.Count(c.Name, no.outcome)
		h.opts.Logger.Warn().Str("receiver", c.Name).Str("remote", r.RemoteAddr).Int("status", no.status).Str("reason", no.detail).Msg("webhook refused")
		problem(w, no.status, no.detail)
		return
	}
	h.opts.Count(c.Name, outcome)
	h.opts.Logger.Info().Str("receiver", c.Name).Str("remote", r.RemoteAddr).Strs("sources", answer.Sources).Str("detail", answer.Detail).Msg("webhook")
	status := http.StatusOK
	if outcome == Looked {
		status = http.StatusAccepted
	}
	write(w, "application/json", status, answer)
}

// judge reads, checks, parses and matches, in this order.
func (h *Handler) judge(w http.ResponseWriter, r *http.Request, c config.Webhook, now time.Time) (Answer, string, error) {
	body, err := read(w, r)
	if err != nil {
		return Answer{}, "", err
	}
	secrets, err := readSecrets(c.SecretFile)
	if err != nil {
		h.opts.Logger.Error().Err(err).Str("receiver", c.Name).Msg("secret of a webhook cannot be read")
		return Answer{}, "", refusal{http.StatusServiceUnavailable, Refused, "the receiver's secret cannot be read; the daemon's log says why"}
	}
	k := kinds[c.Kind]
	if err := k.check(r.Header, body, secrets, now); err != nil {
		return Answer{}, "", err
	}
	e, err := k.parse(r.Header, body)
	if err != nil {
		return Answer{}, "", refusal{http.StatusBadRequest, Malformed, "the body is not what this sender sends: " + err.Error()}
	}
	if !h.seen.add(c.Name, now, keys(e, body)...) {
		return Answer{}, "", refusal{http.StatusConflict, Replayed, "this was delivered before"}
	}
	if e.ignored != "" {
		return Answer{Sources: []string{}, Detail: e.ignored}, Ignored, nil
	}
	names := e.match(h.opts.Sources())
	if len(names) == 0 {
		return Answer{Sources: []string{}, Detail: "no source follows this repository and ref"}, Unmatched, nil
	}
	for _, name := range names {
		h.opts.Look(name, "webhook "+c.Name, r.Header.Get("traceparent"))
	}
	return Answer{Sources: names, Detail: "looking now"}, Looked, nil
}

// keys name a delivery: by its id, which a thief could change, and where the body
// differs each time by nature, by what was signed.
func keys(e event, body []byte) []string {
	sum := sha256.Sum256(body)
	if e.idWithBody {
		return []string{e.id + "\x00" + string(sum[:])}
	}
	if e.id == "" {
		return []string{string(sum[:])}
	}
	return []string{e.id, string(sum[:])}
}

func read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > MaxBody {
		return nil, tooLarge
	}
	// It fails only where there is no connection, as in tests of a handler.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, tooLarge
	case err != nil:
		return nil, refusal{http.StatusRequestTimeout, Refused, "the body did not come in time"}
	}
	return body, nil
}

var tooLarge = refusal{http.StatusRequestEntityTooLarge, Refused, "the body is larger than " + strconv.Itoa(MaxBody) + " bytes"}

// handshake answers who asks whether events may be sent, as the web hooks of
// CloudEvents have it. What then comes needs the secret all the same.
func handshake(w http.ResponseWriter, r *http.Request) {
	if origin := r.Header.Get("WebHook-Request-Origin"); origin != "" && len(origin) < 256 {
		w.Header().Set("WebHook-Allowed-Origin", origin)
		w.Header().Set("WebHook-Allowed-Rate", "120")
	}
	w.Header().Set("Allow", http.MethodPost)
	w.WriteHeader(http.StatusOK)
}

func problem(w http.ResponseWriter, status int, detail string) {
	write(w, api.ProblemType, status, api.Problem{Title: http.StatusText(status), Status: status, Detail: detail})
}

func write(w http.ResponseWriter, media string, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own types always encode
	}
	w.Header().Set("Content-Type", media)
	w.WriteHeader(status)
	w.Write(append(data, '\n')) // an error means that the caller has gone
}
