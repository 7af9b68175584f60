package main

import (
	"context"
	"errors"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

// clusterStandIn is what a cluster has around its control plane, reduced to what
// can be seen through the API: a scheduler, a kubelet, storage, load balancers.
type clusterStandIn struct {
	kubelet *kubelet
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

// startCluster starts the stand-ins on the shared informers.
func startCluster(ctx context.Context, host string, ids *pki, shared informers.SharedInformerFactory, images imagePolicy) (*clusterStandIn, error) {
	asScheduler, err := newClients(host, ids, identityScheduler)
	if err != nil {
		return nil, err
	}
	asKubelet, err := newClients(host, ids, identityKubelet)
	if err != nil {
		return nil, err
	}
	asControllers, err := newClients(host, ids, identityControllers)
	if err != nil {
		return nil, err
	}
	core := shared.Core().V1()
	ctx, cancel := context.WithCancel(ctx)
	c := &clusterStandIn{cancel: cancel}
	c.kubelet = newKubelet(ctx, asKubelet.kube, core.Pods().Lister(), images)
	scheduler := &scheduler{client: asScheduler.kube, pods: core.Pods().Lister(), nodes: core.Nodes().Lister()}
	cloud := &cloud{client: asControllers.kube, claims: core.PersistentVolumeClaims().Lister(), services: core.Services().Lister()}
	// The scheduler looks at nodes without watching for pods that now fit, and
	// an informer has to be asked for before it is started.
	core.Nodes().Informer()

	for _, l := range []reconcileLoop{
		{"scheduler", core.Pods().Informer(), scheduler.reconcile},
		{"kubelet", core.Pods().Informer(), c.kubelet.reconcile},
		{"storage", core.PersistentVolumeClaims().Informer(), cloud.bindClaim},
		{"load balancer", core.Services().Informer(), cloud.serveLoadBalancer},
	} {
		run, err := l.prepare()
		if err != nil {
			cancel()
			return nil, err
		}
		c.wg.Go(func() { run(ctx) })
	}
	return c, nil
}

// stop ends the stand-ins and waits for them.
func (c *clusterStandIn) stop() {
	c.cancel()
	c.wg.Wait()
}

// reconcileLoop calls reconcile for every object that changed, again when it
// fails, and again after the time it answers.
type reconcileLoop struct {
	name      string
	informer  cache.SharedIndexInformer
	reconcile func(ctx context.Context, namespace, name string) (again time.Duration, err error)
}

// prepare registers the loop with its informer and returns what runs it.
func (l reconcileLoop) prepare() (func(context.Context), error) {
	queue := workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](5*time.Millisecond, 2*time.Second))
	add := func(obj any) {
		// The key of an object from an informer can always be told.
		if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj); err == nil {
			queue.Add(key)
		}
	}
	// Nothing is to be done for what is gone.
	if _, err := l.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    add,
		UpdateFunc: func(_, obj any) { add(obj) },
	}); err != nil {
		return nil, err
	}
	return func(ctx context.Context) {
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for l.next(ctx, queue) {
				}
			})
		}
		<-ctx.Done()
		queue.ShutDown()
		wg.Wait()
	}, nil
}

func (l reconcileLoop) next(ctx context.Context, queue workqueue.TypedRateLimitingInterface[string]) bool {
	key, quit := queue.Get()
	if quit {
		return false
	}
	defer queue.Done(key)
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return true
	}
	again, err := l.reconcile(ctx, namespace, name)
	switch {
	case err == nil || apierrors.IsNotFound(err) || errors.Is(err, context.Canceled):
		queue.Forget(key)
		if again > 0 {
			queue.AddAfter(key, again)
		}
	default:
		// A conflict only says that the informer is behind.
		if !apierrors.IsConflict(err) {
			klog.ErrorS(err, "Reconcile failed", "loop", l.name, "object", key)
		}
		queue.AddRateLimited(key)
	}
	return true
}
