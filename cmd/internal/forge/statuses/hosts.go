package statuses

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/holdfast-gitops/holdfast/cmd/internal/forge"
)

// message is one thing to tell a host.
type message struct {
	Environment string `json:"environment"`
	Verdict
	// Link is the environment's page.
	Link string `json:"link,omitempty"`
	// Deployment is the host's id of the deployment; empty until there is one.
	Deployment string `json:"deployment,omitempty"`
	// Told: the status was taken, and only the deployment is missing.
	Told bool `json:"told,omitempty"`
	// Attempts counts those that failed; Tried: one was begun and how it ended is
	// not known.
	Attempts int  `json:"attempts,omitempty"`
	Tried    bool `json:"tried,omitempty"`
}

// context is what the status is called on the host.
func (m message) context() string { return "holdfast/" + m.Environment }

// call is one request of a host's API. Its body is sent as JSON.
type call struct {
	method, path string
	body         any
}

// words are what a host calls the states.
var words = map[forge.Kind]map[State]string{
	forge.GitHub:          {Pending: "pending", Success: "success", Failure: "failure", Superseded: "error"},
	forge.GitLab:          {Pending: "pending", Success: "success", Failure: "failed", Superseded: "canceled"},
	forge.Gitea:           {Pending: "pending", Success: "success", Failure: "failure", Superseded: "warning"},
	forge.Bitbucket:       {Pending: "INPROGRESS", Success: "SUCCESSFUL", Failure: "FAILED", Superseded: "STOPPED"},
	forge.BitbucketServer: {Pending: "INPROGRESS", Success: "SUCCESSFUL", Failure: "FAILED", Superseded: "CANCELLED"},
	forge.AzureDevOps:     {Pending: "pending", Success: "succeeded", Failure: "failed", Superseded: "notApplicable"},
}

// API is the address of a repository's host's API, without a slash at the end.
func API(r forge.Repo) string {
	u, err := url.Parse(r.Host)
	if err != nil || r.Host == "" {
		return ""
	}
	switch r.Kind {
	case forge.GitHub:
		switch {
		case u.Host == "github.com":
			return "https://api.github.com"
		case strings.HasSuffix(u.Host, ".ghe.com"):
			return "https://api." + u.Host
		}
		return r.Host + "/api/v3"
	case forge.GitLab:
		return r.Host + "/api/v4"
	case forge.Gitea:
		return r.Host + "/api/v1"
	case forge.Bitbucket:
		if u.Host == "bitbucket.org" {
			return "https://api.bitbucket.org/2.0"
		}
		return r.Host + "/2.0"
	case forge.BitbucketServer:
		return r.Host + "/rest/api/1.0"
	case forge.AzureDevOps:
		return r.Host
	}
	return ""
}

// statusCall tells a commit status.
func statusCall(r forge.Repo, m message) call {
	state, text := words[r.Kind][m.State], m.Description
	id := url.PathEscape(m.Commit)
	link := m.Link
	if link == "" { // Bitbucket takes none without
		link = r.Commit(m.Commit)
	}
	switch r.Kind {
	case forge.GitHub, forge.Gitea:
		return call{http.MethodPost, "/repos/" + escaped(r.Path...) + "/statuses/" + id, map[string]any{
			"state": state, "context": m.context(), "description": text, "target_url": link,
		}}
	case forge.GitLab:
		body := map[string]any{"state": state, "name": m.context(), "description": text, "target_url": link}
		if branch, ok := strings.CutPrefix(m.Ref, "refs/heads/"); ok {
			body["ref"] = branch
		}
		return call{http.MethodPost, gitLabProject(r) + "/statuses/" + id, body}
	case forge.Bitbucket:
		return call{http.MethodPost, "/repositories/" + escaped(r.Path...) + "/commit/" + id + "/statuses/build", map[string]any{
			"key": shortKey(m.context()), "name": m.context(), "state": state, "description": text, "url": link,
		}}
	case forge.BitbucketServer:
		body := map[string]any{"key": m.context(), "name": m.context(), "state": state, "description": text, "url": link}
		if strings.HasPrefix(m.Ref, "refs/") {
			body["ref"] = m.Ref
		}
		return call{http.MethodPost, "/projects/" + escaped(r.Path[0]) + "/repos/" + escaped(r.Path[1]) + "/commits/" + id + "/builds", body}
	case forge.AzureDevOps:
		path := escaped(r.Path[0], r.Path[1]) + "/_apis/git/repositories/" + escaped(r.Path[2]) + "/commits/" + id + "/statuses?api-version=7.1"
		return call{http.MethodPost, "/" + path, map[string]any{
			"state": state, "description": text, "targetUrl": link,
			"context": map[string]string{"genre": "holdfast", "name": m.Environment},
		}}
	}
	return call{}
}

