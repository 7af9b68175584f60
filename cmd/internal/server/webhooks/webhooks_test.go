package webhooks

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
)

const secret = "a planted secret"

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func mac(parts ...string) string {
	h := hmac.New(sha256.New, []byte(secret))
	for _, p := range parts {
		h.Write([]byte(p))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// proofs make the headers of each sender for a body.
var proofs = map[string]func(body string) map[string]string{
	"github": func(b string) map[string]string {
		return map[string]string{"X-GitHub-Event": "push", "X-GitHub-Delivery": "d-1", "X-Hub-Signature-256": "sha256=" + mac(b)}
	},
	"gitea": func(b string) map[string]string {
		return map[string]string{"X-Gitea-Event": "push", "X-Gitea-Delivery": "d-1", "X-Gitea-Signature": mac(b)}
	},
	"gitlab": func(string) map[string]string {
		return map[string]string{"X-Gitlab-Event": "Push Hook", "X-Gitlab-Event-UUID": "d-1", "X-Gitlab-Token": secret}
	},
	"bitbucket": func(b string) map[string]string {
		return map[string]string{"X-Event-Key": "repo:push", "X-Request-UUID": "d-1", "X-Hub-Signature": "sha256=" + mac(b)}
	},
	"bitbucket-server": func(b string) map[string]string {
		return map[string]string{"X-Event-Key": "repo:refs_changed", "X-Request-Id": "d-1", "X-Hub-Signature": "sha256=" + mac(b)}
	},
	"azure-devops": func(string) map[string]string { return map[string]string{"Authorization": basicAuth("hook", secret)} },
	"generic": func(b string) map[string]string {
		stamp := strconv.FormatInt(now.Unix(), 10)
		return map[string]string{"X-Holdfast-Timestamp": stamp, "X-Holdfast-Signature": "sha256=" + mac(stamp, ".", b)}
	},
	"cloudevents": func(string) map[string]string {
		return map[string]string{"Authorization": "Bearer " + secret, "Content-Type": "application/cloudevents+json"}
	},
}

func basicAuth(user, password string) string {
	r, _ := http.NewRequest("GET", "/", nil)
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

// addresses are how a source may name the repository of each fixture.
var addresses = map[string][]string{
	"github":           {"https://github.com/Team/shop", "git@github.com:team/shop.git", "ssh://git@ssh.github.com:443/team/shop.git"},
	"gitea":            {"https://forge.example.org/team/shop.git", "ssh://git@forge.example.org:2222/team/shop"},
	"gitlab":           {"https://gitlab.example.org/team/shop.git", "gitlab.example.org:team/shop.git"},
	"bitbucket":        {"https://bitbucket.org/team/shop.git", "git@bitbucket.org:team/shop.git"},
	"bitbucket-server": {"https://code.example.org/scm/TEAM/shop.git", "ssh://git@code.example.org:7999/team/shop.git"},
	"azure-devops":     {"https://dev.azure.com/org/team/_git/shop", "git@ssh.dev.azure.com:v3/org/team/shop", "https://org.visualstudio.com/DefaultCollection/team/_git/shop"},
	"generic":          {"https://git.example.org/team/shop", "git@git.example.org:team/shop.git"},
	"cloudevents":      {"https://git.example.org:8443/team/shop"},
}

// rig is a handler with one receiver of each kind.
type rig struct {
	*Handler
	sources []Source
	looks   []string
	counts  map[string]int
	log     bytes.Buffer
}

func newRig(t testing.TB, all ...Source) *rig {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("an older secret\n"+secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &rig{sources: all, counts: map[string]int{}}
	var receivers []config.Webhook
	for _, kind := range config.WebhookKinds {
		receivers = append(receivers, config.Webhook{Name: kind, Kind: kind, SecretFile: file})
	}
	r.Handler = New(Options{
		Receivers: func() []config.Webhook { return receivers }, Sources: func() []Source { return r.sources },
		Look:  func(source, actor, _ string) { r.looks = append(r.looks, source+" by "+actor) },
		Count: func(receiver, outcome string) { r.counts[receiver+" "+outcome]++ }, Logger: zerolog.New(&r.log), Now: func() time.Time { return now },
	})
	return r
}

func (r *rig) post(kind, body string, headers map[string]string) (int, string) {
	req := httptest.NewRequest("POST", Path+kind, strings.NewReader(body))
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w.Code, w.Body.String()
}

func fixture(t testing.TB, kind string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + kind + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestAPushOfEachSenderIsMatchedByAddressAndRef(t *testing.T) {
	for _, kind := range config.WebhookKinds {
		t.Run(kind, func(t *testing.T) {
			body := fixture(t, kind)
			for _, url := range addresses[kind] {
				r := newRig(t,
					Source{Name: "shop", URL: url, Ref: "main"}, Source{Name: "full", URL: url, Ref: "refs/heads/main"}, Source{Name: "head", URL: url},
					Source{Name: "previews", URL: url, Ref: "stable", AnyRef: true}, Source{Name: "stable", URL: url, Ref: "stable"},
					Source{Name: "other", URL: url + "-other"}, Source{Name: "folder"},
				)
				status, answer := r.post(kind, body, proofs[kind](body))
				want := []string{"full", "head", "previews", "shop"}
				var got Answer
				if err := json.Unmarshal([]byte(answer), &got); err != nil || status != 202 || !slices.Equal(got.Sources, want) {
					t.Errorf("%s: %d %s, want %v", url, status, answer, want)
				}
				if len(r.looks) != 4 || r.looks[3] != "shop by webhook "+kind {
					t.Errorf("looks %v", r.looks)
				}
				if status, answer := r.post(kind, body, proofs[kind](body)); status != 409 || len(r.looks) != 4 {
					t.Errorf("replayed: %d %s", status, answer)
				}
				if r.counts[kind+" "+Looked] != 1 || r.counts[kind+" "+Replayed] != 1 {
					t.Errorf("counts %v", r.counts)
				}
			}
		})
	}
}

func TestWhatIsNotProvenIsRefusedUnread(t *testing.T) {
	for _, kind := range config.WebhookKinds {
		t.Run(kind, func(t *testing.T) {
			body := fixture(t, kind)
			r := newRig(t, Source{Name: "shop", URL: addresses[kind][0]})
			for name, headers := range map[string]map[string]string{
				"of another body": proofs[kind](body + " "), "none": {}, "no hex": {"X-Hub-Signature-256": "sha256=zz", "Authorization": "Basic ::"},
			} {
				// A wrong proof for senders of tokens is a wrong token.
				for k, v := range headers {
					headers[k] = strings.ReplaceAll(v, secret, "another secret")
				}
				if kind == "azure-devops" && name != "none" {
					headers["Authorization"] = basicAuth("hook", "another secret")
				}
				// What cannot be parsed would answer 400 if anybody tried.
				for _, text := range []string{body, "{"} {
					if status, answer := r.post(kind, text, headers); status != 401 {
						t.Errorf("%s: %d %s", name, status, answer)
					}
				}
			}
			if len(r.looks) != 0 || strings.Contains(r.log.String(), secret) {
				t.Errorf("looks %v, log %s", r.looks, &r.log)
			}
			// None of those was taken for a delivery.
			if status, answer := r.post(kind, body, proofs[kind](body)); status != 202 {
				t.Errorf("afterwards: %d %s", status, answer)
			}
		})
	}
}

func TestTheBodyIsBoundedAndOfItsType(t *testing.T) {
	for _, kind := range config.WebhookKinds {
		r := newRig(t, Source{Name: "shop", URL: addresses[kind][0]})
		large := fixture(t, kind) + strings.Repeat(" ", MaxBody)
		if status, answer := r.post(kind, large, proofs[kind](large)); status != 413 {
			t.Errorf("%s, oversized: %d %s", kind, status, answer)
		}
		for _, body := range []string{"", "{", "[]", "7", `{"ref":7,"eventType":7,"push":7,"changes":7}`, "{}"} {
			if status, answer := r.post(kind, body, proofs[kind](body)); status != 400 && !(status == 200 && strings.Contains(answer, "ignored")) {
				t.Errorf("%s: %q answers %d %s", kind, body, status, answer)
			}
		}
		if len(r.looks) > 0 {
			t.Errorf("%s: looks %v", kind, r.looks)
		}
	}
}

func TestOtherEventsAndRepositoriesAreAcknowledged(t *testing.T) {
	r := newRig(t, Source{Name: "shop", URL: "https://github.com/team/elsewhere"})
	body := `{"zen":"Keep it logically awesome."}`
	headers := proofs["github"](body)
	headers["X-GitHub-Event"] = "ping"
	if status, answer := r.post("github", body, headers); status != 200 || !strings.Contains(answer, `event \"ping\" is ignored`) {
		t.Errorf("ping: %d %s", status, answer)
	}
	body = fixture(t, "github")
	headers = proofs["github"](body)
	headers["X-GitHub-Delivery"] = "d-2"
	if status, answer := r.post("github", body, headers); status != 200 || !strings.Contains(answer, "no source follows") {
		t.Errorf("unknown repository: %d %s", status, answer)
	}
	form := "payload=" + strings.NewReplacer("%", "%25", "&", "%26", "+", "%2B").Replace(body)
	headers = proofs["github"](form)
	headers["X-GitHub-Delivery"], headers["Content-Type"] = "d-3", "application/x-www-form-urlencoded"
	r.sources[0].URL = "git@github.com:team/shop.git"
	if status, answer := r.post("github", form, headers); status != 202 {
		t.Errorf("form: %d %s", status, answer)
	}
}

func TestAGenericCallIsOfItsTime(t *testing.T) {
	r := newRig(t, Source{Name: "shop"})
	body := `{"source":"shop"}`
	for offset, want := range map[time.Duration]int{-6 * time.Minute: 401, 6 * time.Minute: 401, -4 * time.Minute: 202} {
		stamp := strconv.FormatInt(now.Add(offset).Unix(), 10)
		headers := map[string]string{"X-Holdfast-Timestamp": stamp, "X-Holdfast-Signature": mac(stamp, ".", body)}
		if status, answer := r.post("generic", body, headers); status != want {
			t.Errorf("%s: %d %s", offset, status, answer)
		}
	}
}

func TestOneClientCannotCrowdOutTheOthers(t *testing.T) {
	r := newRig(t)
	limited := 0
	for range burst + 5 {
		if status, _ := r.post("github", "{}", nil); status == 429 {
			limited++
		}
	}
	if limited != 5 {
		t.Errorf("%d calls were limited, want 5", limited)
	}
	req := httptest.NewRequest("POST", Path+"github", strings.NewReader("{}"))
	req.RemoteAddr = "[2001:db8::1]:1234"
	w := httptest.NewRecorder()
	if r.ServeHTTP(w, req); w.Code != 401 {
		t.Errorf("another client got %d", w.Code)
	}
	for i := range 3 * maxClients {
		r.clients.allow(fmt.Sprintf("10.0.%d.%d:1", i/256, i%256), now)
		r.seen.add("x", now, strconv.Itoa(i))
	}
	if n := len(r.clients.all.by); n != maxClients {
		t.Errorf("%d clients are remembered", n)
	}
}

func TestASlowSenderHoldsNothingUp(t *testing.T) {
	r := newRig(t, Source{Name: "shop", URL: addresses["github"][0]})
	server := httptest.NewUnstartedServer(r)
	server.Config.ReadTimeout = 200 * time.Millisecond // the lesser of both deadlines would do
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.ServeHTTP(deadlined{w}, req)
	})
	server.Start()
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %sgithub HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{", Path)
	answer, err := io.ReadAll(conn)
	if err != nil || !bytes.Contains(answer, []byte("408")) {
		t.Errorf("%v: %s", err, answer)
	}
}

// deadlined keeps the server's own, shorter deadline.
type deadlined struct{ http.ResponseWriter }

func FuzzReceivers(f *testing.F) {
	for i, kind := range config.WebhookKinds {
		f.Add(i, fixture(f, kind), "")
	}
	f.Add(0, `{"ref":"x","repository":{"clone_url":"://"}}`, "create")
	f.Fuzz(func(t *testing.T, i int, body, eventName string) {
		kind := config.WebhookKinds[uint(i)%uint(len(config.WebhookKinds))]
		headers := http.Header{}
		for k, v := range proofs[kind](body) {
			headers.Set(k, v)
		}
		if eventName != "" {
			headers.Set("X-GitHub-Event", eventName)
		}
		e, err := kinds[kind].parse(headers, []byte(body))
		if err != nil {
			return
		}
		if e.ignored == "" && len(e.urls) == 0 && e.tail == "" && e.source == "" {
			t.Errorf("a push of nothing: %q", body)
		}
		for _, name := range e.match([]Source{{Name: "folder"}}) {
			if e.source != name {
				t.Errorf("%q matches a source without an address", body)
			}
		}
	})
}
