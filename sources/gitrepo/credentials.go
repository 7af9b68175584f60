package gitrepo

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
)

// GitHubApp says how to get tokens as an installation of a GitHub App.
type GitHubApp struct {
	// ID is the app's id or client id.
	ID string
	// Installation is the id of the installation; when empty, the one that has
	// the repository is asked for.
	Installation string
	// KeyFile holds the app's private key, PEM. It is read anew for each token.
	KeyFile string
	// BaseURL is that of the API. The default is https://api.github.com; GitHub
	// Enterprise Server has https://host/api/v3.
	BaseURL string
	// Write asks for tokens that may also write the contents. Push does by itself.
	Write bool
}

// credentials are one reading of what proves who we are, good for one operation.
type credentials struct {
	username, password string
	bearer             string
	// digest tells readings apart.
	digest [sha256.Size]byte
}

// auth is what go-git sends, nil for nothing.
func (c *credentials) auth() transport.AuthMethod {
	switch {
	case c.bearer != "":
		return &githttp.TokenAuth{Token: c.bearer}
	case c.username != "" || c.password != "":
		return &githttp.BasicAuth{Username: c.username, Password: c.password}
	}
	return nil
}

// authorize adds the credentials to a request of our own.
func (c *credentials) authorize(req *http.Request) {
	if a, ok := c.auth().(githttp.AuthMethod); ok {
		a.SetAuth(req)
	}
}

// maxRemembered is of how many readings the secrets are looked for in errors. A
// request that was sent with an older one has long ended.
const maxRemembered = 8

// keyring reads the credentials of one remote, anew for each operation, so that
// rotated ones count at once.
type keyring struct {
	opts Options
	addr address
	// app gives tokens of a GitHub App; nil when there is none.
	app *appTokens

	mu      sync.Mutex
	secrets [][]string
}

func newKeyring(o Options, addr address, app *appTokens) *keyring {
	k := &keyring{opts: o, addr: addr, app: app}
	k.remember(addr.password, o.Password, proxyPassword(o.Proxy.URL))
	k.secrets = append(k.secrets, environmentProxies())
	return k
}

// anonymous tells whether no credentials are configured at all.
func (k *keyring) anonymous() bool {
	o := k.opts
	return o.Password == "" && o.PasswordFile == "" && o.Username == "" && o.BearerFile == "" &&
		o.GitHubApp == nil && k.addr.username == "" && k.addr.password == ""
}

// read gives what the next operation is to send.
func (k *keyring) read(ctx context.Context) (*credentials, error) {
	c := &credentials{username: k.addr.username, password: k.addr.password}
	o := k.opts
	if o.Username != "" || o.Password != "" {
		c.username, c.password = o.Username, o.Password
	}
	var err error
	var passphrase, proxy string
	for _, f := range []struct {
		path, what string
		into       *string
	}{
		{o.PasswordFile, "password", &c.password},
		{o.BearerFile, "bearer token", &c.bearer},
		{o.SSH.PassphraseFile, "passphrase of the SSH key", &passphrase},
		{o.Proxy.PasswordFile, "password of the proxy", &proxy},
	} {
		if f.path == "" {
			continue
		}
		if *f.into, err = readSecret(f.path, f.what); err != nil {
			return nil, err
		}
	}
	k.remember(c.password, c.bearer, passphrase, proxy)
	if k.app != nil {
		if c.password, err = k.app.token(ctx); err != nil {
			return nil, err
		}
		c.username = appUser
		k.remember(c.password)
	}
	if c.username == "" && c.password != "" {
		c.username = defaultUser // servers that take a token accept any name but none
	}
	if k.addr.scheme != "ssh" && c.auth() != nil && (c.password != "" || c.username != defaultUser) {
		k.remember(base64.StdEncoding.EncodeToString([]byte(c.username + ":" + c.password)))
		if c.password == "" {
			k.remember(c.username) // some servers take a token for the name
		}
	}
	c.digest = k.fingerprint(c, passphrase, proxy)
	return c, nil
}

// fingerprint covers all files that prove who we are, those that are read
// elsewhere too.
func (k *keyring) fingerprint(c *credentials, more ...string) [sha256.Size]byte {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q", c.username, c.password, c.bearer, more)
	files := append([]string{k.opts.CertFile, k.opts.KeyFile}, k.opts.SSH.KeyFiles...)
	for _, path := range files {
		b, _ := os.ReadFile(path) // whoever uses it says when it cannot be read
		fmt.Fprintf(h, " %q", b)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// renewed reads the credentials once more after a server refused them, and gives
// them only if they are others now.
func (k *keyring) renewed(ctx context.Context, refused *credentials) *credentials {
	if k.app != nil {
		k.app.drop(refused.password)
	}
	c, err := k.read(ctx)
	if err != nil || c.digest == refused.digest {
		return nil
	}
	return c
}

func (k *keyring) remember(secrets ...string) {
	secrets = slices.DeleteFunc(secrets, func(s string) bool { return s == "" })
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, known := range k.secrets {
		if slices.Equal(known, secrets) {
			return
		}
	}
	// The first two are those of the options and of the environment.
	if len(k.secrets) > 2+maxRemembered {
		k.secrets = slices.Delete(k.secrets, 2, 3)
	}
	k.secrets = append(k.secrets, secrets)
}

// scrub removes the credentials from a text in each form in which they travel.
func (k *keyring) scrub(text string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, secrets := range k.secrets {
		for _, secret := range secrets {
			for _, form := range []string{
				secret, url.QueryEscape(secret), url.PathEscape(secret), base64.StdEncoding.EncodeToString([]byte(secret)),
			} {
				text = scrubCut(strings.ReplaceAll(text, form, "***"), form)
			}
		}
	}
	return text
}

// scrubCut removes the beginning of a secret where the text was cut within it,
// see printable.
func scrubCut(text, secret string) string {
	const least = 3 // fewer letters say nothing
	for from := 0; ; {
		at := strings.Index(text[from:], ellipsis)
		if at < 0 {
			return text
		}
		at += from
		for n := min(len(secret)-1, at); n >= least; n-- {
			if strings.HasSuffix(text[:at], secret[:n]) {
				text = text[:at-n] + "***" + text[at:]
				at += len("***") - n
				break
			}
		}
		from = at + len(ellipsis)
	}
}

// maxSecret bounds the file of a password or a token.
const maxSecret = 64 << 10

// readSecret reads a file that holds nothing but a secret.
func readSecret(path, what string) (string, error) {
	b, err := readBounded(path, maxSecret)
	if err != nil {
		return "", fail(ErrAuth, fmt.Sprintf("read the %s: %v", what, err), "")
	}
	secret := strings.TrimRight(string(b), "\r\n")
	if secret == "" {
		return "", fail(ErrAuth, fmt.Sprintf("the %s in %s is empty", what, path), "")
	}
	if strings.ContainsAny(secret, "\r\n\x00") {
		return "", fail(ErrAuth, fmt.Sprintf("the %s in %s has more than one line", what, path), "the file is to hold it and nothing else")
	}
	return secret, nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return os.ReadFile(path)
}
