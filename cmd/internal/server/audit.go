package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift/audit"
)

// auditLimit bounds a batch of audit events.
const auditLimit = 16 << 20

// Auditor takes audit events, whose sender has proved itself.
type Auditor interface {
	Audited(events []audit.Event)
}

// withAudit lets batches of audit events pass beside next: their sender has a
// token of its own, also at the socket, and may do nothing else with it.
func (s *Server) withAudit(next http.Handler) http.Handler {
	if s.opts.Audit == nil || s.opts.AuditTokenFile == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != api.PathAudit {
			next.ServeHTTP(w, r)
			return
		}
		s.audit(w, r)
	})
}

func (s *Server) audit(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		writeProblem(w, r, api.Problem{Status: http.StatusMethodNotAllowed, Detail: "audit events are posted"})
		return
	}
	want, err := auditToken(s.opts.AuditTokenFile)
	if err != nil {
		s.opts.Logger.Error().Err(err).Msg("token for audit events cannot be read")
		writeProblem(w, r, api.Problem{Status: http.StatusServiceUnavailable, Detail: "the server cannot read its token for audit events"})
		return
	}
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	a, b := sha256.Sum256([]byte(strings.TrimSpace(given))), sha256.Sum256([]byte(want))
	if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		w.Header().Set("WWW-Authenticate", "Bearer")
		s.refuse(w, r, api.Problem{
			Status: http.StatusUnauthorized, Detail: "the token is missing or wrong",
			Hint: "the API server's audit webhook needs the token of audit.tokenFile in its kubeconfig",
		})
		return
	}
	events, err := audit.Decode(r.Body)
	if err != nil {
		writeProblem(w, r, badRequest(err))
		return
	}
	s.opts.Audit.Audited(events)
	w.WriteHeader(http.StatusNoContent)
}

// auditToken reads the file for each batch, so that a rotated token counts at
// once.
func auditToken(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if len(token) < minToken || len(data) > maxToken {
		return "", fmt.Errorf("token file %s holds %d characters, and from %d to %d can be", file, len(data), minToken, maxToken)
	}
	return token, nil
}
