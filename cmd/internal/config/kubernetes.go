package config

import (
	"fmt"
	"strings"

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
)

// DefaultAudience is whom tokens of a cluster have to be meant for. It is not the
// API server's own: whoever gets such a token to read can be the caller there.
const DefaultAudience = "holdfast"

func (d *decoder) kubernetes(n *yamldoc.Node, k *Kubernetes) {
	k.Audience = DefaultAudience
	d.Mapping(n, "server.kubernetes",
		d.labelField("target", "server.kubernetes.", &k.Target),
		d.textField("audience", "server.kubernetes.", &k.Audience),
	)
}

// checkKubernetes finds the cluster whose tokens count.
func (d *decoder) checkKubernetes(n *yamldoc.Node, c *Config) {
	k := &c.Server.Kubernetes
	if n == nil || len(d.Problems) > 0 {
		return
	}
	var clusters []string
	for _, t := range c.Targets {
		if t.Directory == "" {
			clusters = append(clusters, t.Name)
		}
		if t.Name == k.Target && t.Directory != "" {
			d.Fail(n, fmt.Sprintf("server.kubernetes.target %q is a directory", k.Target), "name a cluster")
			return
		}
	}
	switch {
	case k.Target == "" && len(clusters) == 1:
		k.Target = clusters[0]
	case k.Target == "":
		d.Fail(n, fmt.Sprintf("server.kubernetes has no target, and there are %d clusters", len(clusters)), "name the one whose tokens count")
	default:
		if _, ok := c.Target(k.Target); !ok {
			d.Fail(n, fmt.Sprintf("server.kubernetes.target: there is no target %q", k.Target), "clusters are: "+strings.Join(clusters, ", "))
		}
	}
}
