package statuses

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/holdfast-gitops/holdfast/cmd/internal/forge"
	"github.com/holdfast-gitops/holdfast/cmd/internal/outbox"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

const (
	first  = "1111111111111111111111111111111111111111"
	second = "2222222222222222222222222222222222222222"
	secret = "glpat-planted-secret"
)

// got is a request as the host saw it.
type got struct {
	line, authorization string
	body                map[string]any
	header              http.Header
}

// host is a receiver on the loopback. Answer, when not nil, says how; its zero
// status is the default.
type host struct {
	*httptest.Server
	mu     sync.Mutex
	calls  []got
	answer func(n int, line string, w http.ResponseWriter) (handled bool)
}

func newHost(t *testing.T) *host {
	h := &host{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		g := got{line: r.Method + " " + r.URL.EscapedPath(), header: r.Header.Clone()}
		if r.URL.RawQuery != "" {
			g.line += "?" + r.URL.RawQuery
		}
		g.authorization = cmp.Or(r.Header.Get("Authorization"), "PRIVATE-TOKEN "+r.Header.Get("PRIVATE-TOKEN"))
		if len(raw) > 0 {
			if err := json.Unmarshal(raw, &g.body); err != nil {
				t.Errorf("%s: the body is no JSON: %s", g.line, raw)
			}
		}
		h.mu.Lock()
		h.calls = append(h.calls, g)
		n, answer := len(h.calls), h.answer
		h.mu.Unlock()
		if answer != nil && answer(n, g.line, w) {
			return
		}
		if r.Method == http.MethodGet {
			io.WriteString(w, "[]")
			return
		}
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, `{"id": 42}`)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *host) seen() []got {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.calls)
}

func (h *host) target(t *testing.T, kind, url string, c Credential) Target {
	repo, ok := forge.Locate(url, kind, "")
	if !ok {
		t.Fatalf("%s is nowhere", url)
	}
	return Target{
		Repo: repo, API: h.URL + "/api", Statuses: true, Client: func() (*http.Client, error) { return h.Client(), nil },
		Credential: func(context.Context) (Credential, error) { return c, nil },
	}
}

