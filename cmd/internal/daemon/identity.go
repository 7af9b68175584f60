package daemon

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// identityOf is the service account that an environment is applied as,
// "namespace/name", or empty for the daemon itself: that is only where its source
// was granted no service account in the target.
func identityOf(c config.Source, spec environment.Spec, targetNamespace string) (string, error) {
	var granted []string
	for _, g := range c.Grants {
		if g.Target == spec.Target {
			granted = append(granted, g.ServiceAccounts...)
		}
	}
	problem := func(format string, args ...any) error {
		return sources.Problem{
			File: spec.File, Line: spec.Line, Object: "Environment/" + spec.Name,
			Message: fmt.Sprintf(format, args...), Hint: grantedHint(granted),
		}
	}
	wanted := spec.ServiceAccount
	if wanted == "" {
		switch {
		case len(granted) == 0:
			return "", nil
		case len(granted) == 1 && !strings.Contains(granted[0], "*"):
			return granted[0], nil
		}
		return "", problem("names no service account, and its source may write as service accounts only")
	}
	if !strings.Contains(wanted, "/") {
		namespace := spec.Namespace
		if namespace == "" {
			namespace = targetNamespace
		}
		wanted = namespace + "/" + wanted
	}
	if !slices.ContainsFunc(granted, func(g string) bool { return accountMatches(g, wanted) }) {
		return "", problem("not granted: this source may not write as service account %s", wanted)
	}
	return wanted, nil
}

func grantedHint(granted []string) string {
	if len(granted) == 0 {
		return "grant it with serviceAccounts in the daemon's configuration"
	}
	return "granted are " + strings.Join(granted, ", ")
}

func accountMatches(granted, wanted string) bool {
	g, w := strings.SplitN(granted, "/", 2), strings.SplitN(wanted, "/", 2)
	return len(g) == 2 && len(w) == 2 && (g[0] == "*" || g[0] == w[0]) && (g[1] == "*" || g[1] == w[1])
}
