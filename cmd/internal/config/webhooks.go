package config

import (
	"fmt"

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
)

// Webhook is a receiver of what a forge or another sender says about pushes. It
// is at /webhooks/NAME.
type Webhook struct {
	Name string `json:"name"`
	// Kind is who sends: github, gitlab, gitea, bitbucket, bitbucket-server,
	// azure-devops, generic or cloudevents.
	Kind string `json:"kind"`
	// SecretFile holds the secret that the sender was given, one to a line: each
	// of them counts, so that one can take the place of another. It is read for
	// every call.
	SecretFile string `json:"secretFile"`
}

// WebhookKinds are the senders that are understood.
var WebhookKinds = []string{"github", "gitlab", "gitea", "bitbucket", "bitbucket-server", "azure-devops", "generic", "cloudevents"}

func (d *decoder) webhooks(n *yamldoc.Node) []Webhook {
	entries := d.List(n, "webhooks")
	out := make([]Webhook, len(entries))
	seen := map[string]int{}
	for i, e := range entries {
		w, what := &out[i], fmt.Sprintf("webhooks[%d]", i)
		before := len(d.Problems)
		d.Mapping(e, what,
			d.labelField("name", what+".", &w.Name),
			d.wordField("kind", what+".", &w.Kind, WebhookKinds...),
			d.pathField("secretFile", what+".", &w.SecretFile),
		)
		d.unique(e, &w.Name, what, seen)
		if len(d.Problems) > before || e.Kind != yamldoc.Mapping {
			continue
		}
		if w.Kind == "" || w.SecretFile == "" {
			d.Fail(e, what+" needs kind and secretFile", "without a secret, anybody could send")
		}
	}
	return out
}
