package oci

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// The kinds of failures that callers tell apart with errors.Is.
var (
	// ErrNotFound means that the registry knows no such repository, or does not
	// admit to it without better credentials.
	ErrNotFound = errors.New("repository not found")
	// ErrAuth means that credentials are missing, wrong or not enough.
	ErrAuth = errors.New("access refused")
	// ErrRefNotFound means that the repository has no such tag or digest, or no
	// tag within the range.
	ErrRefNotFound = errors.New("tag not found")
	// ErrUnreachable means that the registry did not answer, or not as one in
	// good health does. Trying again later may help.
	ErrUnreachable = errors.New("registry unreachable")
	// ErrTooLarge means that a limit of Options was exceeded.
	ErrTooLarge = errors.New("too large")
	// ErrArtifact means that what the reference names is not an artifact that can
	// be followed, or holds what is refused.
	ErrArtifact = errors.New("artifact cannot be used")
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

// errLocal means that the disk is to blame, and not the registry.
var errLocal = errors.New("the cache cannot be written")

func local(err error) error {
	return fail(errLocal, "write the cache: "+err.Error(), "check space and permissions of the data directory")
}

// explain turns any error of an operation on the network into one for people,
// without a trace of the credentials in it.
func (a *Artifact) explain(ctx context.Context, op string, creds credentials, err error) error {
	if err == nil {
		return nil
	}
	f := a.classify(ctx, creds, err)
	return &failure{
		text:  creds.scrub(op + " " + a.opts.URL + ": " + f.text),
		hint:  creds.scrub(f.hint),
		kinds: f.kinds,
	}
}

func (a *Artifact) classify(ctx context.Context, creds credentials, err error) *failure {
	var known *failure
	var answer *errcode.ErrorResponse
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	switch {
	case ctx.Err() != nil: // the caller's own cancellation or deadline
		return fail(ctx.Err(), ctx.Err().Error(), "")
	case errors.As(err, &known):
		return known
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return &failure{
			text:  "no answer within " + a.opts.Timeout.String(),
			kinds: []error{ErrUnreachable, context.DeadlineExceeded},
		}
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return unauthorized(credentials{})
	case errors.As(err, &answer):
		return refused(creds, answer)
	case errors.As(err, &dns):
		return fail(ErrUnreachable, "cannot resolve the host name "+printable(dns.Name, 100), "check the url and the name servers")
	case errors.As(err, &cert):
		return fail(ErrUnreachable, innermost(err), "if the registry has a private authority, configure its certificate")
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fail(ErrUnreachable, "the registry speaks http, not https", "say insecure: true if that is meant")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fail(ErrUnreachable, "the connection closed before the answer was complete", "")
	}
	return fail(ErrUnreachable, printable(innermost(err), 300), "")
}

// refused reads an answer that says no. The registry's own words may repeat
// what it was sent, so only their codes are passed on, beside the status.
func refused(creds credentials, answer *errcode.ErrorResponse) *failure {
	switch answer.StatusCode {
	case http.StatusUnauthorized:
		return unauthorized(creds)
	case http.StatusForbidden:
		return fail(ErrAuth, "the registry forbids access", "give the account the right to pull from the repository")
	case http.StatusNotFound:
		return fail(ErrNotFound, "repository not found", "check the url; registries also say so when the credentials give no access")
	}
	text := "the registry answers " + statusText(answer.StatusCode)
	for _, e := range answer.Errors[:min(3, len(answer.Errors))] {
		text += ": " + printable(e.Error(), 200)
	}
	return fail(ErrUnreachable, text, "")
}

func unauthorized(creds credentials) *failure {
	if creds.empty() {
		return fail(ErrAuth, "the registry asks for credentials", "configure a username and password, or a docker configuration file")
	}
	return fail(ErrAuth, "the registry refused the credentials", "check whether the token has expired or was rotated")
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

// scrub removes the credentials from a text in each form in which they travel.
func (c credentials) scrub(text string) string {
	for _, secret := range []string{c.password, c.token} {
		if secret == "" {
			continue
		}
		for _, form := range []string{
			base64.StdEncoding.EncodeToString([]byte(c.username + ":" + secret)),
			url.QueryEscape(secret), url.PathEscape(secret), secret,
		} {
			text = strings.ReplaceAll(text, form, "***")
		}
	}
	return text
}

// printable makes a text from an artifact or a registry fit for a terminal and a
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
		return string(r[:limit]) + "…"
	}
	return s
}
