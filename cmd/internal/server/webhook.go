package server

import (
	"net/http"
	"strings"

	"github.com/holdfast-gitops/holdfast/cmd/internal/server/webhooks"
)

// withWebhooks lets calls of webhooks pass beside next, which asks for tokens and
// our own names: a webhook proves itself by its secret.
func (s *Server) withWebhooks(next http.Handler) http.Handler {
	if s.opts.Webhooks == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, webhooks.Path) {
			s.opts.Webhooks.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}
