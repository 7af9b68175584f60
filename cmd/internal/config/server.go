package config

import (
	"fmt"
	"path"
	"slices"

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
)

// Server says who may do what over HTTP.
type Server struct {
	// TokenFile holds the bearer token for calls over TCP that change something,
	// with the role operate. It is read for every such call, so that a rotated
	// token counts at once.
	TokenFile string `json:"tokenFile,omitempty"`
	// Tokens are further ones, with names and roles.
	Tokens []Token `json:"tokens,omitempty"`
	// ReadsNeedToken asks for a token over TCP for everything but the probes.
	ReadsNeedToken bool `json:"readsNeedToken,omitempty"`
	// ChangesPerMinute bounds the calls of one client over TCP that change
	// something; more are refused with 429.
	ChangesPerMinute int `json:"changesPerMinute"`
	// TLS is how the server proves who it is; without it, it talks plain HTTP.
	TLS TLS `json:"tls,omitzero"`
	// Hosts are the names, beside the listen address and localhost, by which
	// clients may call the server.
	Hosts []string `json:"hosts,omitempty"`
	// URL is the address by which browsers reach the dashboard, as behind a proxy.
	URL string `json:"url,omitempty"`
	// OIDC is a provider that people sign in with.
	OIDC OIDC `json:"oidc,omitzero"`
	// Kubernetes lets tokens of a cluster count.
	Kubernetes Kubernetes `json:"kubernetes,omitzero"`
}

// Kubernetes is a cluster whose tokens count.
type Kubernetes struct {
	// Target names it; it is a cluster.
	Target string `json:"target,omitempty"`
	// Audience is whom tokens have to be meant for.
	Audience string `json:"audience,omitempty"`
}

// OIDC is a provider of OpenID Connect.
type OIDC struct {
	// Name is what people call the provider.
	Name string `json:"name,omitempty"`
	// Issuer is its address, as its tokens have it.
	Issuer string `json:"issuer,omitempty"`
	// ClientID is what the daemon is called there, and ClientSecretFile holds its
	// secret; a public client has none.
	ClientID         string `json:"clientID,omitempty"`
	ClientSecretFile string `json:"clientSecretFile,omitempty"`
	// CAFile holds certificates to trust beside the system's.
	CAFile string `json:"caFile,omitempty"`
	// Scopes are asked for beside openid.
	Scopes []string `json:"scopes,omitempty"`
	// GroupsClaim names the claim that holds a person's groups.
	GroupsClaim string `json:"groupsClaim,omitempty"`
	// Roles say who may do what; nobody else gets in.
	Roles []OIDCRole `json:"roles,omitempty"`
}

// OIDCRole grants a role to people.
type OIDCRole struct {
	// Groups are names of groups, Users email addresses that the provider has
	// verified, or subjects.
	Groups []string `json:"groups,omitempty"`
	Users  []string `json:"users,omitempty"`
	// Role is read, operate or administer.
	Role string `json:"role"`
	// Environments are patterns of the names of those that it is for; none is all.
	Environments []string `json:"environments,omitempty"`
}

// Token is a bearer token with a name and a role.
type Token struct {
	// Name is who acts, in logs, in the ledger and on holds.
	Name string `json:"name"`
	// Role is read, operate or administer; each may do what the one before may.
	Role string `json:"role"`
	// SHA256File holds the SHA-256 of the token as 64 hexadecimal digits, as
	// `holdfast token` makes it; File holds the token itself. Either is read for
	// every call.
	SHA256File string `json:"sha256File,omitempty"`
	File       string `json:"file,omitempty"`
	// Environments are patterns of the names of those that the token may change, and
	// with readsNeedToken read; none is all.
	Environments []string `json:"environments,omitempty"`
}

// TLS names the files of a certificate. They are read again when they change.
type TLS struct {
	// CertFile holds the certificate and those that it was signed with, PEM.
	CertFile string `json:"certFile,omitempty"`
	// KeyFile holds its key, PEM.
	KeyFile string `json:"keyFile,omitempty"`
	// ClientCAFile holds certificates, PEM, by which a client's must be signed.
	// Without it clients need none.
	ClientCAFile string `json:"clientCAFile,omitempty"`
}

// The roles of tokens.
const (
	RoleRead       = "read"
	RoleOperate    = "operate"
	RoleAdminister = "administer"
)

// DefaultChangesPerMinute is how many calls a minute of one client may change
// something.
const DefaultChangesPerMinute = 120

