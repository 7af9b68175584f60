package gitrepo

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	// appUser is who an installation's token belongs to.
	appUser = "x-access-token"
	// renewBefore is how long before its end a token is replaced; it has to be
	// good for a whole download. They are given for an hour.
	renewBefore = 5 * time.Minute
	// maxAppAnswer bounds what is read of an answer of the API.
	maxAppAnswer = 1 << 20
)

// appTokens gets tokens as an installation of a GitHub App, and keeps the one in
// force.
type appTokens struct {
	app GitHubApp
	// base is the API's URL, repository the path of the one that is followed, as
	// owner/name.
	base, repository string
	// permissions are what a token is asked for.
	permissions map[string]string
	client      func() (*http.Client, error)

	mu      sync.Mutex
	now     string
	expires time.Time
}

// newAppTokens checks the options; without an app it gives nil.
func newAppTokens(o Options, addr address, web func() (*http.Client, error)) (*appTokens, error) {
	if o.GitHubApp == nil {
		return nil, nil
	}
	t := &appTokens{app: *o.GitHubApp, client: web, permissions: map[string]string{"contents": "read"}}
	if t.app.Write {
		t.permissions["contents"] = "write"
	}
	t.base = strings.TrimRight(cmp.Or(t.app.BaseURL, "https://api.github.com"), "/")
	base, err := url.Parse(t.base)
	switch {
	case err != nil || base.Scheme != "https" && base.Scheme != "http" || base.Host == "" || base.User != nil:
		return nil, fail(ErrAuth, "the base url of the GitHub App is not one", "use the form https://host/api/v3")
	case t.app.ID == "" || t.app.KeyFile == "":
		return nil, fail(ErrAuth, "the GitHub App has no id or no private key", "")
	}
	if u, err := url.Parse(addr.url); err == nil {
		t.repository = strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git")
	}
	if strings.Count(t.repository, "/") != 1 && t.app.Installation == "" {
		return nil, fail(ErrAuth, "the installation of the GitHub App cannot be found for this url", "name its id")
	}
	return t, nil
}

// token gives one that is good for a while.
func (t *appTokens) token(ctx context.Context) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now != "" && time.Until(t.expires) > renewBefore {
		return t.now, nil
	}
	fresh, err := t.request(ctx)
	switch {
	case err == nil:
		t.now, t.expires = fresh.Token, fresh.ExpiresAt
	case t.now == "" || time.Until(t.expires) <= 0:
		return "", err
	}
	return t.now, nil // it is still good, and renewing it is tried again next time
}

// drop forgets a token that a server refused, so that the next is a new one.
func (t *appTokens) drop(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now == token {
		t.now = ""
	}
}

// installationToken is GitHub's answer.
type installationToken struct {
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expires_at"`
}

func (t *appTokens) request(ctx context.Context) (installationToken, error) {
	var out installationToken
	key, err := t.key()
	if err != nil {
		return out, err
	}
	proof, err := appProof(t.app.ID, key, time.Now())
	if err != nil {
		return out, err
	}
	installation := t.app.Installation
	if installation == "" {
		if installation, err = t.find(ctx, proof); err != nil {
			return out, err
		}
	}
	body := []byte("{}")
	if _, name, ok := strings.Cut(t.repository, "/"); ok && !strings.Contains(name, "/") {
		// No token reaches further than it has to.
		if body, err = json.Marshal(map[string]any{"repositories": []string{name}, "permissions": t.permissions}); err != nil {
			return out, err
		}
	}
	path := "/app/installations/" + url.PathEscape(installation) + "/access_tokens"
	if err := t.call(ctx, http.MethodPost, path, proof, body, &out); err != nil {
		return out, err
	}
	if out.Token == "" || time.Until(out.ExpiresAt) <= 0 {
		return out, fail(ErrAuth, "GitHub's answer has no token that is good", "check the clock of this machine")
	}
	return out, nil
}

