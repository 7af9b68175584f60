package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/reconciler"
)

// inbox is a receiver of notifications on loopback.
func inbox(t *testing.T) (url string, next func(words ...string)) {
	t.Helper()
	got := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("X-Holdfast-Signature") == "" {
			t.Errorf("a message without a signature, %v", err)
		}
		got <- string(body)
	}))
	t.Cleanup(server.Close)
	return server.URL, func(words ...string) {
		t.Helper()
		select {
		case body := <-got:
			for _, w := range words {
				if !strings.Contains(body, w) {
					t.Errorf("no %q in %s", w, body)
				}
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("nothing came with %q", words)
		}
	}
}

// hook sends a push as GitHub does, over TCP and under a name that is not the
// daemon's. More are further headers, as in "name: value".
func (s *stage) hook(id, secret string, more ...string) (int, string) {
	s.t.Helper()
	log, err := os.ReadFile(s.log.Name())
	if err != nil {
		s.t.Fatal(err)
	}
	m := regexp.MustCompile(`address=?"?:?"?(127\.0\.0\.1:\d+)`).FindSubmatch(log)
	if m == nil {
		s.t.Fatalf("no address in %s", log)
	}
	body := fmt.Sprintf(`{"ref":"refs/heads/main","after":%q,"repository":{"clone_url":%q}}`, id, s.repo.URL)
	req, err := http.NewRequest("POST", "http://"+string(m[1])+"/webhooks/forge", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	req.Host = "hooks.example.org"
	req.Header.Set("X-GitHub-Event", "push")
	req.Header.Set("X-GitHub-Delivery", id)
	req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	for _, header := range more {
		name, value, _ := strings.Cut(header, ": ")
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, string(answer)
}

func TestPushesAreHeardAndPeopleAreTold(t *testing.T) {
	t.Parallel()
	s, dir := hostStage(t)
	url, next := inbox(t)
	secret, resync := filepath.Join(s.dir, "secret"), filepath.Join(s.dir, "resync")
	config, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	more := fmt.Sprintf(`
resyncFile: %s
webhooks: [{name: forge, kind: github, secretFile: %s}]
notifications:
  receivers: [{name: ops, kind: webhook, url: "%s", secretFile: %s}]
  routes: [{receivers: [ops], labels: [team=shop]}]
  group: 0s
  settle: 0s
`, resync, secret, url, secret)
	if err := errors.Join(os.WriteFile(secret, []byte("a planted secret\n"), 0o600), os.WriteFile(s.config, append(config, more...), 0o600)); err != nil {
		t.Fatal(err)
	}
	spec := "apiVersion: holdfast.dev/v1alpha1\nkind: Environment\nmetadata: {name: host, labels: {team: shop}}\nspec: {path: files, target: host}\n"
	s.repo.Commit(t, map[string]string{"environments/host.yaml": spec, "files/a.yaml": hostFile("a", "blue")})
	s.start()
	s.settled("host", reconciler.Applied)

	// A push is seen long before the interval, which is an hour.
	s.repo.Commit(t, map[string]string{"files/a.yaml": hostFile("a", "green")})
	if status, answer := s.hook("d-1", "another secret"); status != 401 {
		t.Errorf("a wrong signature: %d %s", status, answer)
	}
	if status, answer := s.hook("d-1", "a planted secret"); status != 202 || !strings.Contains(answer, `"sources":["shop"]`) {
		t.Errorf("a push: %d %s", status, answer)
	}
	green, white := "green", "white"
	s.expectFile(filepath.Join(dir, "conf", "a"), &green)
	s.until("the run's trigger", func() error {
		status, err := s.client.Environment(t.Context(), "host")
		if err == nil && (status.LastRun == nil || status.LastRun.Trigger.Reason != reconciler.ReasonWebhook || status.LastRun.Trigger.Actor != "webhook forge") {
			err = fmt.Errorf("%+v", status.LastRun)
		}
		return err
	})
	if status, answer := s.hook("d-1", "a planted secret"); status != 409 {
		t.Errorf("a replay: %d %s", status, answer)
	}

	// So is a file that is touched.
	s.repo.Commit(t, map[string]string{"files/a.yaml": hostFile("a", "white")})
	if err := os.WriteFile(resync, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.expectFile(filepath.Join(dir, "conf", "a"), &white)

	// What fails is told, and that it is well again, also over a restart.
	s.repo.Commit(t, map[string]string{"files/a.yaml": "kind: [\n"})
	if status, answer := s.hook("d-2", "a planted secret"); status != 202 {
		t.Errorf("a push: %d %s", status, answer)
	}
	next(`"phase":"new"`, `"kind":"failed"`, `"environment":"host"`, "files/a.yaml:2")
	s.stop()
	s.repo.Commit(t, map[string]string{"files/a.yaml": hostFile("a", "blue")})
	s.start()
	next(`"phase":"resolved"`, `"kind":"failed"`)

	var out struct {
		Outcomes []struct{ Receiver, Error string }
	}
	if err := json.Unmarshal([]byte(s.verb(0, "notify", "test", "ops", "-o", "json")), &out); err != nil || len(out.Outcomes) != 1 || out.Outcomes[0].Error != "" {
		t.Errorf("%+v, %v", out, err)
	}
	next(`"kind":"test"`)
	s.verb(3, "notify", "test", "nobody")
	s.stop()
}