const maxChangesPerMinute = 100_000

// reservedNames are how callers are named who have no token of their own.
var reservedNames = []string{"socket", "token"}

func (d *decoder) server(n *yamldoc.Node, s *Server) {
	d.Mapping(n, "server",
		d.pathField("tokenFile", "server.", &s.TokenFile),
		on("tokens", func(n *yamldoc.Node) { s.Tokens = d.tokens(n) }),
		d.boolField("readsNeedToken", "server.", &s.ReadsNeedToken),
		d.countField("changesPerMinute", "server.", maxChangesPerMinute, &s.ChangesPerMinute),
		on("tls", func(n *yamldoc.Node) { d.tls(n, &s.TLS) }),
		on("hosts", func(n *yamldoc.Node) { s.Hosts = d.hosts(n) }),
		on("url", func(n *yamldoc.Node) { d.baseURL(n, "server.url", &s.URL) }),
		on("oidc", func(n *yamldoc.Node) { d.oidc(n, &s.OIDC) }),
		on("kubernetes", func(n *yamldoc.Node) { d.kubernetes(n, &s.Kubernetes) }),
	)
	if s.ReadsNeedToken && n.Get("tokens") == nil && n.Get("tokenFile") == nil && n.Get("oidc") == nil && n.Get("kubernetes") == nil {
		d.Fail(n.Get("readsNeedToken"), "server.readsNeedToken is set, and there is no token", "add server.tokens, server.tokenFile, server.oidc or server.kubernetes")
	}
	if n.Get("oidc") != nil && n.Get("url") == nil {
		d.Fail(n.Get("oidc"), "server.oidc needs server.url", "the provider sends browsers back to that address")
	}
}

func (d *decoder) tokens(n *yamldoc.Node) []Token {
	entries := d.List(n, "server.tokens")
	out := make([]Token, len(entries))
	seen := map[string]int{}
	for i, e := range entries {
		t, what := &out[i], fmt.Sprintf("server.tokens[%d]", i)
		before := len(d.Problems)
		d.Mapping(e, what,
			d.labelField("name", what+".", &t.Name),
			d.wordField("role", what+".", &t.Role, RoleRead, RoleOperate, RoleAdminister),
			d.pathField("sha256File", what+".", &t.SHA256File),
			d.pathField("file", what+".", &t.File),
			on("environments", func(n *yamldoc.Node) { t.Environments = d.patterns(n, what+".environments") }),
		)
		d.unique(e, &t.Name, what, seen)
		if len(d.Problems) > before || e.Kind != yamldoc.Mapping {
			continue
		}
		switch {
		case slices.Contains(reservedNames, t.Name):
			d.Fail(e, fmt.Sprintf("%s is named %s, which is how others are called in logs", what, t.Name), "name who uses it")
		case t.Role == "":
			d.Fail(e, what+" has no role", "there are read, operate and administer")
		case (t.SHA256File == "") == (t.File == ""):
			d.Fail(e, what+" needs one of sha256File and file", "`holdfast token` makes both")
		}
	}
	return out
}

// patterns reads patterns of names, as path.Match has them. An empty list would
// look like a narrow one, and be none.
func (d *decoder) patterns(n *yamldoc.Node, what string) []string {
	out := []string{}
	for i, e := range d.List(n, what) {
		var text string
		if !d.Text(e, fmt.Sprintf("%s[%d]", what, i), &text) {
			continue
		}
		if _, err := path.Match(text, ""); err != nil {
			d.Fail(e, fmt.Sprintf("%s[%d] %q is no pattern", what, i, text), `"*" stands for any letters, as in shop-*`)
			continue
		}
		out = append(out, text)
	}
	if len(out) == 0 && len(d.Problems) == 0 {
		d.Fail(n, what+" is empty", "leave it out for all environments")
	}
	return out
}

func (d *decoder) tls(n *yamldoc.Node, t *TLS) {
	before := len(d.Problems)
	d.Mapping(n, "server.tls",
		d.pathField("certFile", "server.tls.", &t.CertFile),
		d.pathField("keyFile", "server.tls.", &t.KeyFile),
		d.pathField("clientCAFile", "server.tls.", &t.ClientCAFile),
	)
	if len(d.Problems) == before && (t.CertFile == "" || t.KeyFile == "") {
		d.Fail(n, "server.tls needs certFile and keyFile", "")
	}
}