// find asks for the installation that has the repository.
func (t *appTokens) find(ctx context.Context, proof string) (string, error) {
	owner, name, _ := strings.Cut(t.repository, "/")
	var out struct {
		ID json.Number `json:"id"`
	}
	path := "/repos/" + url.PathEscape(owner) + "/" + url.PathEscape(name) + "/installation"
	if err := t.call(ctx, http.MethodGet, path, proof, nil, &out); err != nil {
		return "", err
	}
	if out.ID == "" {
		return "", fail(ErrAuth, "GitHub's answer names no installation", "")
	}
	return out.ID.String(), nil
}

func (t *appTokens) call(ctx context.Context, method, path, proof string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, t.base+path, bytes.NewReader(body))
	if err != nil {
		return fail(ErrAuth, "the base url of the GitHub App is not one", "")
	}
	req.Header.Set("Authorization", "Bearer "+proof)
	req.Header.Set("Accept", "application/vnd.github+json")
	req.Header.Set("X-GitHub-Api-Version", "2022-11-28")
	client, err := t.client()
	if err != nil {
		return err
	}
	// The guard in front of git's answers would refuse these, which are JSON.
	plain := &http.Client{Transport: client.Transport.(*guard).base, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // a redirect would carry the proof elsewhere
	}}
	resp, err := plain.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fail(ErrUnreachable, "get a token for the GitHub App: "+innermost(err), "")
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAppAnswer))
	switch {
	case err != nil:
		return fail(ErrUnreachable, "get a token for the GitHub App: "+innermost(err), "")
	case resp.StatusCode >= 300:
		return t.refusal(resp.StatusCode, bytes.ReplaceAll(answer, []byte(proof), []byte("***")))
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fail(ErrUnreachable, "get a token for the GitHub App: the answer is not GitHub's", "check the base url")
	}
	return nil
}

func (t *appTokens) refusal(code int, answer []byte) error {
	var said struct {
		Message string `json:"message"`
	}
	text := fmt.Sprintf("get a token for the GitHub App: the server answers %d", code)
	if json.Unmarshal(answer, &said) == nil && said.Message != "" { // without it the code has to do
		text += ": " + printable(said.Message, 200)
	}
	switch code {
	case http.StatusUnauthorized:
		return fail(ErrAuth, text, "check the app's id, its private key, and the clock of this machine")
	case http.StatusForbidden, http.StatusNotFound, http.StatusUnprocessableEntity:
		may := "read"
		if t.app.Write {
			may = "read and write"
		}
		return fail(ErrAuth, text, "check that the app is installed for the repository, and may "+may+" its contents")
	}
	return fail(ErrUnreachable, text, "")
}

// key reads the app's private key; GitHub gives PKCS #1.
func (t *appTokens) key() (*rsa.PrivateKey, error) {
	text, err := readBounded(t.app.KeyFile, maxSecret)
	if err != nil {
		return nil, fail(ErrAuth, fmt.Sprintf("read the private key of the GitHub App: %v", err), "")
	}
	unreadable := fail(ErrAuth, "the private key of the GitHub App in "+t.app.KeyFile+" cannot be read", "it has to be an RSA key, in PEM")
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, unreadable
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return nil, unreadable
	}
	return key, nil
}

// appProof is the JSON Web Token (RFC 7519, RS256) by which an app shows who it
// is. It begins a minute ago and ends within ten, as GitHub asks for.
func appProof(id string, key *rsa.PrivateKey, now time.Time) (string, error) {
	claims, err := json.Marshal(map[string]any{
		"iat": now.Add(-time.Minute).Unix(), "exp": now.Add(9 * time.Minute).Unix(), "iss": id,
	})
	if err != nil {
		return "", err
	}
	enc := base64.RawURLEncoding
	signed := enc.EncodeToString([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + enc.EncodeToString(claims)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		return "", errors.New("sign as the GitHub App: the key is not fit for it")
	}
	return signed + "." + enc.EncodeToString(signature), nil
}
