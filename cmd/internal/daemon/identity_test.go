package daemon

import (
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

func TestIdentityIsWhatTheSourceWasGranted(t *testing.T) {
	for _, c := range []struct {
		granted   []string
		asked     string
		want, err string
	}{
		{nil, "", "", ""},
		{nil, "deployer", "", "may not write as service account web/deployer"},
		{[]string{"web/deployer"}, "", "web/deployer", ""},
		{[]string{"web/deployer"}, "deployer", "web/deployer", ""},
		{[]string{"web/deployer"}, "other/deployer", "", "may not write as service account other/deployer"},
		{[]string{"web/deployer", "web/other"}, "", "", "names no service account"},
		{[]string{"*/deployer"}, "", "", "names no service account"},
		{[]string{"*/deployer"}, "deployer", "web/deployer", ""},
		{[]string{"web/*"}, "anything", "web/anything", ""},
	} {
		source := config.Source{Grants: []config.Grant{{Target: "default", ServiceAccounts: c.granted}, {Target: "other", ServiceAccounts: []string{"*/*"}}}}
		spec := environment.New("prod")
		spec.Namespace, spec.ServiceAccount = "web", c.asked
		got, err := identityOf(source, spec, "default")
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("granted %v, asked %q: %q, %v", c.granted, c.asked, got, err)
		}
	}
}
