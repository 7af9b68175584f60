package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
)

// The defaults of what server.oidc may leave out.
const (
	DefaultOIDCName    = "OpenID Connect"
	DefaultGroupsClaim = "groups"
)

// defaultScopes are asked for where none are named.
var defaultScopes = []string{"profile", "email", "groups"}

func (d *decoder) oidc(n *yamldoc.Node, o *OIDC) {
	before := len(d.Problems)
	o.Name, o.GroupsClaim, o.Scopes = DefaultOIDCName, DefaultGroupsClaim, defaultScopes
	d.Mapping(n, "server.oidc",
		d.textField("name", "server.oidc.", &o.Name),
		on("issuer", func(n *yamldoc.Node) { d.baseURL(n, "server.oidc.issuer", &o.Issuer) }),
		d.textField("clientID", "server.oidc.", &o.ClientID),
		d.pathField("clientSecretFile", "server.oidc.", &o.ClientSecretFile),
		d.pathField("caFile", "server.oidc.", &o.CAFile),
		on("scopes", func(n *yamldoc.Node) { o.Scopes = d.texts(n, "server.oidc.scopes") }),
		d.textField("groupsClaim", "server.oidc.", &o.GroupsClaim),
		on("roles", func(n *yamldoc.Node) { o.Roles = d.oidcRoles(n) }),
	)
	if len(d.Problems) > before || n.Kind != yamldoc.Mapping {
		return
	}
	for _, missing := range []struct {
		is        bool
		key, hint string
	}{
		{o.Issuer == "", "issuer", "the provider's address, as https://login.example.org"},
		{o.ClientID == "", "clientID", "what the daemon is called at the provider"},
		{len(o.Roles) == 0, "roles", "without any, nobody gets in"},
	} {
		if missing.is {
			d.Fail(n, "server.oidc has no "+missing.key, missing.hint)
		}
	}
}

func (d *decoder) oidcRoles(n *yamldoc.Node) []OIDCRole {
	entries := d.List(n, "server.oidc.roles")
	out := make([]OIDCRole, len(entries))
	for i, e := range entries {
		r, what := &out[i], fmt.Sprintf("server.oidc.roles[%d]", i)
		before := len(d.Problems)
		d.Mapping(e, what,
			on("groups", func(n *yamldoc.Node) { r.Groups = d.texts(n, what+".groups") }),
			on("users", func(n *yamldoc.Node) { r.Users = d.texts(n, what+".users") }),
			d.wordField("role", what+".", &r.Role, RoleRead, RoleOperate, RoleAdminister),
			on("environments", func(n *yamldoc.Node) { r.Environments = d.patterns(n, what+".environments") }),
		)
		if len(d.Problems) > before || e.Kind != yamldoc.Mapping {
			continue
		}
		switch {
		case r.Role == "":
			d.Fail(e, what+" has no role", "there are read, operate and administer")
		case slices.Contains(r.Groups, "") || slices.Contains(r.Users, ""):
			d.Fail(e, what+" has a name that is empty", "")
		case len(r.Groups)+len(r.Users) == 0:
			d.Fail(e, what+" names nobody", "groups or users say whom it is for")
		}
	}
	return out
}

// baseURL reads an address of http or https that has nothing but a host and a
// path. Plain http is for the loopback, or who passes by reads and answers for it.
func (d *decoder) baseURL(n *yamldoc.Node, what string, into *string) {
	var text string
	if !d.Text(n, what, &text) {
		return
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		d.Fail(n, fmt.Sprintf("%s %q is no address of http or https", what, text), "as in https://holdfast.example.org")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		d.Fail(n, fmt.Sprintf("%s %q is not protected", what, text), "use https; http is for the loopback")
	default:
		*into = strings.TrimSuffix(text, "/")
	}
}
