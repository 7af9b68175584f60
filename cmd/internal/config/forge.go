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
}

func (d *decoder) forge(n *yamldoc.Node, what string, s *Source) {
	f, before := &s.Forge, len(d.Problems)
	d.Mapping(n, what,
		d.wordField("kind", what+".", &f.Kind, forge.Kinds...),
		d.textField("page", what+".", &f.Page),
	)
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
	if _, ok := s.Repo(); !ok && s.URL != "" {
		hint := "its kind is one of " + strings.Join(forge.Kinds, ", ")
		if s.Forge.Kind != "" {
			hint = "a repository there has another form of url"
		}
		d.Fail(at, what+".forge: it cannot be told where on its host the repository is", hint)
	}
}

// Repo is the repository on its host; false where that is not known.
func (s Source) Repo() (forge.Repo, bool) {
	if s.Dir != "" || s.OCI() {
		return forge.Repo{}, false
	}
	return forge.Locate(s.URL, s.Forge.Kind, s.Forge.Page)
}
