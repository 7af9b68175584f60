package webhooks

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
)

// parseBitbucket reads what Bitbucket Cloud sends.
func parseBitbucket(h http.Header, body []byte) (event, error) {
	id, name := h.Get("X-Request-UUID"), h.Get("X-Event-Key")
	if name != "repo:push" {
		e := ignore(name)
		e.id = id
		return e, nil
	}
	type side struct {
		Type string `json:"type"`
		Name string `json:"name"`
	}
	var p struct {
		Repository struct {
			FullName string `json:"full_name"`
			Links    struct {
				HTML struct {
					Href string `json:"href"`
				} `json:"html"`
			} `json:"links"`
		} `json:"repository"`
		Push struct {
			Changes []struct {
				New *side `json:"new"`
				Old *side `json:"old"`
			} `json:"changes"`
		} `json:"push"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return event{}, err
	}
	e := event{id: id, urls: []string{p.Repository.Links.HTML.Href}}
	if p.Repository.FullName != "" {
		e.urls = append(e.urls, "https://bitbucket.org/"+p.Repository.FullName)
	}
	for _, c := range p.Push.Changes {
		for _, s := range []*side{c.New, c.Old} { // a branch that is gone has no new one
			switch {
			case s == nil || s.Name == "":
			case s.Type == "tag":
				e.refs = append(e.refs, "refs/tags/"+s.Name)
			default:
				e.refs = append(e.refs, "refs/heads/"+s.Name)
			}
		}
	}
	return e.done()
}

// parseBitbucketServer reads what Bitbucket Server and Data Center send, which
// may name a repository without its address.
func parseBitbucketServer(h http.Header, body []byte) (event, error) {
	id, name := h.Get("X-Request-Id"), h.Get("X-Event-Key")
	if name != "repo:refs_changed" {
		e := ignore(name)
		e.id = id
		return e, nil
	}
	var p struct {
		Repository struct {
			Slug    string `json:"slug"`
			Project struct {
				Key string `json:"key"`
			} `json:"project"`
			Links struct {
				Clone []struct {
					Href string `json:"href"`
				} `json:"clone"`
			} `json:"links"`
		} `json:"repository"`
		Changes []struct {
			RefID string `json:"refId"`
			Ref   struct {
				ID string `json:"id"`
			} `json:"ref"`
		} `json:"changes"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return event{}, err
	}
	e := event{id: id}
	for _, l := range p.Repository.Links.Clone {
		e.urls = append(e.urls, l.Href)
	}
	if p.Repository.Slug != "" && p.Repository.Project.Key != "" {
		e.tail = strings.ToLower(p.Repository.Project.Key + "/" + p.Repository.Slug)
	}
	for _, c := range p.Changes {
		e.refs = append(e.refs, c.RefID, c.Ref.ID)
	}
	return e.done()
}

// parseAzure reads what the service hooks of Azure DevOps send.
func parseAzure(_ http.Header, body []byte) (event, error) {
	var p struct {
		ID       string `json:"id"`
		Type     string `json:"eventType"`
		Resource struct {
			RefUpdates []struct {
				Name string `json:"name"`
			} `json:"refUpdates"`
			Repository struct {
				RemoteURL     string `json:"remoteUrl"`
				SSHURL        string `json:"sshUrl"`
				WebURL        string `json:"webUrl"`
				DefaultBranch string `json:"defaultBranch"`
			} `json:"repository"`
		} `json:"resource"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return event{}, err
	}
	if p.Type == "" {
		return event{}, errors.New("it has no eventType")
	}
	if p.Type != "git.push" {
		e := ignore(p.Type)
		e.id, e.idWithBody = p.ID, true
		return e, nil
	}
	r := p.Resource.Repository
	e := event{id: p.ID, idWithBody: true, urls: []string{r.RemoteURL, r.SSHURL, r.WebURL}, main: strings.TrimPrefix(r.DefaultBranch, "refs/heads/")}
	for _, u := range p.Resource.RefUpdates {
		e.refs = append(e.refs, u.Name)
	}
	return e.done()
}
