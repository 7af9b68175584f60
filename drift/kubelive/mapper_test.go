package kubelive

import (
	"errors"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/discovery"
)

// served is a cluster with two APIs, one of which has a server of its own.
type served struct {
	discovery.DiscoveryInterface
	away error
}

func (s *served) ServerGroups() (*metav1.APIGroupList, error) {
	group := func(name, version string) metav1.APIGroup {
		v := metav1.GroupVersionForDiscovery{GroupVersion: name + "/" + version, Version: version}
		return metav1.APIGroup{Name: name, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v}
	}
	return &metav1.APIGroupList{Groups: []metav1.APIGroup{group("apps", "v1"), group("metrics.example.com", "v1")}}, nil
}

func (s *served) ServerResourcesForGroupVersion(gv string) (*metav1.APIResourceList, error) {
	if gv == "apps/v1" {
		return &metav1.APIResourceList{GroupVersion: gv, APIResources: []metav1.APIResource{
			{Name: "deployments", Kind: "Deployment", Namespaced: true}, {Name: "deployments/scale", Kind: "Scale", Namespaced: true},
		}}, nil
	}
	if s.away != nil {
		return nil, s.away
	}
	return &metav1.APIResourceList{GroupVersion: gv, APIResources: []metav1.APIResource{{Name: "loads", Kind: "Load"}}}, nil
}

func (s *served) ServerVersion() (*version.Info, error) {
	return &version.Info{GitVersion: "v1.37.0"}, nil
}

// An API whose own server is away is served as it was last known; one that was never
// known is an error, since what asks for it would be answered wrongly.
func TestWhatIsServedWhileAnAPIIsAway(t *testing.T) {
	t.Parallel()
	cluster := &served{away: errors.New("the server is currently unable to handle the request")}
	m := NewMapper(cluster)
	if _, apis, err := m.Serves(); err == nil {
		t.Fatalf("never known: %v", apis)
	}
	want := []string{"apps/v1", "apps/v1/Deployment", "metrics.example.com/v1", "metrics.example.com/v1/Load"}
	for _, c := range []struct {
		when string
		away error
	}{{"there", nil}, {"away", cluster.away}, {"back", nil}} {
		cluster.away = c.away
		m.Refresh()
		v, apis, err := m.Serves()
		if err != nil || v != "v1.37.0" || !slices.Equal(apis, want) {
			t.Errorf("%s: %s, %v, %v", c.when, v, apis, err)
		}
	}
}
