package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
)

// maxBody bounds what is read of a request.
const maxBody = 1 << 20

// contentPolicy is for all that is no page: a browser that is made to show an
// answer of the API loads and runs nothing of it. Pages have their own.
const contentPolicy = "default-src 'none'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"

// writeTimeout is how long an answer may take that waits for nothing.
const writeTimeout = 30 * time.Second

type contextKey int

const (
	requestKey contextKey = iota
	actorKey
	callerKey
)

func requestID(r *http.Request) string {
	id, _ := r.Context().Value(requestKey).(string)
	return id
}

// actor is who calls: the name of a token, or how the caller came.
func actor(r *http.Request) string {
	if c := callerOf(r); c.name != "" {
		return c.name
	}
	who, _ := r.Context().Value(actorKey).(string)
	return who
}

var usableID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// envelope does for every request what none may go without.
func (s *Server) envelope(who string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("X-Request-Id")
		if !usableID.MatchString(id) {
			id = rand.Text()[:12]
		}
		ctx := context.WithValue(r.Context(), requestKey, id)
		r = r.WithContext(context.WithValue(ctx, actorKey, who))
		limit := int64(maxBody)
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/plan") {
			limit = archiveLimit
		} else if r.URL.Path == api.PathAudit {
			limit = auditLimit
		}
		r.Body = http.MaxBytesReader(w, r.Body, limit)
		h := w.Header()
		h.Set("X-Request-Id", id)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", contentPolicy)
		defer s.recovered(w, r)
		next.ServeHTTP(w, r)
	})
}

// recovered keeps a bug in one handler from taking down the connection without a
// word.
func (s *Server) recovered(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	s.opts.Logger.Error().Str("request", requestID(r)).Str("path", r.URL.Path).Str("panic", fmt.Sprint(v)).
		Str("stack", string(debug.Stack())).Msg("request failed")
	writeProblem(w, r, api.Problem{Status: http.StatusInternalServerError, Detail: "the server failed at this request; its log says why"})
}

// writeJSON answers with v, indented for people who ask for ?pretty.
func writeJSON(w http.ResponseWriter, r *http.Request, status int, v any) {
	writeAs(w, r, "application/json", status, v)
}

// writeProblem answers with an error.
func writeProblem(w http.ResponseWriter, r *http.Request, p api.Problem) {
	p.Title, p.RequestID = http.StatusText(p.Status), requestID(r)
	writeAs(w, r, api.ProblemType, p.Status, p)
}

func writeAs(w http.ResponseWriter, r *http.Request, media string, status int, v any) {
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
	w.Header().Set("Content-Type", media)
	w.WriteHeader(status)
	w.Write(append(data, '\n')) // an error means that the caller has gone
}
