package daemon

import (
	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/cmd/internal/server"
)

// admit sets who may do what over HTTP, and how the server proves who it is.
func (d *daemon) admit(o *server.Options) error {
	c := d.opts.Config.Server
	o.TokenFile, o.Hosts, o.ReadsNeedToken, o.ChangesPerMinute = c.TokenFile, c.Hosts, c.ReadsNeedToken, c.ChangesPerMinute
	for _, t := range c.Tokens {
		o.Tokens = append(o.Tokens, server.Token{
			Name: t.Name, Role: server.RoleOf(t.Role), SHA256File: t.SHA256File, File: t.File, Environments: t.Environments,
		})
	}
	o.URL, o.OIDC = c.URL, oidcOf(c.OIDC)
	if c.TLS.CertFile == "" {
		return nil
	}
	o.ClientCertificates = c.TLS.ClientCAFile != ""
	var err error
	o.TLS, err = server.NewTLS(server.TLS{CertFile: c.TLS.CertFile, KeyFile: c.TLS.KeyFile, ClientCAFile: c.TLS.ClientCAFile}, d.log)
	return err
}

// oidcOf is the provider that is configured, nil if none is.
func oidcOf(c config.OIDC) *server.OIDC {
	if c.Issuer == "" {
		return nil
	}
	o := &server.OIDC{
		Name: c.Name, Issuer: c.Issuer, ClientID: c.ClientID, ClientSecretFile: c.ClientSecretFile, CAFile: c.CAFile,
		Scopes: c.Scopes, GroupsClaim: c.GroupsClaim,
	}
	for _, r := range c.Roles {
		o.Roles = append(o.Roles, server.Mapping{
			Groups: r.Groups, Users: r.Users, Grant: server.Grant{Role: server.RoleOf(r.Role), Environments: r.Environments},
		})
	}
	return o
}
