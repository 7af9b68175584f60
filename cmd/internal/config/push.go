package config

import (
	"cmp"
	"fmt"
	"path"
	"strings"

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// Push says which branches may be pushed to a repository. Without it, none is.
type Push struct {
	// Branches is the pattern of their names, such as holdfast/*.
	Branches string `json:"branches,omitempty"`
	// Credentials and SSH are those to push with. Empty uses the source's own.
	Credentials Credentials `json:"credentials,omitzero"`
	SSH         SSH         `json:"ssh,omitzero"`
}

func (d *decoder) push(n *yamldoc.Node, what string, s *Source) {
	p, before := &s.Push, len(d.Problems)
	d.Mapping(n, what,
		d.textField("branches", what+".", &p.Branches),
		on("credentials", func(n *yamldoc.Node) { d.credentials(n, what+".credentials", &p.Credentials) }),
		on("ssh", func(n *yamldoc.Node) { d.ssh(n, what+".ssh.", &p.SSH) }),
	)
	if len(d.Problems) > before {
		return
	}
	if p.Branches == "" {
		d.Fail(n, what+" names no branches", "write branches: holdfast/*")
		return
	}
	at := cmp.Or(d.At[&p.Branches], n)
	if _, err := path.Match(p.Branches, ""); err != nil || strings.HasPrefix(p.Branches, "refs/") {
		d.Fail(at, fmt.Sprintf("%s.branches %q is no pattern of branches", what, p.Branches), "write it as holdfast/*")
	}
	d.At[p] = n
}

// checkPush checks what depends on how the repository is reached.
func (d *decoder) checkPush(s *Source, what string) {
	at := d.At[&s.Push]
	switch {
	case at == nil || at.Kind != yamldoc.Mapping:
	case s.Dir != "" || s.OCI():
		d.Fail(at, what+".push is for a git repository, and this is none", "")
	case isSSH(s.URL) && s.Push.Credentials != (Credentials{}):
		d.Fail(at, what+".push has credentials, and the repository is reached over ssh", "keys are under push.ssh")
	case !isSSH(s.URL) && !s.Push.SSH.empty():
		d.Fail(at, what+".push has keys, and the repository is not reached over ssh", "use push.credentials")
	case s.Push.Credentials.DockerConfigFile != "":
		d.Fail(at, what+".push.credentials.dockerConfigFile is for an OCI artifact, and this is none", "")
	}
}

// Allows reports whether a branch of a name may be pushed.
func (p Push) Allows(branch string) bool {
	ok, err := path.Match(p.Branches, branch)
	return p.Branches != "" && err == nil && ok
}

// PushGit are the options to push to the source with.
func (s Source) PushGit() gitrepo.Options {
	if s.Push.Credentials != (Credentials{}) {
		s.Credentials = s.Push.Credentials
	}
	if !s.Push.SSH.empty() {
		s.SSH = s.Push.SSH
	}
	return s.Git()
}