func TestEachHostIsToldAsItsDocumentationSays(t *testing.T) {
	long := strings.Repeat("e", 50)
	for _, c := range []struct {
		kind, url, environment string
		cred                   Credential
		line, auth, body       string
	}{
		{
			"github", "https://github.com/acme/shop.git", "prod", Credential{Secret: secret},
			"POST /api/repos/acme/shop/statuses/" + first, "Bearer " + secret,
			`{"state":"failure","context":"holdfast/prod","description":"a.yaml:3: it broke","target_url":"https://holdfast.example.org/environments/prod"}`,
		},
		{
			"gitlab", "https://gitlab.com/acme/team/shop.git", "prod", Credential{Secret: secret},
			"POST /api/projects/acme%2Fteam%2Fshop/statuses/" + first, "PRIVATE-TOKEN " + secret,
			`{"state":"failed","name":"holdfast/prod","ref":"release/1","description":"a.yaml:3: it broke","target_url":"https://holdfast.example.org/environments/prod"}`,
		},
		{
			"gitea", "https://codeberg.org/acme/shop.git", "prod", Credential{Secret: secret},
			"POST /api/repos/acme/shop/statuses/" + first, "token " + secret,
			`{"state":"failure","context":"holdfast/prod","description":"a.yaml:3: it broke","target_url":"https://holdfast.example.org/environments/prod"}`,
		},
		{
			"bitbucket", "https://bitbucket.org/acme/shop.git", "prod", Credential{Secret: secret},
			"POST /api/repositories/acme/shop/commit/" + first + "/statuses/build", "Bearer " + secret,
			`{"state":"FAILED","key":"holdfast/prod","name":"holdfast/prod","description":"a.yaml:3: it broke","url":"https://holdfast.example.org/environments/prod"}`,
		},
		{ // a key has 40 characters at most; a user has a password
			"bitbucket", "https://bitbucket.org/acme/shop.git", long, Credential{Username: "ann", Secret: secret},
			"POST /api/repositories/acme/shop/commit/" + first + "/statuses/build", "Basic YW5uOmdscGF0LXBsYW50ZWQtc2VjcmV0",
			`{"state":"FAILED","key":"` + shortKey("holdfast/"+long) + `","name":"holdfast/` + long + `","description":"a.yaml:3: it broke","url":"https://holdfast.example.org/environments/` + long + `"}`,
		},
		{
			"bitbucket-server", "https://git.example.org/scm/SHOP/web.git", "prod", Credential{Secret: secret},
			"POST /api/projects/SHOP/repos/web/commits/" + first + "/builds", "Bearer " + secret,
			`{"state":"FAILED","key":"holdfast/prod","name":"holdfast/prod","ref":"refs/heads/release/1","description":"a.yaml:3: it broke","url":"https://holdfast.example.org/environments/prod"}`,
		},
		{
			"azure-devops", "https://dev.azure.com/acme/My%20Shop/_git/web", "prod", Credential{Secret: secret},
			"POST /api/acme/My%20Shop/_apis/git/repositories/web/commits/" + first + "/statuses?api-version=7.1", "Basic OmdscGF0LXBsYW50ZWQtc2VjcmV0",
			`{"state":"failed","context":{"genre":"holdfast","name":"prod"},"description":"a.yaml:3: it broke","targetUrl":"https://holdfast.example.org/environments/prod"}`,
		},
	} {
		h := newHost(t)
		m := message{
			Environment: c.environment, Link: "https://holdfast.example.org/environments/" + c.environment,
			Verdict: Verdict{Commit: first, Ref: "refs/heads/release/1", State: Failure, Description: "a.yaml:3: it broke"},
		}
		if err := h.target(t, c.kind, c.url, c.cred).tell(t.Context(), &m); err != nil {
			t.Errorf("%s: %v", c.kind, err)
			continue
		}
		calls := h.seen()
		var want map[string]any
		if err := json.Unmarshal([]byte(c.body), &want); err != nil {
			t.Fatal(err)
		}
		if len(calls) != 1 || calls[0].line != c.line || calls[0].authorization != c.auth || fmt.Sprint(calls[0].body) != fmt.Sprint(want) {
			t.Errorf("%s:\n got %+v\nwant %s %s %v", c.kind, calls, c.line, c.auth, want)
		}
		if got := calls[0].header.Get("Content-Type"); got != "application/json" {
			t.Errorf("%s: the body is %q", c.kind, got)
		}
		if version := calls[0].header.Get("X-GitHub-Api-Version"); (c.kind == "github") != (version == "2022-11-28") {
			t.Errorf("%s: the version asked for is %q", c.kind, version)
		}
	}
	if a, b := shortKey("holdfast/"+long+"a"), shortKey("holdfast/"+long+"b"); len(a) > 40 || a == b {
		t.Errorf("keys of long names are %s and %s", a, b)
	}
}

func TestTheAPIOfAHostIsKnown(t *testing.T) {
	for url, want := range map[string]string{
		"git@github.com:a/b.git": "https://api.github.com", "https://acme.ghe.com/a/b": "https://api.acme.ghe.com",
		"https://gitlab.com/a/b": "https://gitlab.com/api/v4", "https://codeberg.org/a/b": "https://codeberg.org/api/v1",
		"git@bitbucket.org:a/b.git": "https://api.bitbucket.org/2.0", "https://dev.azure.com/a/b/_git/c": "https://dev.azure.com",
	} {
		if r, _ := forge.Locate(url, "", ""); API(r) != want {
			t.Errorf("%s: %s, want %s", url, API(r), want)
		}
	}
	for kind, want := range map[string]string{
		"github": "https://git.example.org/api/v3", "gitlab": "https://git.example.org/api/v4", "bitbucket-server": "https://git.example.org/rest/api/1.0",
	} {
		if r, _ := forge.Locate("https://git.example.org/a/b.git", kind, ""); API(r) != want {
			t.Errorf("%s: %s, want %s", kind, API(r), want)
		}
	}
}

