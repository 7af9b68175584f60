package server

import (
	"bytes"
	"encoding/pem"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/internal/testkit/oidcserver"
)

// browser is one with a page of ours open.
type browser struct {
	t *testing.T
	*http.Client
	base string
}

// browse serves over TCP as to a browser, and returns one.
func browse(t *testing.T, f *fakeEngine, o Options, provider *oidcserver.Server) (*browser, *Server) {
	t.Helper()
	web := httptest.NewUnstartedServer(nil)
	o.Listen, o.URL = web.Listener.Addr().String(), "http://"+web.Listener.Addr().String()
	if o.OIDC != nil {
		o.OIDC.Issuer, o.OIDC.ClientID = provider.URL, oidcserver.ClientID
		o.OIDC.ClientSecretFile = writeToken(t, oidcserver.ClientSecret+"\n")
		o.OIDC.CAFile = writeToken(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: provider.Certificate().Raw})))
		o.OIDC.GroupsClaim = "groups"
	}
	// The provider's tokens are of now, and sessions are as old as the clock says.
	o.Engine = f
	if o.Now == nil {
		o.Now = time.Now
	}
	s := New(o)
	web.Config.Handler = s.Handler(false)
	web.Start()
	t.Cleanup(web.Close)
	return newBrowser(t, web.URL, provider), s
}

func newBrowser(t *testing.T, base string, provider *oidcserver.Server) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	if provider != nil {
		client.Transport = provider.Client().Transport
	}
	return &browser{t: t, Client: client, base: base}
}

// do sends what a browser would send from one of our pages.
func (b *browser) do(method, path string, form url.Values, edit ...func(*http.Request)) (int, string) {
	b.t.Helper()
	r, err := http.NewRequest(method, b.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Accept", "text/html")
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", b.base)
	}
	for _, e := range edit {
		e(r)
	}
	res, err := b.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(res.Body); err != nil {
		b.t.Fatal(err)
	}
	return res.StatusCode, text.String()
}

func (b *browser) resync(edit ...func(*http.Request)) int {
	status, _ := b.do("POST", "/api/v1/environments/prod/resync", nil, edit...)
	return status
}

func TestATokenSignsABrowserInAndOut(t *testing.T) {
	f := newFake("prod", "shop-dev")
	tokens := staff(t)
	b, _ := browse(t, f, Options{Tokens: tokens, ReadsNeedToken: true}, nil)
	if status, text := b.do("GET", "/environments/prod?x=1", nil); status != 200 || !strings.Contains(text, "<h1>Sign in</h1>") || !strings.Contains(text, `value="/environments/prod?x=1"`) {
		t.Fatalf("a page answers %d: %.300s", status, text)
	}
	if status, _ := b.do("GET", "/api/v1/environments", nil); status != 401 {
		t.Errorf("the API answers %d", status)
	}
	if status, text := b.do("POST", "/login", url.Values{"token": {"wrong-wrong"}, "next": {"/"}}); status != 401 || !strings.Contains(text, "not known") || strings.Contains(text, "wrong-wrong") {
		t.Errorf("a wrong token: %d %.200s", status, text)
	}
	if status, text := b.do("POST", "/login", url.Values{"token": {annaToken}, "next": {"/environments/prod"}}); status != 200 || !strings.Contains(text, "anna") || !strings.Contains(text, "Sign out") {
		t.Fatalf("signed in: %d %.300s", status, text)
	}
	if status := b.resync(); status != 202 || f.trig[0].Actor != "anna" {
		t.Errorf("a change: %d, %+v", status, f.trig)
	}
	if status := b.resync(func(r *http.Request) { r.Header.Del("Origin") }); status != 401 {
		t.Errorf("a change of which no page is known: %d", status)
	}
	if status := b.resync(header("Origin", "https://evil.example")); status != 403 {
		t.Errorf("a change by another site: %d", status)
	}
	if err := os.WriteFile(tokens[1].SHA256File, []byte(strings.Repeat("0", 64)), 0o600); err != nil {
		t.Fatal(err)
	}
	if status := b.resync(); status != 401 {
		t.Errorf("after the token was rotated: %d", status)
	}
	b.do("POST", "/login", url.Values{"token": {rootToken}})
	if status := b.resync(); status != 202 {
		t.Errorf("signed in as another: %d", status)
	}
	b.do("POST", "/logout", nil)
	if status := b.resync(); status != 401 {
		t.Errorf("after signing out: %d", status)
	}
}

