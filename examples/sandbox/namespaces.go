package main

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/controller/namespace/deletion"
)

// buildNamespace empties and removes namespaces that are being deleted, with the
// real deleter but without the real controller around it: that waits five
// seconds for other API servers and then for half the grace period of the pods,
// none of which there is here.
func buildNamespace(ctx context.Context, s *controllerSet) (func(context.Context), error) {
	namespaces := s.informers.Core().V1().Namespaces()
	lister := namespaces.Lister()
	deleter := deletion.NewNamespacedResourcesDeleter(ctx, s.kube.CoreV1().Namespaces(), s.metadata, s.kube.CoreV1(),
		s.kube.Discovery().ServerPreferredNamespacedResources, corev1.FinalizerKubernetes)
	return reconcileLoop{"namespace", namespaces.Informer(), func(ctx context.Context, _, name string) (time.Duration, error) {
		ns, err := lister.Get(name)
		if err != nil || ns.DeletionTimestamp == nil {
			return 0, err
		}
		err = deleter.Delete(ctx, name)
		var remaining *deletion.ResourcesRemainingError
		if errors.As(err, &remaining) {
			return 250 * time.Millisecond, nil
		}
		return 0, err
	}}.prepare()
}
