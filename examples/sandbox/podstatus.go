package main

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// imagePolicy lists substrings of image names that cannot be pulled, beside
// those that never can.
type imagePolicy []string

// missing tells whether an image cannot be pulled.
func (p imagePolicy) missing(image string) bool {
	if strings.Contains(image, "does-not-exist") || strings.HasSuffix(image, ":broken") {
		return true
	}
	return slices.ContainsFunc(p, func(s string) bool { return strings.Contains(image, s) })
}

// The reasons of waiting that people know.
const (
	reasonImagePull    = "ImagePullBackOff"
	reasonCrashLoop    = "CrashLoopBackOff"
	reasonInitializing = "PodInitializing"
)

// podStatus is what a kubelet would report of a pod at this time, and after how
// long that can change by itself. It depends on nothing else, except that times
// and conditions already reported are kept.
func podStatus(pod *corev1.Pod, images imagePolicy, now time.Time) (corev1.PodStatus, time.Duration) {
	status := *pod.Status.DeepCopy()
	if finished(status.Phase) {
		return status, 0
	}
	now = now.Truncate(time.Second) // the API's precision
	if status.StartTime == nil {
		status.StartTime = &metav1.Time{Time: now}
	}
	status.HostIP, status.HostIPs = nodeIP, []corev1.HostIP{{IP: nodeIP}}
	status.PodIP = podIP(string(pod.UID))
	if pod.Spec.HostNetwork {
		status.PodIP = nodeIP
	}
	status.PodIPs = []corev1.PodIP{{IP: status.PodIP}}
	status.ObservedGeneration = pod.Generation

	r := &evaluation{pod: pod, images: images, start: status.StartTime.Time, now: now}
	status.InitContainerStatuses = r.initContainers()
	status.ContainerStatuses = r.containers()
	status.Phase = r.phase(status.ContainerStatuses)
	setConditions(pod, &status, r.initialized, now)
	return status, r.again
}

// evaluation looks at the containers of one pod at one time.
type evaluation struct {
	pod         *corev1.Pod
	images      imagePolicy
	start, now  time.Time
	initialized bool
	initFailed  bool
	again       time.Duration
}

// initContainers runs the init containers, which take no time. The first that
// does not succeed holds back all behind it; sidecars stay running.
func (r *evaluation) initContainers() []corev1.ContainerStatus {
	r.initialized = true
	var all []corev1.ContainerStatus
	for _, c := range r.pod.Spec.InitContainers {
		if !r.initialized {
			all = append(all, r.waiting(c, reasonInitializing, ""))
			continue
		}
		sidecar := c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
		var s corev1.ContainerStatus
		switch b := behaviour(c); {
		case sidecar:
			s = r.container(c, corev1.RestartPolicyAlways)
			r.initialized = s.Started != nil && *s.Started
		case b.code == 0 && !r.images.missing(c.Image):
			s = r.exited(c, 0, r.start)
			s.Ready = true
		default:
			policy := r.pod.Spec.RestartPolicy
			if policy == corev1.RestartPolicyAlways {
				policy = corev1.RestartPolicyOnFailure
			}
			s = r.container(c, policy)
			r.initialized = false
			r.initFailed = s.State.Terminated != nil
		}
		all = append(all, s)
	}
	return all
}

func (r *evaluation) containers() []corev1.ContainerStatus {
	var all []corev1.ContainerStatus
	for _, c := range r.pod.Spec.Containers {
		if !r.initialized {
			all = append(all, r.waiting(c, reasonInitializing, ""))
			continue
		}
		all = append(all, r.container(c, r.pod.Spec.RestartPolicy))
	}
	return all
}

// container is the state of one container under a restart policy.
func (r *evaluation) container(c corev1.Container, policy corev1.RestartPolicy) corev1.ContainerStatus {
	if r.images.missing(c.Image) {
		return r.waiting(c, reasonImagePull, fmt.Sprintf("Back-off pulling image %q: ErrImagePull: %s: not found", c.Image, c.Image))
	}
	b := behaviour(c)
	if !b.ends && policy != corev1.RestartPolicyAlways {
		b.ends, b.after = true, defaultRuntime
	}
	end := r.start.Add(b.after)
	switch {
	case !b.ends || b.forever:
		return r.running(c)
	case r.now.Before(end):
		r.lookAgainAt(end)
		return r.running(c)
	case b.code == 0 && policy == corev1.RestartPolicyAlways:
		// A server that ends well after a while would be restarted; it is
		// simpler, and no less true, that it goes on.
		return r.running(c)
	case b.code == 0 || policy == corev1.RestartPolicyNever:
		return r.exited(c, b.code, end)
	default:
		return r.crashing(c, b.code, end)
	}
}

