package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
)

const (
	// maxAge bounds how old an answer may be that nothing was told to have changed:
	// some things move without a word, such as when a watch was last heard of.
	maxAge = time.Second
	// share is the part of one core that making the same answer again and again may
	// take, as its inverse.
	share = 40
	// maxPace bounds how long an answer is put off for that.
	maxPace = 500 * time.Millisecond
	// maxAnswers and maxAnswerBytes bound what is kept.
	maxAnswers     = 64
	maxAnswerBytes = 16 << 20
	// makeTimeout bounds the making of an answer that many may wait for.
	makeTimeout = 15 * time.Second
)

// answers keeps encoded answers, so that many readers of one list cost little more
// than one. Nobody gets an answer that was begun before something changed that
// happened before the call: where much changes, answers are not older but later, so
// that making them takes a bounded share of a core.
type answers struct {
	mu    sync.Mutex
	kept  map[string]*keptAnswer
	bytes int
}

// keptAnswer is one encoded answer.
type keptAnswer struct {
	// making is held by who makes it.
	making chan struct{}
	// What follows belongs to the holder of making.
	body    []byte
	tag     string
	eventID string
	version uint64
	begun   time.Time
	took    time.Duration
}

func newAnswers() *answers { return &answers{kept: map[string]*keptAnswer{}} }

// find is the answer of a key, which may not be made yet.
func (a *answers) find(key string) *keptAnswer {
	a.mu.Lock()
	defer a.mu.Unlock()
	if known := a.kept[key]; known != nil {
		return known
	}
	if len(a.kept) >= maxAnswers || a.bytes > maxAnswerBytes {
		a.drop()
	}
	fresh := &keptAnswer{making: make(chan struct{}, 1)}
	a.kept[key] = fresh
	return fresh
}

// drop forgets all; who holds one goes on with it. It needs a.mu.
func (a *answers) drop() { a.kept, a.bytes = map[string]*keptAnswer{}, 0 }

// Rest drops what is kept only to answer sooner.
func (s *Server) Rest() {
	s.answers.mu.Lock()
	defer s.answers.mu.Unlock()
	s.answers.drop()
}

func (a *answers) grew(by int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bytes += by
}

// answerCached answers with what values makes, or says that it is what the caller
// has. The second of its values, when not nil, stands for the first where it comes
// to whether that is the same; its problem, when not nil, is the answer.
func (s *Server) answerCached(w http.ResponseWriter, r *http.Request, values func(context.Context) (v, tag any, p *api.Problem)) {
	arrived := time.Now()
	if s.opts.Events == nil { // nothing says what changes
		a := &keptAnswer{}
		if p := s.make(r, a, values); p != nil {
			writeProblem(w, r, *p)
			return
		}
		a.write(w, r)
		return
	}
	query := r.URL.Query()
	a := s.answers.find(callerOf(r).scope() + "\x00" + r.URL.Path + "\x00" + query.Encode())
	select {
	case a.making <- struct{}{}:
	case <-r.Context().Done():
		return
	}
	if !a.current(arrived, s.opts.Events.Version()) {
		if !a.pace(r.Context()) {
			<-a.making
			return
		}
		before := len(a.body)
		if p := s.make(r, a, values); p != nil {
			<-a.making
			writeProblem(w, r, *p)
			return
		}
		s.answers.grew(len(a.body) - before)
	}
	now := *a
	<-a.making
	now.write(w, r)
}

// current needs making.
func (a *keptAnswer) current(arrived time.Time, version uint64) bool {
	return a.body != nil && (a.begun.After(arrived) || a.version == version && time.Since(a.begun) < maxAge)
}

// pace puts off the making of an answer that was made just now. It needs making.
func (a *keptAnswer) pace(ctx context.Context) bool {
	wait := min(a.took*share, maxPace) - time.Since(a.begun)
	if a.body == nil || wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// make needs making.
func (s *Server) make(r *http.Request, a *keptAnswer, values func(context.Context) (v, tag any, p *api.Problem)) *api.Problem {
	begun := time.Now()
	version, id := uint64(0), ""
	if s.opts.Events != nil {
		version, id = s.opts.Events.Version(), s.opts.Events.ID()
	}
	// Others may wait for it when this caller has gone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), makeTimeout)
	defer cancel()
	v, standIn, p := values(ctx)
	if p != nil {
		return p
	}
	body := encode(r, v)
	tagged := body
	if standIn != nil {
		tagged = encode(r, standIn)
	}
	sum := sha256.Sum256(tagged)
	tag := `"` + hex.EncodeToString(sum[:12]) + `"`
	if standIn != nil { // the same in all that matters
		tag = "W/" + tag
	}
	a.body, a.tag, a.version, a.eventID, a.begun, a.took = body, tag, version, id, begun, time.Since(begun)
	return nil
}

// encode is JSON with a new line at its end, indented for who asks for ?pretty.
func encode(r *http.Request, v any) []byte {
	var (
		data []byte
		err  error
	)
	if r.URL.Query().Has("pretty") {
		data, err = json.MarshalIndent(v, "", "  ")
	} else {
		data, err = json.Marshal(v)
	}
	if err != nil {
		panic(err) // recovered answers; our own types always encode
	}
	return append(data, '\n')
}

func (a *keptAnswer) write(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("ETag", a.tag)
	if a.eventID != "" {
		h.Set(api.EventIDHeader, a.eventID)
	}
	if matches(r.Header.Values("If-None-Match"), a.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	w.Write(a.body) // an error means that the caller has gone
}

// matches compares as If-None-Match asks for: weakly.
func matches(given []string, tag string) bool {
	tag = strings.TrimPrefix(tag, "W/")
	for _, line := range given {
		if slices.ContainsFunc(strings.Split(line, ","), func(one string) bool {
			one = strings.TrimPrefix(strings.TrimSpace(one), "W/")
			return one == tag || one == "*"
		}) {
			return true
		}
	}
	return false
}