// What may be sent to a form still has to be allowed for what it stands for.
func TestAFormIsAsFarAsItsSenderMayGo(t *testing.T) {
	f := newFake("prod", "shop-dev")
	b, _ := browse(t, f, Options{Tokens: staff(t), Sources: fakeSources{}}, nil)
	b.do("POST", "/login", url.Values{"token": {shopToken}})
	b.do("POST", "/do/resync", url.Values{"environment": {"prod"}, "back": {"/"}})
	if len(f.trig) != 0 {
		t.Errorf("another's environment was resynced: %+v", f.trig)
	}
	if _, text := b.do("POST", "/do/allow", url.Values{"source": {"shop"}, "revision": {strings.Repeat("a", 40)}, "reason": {"x"}, "back": {"/"}}); !strings.Contains(text, "may change the environments shop-*") {
		t.Errorf("a source's revision: %.2000s", text)
	}
	b.do("POST", "/do/resync", url.Values{"environment": {"shop-dev"}, "back": {"/"}})
	if len(f.trig) != 1 || f.trig[0].Actor != "shop" {
		t.Errorf("its own was not resynced: %+v", f.trig)
	}
	reader, _ := browse(t, f, Options{Tokens: staff(t)}, nil)
	reader.do("POST", "/login", url.Values{"token": {readerToken}})
	if status, _ := reader.do("POST", "/do/resync", url.Values{"environment": {"shop-dev"}}); status != 403 || len(f.trig) != 1 {
		t.Errorf("a reader's form: %d", status)
	}
}

func TestSessionsEnd(t *testing.T) {
	clock := time.Now()
	b, s := browse(t, newFake("prod"), Options{Tokens: staff(t), Now: func() time.Time { return clock }}, nil)
	b.do("POST", "/login", url.Values{"token": {annaToken}})
	for range 3 {
		clock = clock.Add(sessionIdle - time.Minute)
		if status := b.resync(); status != 202 {
			t.Errorf("used now and then: %d after %s", status, time.Since(clock))
		}
	}
	clock = clock.Add(10 * time.Minute)
	if status := b.resync(); status != 401 {
		t.Errorf("a day after signing in: %d", status)
	}
	b.do("POST", "/login", url.Values{"token": {annaToken}})
	clock = clock.Add(sessionIdle + time.Second)
	if status := b.resync(); status != 401 {
		t.Errorf("unused for long: %d", status)
	}
	for range maxSessions + 10 {
		s.sessions.begin(caller{name: "x"}, nil)
	}
	if n := len(s.sessions.all); n > maxSessions {
		t.Errorf("%d sessions", n)
	}
}

func TestGuessesAtTheFormAreBounded(t *testing.T) {
	b, _ := browse(t, newFake("prod"), Options{Tokens: staff(t), ChangesPerMinute: 3}, nil)
	last := 0
	for range 5 {
		last, _ = b.do("POST", "/login", url.Values{"token": {"guess-guess"}})
	}
	if last != 429 {
		t.Errorf("the fifth guess is answered by %d", last)
	}
}

func TestOnlyOurOwnPagesAreGoneOnTo(t *testing.T) {
	for given, want := range map[string]string{
		"/environments/prod?a=b": "/environments/prod?a=b", "": "/", "https://evil.example/": "/", "//evil.example/": "/",
		`/\evil.example`: "/", "javascript:alert(1)": "/", "/login": "/", "/logout": "/", "relative": "/", "/a\r\nSet-Cookie: x": "/",
	} {
		if got := localPath(given); got != want {
			t.Errorf("%q leads to %q, want %q", given, got, want)
		}
	}
}

