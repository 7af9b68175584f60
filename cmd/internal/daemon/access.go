package daemon

import (
	"context"
	"fmt"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/cmd/internal/server"
	"github.com/holdfast-gitops/holdfast/reconciler/kube"
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
	cluster, err := clusterOf(d.opts.Config, d.opts.Version)
	if err != nil {
		return fmt.Errorf("server.kubernetes: %w", err)
	}
	if cluster != nil {
		o.Cluster = cluster
	}
	if c.TLS.CertFile == "" {
		return nil
	}
	o.ClientCertificates = c.TLS.ClientCAFile != ""
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

// clusterAccess is a cluster's word about callers, as the server asks for it.
type clusterAccess struct{ *kube.Access }

// Holder implements server.Cluster.
func (a clusterAccess) Holder(ctx context.Context, token string) (server.ClusterUser, bool, error) {
	u, ok, err := a.Access.Holder(ctx, token)
	return server.ClusterUser(u), ok, err
}

// May implements server.Cluster.
func (a clusterAccess) May(ctx context.Context, u server.ClusterUser, verb, environment string) (bool, error) {
	return a.Access.May(ctx, kube.User(u), verb, environment)
}

// clusterOf is the cluster whose tokens count, nil if none is configured.
func clusterOf(c config.Config, version string) (*clusterAccess, error) {
	for _, t := range c.Targets {
		if t.Name != c.Server.Kubernetes.Target || c.Server.Kubernetes.Audience == "" {
			continue
		}
		rc, _, err := restConfig(t)
		if err != nil {
			return nil, err
		}
		access, err := kube.OpenAccess(kube.AccessOptions{Config: rc, Audience: c.Server.Kubernetes.Audience, Version: version})
		if err != nil {
			return nil, err
		}
		return &clusterAccess{access}, nil
	}
	return nil, nil
}