// bench is a reporter over environments that the test changes.
type bench struct {
	*Reporter
	t    *testing.T
	mu   sync.Mutex
	envs []reconciler.Status
	logs bytes.Buffer
	logM sync.Mutex
	dir  string
	to   Target
	stop func()
	sent map[string]int
}

func (b *bench) Write(p []byte) (int, error) {
	b.logM.Lock()
	defer b.logM.Unlock()
	return b.logs.Write(p)
}

func newBench(t *testing.T, to Target) *bench {
	b := &bench{t: t, dir: t.TempDir(), to: to, sent: map[string]int{}}
	b.start()
	t.Cleanup(func() {
		b.stop()
		if strings.Contains(b.logs.String(), secret) {
			t.Errorf("the log holds the token: %s", b.logs.String())
		}
		if data, _ := os.ReadFile(filepath.Join(b.dir, FileName)); bytes.Contains(data, []byte(secret)) {
			t.Error("the file holds the token")
		}
	})
	return b
}

// start opens and runs a reporter, as after a start of the process.
func (b *bench) start() {
	b.Reporter = Open(Options{
		DataDir: b.dir, Link: "https://holdfast.example.org/", Logger: zerolog.New(b), Every: 20 * time.Millisecond,
		Backoff: func(int) time.Duration { return time.Millisecond }, Settled: func() bool { return true },
		Environments: func() []reconciler.Status {
			b.mu.Lock()
			defer b.mu.Unlock()
			return slices.Clone(b.envs)
		},
		Targets: func() map[string]Target { return map[string]Target{"shop": b.to} },
		Count: func(_, outcome string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.sent[outcome]++
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = b.Run(ctx) }()
	b.stop = sync.OnceFunc(func() { cancel(); <-ended })
}

func (b *bench) set(all ...reconciler.Status) {
	b.mu.Lock()
	b.envs = all
	b.mu.Unlock()
	b.sign()
}

func (b *bench) count(outcome string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sent[outcome]
}

func (b *bench) until(what string, ok func() bool) {
	b.t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			b.logM.Lock()
			defer b.logM.Unlock()
			b.t.Fatalf("%s: not after 20 s; log:\n%s", what, b.logs.String())
		}
	}
}

// idle waits until nothing waits, and a few looks have found nothing new.
func (b *bench) idle() {
	b.t.Helper()
	b.until("everything is told", func() bool { return b.Waiting()["shop"] == 0 })
	for range 3 {
		b.look(map[string]Target{"shop": b.to})
	}
	b.until("everything is told", func() bool { return b.Waiting()["shop"] == 0 })
}

func at(id string) sources.Revision { return sources.Revision{ID: id, Ref: "refs/heads/main"} }

func ready(name, id string) reconciler.Status {
	return reconciler.Status{
		Name: name, Source: "shop", Sync: reconciler.SyncClean, Health: reconciler.HealthReady, Objects: 12, Head: at(id), Applied: at(id),
		LastRun: &reconciler.Run{Revision: at(id), Result: reconciler.Applied, Counts: reconciler.Counts{Created: 2, Updated: 1, Unchanged: 9}},
	}
}

func running(name, before, id string) reconciler.Status {
	s := ready(name, before)
	s.Head = at(id)
	s.Running = &reconciler.Run{Revision: at(id), Started: time.Now()}
	return s
}

func states(calls []got) string {
	var out []string
	for _, c := range calls {
		word, _ := c.body["state"].(string)
		if word == "" {
			word, _ = c.body["status"].(string)
		}
		if word == "" {
			word = strings.Fields(c.line)[0]
		}
		out = append(out, word)
	}
	return strings.Join(out, " ")
}

