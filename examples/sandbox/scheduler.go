package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	podresources "k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// scheduler binds pods to the node. It looks at what makes a pod unschedulable
// by itself (selector, affinity, size); it does not add pods up.
type scheduler struct {
	client kubernetes.Interface
	pods   corelisters.PodLister
	nodes  corelisters.NodeLister
}

func (s *scheduler) reconcile(ctx context.Context, namespace, name string) (time.Duration, error) {
	pod, err := s.pods.Pods(namespace).Get(name)
	if err != nil {
		return 0, err
	}
	if pod.Spec.NodeName != "" || pod.DeletionTimestamp != nil || len(pod.Spec.SchedulingGates) > 0 ||
		pod.Spec.SchedulerName != corev1.DefaultSchedulerName {
		return 0, nil
	}
	node, err := s.nodes.Get(nodeName)
	if err != nil {
		// Not registered yet, or not seen yet.
		return 100 * time.Millisecond, nil
	}
	if reason := unfit(pod, node); reason != "" {
		// The node may be changed so that the pod fits: look again now and then.
		return 5 * time.Second, s.markUnschedulable(ctx, pod, "0/1 nodes are available: 1 "+reason+".")
	}
	return 0, s.client.CoreV1().Pods(namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: nodeName},
	}, metav1.CreateOptions{})
}

// unfit says why a pod cannot run on the node, in the real scheduler's words.
func unfit(pod *corev1.Pod, node *corev1.Node) string {
	match, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node)
	if err != nil || !match {
		return "node(s) didn't match Pod's node affinity/selector"
	}
	if node.Spec.Unschedulable && !slices.ContainsFunc(pod.Spec.Tolerations, toleratesCordon) {
		return "node(s) were unschedulable"
	}
	for resource, want := range podresources.PodRequests(pod, podresources.PodResourcesOptions{}) {
		if have := node.Status.Allocatable[resource]; want.Cmp(have) > 0 {
			return fmt.Sprintf("Insufficient %s", resource)
		}
	}
	return ""
}

// toleratesCordon holds for the pods of a DaemonSet, which run on a cordoned node.
func toleratesCordon(t corev1.Toleration) bool {
	return t.Key == corev1.TaintNodeUnschedulable
}

func (s *scheduler) markUnschedulable(ctx context.Context, pod *corev1.Pod, message string) error {
	p := pod.DeepCopy()
	if !setCondition(&p.Status, corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
		Reason: corev1.PodReasonUnschedulable, Message: message, ObservedGeneration: pod.Generation,
	}, time.Now()) {
		return nil
	}
	_, err := s.client.CoreV1().Pods(p.Namespace).UpdateStatus(ctx, p, metav1.UpdateOptions{})
	return err
}
