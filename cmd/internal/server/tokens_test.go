package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

const (
	readerToken = "reader-0123456789"
	annaToken   = "anna-0123456789"
	shopToken   = "shop-0123456789"
	rootToken   = "root-0123456789"
)

func hashed(t *testing.T, text string) string {
	t.Helper()
	return writeToken(t, fmt.Sprintf("%x\n", sha256.Sum256([]byte(text))))
}

// staff are tokens of every role.
func staff(t *testing.T) []Token {
	t.Helper()
	return []Token{
		{Name: "reader", Role: RoleRead, SHA256File: hashed(t, readerToken)},
		{Name: "anna", Role: RoleOperate, SHA256File: hashed(t, annaToken)},
		{Name: "shop", Role: RoleOperate, File: writeToken(t, shopToken), Environments: []string{"shop-*"}},
		{Name: "root", Role: RoleAdminister, SHA256File: hashed(t, rootToken)},
	}
}

func bearer(token string) func(*http.Request) { return header("Authorization", "Bearer "+token) }

func TestRolesSayWhatATokenMayDo(t *testing.T) {
	f := newFake("shop-dev", "prod")
	var log bytes.Buffer
	h := testServer(f, Options{Tokens: staff(t), Decider: fakeDecider{}, Logger: quiet(&log)}).Handler(false)
	for _, tt := range []struct {
		token, method, path string
		want                int
	}{
		{"", "GET", "/api/v1/environments", 200},
		{readerToken, "POST", "/api/v1/resync", 403},
		{annaToken, "POST", "/api/v1/resync", 202},
		{rootToken, "POST", "/api/v1/resync", 202},
		{annaToken, "POST", "/api/v1/ledger/check", 403},
		{rootToken, "POST", "/api/v1/ledger/check", 503}, // there is no ledger
		{shopToken, "POST", "/api/v1/environments/shop-dev/resync", 202},
		{shopToken, "POST", "/api/v1/resync?environment=shop-dev", 202},
		{shopToken, "POST", "/api/v1/environments/prod/resync", 403},
		{shopToken, "POST", "/api/v1/resync?environment=shop-dev&environment=prod", 403},
		{shopToken, "POST", "/api/v1/resync", 403},
		{shopToken, "POST", "/api/v1/environments/prod/release", 403},
		{shopToken, "POST", "/api/v1/holds", 403},
		{shopToken, "POST", "/api/v1/holds/h-prod/end", 403},
		{shopToken, "POST", "/api/v1/holds/h-all/end", 403},
		{shopToken, "POST", "/api/v1/holds/unknown/end", 403},
		{shopToken, "POST", "/api/v1/holds/h-shop/end", 200},
		{shopToken, "POST", "/api/v1/sources/x/allow", 403},
		{"guess-0123456789", "POST", "/api/v1/resync", 401},
	} {
		f.statuses[0].Gates = []reconciler.Gate{{ID: "h-shop"}, {ID: "h-all"}}
		f.statuses[1].Gates = []reconciler.Gate{{ID: "h-prod"}, {ID: "h-all"}}
		res := ask(t, h, tt.method, tt.path, bearer(tt.token))
		if res.StatusCode != tt.want {
			t.Errorf("%s %s with %q: %d, want %d", tt.method, tt.path, tt.token, res.StatusCode, tt.want)
		}
	}
	for _, word := range []string{`"actor":"anna"`, `"actor":"shop"`, "needs administer", "may change the environments shop-*"} {
		if !strings.Contains(log.String(), word) {
			t.Errorf("the log lacks %s", word)
		}
	}
	if strings.Contains(log.String(), "0123456789") {
		t.Error("the log holds a token")
	}
	if f.trig[0].Actor != "anna" {
		t.Errorf("actor %q", f.trig[0].Actor)
	}
}

