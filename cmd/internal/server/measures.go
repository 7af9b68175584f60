package server

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
)

// How far series and measures go back where nothing is said.
const (
	seriesSpan   = 7 * 24 * time.Hour
	deliverySpan = 30 * 24 * time.Hour
)

// backFrom is where the time begins that a query is about.
func (s *Server) backFrom(q historyQuery, span time.Duration) (since, until time.Time) {
	until = s.opts.Now()
	if q.since.IsZero() {
		return until.Add(-span), until
	}
	return q.since, until
}

// series answers with what happened over time.
func (s *Server) series(w http.ResponseWriter, r *http.Request) {
	q, ok := s.history(w, r)
	if !ok {
		return
	}
	buckets, err := bucketsOf(r.URL.Query())
	if err != nil {
		writeProblem(w, r, badRequest(err))
		return
	}
	environment := r.URL.Query().Get("environment")
	if environment != "" && !s.mayKnow(w, r, environment) {
		return
	}
	since, until := s.backFrom(q, seriesSpan)
	out, err := s.opts.Ledger.Series(r.Context(), ledger.SeriesQuery{Environment: environment, Among: callerOf(r).among(), Since: since, Until: until, Buckets: buckets})
	answer(w, r, out, err)
}

func bucketsOf(query url.Values) (int, error) {
	text := cmp.Or(query.Get("buckets"), strconv.Itoa(ledger.DefaultBuckets))
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > ledger.MaxBuckets {
		return 0, fmt.Errorf("buckets must be a number from 1 to %d, and is %q", ledger.MaxBuckets, text)
	}
	return n, nil
}

// delivery answers with how changes get into environments.
func (s *Server) delivery(w http.ResponseWriter, r *http.Request) {
	q, ok := s.history(w, r)
	if !ok {
		return
	}
	environment := r.URL.Query().Get("environment")
	if environment != "" && !s.mayKnow(w, r, environment) {
		return
	}
	since, until := s.backFrom(q, deliverySpan)
	out, err := s.opts.Ledger.Delivery(r.Context(), ledger.DeliveryQuery{Environment: environment, Among: callerOf(r).among(), Since: since, Until: until})
	answer(w, r, out, err)
}