func TestWhatStandsIsToldOnceAndAgainWhenItChanges(t *testing.T) {
	h := newHost(t)
	b := newBench(t, h.target(t, "github", "https://github.com/acme/shop.git", Credential{Secret: secret}))
	steps := []struct {
		status reconciler.Status
		want   string
		text   string
	}{
		{running("prod", "", first), "pending", "is being applied"},
		{ready("prod", first), "pending success", "applied and ready, 12 objects, 2 created, 1 updated"},
		{ready("prod", first), "pending success", ""},
		{running("prod", first, second), "pending success pending", "is being applied"},
		{ready("prod", second), "pending success pending success", "applied and ready, 12 objects, 2 created, 1 updated"},
	}
	for i, s := range steps {
		b.set(s.status)
		b.until(fmt.Sprintf("step %d", i), func() bool { return states(h.seen()) == s.want })
		b.idle()
		calls := h.seen()
		if got := states(calls); got != s.want {
			t.Fatalf("step %d: told %s, want %s", i, got, s.want)
		}
		if got := calls[len(calls)-1].body["description"]; s.text != "" && got != s.text {
			t.Errorf("step %d: it says %q, want %q", i, got, s.text)
		}
	}
	b.stop()
	b.start()
	b.set(ready("prod", second))
	b.idle()
	if got := states(h.seen()); got != steps[len(steps)-1].want {
		t.Errorf("after a restart it is told again: %s", got)
	}
	gone := ready("dev", second) // prod has left git
	b.set(gone)
	b.until("dev is told", func() bool { return len(h.seen()) == len(strings.Fields(steps[4].want))+1 })
	b.until("prod is forgotten", func() bool {
		data, _ := os.ReadFile(filepath.Join(b.dir, FileName))
		return !bytes.Contains(data, []byte("prod"))
	})
}

func TestNothingIsLostOrDoubledByFailuresAndRestarts(t *testing.T) {
	h := newHost(t)
	down := true
	h.answer = func(n int, _ string, w http.ResponseWriter) bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		if !down {
			return false
		}
		switch n % 3 {
		case 0:
			w.WriteHeader(http.StatusInternalServerError)
		case 1:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			w.WriteHeader(http.StatusBadGateway)
			io.WriteString(w, `{"message": "no `+secret+`"}`)
		}
		return true
	}
	b := newBench(t, h.target(t, "github", "https://github.com/acme/shop.git", Credential{Secret: secret}))
	b.set(ready("prod", first))
	b.until("some attempts failed", func() bool { return b.count("failed") >= 4 })
	b.stop()
	b.set(ready("prod", second)) // it goes on while nobody looks
	b.start()
	before := len(h.seen())
	b.until("it is tried after the start, too", func() bool { return len(h.seen()) > before })
	h.mu.Lock()
	down, h.calls = false, nil
	h.mu.Unlock()
	b.idle()
	var told []string
	for _, c := range h.seen() {
		told = append(told, c.line[len(c.line)-40:])
	}
	if !slices.Equal(told, []string{first, second}) || b.count("sent") != 2 || b.count("dropped") != 0 {
		t.Errorf("taken were %v, sent %d, dropped %d", told, b.count("sent"), b.count("dropped"))
	}
}

