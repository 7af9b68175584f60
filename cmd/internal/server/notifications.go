package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
)

// Notifications tells people.
type Notifications interface {
	// TestNotifications sends a test to a receiver, or to all. Its error is an
	// api.Problem where there is no such receiver.
	TestNotifications(ctx context.Context, receiver string) (api.NotifyOutcomes, error)
}

// testNotifications sends while the caller waits.
func (s *Server) testNotifications(w http.ResponseWriter, r *http.Request) {
	var req api.NotifyTest
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		writeProblem(w, r, badRequest(fmt.Errorf("the body is no request for a test: %w", err)))
		return
	}
	// It fails only where there is no connection, as in tests of a handler.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(api.NotifyTestTimeout + writeTimeout))
	ctx, cancel := context.WithTimeout(r.Context(), api.NotifyTestTimeout)
	defer cancel()
	out, err := s.opts.Notifications.TestNotifications(ctx, req.Receiver)
	var p api.Problem
	switch {
	case errors.As(err, &p):
		writeProblem(w, r, p)
		return
	case err != nil:
		panic(err) // recovered answers
	}
	failed := 0
	for _, o := range out.Outcomes {
		if o.Error != "" {
			failed++
		}
	}
	s.record(r, ledger.Action{Verb: "notify test", Subject: req.Receiver, Outcome: fmt.Sprintf("%d sent, %d failed", len(out.Outcomes)-failed, failed)})
	writeJSON(w, r, http.StatusOK, out)
}