// Deploys reports whether a host has deployments that are told here.
func Deploys(k forge.Kind) bool { return k == forge.GitHub || k == forge.GitLab }

// findCall asks for the deployments of an environment, newest first.
func findCall(r forge.Repo, m message) call {
	if r.Kind == forge.GitLab {
		return call{http.MethodGet, gitLabProject(r) + "/deployments?" + url.Values{
			"environment": {m.Environment}, "order_by": {"id"}, "sort": {"desc"}, "per_page": {"20"},
		}.Encode(), nil}
	}
	return call{http.MethodGet, "/repos/" + escaped(r.Path...) + "/deployments?" + url.Values{
		"environment": {m.Environment}, "sha": {m.Commit}, "task": {"deploy"}, "per_page": {"20"},
	}.Encode(), nil}
}

// createCall makes a deployment.
func createCall(r forge.Repo, m message) call {
	if r.Kind == forge.GitLab {
		ref := strings.TrimPrefix(strings.TrimPrefix(m.Ref, "refs/heads/"), "refs/tags/")
		if ref == "" {
			ref = m.Commit
		}
		return call{http.MethodPost, gitLabProject(r) + "/deployments", map[string]any{
			"environment": m.Environment, "sha": m.Commit, "ref": ref, "tag": strings.HasPrefix(m.Ref, "refs/tags/"), "status": deploymentWord(r.Kind, m.State),
		}}
	}
	return call{http.MethodPost, "/repos/" + escaped(r.Path...) + "/deployments", map[string]any{
		"ref": m.Commit, "environment": m.Environment, "task": "deploy", "description": "Holdfast",
		// The commit is on its way whatever the host thinks of it.
		"auto_merge": false, "required_contexts": []string{},
	}}
}

// deployCall tells how a deployment stands.
func deployCall(r forge.Repo, m message) call {
	state := deploymentWord(r.Kind, m.State)
	id := url.PathEscape(m.Deployment)
	if r.Kind == forge.GitLab {
		return call{http.MethodPut, gitLabProject(r) + "/deployments/" + id, map[string]any{"status": state}}
	}
	return call{http.MethodPost, "/repos/" + escaped(r.Path...) + "/deployments/" + id + "/statuses", map[string]any{
		"state": state, "description": m.Description, "log_url": m.Link,
	}}
}

func deploymentWord(k forge.Kind, s State) string {
	if k == forge.GitLab {
		return map[State]string{Pending: "running", Success: "success", Failure: "failed", Superseded: "canceled"}[s]
	}
	return map[State]string{Pending: "in_progress", Success: "success", Failure: "failure", Superseded: "inactive"}[s]
}

// done reports whether a refusal means that the host has it already: GitLab
// refuses to go from one state to the same.
func done(k forge.Kind, status int, answer string) bool {
	return k == forge.GitLab && status == http.StatusBadRequest &&
		(strings.Contains(answer, "Cannot transition status") || strings.Contains(answer, "cannot transition"))
}

// authorize shows who asks. A user name goes with a password.
func authorize(req *http.Request, k forge.Kind, c Credential) {
	switch {
	case k == forge.AzureDevOps && !c.Bearer:
		req.SetBasicAuth(c.Username, c.Secret) // a token goes without a name
	case c.Username != "" && !c.Bearer:
		req.SetBasicAuth(c.Username, c.Secret)
	case k == forge.GitLab && !c.Bearer:
		req.Header.Set("PRIVATE-TOKEN", c.Secret)
	case k == forge.Gitea && !c.Bearer:
		req.Header.Set("Authorization", "token "+c.Secret)
	default:
		req.Header.Set("Authorization", "Bearer "+c.Secret)
	}
	if k == forge.GitHub {
		req.Header.Set("Accept", "application/vnd.github+json")
		req.Header.Set("X-GitHub-Api-Version", "2022-11-28")
	} else {
		req.Header.Set("Accept", "application/json")
	}
}

func gitLabProject(r forge.Repo) string {
	return "/projects/" + url.PathEscape(strings.Join(r.Path, "/"))
}

func escaped(parts ...string) string {
	out := make([]string, len(parts))
	for i, p := range parts {
		out[i] = url.PathEscape(p)
	}
	return strings.Join(out, "/")
}

// shortKey fits into the 40 characters that Bitbucket has for a key, and stays
// unlike any other.
func shortKey(key string) string {
	if len(key) <= 40 {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return key[:29] + "~" + hex.EncodeToString(sum[:5])
}

// idOf is the id in an answer, which hosts write as a number.
func idOf(n int64) string {
	if n <= 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}
