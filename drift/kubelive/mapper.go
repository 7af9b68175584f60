package kubelive

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/restmapper"

	"github.com/holdfast-gitops/holdfast/sources"
)

// rediscover bounds how often a kind that is not served makes us ask again.
const rediscover = 10 * time.Second

// Mapper knows which kinds a cluster serves. It asks the cluster once, and again
// when a kind is not found.
type Mapper struct {
	cached discovery.CachedDiscoveryInterface
	mapper *restmapper.DeferredDiscoveryRESTMapper

	mu    sync.Mutex
	reset time.Time
	// version is the server's, "" until it was asked or after a refresh.
	version string
	// served are the kinds of each group's version, as they were last known.
	served map[string][]string
}

// NewMapper makes a mapper; the first look-up asks the cluster.
func NewMapper(client discovery.DiscoveryInterface) *Mapper {
	cached := memory.NewMemCacheClient(client)
	return &Mapper{cached: cached, served: map[string][]string{}, mapper: restmapper.NewDeferredDiscoveryRESTMapper(cached)}
}

// RESTMapper is the mapper in the form that other libraries take.
func (m *Mapper) RESTMapper() meta.RESTMapper { return m.mapper }

// Refresh makes the next look-up ask the cluster, as after a CRD was applied.
func (m *Mapper) Refresh() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reset, m.version = time.Now(), ""
	m.mapper.Reset()
}

// Serves tells the server's version and the API versions and kinds that it
// serves, such as "apps/v1" and "apps/v1/Deployment". The cluster is asked once
// between refreshes. Of an API whose own server does not answer, it is what it was
// when it last did; if that is not known, it is an error.
func (m *Mapper) Serves() (version string, apis []string, err error) {
	_, lists, err := m.cached.ServerGroupsAndResources()
	if err != nil {
		m.refreshIfOld()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, list := range lists {
		m.served[list.GroupVersion] = kindsOf(list)
	}
	away, err := m.away(err)
	if err != nil {
		return "", nil, fmt.Errorf("discovery: %w", err)
	}
	for _, list := range lists {
		away = append(away, list.GroupVersion)
	}
	for _, gv := range away {
		apis = append(apis, gv)
		for _, kind := range m.served[gv] {
			apis = append(apis, gv+"/"+kind)
		}
	}
	slices.Sort(apis)
	if m.version == "" {
		info, err := m.cached.ServerVersion()
		if err != nil {
			return "", nil, fmt.Errorf("discovery: %w", err)
		}
		m.version = info.GitVersion
	}
	return m.version, slices.Compact(apis), nil
}

// away are the versions of groups that a failed discovery could not ask and of which is
// known what they served. A part is as bad as nothing where that is not so: a chart that
// asks whether an API is there would drop objects because it could not be asked. It
// needs m.mu.
func (m *Mapper) away(failure error) (out []string, err error) {
	if failure == nil {
		return nil, nil
	}
	var partly *discovery.ErrGroupDiscoveryFailed
	if !errors.As(failure, &partly) {
		return nil, failure
	}
	for gv := range partly.Groups {
		if _, known := m.served[gv.String()]; !known {
			return nil, failure
		}
		out = append(out, gv.String())
	}
	return out, nil
}

func kindsOf(list *metav1.APIResourceList) []string {
	var out []string
	for _, r := range list.APIResources {
		if !strings.Contains(r.Name, "/") {
			out = append(out, r.Kind)
		}
	}
	return out
}

// Resource finds what serves a kind; without a version, the preferred one.
func (m *Mapper) Resource(gk schema.GroupKind, version ...string) (Resource, error) {
	r, err := m.resource(gk, version...)
	if !meta.IsNoMatchError(err) || !m.refreshIfOld() {
		return r, err
	}
	return m.resource(gk, version...)
}

// Peek is Resource without asking the cluster again for a kind that it did not
// serve when it was asked last.
func (m *Mapper) Peek(gk schema.GroupKind) (Resource, error) { return m.resource(gk) }

func (m *Mapper) refreshIfOld() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.reset) < rediscover {
		return false
	}
	m.reset = time.Now()
	m.mapper.Reset()
	return true
}

func (m *Mapper) resource(gk schema.GroupKind, version ...string) (Resource, error) {
	mapping, err := m.mapper.RESTMapping(gk, version...)
	if err != nil {
		return Resource{}, err
	}
	return Resource{
		GVR: mapping.Resource, Kind: gk.Kind,
		Namespaced: mapping.Scope.Name() == meta.RESTScopeNameNamespace,
	}, nil
}

// Namespaced says whether a kind lives in namespaces; known is false when the
// cluster does not serve it.
func (m *Mapper) Namespaced(group, kind string) (namespaced, known bool) {
	r, err := m.Resource(schema.GroupKind{Group: group, Kind: kind})
	return r.Namespaced, err == nil
}

// Listable lists every resource that can be listed, in its preferred version.
// An error beside resources means that some groups could not be asked.
func (m *Mapper) Listable() ([]Resource, error) {
	lists, err := discovery.ServerPreferredResources(m.cached)
	var out []Resource
	for _, list := range lists {
		gv, parseErr := schema.ParseGroupVersion(list.GroupVersion)
		if parseErr != nil {
			return out, fmt.Errorf("discovery: group version %q: %w", list.GroupVersion, parseErr)
		}
		for _, r := range list.APIResources {
			if slices.Contains(r.Verbs, "list") && slices.Contains(r.Verbs, "patch") {
				out = append(out, Resource{GVR: gv.WithResource(r.Name), Kind: r.Kind, Namespaced: r.Namespaced})
			}
		}
	}
	if err != nil {
		err = fmt.Errorf("discovery: %w", err)
	}
	return out, err
}

// GroupKind is an id's group and kind as Kubernetes libraries take them.
func GroupKind(id sources.ID) schema.GroupKind {
	return schema.GroupKind{Group: id.Group, Kind: id.Kind}
}
