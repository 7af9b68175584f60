package statuses

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/forge"
	"github.com/holdfast-gitops/holdfast/cmd/internal/outbox"
)

const (
	// sendTimeout bounds one request, maxAnswer what is read of its answer.
	sendTimeout = 20 * time.Second
	maxAnswer   = 1 << 20
)

// Credential proves who tells.
type Credential struct {
	Username, Secret string
	// Bearer: the secret is sent as a bearer token, whatever the host is.
	Bearer bool
}

// Target is where to tell what becomes of a source's commits.
type Target struct {
	Repo forge.Repo
	// API is the address of the host's API.
	API string
	// Statuses and Deployments are what is told.
	Statuses, Deployments bool
	// Credential reads what proves who tells, anew for each message. Its error
	// holds no secret.
	Credential func(ctx context.Context) (Credential, error)
	// Client gives what sends. It follows no redirect, which would carry the
	// credential elsewhere.
	Client func() (*http.Client, error)
}

// refusal is why a host did not take a message.
type refusal struct {
	why    string
	status int
	after  time.Duration
	// final: the message itself is what the host does not like.
	final bool
}

// Error is why.
func (e refusal) Error() string { return e.why }

// tell sends what is left of a message, and notes in it what was taken.
func (t Target) tell(ctx context.Context, m *message) error {
	cred, err := t.Credential(ctx)
	if err != nil {
		return refusal{why: err.Error()}
	}
	if t.Statuses && !m.Told {
		if _, err := t.do(ctx, cred, statusCall(t.Repo, *m)); err != nil {
			return err
		}
		m.Told = true
	}
	if !t.Deployments || !Deploys(t.Repo.Kind) {
		return nil
	}
	return t.deploy(ctx, cred, m)
}

// deployment is what the hosts say of one.
type deployment struct {
	ID  int64  `json:"id"`
	SHA string `json:"sha"`
}

// deploy tells of a deployment, which is made first unless there is one.
func (t Target) deploy(ctx context.Context, cred Credential, m *message) error {
	made := false
	if m.Deployment == "" && m.Tried { // an attempt before may have made it
		answer, err := t.do(ctx, cred, findCall(t.Repo, *m))
		var all []deployment
		if err != nil {
			return err
		}
		if err := json.Unmarshal(answer, &all); err != nil {
			return refusal{why: "the answer of the host's API is not what its documentation says"}
		}
		for _, d := range all {
			if d.SHA == m.Commit {
				m.Deployment = idOf(d.ID)
				break
			}
		}
	}
	if m.Deployment == "" {
		if m.State == Superseded {
			return nil // there is none to end
		}
		m.Tried = true
		answer, err := t.do(ctx, cred, createCall(t.Repo, *m))
		var d deployment
		if err != nil {
			return err
		}
		if json.Unmarshal(answer, &d) != nil || d.ID <= 0 {
			return refusal{why: "the answer of the host's API names no deployment", final: true}
		}
		m.Deployment, made = idOf(d.ID), true
	}
	if made && t.Repo.Kind == forge.GitLab {
		return nil // it was made in this state
	}
	_, err := t.do(ctx, cred, deployCall(t.Repo, *m))
	return err
}

// do sends one call. No error has anything of the credential.
func (t Target) do(ctx context.Context, cred Credential, c call) ([]byte, error) {
	var body io.Reader
	if c.body != nil {
		text, err := json.Marshal(c.body)
		if err != nil {
			return nil, refusal{why: "write the request: " + err.Error(), final: true}
		}
		body = bytes.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, c.method, t.API+c.path, body)
	if err != nil {
		return nil, refusal{why: "the address of the host's API is not one", final: true}
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("User-Agent", "holdfast")
	authorize(req, t.Repo.Kind, cred)
	client, err := t.Client()
	if err != nil {
		return nil, refusal{why: err.Error()}
	}
	res, err := client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // its own text repeats the address
		}
		return nil, refusal{why: "reach the host's API: " + scrub(err.Error(), cred)}
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, refusal{why: "read the answer of the host's API: " + scrub(err.Error(), cred)}
	}
	if res.StatusCode >= 200 && res.StatusCode < 300 || done(t.Repo.Kind, res.StatusCode, string(answer)) {
		return answer, nil
	}
	return nil, refused(res, answer, cred, time.Now())
}

func refused(res *http.Response, answer []byte, cred Credential, now time.Time) refusal {
	e := refusal{why: "the host's API answered " + res.Status, status: res.StatusCode}
	var said struct {
		Message any `json:"message"`
	}
	if json.Unmarshal(answer, &said) == nil && said.Message != nil { // without it the status has to do
		e.why += ": " + oneLine(scrub(fmt.Sprint(said.Message), cred))
	}
	switch res.StatusCode {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusGone, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		e.final = true
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusForbidden:
		e.after = wait(res.Header, now)
	}
	if res.StatusCode == http.StatusNotFound || res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden && e.after == 0 {
		e.why += " (check that the token may write the statuses, or deployments, of this repository)"
	}
	return e
}

// wait is how long a host wants to be left alone: Retry-After, or when its limit
// begins anew where nothing is left of it.
func wait(h http.Header, now time.Time) time.Duration {
	if asked := outbox.RetryAfter(h.Get("Retry-After"), now); asked > 0 {
		return asked
	}
	if h.Get("X-RateLimit-Remaining") == "0" {
		if n, err := strconv.ParseInt(h.Get("X-RateLimit-Reset"), 10, 64); err == nil {
			return max(0, min(time.Unix(n, 0).Sub(now), outbox.MaxRetryAfter))
		}
	}
	return 0
}

func scrub(text string, c Credential) string {
	if c.Secret == "" {
		return text
	}
	return strings.ReplaceAll(text, c.Secret, "***")
}
