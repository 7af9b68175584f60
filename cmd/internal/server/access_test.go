package server

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
)

const token = "correct-horse-battery"

func writeToken(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestChangesOverTCPNeedTheToken(t *testing.T) {
	f := newFake("dev")
	var log bytes.Buffer
	file := writeToken(t, token+"\n")
	h := testServer(f, Options{TokenFile: file, Logger: quiet(&log)}).Handler(false)
	for given, want := range map[string]int{
		"":                         401,
		"Bearer ":                  401,
		"Bearer wrong":             401,
		"Bearer " + token + "x":    401,
		"Basic " + token:           401,
		token:                      401,
		"Bearer " + token:          202,
		"bearer " + token:          202,
		"Bearer " + token[:5]:      401,
		"Bearer Bearer " + token:   401,
		"Bearer " + token + "\x00": 401,
	} {
		res := ask(t, h, "POST", "/api/v1/resync", header("Authorization", given))
		if res.StatusCode != want {
			t.Errorf("%q: %d, want %d", given, res.StatusCode, want)
		}
	}
	if len(f.trig) != 2 || f.trig[0].Actor != "token" {
		t.Errorf("engine was asked %+v", f.trig)
	}
	if strings.Contains(log.String(), "horse") || !strings.Contains(log.String(), "call refused") {
		t.Errorf("log = %s", log.String())
	}
}

func TestARotatedTokenCountsAtOnce(t *testing.T) {
	file := writeToken(t, token)
	h := testServer(newFake("dev"), Options{TokenFile: file}).Handler(false)
	if err := os.WriteFile(file, []byte("another-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	if res := ask(t, h, "POST", "/api/v1/resync", header("Authorization", "Bearer "+token)); res.StatusCode != 401 {
		t.Errorf("old token: %d", res.StatusCode)
	}
	if res := ask(t, h, "POST", "/api/v1/resync", header("Authorization", "Bearer another-token")); res.StatusCode != 202 {
		t.Errorf("new token: %d", res.StatusCode)
	}
}

func TestWithoutATokenNothingChangesOverTCP(t *testing.T) {
	for name, tt := range map[string]struct {
		file   string
		status int
	}{
		"none configured": {"", 403},
		"missing file":    {filepath.Join(t.TempDir(), "none"), 503},
		"empty file":      {writeToken(t, " \n"), 503},
		"short token":     {writeToken(t, "abc"), 503},
		"huge file":       {writeToken(t, strings.Repeat("x", maxToken+1)), 503},
	} {
		h := testServer(newFake("dev"), Options{TokenFile: tt.file}).Handler(false)
		res := ask(t, h, "POST", "/api/v1/resync", header("Authorization", "Bearer "))
		p := decode[api.Problem](t, res)
		if res.StatusCode != tt.status || !strings.Contains(p.Hint, "socket") {
			t.Errorf("%s: %d %+v", name, res.StatusCode, p)
		}
	}
	if res := ask(t, testServer(newFake("dev"), Options{}).Handler(true), "POST", "/api/v1/resync"); res.StatusCode != 202 {
		t.Errorf("over the socket: %d", res.StatusCode)
	}
}

// A page of another site can have its name resolve to our address, and then
// call us from a browser: the Host header gives it away.
func TestForeignHostsAreRefused(t *testing.T) {
	auth := header("Authorization", "Bearer "+token)
	file := writeToken(t, token)
	local := testServer(newFake("dev"), Options{TokenFile: file, Hosts: []string{"Holdfast.example.org"}}).Handler(false)
	open := testServer(newFake("dev"), Options{TokenFile: file, Listen: "0.0.0.0:8080"}).Handler(false)
	onPod := func(r *http.Request) {
		addr := &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 8080}
		*r = *r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, addr))
	}
	for _, tt := range []struct {
		name   string
		h      http.Handler
		method string
		host   string
		want   int
	}{
		{"by the listen address", local, "POST", "127.0.0.1:8080", 202},
		{"through a tunnel", local, "POST", "localhost:9999", 202},
		{"over IPv6", local, "POST", "[::1]:8080", 202},
		{"by a configured name", local, "POST", "holdfast.example.org", 202},
		{"rebound", local, "POST", "evil.example.org:8080", 421},
		{"rebound, reading what only this machine may", local, "GET", "evil.example.org:8080", 421},
		{"rebound to a public address", open, "POST", "evil.example.org:8080", 421},
		{"reading where everybody may", open, "GET", "holdfast.example.org:8080", 200},
		{"by the pod's address", open, "POST", "10.1.2.3:8080", 202},
		{"by another address", open, "POST", "10.9.9.9:8080", 421},
		{"without", open, "POST", "", 421},
	} {
		path := "/api/v1/resync"
		if tt.method == "GET" {
			path = "/api/v1/environments"
		}
		if res := ask(t, tt.h, tt.method, path, auth, onPod, host(tt.host)); res.StatusCode != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, res.StatusCode, tt.want)
		}
	}
}

func TestPagesOfOtherSitesMayChangeNothing(t *testing.T) {
	for _, trusted := range []bool{false, true} {
		h := testServer(newFake("dev"), Options{TokenFile: writeToken(t, token)}).Handler(trusted)
		res := ask(t, h, "POST", "/api/v1/resync", header("Authorization", "Bearer "+token), header("Sec-Fetch-Site", "cross-site"))
		if res.StatusCode != http.StatusForbidden {
			t.Errorf("trusted %t: %d", trusted, res.StatusCode)
		}
	}
}

func TestEveryAnswerHasSecurityHeaders(t *testing.T) {
	h := testServer(newFake("dev"), Options{}).Handler(false)
	for _, target := range []string{"/", "/nothing", "/api/v1/environments", "/healthz"} {
		res := ask(t, h, "GET", target, header("X-Request-Id", "<bad>"))
		for key, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Content-Security-Policy": "default-src 'none'; ",
			"Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
		} {
			if got := res.Header.Get(key); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s = %q, want %q", target, key, got, want)
			}
		}
		if id := res.Header.Get("X-Request-Id"); !usableID.MatchString(id) {
			t.Errorf("%s: request id %q", target, id)
		}
	}
}
