package server

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/holdfast-gitops/holdfast/cmd/internal/server/dashboard"
)

// OIDC is a provider of OpenID Connect that people sign in with.
type OIDC struct {
	// Name is what people call it.
	Name string
	// Issuer is its address, as its tokens have it.
	Issuer   string
	ClientID string
	// ClientSecretFile holds the client's secret; empty for a public client.
	ClientSecretFile string
	// CAFile holds certificates to trust beside the system's.
	CAFile string
	// Scopes are asked for beside openid.
	Scopes []string
	// GroupsClaim names the claim that holds a person's groups.
	GroupsClaim string
	// Roles say who may do what. Nobody else gets in.
	Roles []Mapping
}

// Mapping grants something to people.
type Mapping struct {
	// Groups and Users are whom it is for. A user is an email address that the
	// provider has verified, or a subject.
	Groups, Users []string
	Grant
}

// The bounds of a sign-in by a provider.
const (
	oidcTimeout   = 10 * time.Second
	oidcRetry     = 5 * time.Second
	maxOIDCAnswer = 1 << 20
	// signInTime is how long a person may take at the provider, maxSignIns how many
	// may be there at a time.
	signInTime = 10 * time.Minute
	maxSignIns = 1000
	// clockSkew is how far the provider's clock may be behind.
	clockSkew = time.Minute
	maxActor  = 120
)

// signInCookie ties an answer of the provider to the browser that asked.
const signInCookie = "holdfast_signin"

// pending is a sign-in that is under way at the provider.
type pending struct {
	nonce, verifier, next string
	began                 time.Time
}

// provider speaks with the provider. It asks it nothing before somebody signs in.
type provider struct {
	OIDC
	redirect string
	now      func() time.Time

	mu       sync.Mutex
	found    *oidc.Provider
	client   *http.Client
	failed   error
	failedAt time.Time
	waiting  map[string]pending
}

func newProvider(o OIDC, url string, now func() time.Time) *provider {
	return &provider{OIDC: o, redirect: strings.TrimSuffix(url, "/") + pathCallback, now: now, waiting: map[string]pending{}}
}

// open finds the provider's endpoints, once that works. What failed is tried again
// after a moment.
func (p *provider) open(ctx context.Context) (*oidc.Provider, context.Context, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found != nil {
		return p.found, oidc.ClientContext(ctx, p.client), nil
	}
	if p.failed != nil && p.now().Sub(p.failedAt) < oidcRetry {
		return nil, ctx, p.failed
	}
	client, err := p.httpClient()
	if err == nil {
		// What is learned outlives the request that asked first.
		found, e := oidc.NewProvider(oidc.ClientContext(context.Background(), client), p.Issuer)
		if e == nil {
			p.found, p.client, p.failed = found, client, nil
			return found, oidc.ClientContext(ctx, client), nil
		}
		err = e
	}
	p.failed, p.failedAt = fmt.Errorf("ask the provider %s: %w", p.Issuer, err), p.now()
	return nil, ctx, p.failed
}

func (p *provider) httpClient() (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if p.CAFile != "" {
		pem, err := os.ReadFile(p.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificates to trust: %w", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("file %s holds no certificate", p.CAFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Timeout: oidcTimeout, Transport: bounded{transport}}, nil
}

// bounded keeps a provider from answering without end.
type bounded struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := b.next.RoundTrip(r)
	if err == nil {
		res.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(res.Body, maxOIDCAnswer), res.Body}
	}
	return res, err
}

func (p *provider) oauth(found *oidc.Provider) (*oauth2.Config, error) {
	c := &oauth2.Config{
		ClientID: p.ClientID, Endpoint: found.Endpoint(), RedirectURL: p.redirect,
		Scopes: append([]string{oidc.ScopeOpenID}, p.Scopes...),
	}
	if p.ClientSecretFile == "" {
		return c, nil
	}
	var err error
	c.ClientSecret, err = readSmall(p.ClientSecretFile)
	return c, err
}

// begin remembers a sign-in and gives the address to send the browser to.
func (p *provider) begin(ctx context.Context, next string) (address, id string, err error) {
	found, _, err := p.open(ctx)
	if err != nil {
		return "", "", err
	}
	c, err := p.oauth(found)
	if err != nil {
		return "", "", err
	}
	id = rand.Text()
	one := pending{nonce: rand.Text(), verifier: oauth2.GenerateVerifier(), next: next, began: p.now()}
	p.mu.Lock()
	defer p.mu.Unlock()
	for old, o := range p.waiting {
		if len(p.waiting) >= maxSignIns || p.now().Sub(o.began) > signInTime {
			delete(p.waiting, old)
		}
	}
	p.waiting[id] = one
	return c.AuthCodeURL(id, oidc.Nonce(one.nonce), oauth2.S256ChallengeOption(one.verifier)), id, nil
}

// take ends a sign-in that was begun; each is answered once.
func (p *provider) take(id string) (pending, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one, ok := p.waiting[id]
	delete(p.waiting, id)
	return one, ok && p.now().Sub(one.began) <= signInTime
}

// errNotMapped means that a person is known, and may do nothing here.
var errNotMapped = errors.New("no role is granted to you here")

