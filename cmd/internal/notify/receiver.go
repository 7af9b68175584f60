package notify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/template"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
)

const (
	// sendTimeout bounds one attempt, maxAnswer what is read of its answer.
	sendTimeout = 20 * time.Second
	maxAnswer   = 64 << 10
	// maxSecret bounds the file of a secret.
	maxSecret = 8 << 10
)

// receiver is one place to send to.
type receiver struct {
	config config.Receiver
	client *http.Client
	roots  *x509.CertPool
	// text makes the text; nil for the default.
	text *template.Template
	// remind is how often a message comes again while its alert goes on.
	remind time.Duration
	// perMessage bounds the notices of one message.
	perMessage int
	sign       chan struct{}
}

func newReceiver(c config.Receiver, all config.Notifications) (*receiver, error) {
	r := &receiver{config: c, remind: all.Remind, perMessage: perMessage, sign: make(chan struct{}, 1)}
	if r.incidents() {
		r.perMessage = 1
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read caFile: %w", err)
		}
		if r.roots, err = x509.SystemCertPool(); err != nil {
			r.roots = x509.NewCertPool()
		}
		if !r.roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("caFile %s holds no certificate", c.CAFile)
		}
	}
	if c.Template != "" {
		t, err := template.New("template").Option("missingkey=error").Parse(c.Template)
		if err != nil {
			return nil, fmt.Errorf("parse the template: %w", err)
		}
		// What fails with an example would fail with the first alert.
		if _, err := execute(t, Message{Notices: []Notice{{}}}); err != nil {
			return nil, fmt.Errorf("try the template: %w", err)
		}
		r.text = t
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: r.roots, MinVersion: tls.VersionTLS12}
	transport.MaxIdleConns = 2
	transport.IdleConnTimeout = time.Minute
	r.client = &http.Client{
		Transport: transport, Timeout: sendTimeout,
		// A redirect would carry the message and its secret elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return r, nil
}

// incidents reports whether the receiver keeps one incident for each alert.
func (r *receiver) incidents() bool {
	return r.config.Kind == "pagerduty" || r.config.Kind == "opsgenie"
}

// takes reports whether the receiver is for notices such as this one: what keeps
// incidents has no use for a summary.
func (r *receiver) takes(n Notice) bool {
	return n.Kind != Digest || !r.incidents() && r.config.Kind != "alertmanager"
}

// body is the text of a message, by the template where there is one.
func (r *receiver) body(m Message) (string, error) {
	if r.text == nil {
		text := m.Title()
		if rest := m.Text(); rest != "" {
			text += "\n" + rest
		}
		return text, nil
	}
	return execute(r.text, m)
}

// bounded stops a template that writes too much.
type bounded struct{ bytes.Buffer }

// Write fails where the limit is passed.
func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxText {
		return 0, errors.New("it makes more than 16 KiB")
	}
	return b.Buffer.Write(p)
}

// execute knows the functions of text/template alone, none of which reads
// anything but the message.
func execute(t *template.Template, m Message) (string, error) {
	var b bounded
	err := t.Execute(&b, m)
	return b.String(), err
}

// secret reads a file for each message, so that a rotated one counts at once.
func secret(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	f, err := os.Open(file)
	if err != nil {
		return "", sendError{why: "its secret cannot be read: " + err.Error()}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret))
	text := strings.TrimSpace(string(data))
	if err != nil || text == "" || strings.ContainsAny(text, "\r\n") {
		return "", sendError{why: file + " should hold one line, and does not"}
	}
	return text, nil
}

// address is where to send. It may be a secret, and is in no error.
func (r *receiver) address(standard string) (string, error) {
	text := cmp.Or(r.config.URL, standard)
	if r.config.URLFile != "" {
		var err error
		if text, err = secret(r.config.URLFile); err != nil {
			return "", err
		}
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", sendError{why: "its address is no http:// or https:// url"}
	}
	return text, nil
}

// send tries once.
func (r *receiver) send(ctx context.Context, m Message) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	text, err := r.body(m)
	if err != nil {
		return sendError{why: "the template fails: " + err.Error(), final: true}
	}
	key, err := secret(r.config.SecretFile)
	if err != nil {
		return err
	}
	if r.config.Kind == "email" {
		return r.mail(ctx, m, text, key)
	}
	address, err := r.address(standard[r.config.Kind])
	if err != nil {
		return err
	}
	req, err := requests[r.config.Kind](r, ctx, m, draft{address: address, secret: key, text: text})
	if err != nil {
		return sendError{why: "the request cannot be made", final: true}
	}
	req.Header.Set("User-Agent", "holdfast")
	return r.exchange(req)
}

// exchange makes errors without the address, since it may be a secret.
func (r *receiver) exchange(req *http.Request) error {
	res, err := r.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return sendError{why: "the receiver cannot be reached: " + err.Error()}
	}
	defer res.Body.Close()
	// Read so that the connection can be used again; what it says is of no use.
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer))
	return verdict(res, time.Now())
}
