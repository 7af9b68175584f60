package gitrepo

import (
	"context"
	"net/http"
)

// API reaches the web API of a repository's host, with the certificates and the
// proxy that git goes through. It reads their files anew for each client.
type API struct {
	opts Options
	web  *httpWire
	app  *appTokens
}

// OpenAPI checks the options. Of a GitHub App, tokens with these permissions are
// asked for.
func OpenAPI(o Options, permissions map[string]string) (*API, error) {
	addr, err := parseAddress(o.URL)
	if err != nil {
		return nil, err
	}
	a := &API{opts: o, web: &httpWire{opts: o, addr: addr}}
	if a.app, err = newAppTokens(o, addr, a.web.client); err != nil {
		return nil, err
	}
	if a.app != nil {
		a.app.permissions = permissions
	}
	return a, nil
}

// Client is one that follows no redirect, which would carry what proves who asks
// elsewhere.
func (a *API) Client() (*http.Client, error) {
	c, err := a.web.client()
	if err != nil {
		return nil, err
	}
	return &http.Client{
		// The guard in front of git's answers would refuse those of an API.
		Transport:     c.Transport.(*guard).base,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// Close lets go of idle connections.
func (a *API) Close() { a.web.close() }

// Secret reads what proves who asks: a user with a password, or a token, which
// bearer says is to be sent as such. All are empty where nothing is configured.
func (a *API) Secret(ctx context.Context) (username, secret string, bearer bool, err error) {
	switch {
	case a.app != nil:
		secret, err = a.app.token(ctx)
		return "", secret, true, err
	case a.opts.BearerFile != "":
		secret, err = readSecret(a.opts.BearerFile, "token")
		return "", secret, true, err
	case a.opts.PasswordFile != "":
		secret, err = readSecret(a.opts.PasswordFile, "password")
		return a.opts.Username, secret, false, err
	}
	return "", "", false, nil
}
