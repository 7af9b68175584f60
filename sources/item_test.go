package sources_test

import (
	"testing"

	"github.com/holdfast-gitops/holdfast/sources"
)

func TestParseIDReadsWhatStringWrites(t *testing.T) {
	for _, id := range []sources.ID{
		{Kind: "ConfigMap", Namespace: "web", Name: "a"},
		{Group: "apps", Kind: "Deployment", Namespace: "web", Name: "a.b"},
		{Kind: "Namespace", Name: "web"},
		{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: "admin"},
	} {
		got, err := sources.ParseID(id.String())
		if err != nil || got != id {
			t.Errorf("%s is read as %+v, error %v", id, got, err)
		}
	}
	for _, bad := range []string{"", "Pod", "a/b/c/d", "Pod//x", "/x"} {
		if id, err := sources.ParseID(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, id)
		}
	}
}