func (r *evaluation) lookAgainAt(t time.Time) {
	// The clock of a status has whole seconds; the wake-up must not be early.
	if d := t.Sub(r.now) + 50*time.Millisecond; r.again == 0 || d < r.again {
		r.again = d
	}
}

func (r *evaluation) status(c corev1.Container, state corev1.ContainerState) corev1.ContainerStatus {
	started := state.Running != nil
	return corev1.ContainerStatus{Name: c.Name, Image: c.Image, State: state, Started: &started}
}

func (r *evaluation) waiting(c corev1.Container, reason, message string) corev1.ContainerStatus {
	return r.status(c, corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}})
}

func (r *evaluation) running(c corev1.Container) corev1.ContainerStatus {
	s := r.status(c, corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Time{Time: r.start}}})
	s.ContainerID, s.ImageID = r.id(c), c.Image
	s.Ready = probeSucceeds(c.ReadinessProbe) && probeSucceeds(c.StartupProbe)
	started := probeSucceeds(c.StartupProbe)
	s.Started = &started
	return s
}

func (r *evaluation) exited(c corev1.Container, code int32, at time.Time) corev1.ContainerStatus {
	reason := "Completed"
	if code != 0 {
		reason = "Error"
	}
	s := r.status(c, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: code, Reason: reason, ContainerID: r.id(c),
		StartedAt: metav1.Time{Time: r.start}, FinishedAt: metav1.Time{Time: at},
	}})
	s.ContainerID, s.ImageID = r.id(c), c.Image
	return s
}

// maxRestarts is where a crashing container's count stops, so that an
// environment left broken does not write a status for ever. It is above a job's
// default backoffLimit of six.
const maxRestarts = 10

// crashing is a container that fails again each second.
func (r *evaluation) crashing(c corev1.Container, code int32, end time.Time) corev1.ContainerStatus {
	s := r.waiting(c, reasonCrashLoop, fmt.Sprintf("back-off restarting failed container=%s pod=%s_%s", c.Name, r.pod.Name, r.pod.Namespace))
	s.LastTerminationState = r.exited(c, code, end).State
	s.RestartCount = int32(min(1+r.now.Sub(end)/time.Second, maxRestarts))
	if s.RestartCount < maxRestarts {
		r.lookAgainAt(r.now.Add(time.Second))
	}
	s.ContainerID, s.ImageID = r.id(c), c.Image
	return s
}

func (r *evaluation) id(c corev1.Container) string {
	return "sandbox://" + string(r.pod.UID) + "/" + c.Name
}

// phase follows from the containers.
func (r *evaluation) phase(containers []corev1.ContainerStatus) corev1.PodPhase {
	if r.initFailed {
		return corev1.PodFailed
	}
	if !r.initialized {
		return corev1.PodPending
	}
	var waiting, running, failed int
	for _, c := range containers {
		switch s := c.State; {
		case s.Terminated != nil && s.Terminated.ExitCode != 0:
			failed++
		case s.Running != nil, s.Waiting != nil && s.Waiting.Reason == reasonCrashLoop:
			running++
		case s.Waiting != nil:
			waiting++
		}
	}
	switch {
	case waiting > 0:
		return corev1.PodPending
	case running > 0:
		return corev1.PodRunning
	case failed > 0:
		return corev1.PodFailed
	default:
		return corev1.PodSucceeded
	}
}

// terminated is the status of a pod whose containers were killed.
func terminated(pod *corev1.Pod, now time.Time) corev1.PodStatus {
	status := *pod.Status.DeepCopy()
	if finished(status.Phase) {
		return status
	}
	now = now.Truncate(time.Second)
	for i := range status.ContainerStatuses {
		c := &status.ContainerStatuses[i]
		if c.State.Terminated == nil {
			c.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				ExitCode: 137, Reason: "Error", FinishedAt: metav1.Time{Time: now}, ContainerID: c.ContainerID,
			}}
			c.Ready = false
		}
	}
	status.Phase = corev1.PodFailed
	setConditions(pod, &status, true, now)
	return status
}

func finished(p corev1.PodPhase) bool {
	return p == corev1.PodSucceeded || p == corev1.PodFailed
}

// podIP gives each pod an address of its own in 10.128.0.0/9, which is outside
// the Services' range. It is derived, not allocated: two pods in a thousand
// thousand sharing one does no harm where nothing is routed.
func podIP(uid string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(uid)) // a hash never fails
	n := h.Sum32()
	return netip.AddrFrom4([4]byte{10, 128 | byte(n>>16), byte(n >> 8), byte(n)}).String()
}
