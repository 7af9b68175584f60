package server

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift/audit"
)

type heard []audit.Event

func (h *heard) Audited(events []audit.Event) { *h = append(*h, events...) }

func TestAuditEventsNeedATokenOfTheirOwn(t *testing.T) {
	dir := t.TempDir()
	for name, token := range map[string]string{"audit": "audit-token", "server": "server-token"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var got heard
	s := New(Options{
		Engine: newFake("prod"), Audit: &got, AuditTokenFile: filepath.Join(dir, "audit"), TokenFile: filepath.Join(dir, "server"),
		Listen: "127.0.0.1:8080", Logger: zerolog.Nop(),
	})
	good := `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{"stage":"ResponseComplete","verb":"patch","user":{"username":"ann"},
		"objectRef":{"resource":"configmaps","namespace":"a","name":"b"},"responseStatus":{"code":200},"stageTimestamp":"2026-11-20T12:00:00.000000Z"}]}`
	for name, tt := range map[string]struct {
		path, token, body string
		trusted           bool
		want, heard       int
	}{
		"with its token":              {api.PathAudit, "audit-token", good, false, 204, 1},
		"without a token":             {api.PathAudit, "", good, false, 401, 0},
		"with the other token":        {api.PathAudit, "server-token", good, false, 401, 0},
		"at the socket without":       {api.PathAudit, "", good, true, 401, 0},
		"something else":              {api.PathAudit, "audit-token", `{"items":[]}`, false, 400, 0},
		"too much":                    {api.PathAudit, "audit-token", `{"x":"` + strings.Repeat("x", auditLimit) + `"}`, false, 413, 0},
		"its token elsewhere is none": {api.PathResync, "audit-token", "", false, 401, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got = nil
			r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:8080"+tt.path, strings.NewReader(tt.body))
			if tt.token != "" {
				r.Header.Set("Authorization", "Bearer "+tt.token)
			}
			w := httptest.NewRecorder()
			s.Handler(tt.trusted).ServeHTTP(w, r)
			if w.Code != tt.want || len(got) != tt.heard {
				t.Errorf("%d with %d events, want %d with %d: %.200s", w.Code, len(got), tt.want, tt.heard, w.Body)
			}
		})
	}
}