func mappings() *OIDC {
	return &OIDC{Name: "Example", Roles: []Mapping{
		{Groups: []string{"sre"}, Grant: Grant{Role: RoleAdminister}},
		{Groups: []string{"shop"}, Grant: Grant{Role: RoleOperate, Environments: []string{"shop-*"}}},
		{Groups: []string{"all"}, Grant: Grant{Role: RoleRead, Environments: []string{"shop-*", "tools"}}},
		{Users: []string{"ann@example.org", "subject-9"}, Grant: Grant{Role: RoleOperate, Environments: []string{"prod"}}},
	}}
}

func TestPeopleSignInByOIDC(t *testing.T) {
	provider := oidcserver.Start(t)
	for name, tt := range map[string]struct {
		claims      map[string]any
		who         string
		prod, shop  int
		seesProd    bool
		cannotGetIn bool
	}{
		"a group with all":             {claims: map[string]any{"email": "eve@example.org", "email_verified": true, "groups": []string{"x", "sre"}}, who: "eve@example.org", prod: 202, shop: 202, seesProd: true},
		"a group with some":            {claims: map[string]any{"preferred_username": "bob", "groups": []string{"shop", "all"}}, who: "bob#subject-1", prod: 403, shop: 202},
		"a group that only reads":      {claims: map[string]any{"groups": "all"}, who: "subject-1", prod: 403, shop: 403},
		"a person by address":          {claims: map[string]any{"email": "Ann@example.org", "email_verified": true}, who: "Ann@example.org", prod: 202, shop: 403, seesProd: true},
		"a person by subject":          {claims: map[string]any{"sub": "subject-9"}, who: "subject-9", prod: 202, shop: 403, seesProd: true},
		"an address not verified":      {claims: map[string]any{"email": "ann@example.org", "email_verified": false}, cannotGetIn: true},
		"an address without a word":    {claims: map[string]any{"email": "ann@example.org"}, cannotGetIn: true},
		"nobody that is named":         {claims: map[string]any{"groups": []string{"others"}}, cannotGetIn: true},
		"groups in a form we know not": {claims: map[string]any{"groups": map[string]any{"sre": true}}, cannotGetIn: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake("prod", "shop-dev")
			b, _ := browse(t, f, Options{OIDC: mappings(), ReadsNeedToken: true}, provider)
			provider.Person(tt.claims)
			status, page := b.do("GET", "/login/oidc?next=/drift", nil)
			if tt.cannotGetIn {
				if status != 403 || !strings.Contains(page, "no role is granted to you") || b.resync() != 401 {
					t.Errorf("%d %.300s", status, page)
				}
				return
			}
			if status != 200 || !strings.Contains(page, tt.who) {
				t.Fatalf("%d %.400s", status, page)
			}
			if got := b.resync(); got != tt.prod {
				t.Errorf("resync of prod: %d, want %d", got, tt.prod)
			}
			if got, _ := b.do("POST", "/api/v1/environments/shop-dev/resync", nil); got != tt.shop {
				t.Errorf("resync of shop-dev: %d, want %d", got, tt.shop)
			}
			for _, trigger := range f.trig {
				if trigger.Actor != tt.who {
					t.Errorf("the actor is %q", trigger.Actor)
				}
			}
			if _, list := b.do("GET", "/api/v1/environments", nil); strings.Contains(list, `"prod"`) != tt.seesProd {
				t.Errorf("of what may be read: %s", list)
			}
			if got, _ := b.do("GET", "/api/v1/environments/prod", nil); (got == 200) != tt.seesProd {
				t.Errorf("prod is answered by %d", got)
			}
		})
	}
}

func TestWrongAnswersOfTheProviderLetNobodyIn(t *testing.T) {
	provider := oidcserver.Start(t)
	provider.Person(map[string]any{"groups": []string{"sre"}})
	for name, change := range map[string]func(map[string]any){
		"another audience": func(c map[string]any) { c["aud"] = "other" },
		"another issuer":   func(c map[string]any) { c["iss"] = "https://evil.example" },
		"expired":          func(c map[string]any) { c["exp"] = time.Now().Add(-2 * time.Minute).Unix() },
		"another nonce":    func(c map[string]any) { c["nonce"] = "other" },
		"no nonce":         func(c map[string]any) { delete(c, "nonce") },
		"not valid yet":    func(c map[string]any) { c["nbf"] = time.Now().Add(time.Hour).Unix() },
	} {
		var log bytes.Buffer
		b, _ := browse(t, newFake("prod"), Options{OIDC: mappings(), Logger: quiet(&log)}, provider)
		provider.Wrong(change)
		if status, _ := b.do("GET", "/login/oidc", nil); status != 502 || b.resync() != 401 {
			t.Errorf("%s: %d", name, status)
		}
		if strings.Contains(log.String(), "planted") {
			t.Errorf("%s: the log holds a secret: %s", name, log.String())
		}
	}
	provider.Wrong(func(c map[string]any) { c["exp"] = time.Now().Add(-clockSkew / 2).Unix() })
	b, _ := browse(t, newFake("prod"), Options{OIDC: mappings()}, provider)
	if status, _ := b.do("GET", "/login/oidc", nil); status != 200 || b.resync() != 202 {
		t.Errorf("a clock that is a little behind: %d", status)
	}
}