// finish turns the provider's code into who signed in.
func (p *provider) finish(ctx context.Context, one pending, code string) (caller, error) {
	ctx, cancel := context.WithTimeout(ctx, oidcTimeout)
	defer cancel()
	found, ctx, err := p.open(ctx)
	if err != nil {
		return caller{}, err
	}
	c, err := p.oauth(found)
	if err != nil {
		return caller{}, err
	}
	answer, err := c.Exchange(ctx, code, oauth2.VerifierOption(one.verifier))
	if err != nil {
		return caller{}, fmt.Errorf("exchange the code: %w", harmlessOAuth(err))
	}
	raw, ok := answer.Extra("id_token").(string)
	if !ok {
		return caller{}, errors.New("the provider's answer has no id_token")
	}
	token, err := found.Verifier(&oidc.Config{ClientID: p.ClientID, Now: func() time.Time { return p.now().Add(-clockSkew) }}).Verify(ctx, raw)
	if err != nil {
		return caller{}, fmt.Errorf("check the id_token: %w", err)
	}
	if subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(one.nonce)) != 1 {
		return caller{}, errors.New("the id_token is the answer to another sign-in")
	}
	return p.person(token)
}

// harmlessOAuth leaves out what a provider wrote into its refusal but for the
// code of the error: the rest may repeat what was sent.
func harmlessOAuth(err error) error {
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) {
		return err
	}
	if refused.ErrorCode != "" {
		return fmt.Errorf("the provider refuses: %.60q", refused.ErrorCode)
	}
	return errors.New("the provider refuses")
}

// person is who a token is about, with what its mappings grant.
func (p *provider) person(token *oidc.IDToken) (caller, error) {
	var claims struct {
		Email    string `json:"email"`
		Verified any    `json:"email_verified"`
		Username string `json:"preferred_username"`
	}
	var all map[string]json.RawMessage
	if err := errors.Join(token.Claims(&claims), token.Claims(&all)); err != nil {
		return caller{}, fmt.Errorf("read the id_token: %w", err)
	}
	verified := claims.Email != "" && (claims.Verified == true || claims.Verified == "true")
	who := caller{how: "the person"}
	switch {
	case verified:
		who.name = claims.Email
	case claims.Username != "":
		// Many providers let people choose this name, so the subject goes along.
		who.name = claims.Username + "#" + token.Subject
	default:
		who.name = token.Subject
	}
	who.name = actorName(who.name)
	groups := groupsOf(all[p.GroupsClaim])
	for _, m := range p.Roles {
		isMeant := slices.Contains(m.Users, token.Subject) || verified && slices.ContainsFunc(m.Users, func(u string) bool { return strings.EqualFold(u, claims.Email) })
		if isMeant || slices.ContainsFunc(m.Groups, func(g string) bool { return slices.Contains(groups, g) }) {
			who.grants = append(who.grants, m.Grant)
		}
	}
	if who.role() == RoleNone {
		return who, errNotMapped
	}
	return who, nil
}

// groupsOf reads a claim that is a list or a single name.
func groupsOf(raw json.RawMessage) []string {
	var many []string
	if json.Unmarshal(raw, &many) == nil {
		return many
	}
	var one string
	if json.Unmarshal(raw, &one) == nil && one != "" {
		return []string{one}
	}
	return nil
}

// actorName makes a name fit for logs and pages.
func actorName(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\ufffd'
	}, s)
	if runes := []rune(s); len(runes) > maxActor {
		s = string(runes[:maxActor])
	}
	return s
}

// toProvider sends a browser to the provider.
func (s *Server) toProvider(w http.ResponseWriter, r *http.Request, d *dashboard.Dashboard) {
	if s.limited(w, r, caller{}) {
		return
	}
	next := localPath(r.URL.Query().Get("next"))
	address, id, err := s.provider.begin(r.Context(), next)
	if err != nil {
		s.opts.Logger.Error().Err(err).Str("request", requestID(r)).Msg("sign-in cannot begin")
		s.showSignIn(w, r, d, http.StatusBadGateway, next, "The provider cannot be reached; the daemon's log says why.")
		return
	}
	s.setCookie(w, r, signInCookie, id, signInTime)
	http.Redirect(w, r, address, http.StatusSeeOther)
}

// fromProvider takes the provider's answer, which has to come with the browser
// that it was asked from.
func (s *Server) fromProvider(w http.ResponseWriter, r *http.Request, d *dashboard.Dashboard) {
	if s.limited(w, r, caller{}) {
		return
	}
	query := r.URL.Query()
	cookie, err := r.Cookie(s.prefixed(r, signInCookie))
	s.setCookie(w, r, signInCookie, "", 0)
	state := query.Get("state")
	refuse := func(status int, told string, err error) {
		s.opts.Logger.Warn().Err(err).Str("request", requestID(r)).Str("remote", r.RemoteAddr).Msg("sign-in refused")
		s.showSignIn(w, r, d, status, "", told)
	}
	if err != nil || state == "" || subtle.ConstantTimeCompare([]byte(cookie.Value), []byte(state)) != 1 {
		refuse(http.StatusBadRequest, "This sign-in was not begun in this browser, or too long ago. Try again.", errors.New("state does not match"))
		return
	}
	one, ok := s.provider.take(state)
	if !ok {
		refuse(http.StatusBadRequest, "This sign-in has ended already, or took too long. Try again.", errors.New("state is not known"))
		return
	}
	if code := query.Get("error"); code != "" {
		refuse(http.StatusForbidden, "The provider did not let you in.", fmt.Errorf("the provider answers %.60q", code))
		return
	}
	who, err := s.provider.finish(r.Context(), one, query.Get("code"))
	switch {
	case errors.Is(err, errNotMapped):
		refuse(http.StatusForbidden, "You are known as "+who.name+", and no role is granted to you here. Ask those who run this daemon.", err)
	case err != nil:
		refuse(http.StatusBadGateway, "The provider's answer cannot be used; the daemon's log says why.", err)
	default:
		who.readsAll = !s.opts.ReadsNeedToken
		s.admitBrowser(w, r, who, nil, one.next)
	}
}
