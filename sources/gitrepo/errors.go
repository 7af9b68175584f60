package gitrepo

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"
)

// The kinds of failures that callers tell apart with errors.Is.
var (
	// ErrNotFound means that the server knows no such repository, or does not
	// admit to it without better credentials.
	ErrNotFound = errors.New("repository not found")
	// ErrAuth means that credentials are missing, wrong or not enough.
	ErrAuth = errors.New("access refused")
	// ErrRefNotFound means that the repository has no such branch, tag or commit.
	ErrRefNotFound = errors.New("ref not found")
	// ErrHostKey means that the SSH server's key is not known, or is another than
	// the known one. The text has the line for the known_hosts file.
	ErrHostKey = errors.New("host key refused")
	// ErrEmpty means that the repository has no commit yet.
	ErrEmpty = errors.New("repository is empty")
	// ErrUnreachable means that the server did not answer, or not as a git
	// server in good health does. Trying again later may help.
	ErrUnreachable = errors.New("server unreachable")
	// ErrTooLarge means that a limit of Options was exceeded.
	ErrTooLarge = errors.New("too large")
)

// failure is an error whose text is already fit for people. It keeps the kind
// but not the cause, because a cause's text may hold credentials.
type failure struct {
	text  string
	hint  string
	kinds []error
}

func (f *failure) Error() string {
	if f.hint == "" {
		return f.text
	}
	return f.text + " (" + f.hint + ")"
}

// Unwrap gives the kinds, never the cause.
func (f *failure) Unwrap() []error { return f.kinds }

func fail(kind error, text, hint string) *failure {
	return &failure{text: text, hint: hint, kinds: []error{kind}}
}

func isFailure(err error) bool {
	var known *failure
	return errors.As(err, &known)
}

// refusesAccess tells whether other credentials might help. Servers hide what
// somebody may not see behind "not found".
func refusesAccess(err error) bool {
	return errors.Is(err, ErrAuth) || errors.Is(err, ErrNotFound) ||
		errors.Is(err, transport.ErrAuthenticationRequired) ||
		errors.Is(err, transport.ErrAuthorizationFailed) ||
		errors.Is(err, transport.ErrRepositoryNotFound) || isAlert(err)
}

// isAlert tells whether the server ended the TLS handshake, as it does when it
// does not take the client certificate. The alerts' own type is hidden.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// explain turns any error of an operation on the network into one for people,
// without a trace of the credentials in it.
func (r *Repo) explain(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	f := r.classify(ctx, err)
	keys := r.origin.keys
	return &failure{
		// A server's own words may be in it.
		text:  printable(keys.scrub(op+" "+r.origin.addr.url+": "+f.text), maxErrorText),
		hint:  printable(keys.scrub(f.hint), maxErrorText),
		kinds: f.kinds,
	}
}

// maxErrorText bounds an error's text: room for a host key, and not for a page.
const maxErrorText = 2000

func (r *Repo) classify(ctx context.Context, err error) *failure {
	var unexpected *plumbing.UnexpectedError
	if errors.As(err, &unexpected) { // it has no Unwrap of its own
		err = unexpected.Err
	}
	var known *failure
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	switch {
	case ctx.Err() != nil: // the caller's own cancellation or deadline
		return fail(ctx.Err(), ctx.Err().Error(), "")
	case errors.As(err, &known):
		return known
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return &failure{
			text:  "no answer within " + r.opts.Timeout.String(),
			kinds: []error{ErrUnreachable, context.DeadlineExceeded},
		}
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		return fail(ErrEmpty, "the repository has no commits", "push a first commit")
	case errors.Is(err, transport.ErrAuthenticationRequired):
		return r.unauthorized()
	case errors.Is(err, transport.ErrAuthorizationFailed):
		return fail(ErrAuth, "the server forbids access", "give the account read access to the repository")
	case errors.Is(err, transport.ErrRepositoryNotFound):
		return notFound()
	case errors.As(err, &dns):
		return fail(ErrUnreachable, "cannot resolve the host name "+dns.Name, "check the url and the name servers")
	case asksProxy(err):
		return proxyRefuses(r.opts.Proxy.Username != "")
	case isAlert(err):
		return r.alerted(err)
	case errors.As(err, &cert):
		return fail(ErrUnreachable, innermost(err), "if the server has a private authority, configure its certificate")
	}
	return fail(ErrUnreachable, innermost(err), "")
}

// alerted explains why a server did not go on with TLS.
func (r *Repo) alerted(err error) *failure {
	hint := "configure a client certificate and its key, if the server asks for one"
	if r.opts.CertFile != "" {
		hint = "check whether the client certificate has expired, and whether the server knows who issued it"
	}
	return &failure{text: innermost(err), hint: hint, kinds: []error{ErrAuth, ErrUnreachable}}
}

func (r *Repo) unauthorized() *failure {
	if r.origin.keys.anonymous() {
		return fail(ErrAuth, "the server asks for credentials", "configure a username and password, or a token")
	}
	return fail(ErrAuth, "the server refused the credentials", "check whether the token has expired or was rotated")
}

func notFound() *failure {
	return fail(ErrNotFound, "repository not found",
		"check the url; servers also say so when the credentials give no access")
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// innermost drops the method and URL that net/http puts before an error: they
// are said already.
func innermost(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return err.Error()
}

// ellipsis marks where a text was cut.
const ellipsis = "…"

// printable makes a text from a repository or a server fit for a terminal and a
// log line: no control characters, bounded.
func printable(s string, limit int) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f && c < 0xa0 || c == 0x2028 || c == 0x2029 {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, "�"))
	s = strings.TrimSpace(s)
	if r := []rune(s); len(r) > limit {
		return string(r[:limit]) + ellipsis
	}
	return s
}
