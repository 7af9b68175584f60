package kubelive

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/holdfast-gitops/holdfast/sources"
)

// Options says how to reach and watch a cluster.
type Options struct {
	Config *rest.Config
	// Namespaces limits the watches; nil is the whole cluster.
	Namespaces []string
	// Baselines keeps what was applied over restarts; its Path may be empty for
	// none.
	Baselines BaselineFile
	// Changed is called for every object that may have drifted. It must not
	// block.
	Changed func(Hint)
	// Failed is told what went wrong where nobody waits for an answer.
	Failed func(error)
	// Silence is how long a watch may say nothing before it counts as stale; zero is
	// three minutes, since servers say something about once a minute.
	Silence time.Duration
}

// Cluster is the reading side of a target.
type Cluster struct {
	Objects  dynamic.Interface
	Metadata metadata.Interface
	Mapper   *Mapper
	Index    *Index
	Watcher  *Watcher
	// Namespaces limits what is watched; nil is the whole cluster.
	Namespaces []string

	manner    manner
	baselines *BaselineFile
	failed    func(error)
}

// saveEvery is how often changed baselines are written.
const saveEvery = 2 * time.Second

// Open makes the clients; it sends nothing. Damaged baselines are told through
// Failed and cost a verification.
func Open(o Options) (*Cluster, error) {
	http, err := rest.HTTPClientFor(o.Config)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	objects, err1 := dynamic.NewForConfigAndClient(o.Config, http)
	meta, err2 := metadata.NewForConfigAndClient(o.Config, http)
	disc, err3 := discovery.NewDiscoveryClientForConfigAndClient(o.Config, http)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	var saved map[sources.ID]Baseline
	if o.Baselines.Path != "" {
		if saved, err = o.Baselines.Load(); err != nil {
			o.Failed(err)
		}
	}
	index, m := NewIndex(saved, o.Changed), manner{lists: newTurns(), silence: o.Silence}
	return &Cluster{
		Objects: objects, Metadata: meta, Mapper: NewMapper(disc), Index: index,
		Watcher:    newWatcher(meta, index, o.Namespaces, m),
		Namespaces: o.Namespaces, manner: m, baselines: &o.Baselines, failed: o.Failed,
	}, nil
}

// Run keeps the watches and the baseline file until ctx ends.
func (c *Cluster) Run(ctx context.Context) error {
	saved := make(chan struct{})
	go func() {
		defer close(saved)
		c.keepBaselines(ctx)
	}()
	err := c.Watcher.Run(ctx)
	<-saved
	return err
}

func (c *Cluster) keepBaselines(ctx context.Context) {
	if c.baselines.Path == "" {
		return
	}
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for {
		done := false
		select {
		case <-ctx.Done():
			done = true
		case <-tick.C:
		}
		if err := c.baselines.SaveIfChanged(c.Index); err != nil {
			c.failed(err)
		}
		if done {
			return
		}
	}
}

// Get reads an object in full.
func (c *Cluster) Get(ctx context.Context, r Resource, id sources.ID) (*unstructured.Unstructured, error) {
	return c.API(r, id).Get(ctx, id.Name, metav1.GetOptions{})
}

// GetSince reads an object in full, in a state that is not older than a
// resourceVersion which a watch told of: the API server answers from its own
// cache, without asking its database. What is decided by it has to be bound to
// the version that was read. An empty version is Get.
func (c *Cluster) GetSince(ctx context.Context, r Resource, id sources.ID, version string) (*unstructured.Unstructured, error) {
	object, err := c.API(r, id).Get(ctx, id.Name, metav1.GetOptions{ResourceVersion: version})
	if version != "" && err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
		return c.Get(ctx, r, id) // another server's cache may lag behind the one that is watched
	}
	return object, err
}

// API is the client for one object's resource and namespace.
func (c *Cluster) API(r Resource, id sources.ID) dynamic.ResourceInterface {
	if r.Namespaced {
		return c.Objects.Resource(r.GVR).Namespace(id.Namespace)
	}
	return c.Objects.Resource(r.GVR)
}

// ListMetadata pages through the metadata of a resource in a namespace ("" for
// all) and hands each object to visit. The error of an incomplete list is never
// swallowed: what could not be read must not look absent.
func (c *Cluster) ListMetadata(ctx context.Context, r Resource, namespace, selector string, visit func(*metav1.PartialObjectMetadata)) error {
	options := metav1.ListOptions{LabelSelector: selector, Limit: 500}
	for {
		list, err := c.Metadata.Resource(r.GVR).Namespace(namespace).List(ctx, options)
		if err != nil {
			return fmt.Errorf("list %s: %w", r.GVR.GroupResource(), err)
		}
		for i := range list.Items {
			visit(&list.Items[i])
		}
		if list.Continue == "" {
			return nil
		}
		options.Continue = list.Continue
	}
}
