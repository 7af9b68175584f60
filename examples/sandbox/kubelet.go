package main

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/record"
)

// kubelet reports pods as running without running them. What it reports follows
// from the pod's spec and the clock alone (see podStatus), so it keeps nothing
// that a restart could lose.
type kubelet struct {
	client kubernetes.Interface
	pods   corelisters.PodLister
	images imagePolicy
	events record.EventRecorder
}

func newKubelet(ctx context.Context, client kubernetes.Interface, pods corelisters.PodLister, images imagePolicy) *kubelet {
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&corev1client.EventSinkImpl{Interface: client.CoreV1().Events("")})
	return &kubelet{
		client: client, pods: pods, images: images,
		events: broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "kubelet", Host: nodeName}),
	}
}

func (k *kubelet) reconcile(ctx context.Context, namespace, name string) (time.Duration, error) {
	pod, err := k.pods.Pods(namespace).Get(name)
	if err != nil || pod.Spec.NodeName == "" {
		return 0, err
	}
	if pod.DeletionTimestamp != nil {
		return 0, k.remove(ctx, pod)
	}
	status, again := podStatus(pod, k.images, time.Now())
	return again, k.report(ctx, pod, status)
}

// report writes a status when it differs, and tells about trouble in events as a
// kubelet does.
func (k *kubelet) report(ctx context.Context, pod *corev1.Pod, status corev1.PodStatus) error {
	if equality.Semantic.DeepEqual(pod.Status, status) {
		return nil
	}
	p := pod.DeepCopy()
	p.Status = status
	if _, err := k.client.CoreV1().Pods(p.Namespace).UpdateStatus(ctx, p, metav1.UpdateOptions{}); err != nil {
		return err
	}
	before := troubles(pod.Status)
	for _, t := range troubles(status) {
		if !slices.Contains(before, t) {
			k.events.Event(pod, corev1.EventTypeWarning, t.reason, t.message)
		}
	}
	return nil
}

// remove ends a pod that is being deleted, at once: nothing runs that would need
// its grace period.
func (k *kubelet) remove(ctx context.Context, pod *corev1.Pod) error {
	if len(pod.Finalizers) > 0 {
		// Whoever holds the pod, such as the job controller, waits for its end.
		if err := k.report(ctx, pod, terminated(pod, time.Now())); err != nil {
			return err
		}
		if pod.DeletionGracePeriodSeconds != nil && *pod.DeletionGracePeriodSeconds == 0 {
			return nil
		}
	}
	now := int64(0)
	return k.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &now,
		Preconditions:      &metav1.Preconditions{UID: &pod.UID},
	})
}

// trouble is what an event reports.
type trouble struct{ reason, message string }

// troubles lists what keeps a pod's containers from running.
func troubles(status corev1.PodStatus) []trouble {
	var all []trouble
	for _, c := range slices.Concat(status.InitContainerStatuses, status.ContainerStatuses) {
		switch w := c.State.Waiting; {
		case w == nil:
		case w.Reason == reasonImagePull:
			all = append(all, trouble{"Failed", w.Message})
		case w.Reason == reasonCrashLoop:
			all = append(all, trouble{"BackOff", w.Message})
		}
		if r := c.State.Running; r != nil && !c.Ready {
			all = append(all, trouble{"Unhealthy", "Readiness probe failed: " + c.Name})
		}
	}
	return all
}