func TestReadingCanNeedAToken(t *testing.T) {
	h := testServer(newFake("dev"), Options{Tokens: staff(t), ReadsNeedToken: true, Metrics: http.NotFoundHandler()}).Handler(false)
	basic := func(password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth("anybody", password) }
	}
	for _, tt := range []struct {
		method, path string
		with         func(*http.Request)
		want         int
	}{
		{"GET", "/api/v1/environments", bearer(""), 401},
		{"GET", "/", bearer(""), 401},
		{"GET", "/metrics", bearer(""), 401},
		{"GET", "/healthz", bearer(""), 200},
		{"GET", "/readyz", bearer(""), 200},
		{"POST", "/healthz", bearer(""), 401},
		{"GET", "/api/v1/environments", bearer(readerToken), 200},
		{"GET", "/", basic(readerToken), 200},
		{"GET", "/", basic("wrong-0123456789"), 401},
		{"POST", "/api/v1/resync", basic(annaToken), 401},
	} {
		if res := ask(t, h, tt.method, tt.path, tt.with); res.StatusCode != tt.want {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.path, res.StatusCode, tt.want)
		}
	}
	res := ask(t, h, "GET", "/")
	if got := strings.Join(res.Header.Values("WWW-Authenticate"), ", "); got != `Bearer, Basic realm="holdfast"` {
		t.Errorf("asked for %s", got)
	}
}

func TestAFileThatHoldsNoHashLetsNobodyIn(t *testing.T) {
	var log bytes.Buffer
	for _, content := range []string{annaToken, "", strings.Repeat("0", 63), strings.Repeat("g", 64)} {
		h := testServer(newFake("dev"), Options{
			Tokens: []Token{{Name: "anna", Role: RoleOperate, SHA256File: writeToken(t, content)}}, Logger: quiet(&log),
		}).Handler(false)
		if res := ask(t, h, "POST", "/api/v1/resync", bearer(annaToken)); res.StatusCode != 503 {
			t.Errorf("%q: %d", content, res.StatusCode)
		}
	}
	if strings.Contains(log.String(), annaToken) {
		t.Error("the log holds what was in the file")
	}
	tokens := append(staff(t), Token{Name: "gone", Role: RoleOperate, File: "/nowhere"})
	h := testServer(newFake("dev"), Options{Tokens: tokens}).Handler(false)
	if res := ask(t, h, "POST", "/api/v1/resync", bearer(annaToken)); res.StatusCode != 202 {
		t.Errorf("another's file that cannot be read: %d", res.StatusCode)
	}
}

func TestAClientThatChangesTooMuchHasToWait(t *testing.T) {
	clock := now
	s := testServer(newFake("dev"), Options{Tokens: staff(t), ChangesPerMinute: 3})
	s.limits = newLimiter(3, func() time.Time { return clock })
	h := s.Handler(false)
	post := func(token string) *http.Response { return ask(t, h, "POST", "/api/v1/resync", bearer(token)) }
	for range 3 {
		if res := post(annaToken); res.StatusCode != 202 {
			t.Fatalf("%d", res.StatusCode)
		}
	}
	res := post(annaToken)
	if p := decode[api.Problem](t, res); res.StatusCode != 429 || res.Header.Get("Retry-After") != "20" || p.RequestID == "" {
		t.Errorf("%d after %s: %+v", res.StatusCode, res.Header.Get("Retry-After"), p)
	}
	if res := post(rootToken); res.StatusCode != 202 {
		t.Errorf("another token: %d", res.StatusCode)
	}
	for i, want := range []int{401, 401, 401, 429} {
		if res := post("guess-0123456789"); res.StatusCode != want {
			t.Errorf("guess %d: %d", i, res.StatusCode)
		}
	}
	if res := ask(t, h, "GET", "/api/v1/environments"); res.StatusCode != 200 {
		t.Errorf("reading: %d", res.StatusCode)
	}
	clock = clock.Add(20 * time.Second)
	if res := post(annaToken); res.StatusCode != 202 {
		t.Errorf("after the wait: %d", res.StatusCode)
	}
}

func TestClientsAreForgotten(t *testing.T) {
	clock := now
	l := newLimiter(10, func() time.Time { return clock })
	l.take("busy")
	for i := range maxClients * 2 {
		clock = clock.Add(time.Millisecond)
		l.take(fmt.Sprint(i))
	}
	if n := len(l.clients); n > maxClients {
		t.Errorf("%d clients", n)
	}
}

// fakeDecider ends every hold.
type fakeDecider struct{ Decider }

func (fakeDecider) EndHold(_ context.Context, id string, _ time.Time) (reconciler.Hold, error) {
	return reconciler.Hold{ID: id}, nil
}
