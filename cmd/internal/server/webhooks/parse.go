package webhooks

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// event is what a sender said.
type event struct {
	// id names the delivery, where the sender gives one. idWithBody: it counts
	// with the body only, since others may have the same.
	id         string
	idWithBody bool
	// ignored says why nothing follows from it; empty for a push.
	ignored string
	// urls are addresses of the repository that moved, tail the end of its path
	// where it has no address. source names a source outright.
	urls   []string
	tail   string
	source string
	// refs are full names; none is any. main is the default branch, if it is said.
	refs []string
	main string
}

// kind is how one sender's calls are checked and parsed.
type kind struct {
	check func(h http.Header, body []byte, secrets []string, now time.Time) error
	parse func(h http.Header, body []byte) (event, error)
}

var kinds = map[string]kind{
	"github":           {signed("X-Hub-Signature-256"), parseGitHub},
	"gitlab":           {header("X-Gitlab-Token"), parseGitLab},
	"gitea":            {signed("X-Forgejo-Signature", "X-Gitea-Signature", "X-Hub-Signature-256"), parseGitea},
	"bitbucket":        {signed("X-Hub-Signature"), parseBitbucket},
	"bitbucket-server": {signed("X-Hub-Signature"), parseBitbucketServer},
	"azure-devops":     {basic, parseAzure},
	"generic":          {timed, parseGeneric},
	"cloudevents":      {bearer, parseCloudEvent},
}

// ignore is an event that is no push.
func ignore(what string) event {
	if len(what) > 60 {
		what = what[:60]
	}
	return event{ignored: fmt.Sprintf("event %q is ignored: only pushes count", what)}
}

var errNoRepository = errors.New("it names no repository")

// done checks that a push says of what it is.
func (e event) done() (event, error) {
	e.urls = slices.DeleteFunc(e.urls, func(u string) bool { return u == "" })
	e.refs = slices.DeleteFunc(e.refs, func(r string) bool { return r == "" })
	if e.ignored == "" && len(e.urls) == 0 && e.tail == "" && e.source == "" {
		return e, errNoRepository
	}
	return e, nil
}

// repository is how GitHub and those like it name one.
type repository struct {
	CloneURL      string `json:"clone_url"`
	SSHURL        string `json:"ssh_url"`
	HTMLURL       string `json:"html_url"`
	DefaultBranch string `json:"default_branch"`
}

// hubPush parses the push that GitHub, Gitea and Forgejo send.
func hubPush(name, id string, h http.Header, body []byte) (event, error) {
	if name != "push" && name != "create" && name != "delete" {
		e := ignore(name)
		e.id = id
		return e, nil
	}
	if media, _, err := mime.ParseMediaType(h.Get("Content-Type")); err == nil && media == "application/x-www-form-urlencoded" {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return event{}, errors.New("the form cannot be parsed")
		}
		body = []byte(form.Get("payload"))
	}
	var p struct {
		Ref        string     `json:"ref"`
		RefType    string     `json:"ref_type"`
		Repository repository `json:"repository"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return event{}, err
	}
	ref := p.Ref
	switch p.RefType { // create and delete say the short name
	case "branch":
		ref = "refs/heads/" + ref
	case "tag":
		ref = "refs/tags/" + ref
	}
	r := p.Repository
	return event{id: id, urls: []string{r.CloneURL, r.SSHURL, r.HTMLURL}, refs: []string{ref}, main: r.DefaultBranch}.done()
}

func parseGitHub(h http.Header, body []byte) (event, error) {
	return hubPush(h.Get("X-GitHub-Event"), h.Get("X-GitHub-Delivery"), h, body)
}

func parseGitea(h http.Header, body []byte) (event, error) {
	name := cmp.Or(h.Get("X-Forgejo-Event"), h.Get("X-Gitea-Event"), h.Get("X-GitHub-Event"))
	return hubPush(name, cmp.Or(h.Get("X-Forgejo-Delivery"), h.Get("X-Gitea-Delivery")), h, body)
}

func parseGitLab(h http.Header, body []byte) (event, error) {
	// Hooks that set off one another share the event's id.
	id := cmp.Or(h.Get("Idempotency-Key"), h.Get("X-Gitlab-Event-UUID"))
	name := h.Get("X-Gitlab-Event")
	var p struct {
		Kind    string `json:"object_kind"`
		Event   string `json:"event_name"`
		Ref     string `json:"ref"`
		Project struct {
			HTTP          string `json:"git_http_url"`
			SSH           string `json:"git_ssh_url"`
			Web           string `json:"web_url"`
			DefaultBranch string `json:"default_branch"`
		} `json:"project"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return event{}, err
	}
	said := cmp.Or(p.Kind, p.Event, name)
	if said != "push" && said != "tag_push" {
		e := ignore(said)
		e.id, e.idWithBody = id, true
		return e, nil
	}
	return event{
		id: id, idWithBody: true, urls: []string{p.Project.HTTP, p.Project.SSH, p.Project.Web}, refs: []string{p.Ref}, main: p.Project.DefaultBranch,
	}.done()
}

// parseGeneric reads our own form: a repository or a source, and a ref.
func parseGeneric(h http.Header, body []byte) (event, error) {
	e, err := ours(body)
	// The signature covers the time, so that no two are equal.
	e.id = cmp.Or(h.Get("X-Holdfast-Id"), h.Get("X-Holdfast-Signature"))
	e.idWithBody = true
	return e, err
}

func ours(body []byte) (event, error) {
	var p struct {
		Repository string `json:"repository"`
		Source     string `json:"source"`
		Ref        string `json:"ref"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return event{}, err
	}
	return event{urls: []string{p.Repository}, source: p.Source, refs: []string{p.Ref}}.done()
}

// parseCloudEvent reads an event in binary or structured mode, of any type. Its
// data is of our own form.
func parseCloudEvent(h http.Header, body []byte) (event, error) {
	media, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	if media != "application/cloudevents+json" {
		e, err := ours(body)
		e.id = h.Get("Ce-Source") + " " + h.Get("Ce-Id")
		if h.Get("Ce-Id") == "" || h.Get("Ce-Source") == "" || h.Get("Ce-Specversion") != "1.0" {
			return e, errors.New("it is no event of CloudEvents 1.0: ce-id, ce-source or ce-specversion is missing")
		}
		e.idWithBody = true
		return e, err
	}
	var p struct {
		ID      string          `json:"id"`
		Source  string          `json:"source"`
		Version string          `json:"specversion"`
		Data    json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return event{}, err
	}
	if p.ID == "" || p.Source == "" || p.Version != "1.0" {
		return event{}, errors.New("it is no event of CloudEvents 1.0: id, source or specversion is missing")
	}
	e, err := ours(p.Data)
	e.id, e.idWithBody = p.Source+" "+p.ID, true
	return e, err
}
