package config

import (
	"strings"

	"github.com/holdfast-gitops/holdfast/cmd/internal/forge"
	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
)

// Forge says what host a repository lives on.
type Forge struct {
	// Kind is what the host runs: github, gitlab, gitea, bitbucket,
	// bitbucket-server or azure-devops. Empty is what its name tells.
	Kind string `json:"kind,omitempty"`
	// Page is the address of the repository's page, where that cannot be told from
	// the url.
	Page string `json:"page,omitempty"`
	// API is the address of the host's API, where that cannot be told from the url.
	API string `json:"api,omitempty"`
	// TokenFile holds the token for the API. Empty uses the source's credentials.
	TokenFile string `json:"tokenFile,omitempty"`
	// Statuses tells the host a commit status for each environment, Deployments a
	// deployment.
	Statuses    bool `json:"statuses,omitempty"`
	Deployments bool `json:"deployments,omitempty"`
}

// Tells reports whether the host is told anything.
func (f Forge) Tells() bool { return f.Statuses || f.Deployments }

func (d *decoder) forge(n *yamldoc.Node, what string, s *Source) {
	f, before := &s.Forge, len(d.Problems)
	d.Mapping(n, what,
		d.wordField("kind", what+".", &f.Kind, forge.Kinds...),
		d.textField("page", what+".", &f.Page),
		d.textField("api", what+".", &f.API),
		d.pathField("tokenFile", what+".", &f.TokenFile),
		d.boolField("statuses", what+".", &f.Statuses),
		d.boolField("deployments", what+".", &f.Deployments),
	)
	if at := d.At[&f.API]; at != nil && !forge.Web(f.API) {
		d.Fail(at, what+".api is not the address of an API", "write https://host/path, without credentials")
	}
	if at := d.At[&f.Page]; at != nil && !forge.Web(f.Page) {
		d.Fail(at, what+".page is not the address of a page", "write https://host/path, without credentials")
	}
	if len(d.Problems) == before {
		d.At[f] = n
	}
}

// checkForge checks what depends on where the repository is.
func (d *decoder) checkForge(s *Source, what string) {
	at := d.At[&s.Forge]
	if at == nil || at.Kind != yamldoc.Mapping {
		return
	}
	if s.Dir != "" || s.OCI() {
		d.Fail(at, what+".forge is for a git repository, and this is none", "")
		return
	}
	repo, ok := s.Repo()
	if !ok && s.URL != "" {
		hint := "its kind is one of " + strings.Join(forge.Kinds, ", ")
		if s.Forge.Kind != "" {
			hint = "a repository there has another form of url"
		}
		d.Fail(at, what+".forge: it cannot be told where on its host the repository is", hint)
		return
	}
	if !s.Forge.Tells() {
		if s.Forge.API != "" || s.Forge.TokenFile != "" {
			d.Fail(at, what+".forge has an api or a tokenFile, and nothing is told", "set statuses: true, or deployments: true")
		}
		return
	}
	c := s.Credentials
	switch {
	case len(repo.Path) == 0 && ok:
		d.Fail(at, what+".forge: it cannot be told from the url what the repository is called", "its url ends with owner and name")
	case s.Forge.Deployments && repo.Kind != forge.GitHub && repo.Kind != forge.GitLab:
		d.Fail(at, what+".forge.deployments is for github and gitlab", "other hosts have no deployments to tell of; use statuses")
	case s.Forge.TokenFile == "" && c.PasswordFile == "" && c.TokenFile == "" && c.BearerTokenFile == "" && c.GitHubApp == (GitHubApp{}):
		d.Fail(at, what+".forge needs a tokenFile", "the source has no credentials that could be used")
	}
}

// Repo is the repository on its host; false where that is not known.
func (s Source) Repo() (forge.Repo, bool) {
	if s.Dir != "" || s.OCI() {
		return forge.Repo{}, false
	}
	return forge.Locate(s.URL, s.Forge.Kind, s.Forge.Page)
}
