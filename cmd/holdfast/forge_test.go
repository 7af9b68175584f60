package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// statusHost takes commit statuses as Gitea does.
type statusHost struct {
	mu   sync.Mutex
	told []string
	down bool
}

func (h *statusHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	raw, err := io.ReadAll(r.Body)
	var body struct {
		State, Context, Description string
		Target                      string `json:"target_url"`
	}
	if err == nil {
		err = json.Unmarshal(raw, &body)
	}
	commit, ok := strings.CutPrefix(r.URL.Path, "/api/v1/repos/team/shop/statuses/")
	switch {
	case err != nil || !ok || body.Target != "https://holdfast.example.org/environments/host" || body.Context != "holdfast/host":
		w.WriteHeader(http.StatusBadRequest)
	case r.Header.Get("Authorization") != "token planted-forge-token":
		w.WriteHeader(http.StatusUnauthorized)
	case h.down:
		w.WriteHeader(http.StatusBadGateway)
	default:
		h.told = append(h.told, fmt.Sprintf("%s %s %s", commit, body.State, body.Description))
		w.WriteHeader(http.StatusCreated)
	}
}

// last is the newest status that is no pending one, with how often it was told.
func (h *statusHost) last() (text string, times int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, told := range h.told {
		if strings.Contains(told, " pending ") {
			continue
		}
		if told != text {
			text, times = told, 0
		}
		times++
	}
	return text, times
}

func (h *statusHost) set(down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = down
}

func TestTheRepositorysHostIsToldWhatBecameOfACommit(t *testing.T) {
	t.Parallel()
	s, dir := hostStage(t)
	s.repo = s.git.Repo(t, "team/shop")
	host := &statusHost{}
	server := httptest.NewServer(host)
	t.Cleanup(server.Close)
	token := filepath.Join(s.dir, "forge-token")
	if err := os.WriteFile(token, []byte("planted-forge-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`
listen: 127.0.0.1:0
dataDir: %s
targets: [{name: host, directory: %s}]
sources:
- name: shop
  url: %s
  ref: main
  interval: 1h
  grants: [{target: host, cluster: true}]
  forge: {kind: gitea, api: "%s/api/v1", tokenFile: %s, statuses: true}
notifications: {link: "https://holdfast.example.org"}
`, filepath.Join(s.dir, "data"), dir, s.repo.URL, server.URL, token)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	expect := func(want string) {
		t.Helper()
		s.until(want, func() error {
			if got, times := host.last(); got != want || times != 1 {
				return fmt.Errorf("told %d times: %s", times, got)
			}
			return nil
		})
	}
	spec := "apiVersion: holdfast.dev/v1alpha1\nkind: Environment\nmetadata: {name: host}\nspec: {path: files, target: host}\n"
	first := s.repo.Commit(t, map[string]string{"environments/host.yaml": spec, "files/a.yaml": hostFile("a", "blue")})
	s.start()
	s.settled("host", reconciler.Applied)
	expect(first + " success applied and ready, 1 object, 1 created")

	// The repository's pages are those of its host.
	all, err := s.client.Sources(t.Context())
	page := strings.TrimSuffix(s.repo.URL, ".git")
	if err != nil || all.Sources[0].Web == nil || all.Sources[0].Web.Commit != page+"/commit/{commit}" {
		t.Errorf("the pages are %+v, %v", all.Sources, err)
	}
	if text := s.verb(0, "sources", "shop"); !strings.Contains(text, page+"/commit/"+first) {
		t.Errorf("no page of the commit in:\n%s", text)
	}

	// A commit that cannot be applied fails, with the place.
	second := s.repo.Commit(t, map[string]string{"files/a.yaml": "kind: [\n"})
	s.resyncAny("host")
	s.until("the failure is told", func() error {
		if got, _ := host.last(); !strings.HasPrefix(got, second+" failure files/a.yaml:2") {
			return fmt.Errorf("told: %s", got)
		}
		return nil
	})

	// What the host does not take is not lost, not by a restart either.
	host.set(true)
	third := s.repo.Commit(t, map[string]string{"files/a.yaml": hostFile("a", "green")})
	s.resyncAny("host")
	s.settled("host", reconciler.Applied)
	s.until("an attempt failed", func() error {
		log, err := os.ReadFile(s.log.Name())
		if err == nil && !strings.Contains(string(log), "commit status not told") {
			err = fmt.Errorf("the log says nothing of it")
		}
		return err
	})
	s.stop()
	host.set(false)
	s.start()
	s.until("the success is told", func() error {
		if got, times := host.last(); !strings.HasPrefix(got, third+" success applied and ready") || times != 1 {
			return fmt.Errorf("told %d times: %s", times, got)
		}
		return nil
	})
	s.stop()
	log, err := os.ReadFile(s.log.Name())
	if err != nil || strings.Contains(string(log), "planted-forge-token") {
		t.Errorf("the log holds the token, or cannot be read: %v", err)
	}
}

// resyncAny asks for a run, however it ends.
func (s *stage) resyncAny(name string) {
	s.t.Helper()
	if _, err := s.client.Resync(s.t.Context(), api.ResyncRequest{Environments: []string{name}}, 0); err != nil {
		s.t.Fatal(err)
	}
}

// proposes pushes what codify finds, and looks for it in the repository and on
// record.
func (s *stage) proposes(env, object string) {
	s.t.Helper()
	s.verb(3, "drift", "codify", env, object, "--branch", "holdfast/b")
	head := strings.TrimSpace(s.repo.Git(s.t, "", "rev-parse", "refs/heads/main"))
	refs := s.repo.Git(s.t, "", "for-each-ref")
	for _, branch := range []string{"main", "fix", "holdfast/a/b", "holdfast/.."} {
		s.verb(1, "drift", "codify", env, object, "--branch", branch, "--reason", "the sale goes on")
	}
	if after := s.repo.Git(s.t, "", "for-each-ref"); after != refs {
		s.t.Errorf("what is not allowed is pushed: %s", after)
	}
	var pushed api.Proposal
	text := s.verb(0, "drift", "codify", env, object, "--branch", "holdfast/b", "--reason", "the sale goes on", "--author", "ann", "-o", "json")
	if err := json.Unmarshal([]byte(text), &pushed); err != nil {
		s.t.Fatal(err)
	}
	if pushed.Base != head || pushed.Page != "https://git.example.org/team/shop/commit/"+pushed.Commit ||
		pushed.PullRequest != "https://git.example.org/team/shop/compare/main...holdfast/b" {
		s.t.Errorf("pushed is %+v", pushed)
	}
	show := s.repo.Git(s.t, "", "show", "--format=%H|%P|%an|%cn|%B", "refs/heads/holdfast/b")
	if !strings.HasPrefix(show, pushed.Commit+"|"+head+"|ann (socket)|Holdfast|") {
		s.t.Errorf("the commit is %s", show)
	}
	for _, want := range []string{"the sale goes on", object, "\n-data: {color: \"blue\"}\n+data: {color: \"red\"}"} {
		if !strings.Contains(show, want) {
			s.t.Errorf("no %q in %s", want, show)
		}
	}
	s.verb(1, "drift", "codify", env, object, "--branch", "holdfast/b", "--reason", "once more")
	if text := s.verb(0, "history", "--actions", "-o", "json"); !strings.Contains(text, "holdfast/b "+pushed.Commit) || !strings.Contains(text, "the sale goes on") {
		s.t.Errorf("it is not on record:\n%s", text)
	}
}