func TestAHostIsLeftAloneForAsLongAsItAsks(t *testing.T) {
	h := newHost(t)
	h.answer = func(n int, _ string, w http.ResponseWriter) bool {
		if n == 1 {
			w.Header().Set("Retry-After", "1800")
			w.WriteHeader(http.StatusTooManyRequests)
		}
		return n == 1
	}
	b := newBench(t, h.target(t, "gitea", "https://codeberg.org/acme/shop.git", Credential{Secret: secret}))
	b.set(ready("prod", first))
	b.until("it was refused", func() bool { return b.count("failed") == 1 })
	b.set(ready("prod", first), ready("dev", first))
	b.until("another waits", func() bool { return b.Waiting()["shop"] == 2 })
	b.until("nothing is under way", func() bool { b.Reporter.mu.Lock(); defer b.Reporter.mu.Unlock(); return len(b.busy) == 0 })
	if due := b.due(map[string]Target{"shop": b.to}); len(due) != 0 {
		t.Error("it would be asked again at once")
	}
	if n := len(h.seen()); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
	now := time.Unix(1_800_000_000, 0)
	for _, c := range []struct {
		header map[string]string
		want   time.Duration
	}{
		{map[string]string{"Retry-After": "30"}, 30 * time.Second},
		{map[string]string{"Retry-After": now.Add(time.Minute).UTC().Format(http.TimeFormat)}, time.Minute},
		{map[string]string{"Retry-After": "9999999"}, outbox.MaxRetryAfter},
		{map[string]string{"Retry-After": "-3"}, 0},
		{map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1800000090"}, 90 * time.Second},
		{map[string]string{"X-RateLimit-Remaining": "5", "X-RateLimit-Reset": "1800000090"}, 0},
	} {
		header := http.Header{}
		for k, v := range c.header {
			header.Set(k, v)
		}
		if got := wait(header, now); got != c.want {
			t.Errorf("%v: %s, want %s", c.header, got, c.want)
		}
	}
}

func TestWhatIsRefusedForWhatItSaysIsGivenUp(t *testing.T) {
	h := newHost(t)
	h.answer = func(_ int, line string, w http.ResponseWriter) bool {
		if strings.Contains(line, first) {
			w.WriteHeader(http.StatusUnprocessableEntity)
			io.WriteString(w, `{"message": "No commit found for SHA `+secret+`"}`)
		}
		return strings.Contains(line, first)
	}
	b := newBench(t, h.target(t, "github", "https://github.com/acme/shop.git", Credential{Secret: secret}))
	b.set(ready("prod", first), ready("test", second))
	b.until("the one is dropped and the other told", func() bool { return b.count("dropped") == 1 && b.count("sent") == 1 })
	b.idle()
	if n := len(h.seen()); n != outbox.Refusals+1 {
		t.Errorf("%d requests, want %d", n, outbox.Refusals+1)
	}
	b.logM.Lock()
	defer b.logM.Unlock()
	if !strings.Contains(b.logs.String(), "No commit found for SHA ***") {
		t.Errorf("the log does not say why: %s", b.logs.String())
	}
}

func TestACommitThatAnotherReplacesIsNotPendingForEver(t *testing.T) {
	h := newHost(t)
	b := newBench(t, h.target(t, "gitlab", "https://gitlab.com/acme/shop.git", Credential{Secret: secret}))
	b.set(running("prod", "", first))
	b.until("it is pending", func() bool { return states(h.seen()) == "pending" })
	b.idle()
	b.set(ready("prod", second))
	b.until("both are told", func() bool { return states(h.seen()) == "pending canceled success" })
	if calls := h.seen(); !strings.HasSuffix(calls[1].line, first) || !strings.HasSuffix(calls[2].line, second) {
		t.Errorf("told of: %v", calls)
	}
}

func TestGitLabsRefusalOfTheSameStateIsNoError(t *testing.T) {
	h := newHost(t)
	h.answer = func(_ int, _ string, w http.ResponseWriter) bool {
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"message":"Cannot transition status via :enqueue from :pending (Reason(s): Status cannot transition via \"enqueue\")"}`)
		return true
	}
	b := newBench(t, h.target(t, "gitlab", "https://gitlab.com/acme/shop.git", Credential{Secret: secret}))
	b.set(running("prod", "", first))
	b.until("it counts as told", func() bool { return b.count("sent") == 1 })
}

func TestDeployments(t *testing.T) {
	for _, c := range []struct {
		kind, url string
		want      []string
	}{
		{"github", "https://github.com/acme/shop.git", []string{
			"POST /api/repos/acme/shop/statuses/" + first + " pending",
			"POST /api/repos/acme/shop/deployments ",
			"POST /api/repos/acme/shop/deployments/42/statuses in_progress",
			"POST /api/repos/acme/shop/statuses/" + first + " success",
			"POST /api/repos/acme/shop/deployments/42/statuses success",
		}},
		{"gitlab", "https://gitlab.com/acme/shop.git", []string{
			"POST /api/projects/acme%2Fshop/statuses/" + first + " pending",
			"POST /api/projects/acme%2Fshop/deployments running",
			"POST /api/projects/acme%2Fshop/statuses/" + first + " success",
			"PUT /api/projects/acme%2Fshop/deployments/42 success",
		}},
	} {
		h := newHost(t)
		to := h.target(t, c.kind, c.url, Credential{Secret: secret})
		to.Deployments = true
		b := newBench(t, to)
		b.set(running("prod", "", first))
		b.until("the pending one is told", func() bool { return b.count("sent") == 1 })
		b.stop() // the deployment's id outlives the process
		b.start()
		b.set(ready("prod", first))
		b.until("the end is told", func() bool { return b.count("sent") == 2 })
		var told []string
		for _, call := range h.seen() {
			word, _ := call.body["state"].(string)
			if word == "" {
				word, _ = call.body["status"].(string)
			}
			told = append(told, call.line+" "+word)
		}
		if !slices.Equal(told, c.want) {
			t.Errorf("%s:\n got %q\nwant %q", c.kind, told, c.want)
		}
		for _, call := range h.seen() {
			if strings.HasSuffix(call.line, "/deployments") {
				if call.body["environment"] != "prod" || call.body["ref"] == nil {
					t.Errorf("%s: the deployment is %v", c.kind, call.body)
				}
				if contexts, is := call.body["required_contexts"].([]any); c.kind == "github" && (!is || len(contexts) != 0) {
					t.Errorf("the host is asked to wait for checks: %v", call.body)
				}
			}
		}
	}
}

func TestADeploymentWhoseAnswerWasLostIsNotMadeTwice(t *testing.T) {
	h := newHost(t)
	made := 0
	h.answer = func(_ int, line string, w http.ResponseWriter) bool {
		switch {
		case line == "POST /api/repos/acme/shop/deployments":
			made++
			w.WriteHeader(http.StatusBadGateway) // it was made, but nobody hears of it
			return true
		case strings.HasPrefix(line, "GET "):
			fmt.Fprintf(w, `[{"id": 6, "sha": %q}, {"id": 7, "sha": %q}]`, second, first)
			return true
		}
		return false
	}
	to := h.target(t, "github", "https://github.com/acme/shop.git", Credential{Secret: secret})
	to.Deployments = true
	b := newBench(t, to)
	b.set(ready("prod", first))
	b.until("it is told", func() bool { return b.count("sent") == 1 })
	calls := h.seen()
	if last := calls[len(calls)-1]; made != 1 || last.line != "POST /api/repos/acme/shop/deployments/7/statuses" {
		t.Errorf("made %d, and last was %s", made, last.line)
	}
	statuses := 0
	for _, c := range calls {
		if strings.Contains(c.line, "/shop/statuses/") {
			statuses++
		}
	}
	if statuses != 1 {
		t.Errorf("the status was told %d times", statuses)
	}
}

func TestVerdicts(t *testing.T) {
	with := func(change func(*reconciler.Status)) reconciler.Status {
		s := ready("prod", first)
		change(&s)
		return s
	}
	broken := sources.Problems{{File: "apps/web.yaml", Line: 7, Message: "unknown\nfield"}, {Message: "another"}}
	for what, c := range map[string]struct {
		status reconciler.Status
		want   string
	}{
		"ready":   {ready("prod", first), "1 success applied and ready, 12 objects, 2 created, 1 updated"},
		"one":     {with(func(s *reconciler.Status) { s.Objects, s.LastRun = 1, nil }), "1 success applied and ready, 1 object"},
		"drifted": {with(func(s *reconciler.Status) { s.Sync = reconciler.SyncDrifted }), "1 success applied and ready, 12 objects, 2 created, 1 updated"},
		"a broken head": {with(func(s *reconciler.Status) { s.Sync, s.Head, s.Errors = reconciler.SyncFailed, at(second), broken }),
			"2 failure apps/web.yaml:7: unknown field and 1 more"},
		"a failed apply": {with(func(s *reconciler.Status) { s.Sync, s.Errors = reconciler.SyncFailed, broken[1:] }), "1 failure another"},
		"held": {with(func(s *reconciler.Status) {
			s.Sync, s.Head, s.LastRun.Revision = reconciler.SyncChanges, at(second), at(second)
			s.Gates = []reconciler.Gate{{Why: "on hold until noon"}}
		}), "2 pending waits: on hold until noon"},
		"not ready": {with(func(s *reconciler.Status) {
			s.Health, s.Unready = reconciler.HealthProgressing, []reconciler.Unready{{Why: "1 of 3 replicas"}, {}}
		}), "1 pending is applied; not ready yet: " + (sources.ID{}).String() + " and 1 more: 1 of 3 replicas"},
		"does not work": {with(func(s *reconciler.Status) {
			s.Health, s.Unready = reconciler.HealthFailed, []reconciler.Unready{{Why: "x", RootCause: "ImagePullBackOff"}}
		}), "1 failure is applied and does not work: " + (sources.ID{}).String() + ": ImagePullBackOff"},
		"silent":      {with(func(s *reconciler.Status) { s.Sync = reconciler.SyncStale }), ""},
		"standby":     {with(func(s *reconciler.Status) { s.Sync = reconciler.SyncStandby }), ""},
		"verifying":   {with(func(s *reconciler.Status) { s.Sync = reconciler.SyncVerifying }), ""},
		"unknown":     {with(func(s *reconciler.Status) { s.Health = reconciler.HealthUnknown }), ""},
		"a directory": {with(func(s *reconciler.Status) { s.Applied.ID, s.LastRun = "sha256:"+first+first, nil }), ""},
		"a work tree": {with(func(s *reconciler.Status) { s.Applied.ID, s.LastRun = first+sources.DirtyMark+"1234", nil }), ""},
	} {
		v, got := verdict(c.status), ""
		if v != (Verdict{}) {
			got = fmt.Sprintf("%s %s %s", v.Commit[:1], v.State, v.Description)
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
	}
	s := ready("prod", first)
	s.Sync, s.Errors = reconciler.SyncFailed, sources.Problems{{Message: strings.Repeat("ä", 400)}, {}}
	if v := verdict(s); len([]rune(v.Description)) > maxText || !strings.HasSuffix(v.Description, " and 1 more") {
		t.Errorf("a long error gives %d characters: %s", len([]rune(v.Description)), v.Description)
	}
	told := Verdict{Commit: first, State: Success}
	for what, c := range map[string]struct {
		now  Verdict
		want bool
	}{
		"a pod restarts": {Verdict{Commit: first, State: Pending}, false}, "counts differ": {Verdict{Commit: first, State: Success, Description: "x"}, false},
		"it breaks": {Verdict{Commit: first, State: Failure}, true}, "another commit": {Verdict{Commit: second, State: Pending}, true}, "nothing is known": {Verdict{}, false},
	} {
		if news(told, c.now) != c.want {
			t.Errorf("%s: news is %t", what, !c.want)
		}
	}
}

func TestABrokenFileIsPutAside(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), []byte(`{"prod": null, "x": {`), 0o600); err != nil {
		t.Fatal(err)
	}
	r := Open(Options{DataDir: dir, Logger: zerolog.Nop()})
	if _, err := os.Stat(filepath.Join(dir, FileName+".broken")); err != nil || len(r.state) != 0 {
		t.Errorf("it is not put aside: %v, %v", err, r.state)
	}
}
