package main

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
)

// cloud gives what is asked of a cloud or a storage system, on paper: without it
// a claim stays pending and a load balancer has no address, and an environment
// with one would never become healthy.
type cloud struct {
	client   kubernetes.Interface
	claims   corelisters.PersistentVolumeClaimLister
	services corelisters.ServiceLister
}

// bindClaim calls a claim bound, with what it asked for.
func (c *cloud) bindClaim(ctx context.Context, namespace, name string) (time.Duration, error) {
	claim, err := c.claims.PersistentVolumeClaims(namespace).Get(name)
	if err != nil || claim.Status.Phase == corev1.ClaimBound || claim.DeletionTimestamp != nil {
		return 0, err
	}
	claim = claim.DeepCopy()
	claim.Status.Phase = corev1.ClaimBound
	claim.Status.AccessModes = claim.Spec.AccessModes
	claim.Status.Capacity = corev1.ResourceList{
		corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage],
	}
	_, err = c.client.CoreV1().PersistentVolumeClaims(namespace).UpdateStatus(ctx, claim, metav1.UpdateOptions{})
	return 0, err
}

// serveLoadBalancer gives a load balancer the node's address.
func (c *cloud) serveLoadBalancer(ctx context.Context, namespace, name string) (time.Duration, error) {
	service, err := c.services.Services(namespace).Get(name)
	if err != nil || service.Spec.Type != corev1.ServiceTypeLoadBalancer ||
		len(service.Status.LoadBalancer.Ingress) > 0 || service.DeletionTimestamp != nil {
		return 0, err
	}
	service = service.DeepCopy()
	service.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: nodeIP}}
	_, err = c.client.CoreV1().Services(namespace).UpdateStatus(ctx, service, metav1.UpdateOptions{})
	return 0, err
}