// An answer of the provider counts once, in the browser that asked.
func TestAnswersAreNotTakenTwiceOrElsewhere(t *testing.T) {
	provider := oidcserver.Start(t)
	provider.Person(map[string]any{"groups": []string{"sre"}})
	b, _ := browse(t, newFake("prod"), Options{OIDC: mappings()}, provider)
	var back string
	b.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.Path, pathCallback) {
			back = r.URL.RequestURI()
			return http.ErrUseLastResponse
		}
		return nil
	}
	b.do("GET", "/login/oidc", nil)
	b.CheckRedirect = nil
	other := newBrowser(t, b.base, provider)
	if status, _ := other.do("GET", back, nil); status != 400 || other.resync() != 401 {
		t.Errorf("in another browser: %d", status)
	}
	if status, _ := b.do("GET", back, nil); status != 200 || b.resync() != 202 {
		t.Errorf("in its own: %d", status)
	}
	b.do("POST", "/logout", nil)
	if status, _ := b.do("GET", back, nil); status != 400 || b.resync() != 401 {
		t.Errorf("again: %d", status)
	}
	if status, _ := b.do("GET", "/login/callback?state=&code=x", nil); status != 400 {
		t.Errorf("out of nowhere: %d", status)
	}
}

// A provider that is down stops nobody but those who would sign in with it.
func TestAProviderThatIsDownIsTriedAgain(t *testing.T) {
	provider := oidcserver.Start(t)
	provider.Person(map[string]any{"groups": []string{"sre"}})
	provider.Down(true)
	clock := time.Now()
	b, _ := browse(t, newFake("prod"), Options{OIDC: mappings(), Tokens: staff(t), Now: func() time.Time { return clock }}, provider)
	if status, text := b.do("GET", "/login/oidc", nil); status != 502 || !strings.Contains(text, "cannot be reached") {
		t.Errorf("%d %.200s", status, text)
	}
	if res, _ := b.do("GET", "/api/v1/environments", nil); res != 200 {
		t.Errorf("the API: %d", res)
	}
	b.do("POST", "/login", url.Values{"token": {annaToken}})
	if status := b.resync(); status != 202 {
		t.Errorf("a token meanwhile: %d", status)
	}
	provider.Down(false)
	clock = clock.Add(oidcRetry)
	if status, text := b.do("GET", "/login/oidc", nil); status != 200 {
		t.Errorf("when it is back: %d %.300s", status, text)
	}
}

func TestUnderTLSCookiesBelongToThisHost(t *testing.T) {
	s := testServer(newFake("prod"), Options{Tokens: staff(t), URL: "https://holdfast.example.org"})
	res := ask(t, s.Handler(false), "POST", "/login", fromForm(url.Values{"token": {annaToken}}.Encode()), header("Sec-Fetch-Site", "same-origin"), host("holdfast.example.org"))
	cookies := res.Cookies()
	if res.StatusCode != 303 || len(cookies) != 1 {
		t.Fatalf("%d, %v", res.StatusCode, cookies)
	}
	c := cookies[0]
	if c.Name != "__Host-"+sessionCookie || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
		t.Errorf("the cookie is %+v", c)
	}
	if p := decode[api.Problem](t, ask(t, s.Handler(false), "GET", "/login/callback")); p.Status != 404 {
		t.Errorf("without a provider: %+v", p)
	}
}
