package kube

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/sources"
)

// objectAPI is what is done with one object's resource.
type objectAPI interface {
	Get(ctx context.Context, name string, o metav1.GetOptions, subresources ...string) (*unstructured.Unstructured, error)
	List(ctx context.Context, o metav1.ListOptions) (*unstructured.UnstructuredList, error)
	Create(ctx context.Context, u *unstructured.Unstructured, o metav1.CreateOptions, subresources ...string) (*unstructured.Unstructured, error)
	Patch(ctx context.Context, name string, pt types.PatchType, data []byte, o metav1.PatchOptions, subresources ...string) (*unstructured.Unstructured, error)
	Delete(ctx context.Context, name string, o metav1.DeleteOptions, subresources ...string) error
}

// writer is on whose behalf objects are written: an environment's ownership, and
// the identity that was granted to its source.
type writer struct {
	owner   kubelive.Owner
	objects dynamic.Interface
	// lease bounds every write; nil where none is needed.
	lease *lease
	// impersonates: the identity is another than the daemon's own.
	impersonates bool
}

// writer makes one for an environment, with the identity that its last
// comparison named.
func (t *Target) writer(environment string) (writer, error) {
	t.mu.Lock()
	identity := t.identities[environment]
	t.mu.Unlock()
	return t.writerAs(environment, identity)
}

func (t *Target) writerAs(environment, identity string) (writer, error) {
	w := writer{owner: t.owner(environment), objects: t.cluster.Objects, lease: t.lease}
	if identity == "" {
		return w, nil
	}
	objects, err := t.clientAs(identity)
	if err != nil {
		return w, err
	}
	w.objects, w.impersonates = objects, true
	return w, nil
}

// clientAs is a client that impersonates a service account, "namespace/name".
// Connections are shared with our own.
func (t *Target) clientAs(identity string) (dynamic.Interface, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.clients[identity]; c != nil {
		return c, nil
	}
	namespace, name, ok := strings.Cut(identity, "/")
	if !ok || namespace == "" || name == "" {
		return nil, sources.Problem{Message: fmt.Sprintf("service account %q: want namespace/name", identity)}
	}
	config := rest.CopyConfig(t.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:" + namespace + ":" + name}
	c, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("impersonate service account %s: %w", identity, err)
	}
	t.clients[identity] = c
	return c, nil
}

// api is the client for one object's resource and namespace.
func (w writer) api(r kubelive.Resource, id sources.ID) objectAPI {
	var api dynamic.ResourceInterface = w.objects.Resource(r.GVR)
	if r.Namespaced {
		api = w.objects.Resource(r.GVR).Namespace(id.Namespace)
	}
	if w.lease == nil {
		return api
	}
	return leased{api, w.lease}
}

// leased lets no write through without the lease, and none that could outlive it.
type leased struct {
	objectAPI
	lease *lease
}

func (l leased) Create(ctx context.Context, u *unstructured.Unstructured, o metav1.CreateOptions, subresources ...string) (*unstructured.Unstructured, error) {
	ctx, cancel, err := l.lease.bound(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	return l.objectAPI.Create(ctx, u, o, subresources...)
}

func (l leased) Patch(ctx context.Context, name string, pt types.PatchType, data []byte, o metav1.PatchOptions, subresources ...string) (*unstructured.Unstructured, error) {
	ctx, cancel, err := l.lease.bound(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	return l.objectAPI.Patch(ctx, name, pt, data, o, subresources...)
}

func (l leased) Delete(ctx context.Context, name string, o metav1.DeleteOptions, subresources ...string) error {
	ctx, cancel, err := l.lease.bound(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	return l.objectAPI.Delete(ctx, name, o, subresources...)
}
