package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/restmapper"
	"k8s.io/controller-manager/pkg/informerfactory"
)

// discoveryPeriod is how soon controllers that work on all kinds notice a new
// one. A cluster takes 30 seconds, which is long for a test.
const discoveryPeriod = 5 * time.Second

// controllerSet is the running part of kube-controller-manager that a sandbox
// has. Its controllers are the real ones, started one by one: the whole program
// would add those for clouds, volumes and nodes, which nothing here needs.
type controllerSet struct {
	*clients
	ids       *pki
	informers informers.SharedInformerFactory
	generic   informerfactory.InformerFactory
	mapper    *restmapper.DeferredDiscoveryRESTMapper
	// started is closed once informers run; controllers that add informers
	// later wait for it.
	started        chan struct{}
	startInformers func()

	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// namedController is one of them: build registers its informers and returns what
// runs it.
type namedController struct {
	name  string
	build func(context.Context, *controllerSet) (func(context.Context), error)
}

// startControllers starts all controllers. They wait for startInformers, so that
// the caller can add informers of its own to the shared ones.
func startControllers(ctx context.Context, host string, ids *pki) (*controllerSet, error) {
	c, err := newClients(host, ids, identityControllers)
	if err != nil {
		return nil, err
	}
	s := &controllerSet{clients: c, ids: ids, started: make(chan struct{})}
	ctx, s.cancel = context.WithCancel(ctx)
	s.informers = informers.NewSharedInformerFactoryWithOptions(c.kube, 0, informers.WithTransform(dropManagedFields))
	s.generic = informerfactory.NewInformerFactory(s.informers,
		metadatainformer.NewSharedInformerFactoryWithOptions(c.metadata, 0, metadatainformer.WithTransform(dropManagedFields)))
	s.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(c.kube.Discovery()))

	var runs []func(context.Context)
	for _, c := range controllers() {
		run, err := c.build(ctx, s)
		if err != nil {
			s.cancel()
			return nil, fmt.Errorf("start the %s controller: %w", c.name, err)
		}
		runs = append(runs, run)
	}
	runs = append(runs, func(ctx context.Context) {
		wait.UntilWithContext(ctx, func(context.Context) { s.mapper.Reset() }, discoveryPeriod)
	})
	for _, run := range runs {
		s.wg.Go(func() { run(ctx) })
	}
	s.startInformers = sync.OnceFunc(func() {
		s.generic.Start(ctx.Done())
		close(s.started)
	})
	return s, nil
}

// stop ends the controllers and waits for them.
func (s *controllerSet) stop() {
	s.cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.wg.Wait()
	}()
	awaitStop("controllers", done)
}

// rootCA is the certificate that clients inside the cluster trust.
func (s *controllerSet) rootCA() ([]byte, error) {
	return os.ReadFile(s.ids.cert("ca"))
}

// dropManagedFields saves a good part of the informers' memory. An update
// without managedFields leaves the server's as they are.
func dropManagedFields(obj any) (any, error) {
	if o, err := meta.Accessor(obj); err == nil {
		o.SetManagedFields(nil)
	}
	return obj, nil
}
