package main

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// setConditions derives a pod's conditions from its containers.
func setConditions(pod *corev1.Pod, status *corev1.PodStatus, initialized bool, now time.Time) {
	ready := corev1.PodCondition{Status: corev1.ConditionTrue}
	var unready []string
	for _, c := range status.ContainerStatuses {
		if !c.Ready {
			unready = append(unready, c.Name)
		}
	}
	switch {
	case finished(status.Phase):
		ready.Status, ready.Reason = corev1.ConditionFalse, "PodCompleted"
	case len(unready) > 0:
		ready.Status, ready.Reason = corev1.ConditionFalse, "ContainersNotReady"
		ready.Message = "containers with unready status: [" + strings.Join(unready, " ") + "]"
	}
	set := func(kind corev1.PodConditionType, c corev1.PodCondition) {
		c.Type, c.ObservedGeneration = kind, pod.Generation
		setCondition(status, c, now)
	}
	set(corev1.PodReadyToStartContainers, corev1.PodCondition{Status: truth(!finished(status.Phase))})
	set(corev1.PodInitialized, corev1.PodCondition{Status: truth(initialized)})
	set(corev1.ContainersReady, ready)
	set(corev1.PodReady, withGates(pod, status, ready))
}

// withGates is readiness with the conditions that others have to set.
func withGates(pod *corev1.Pod, status *corev1.PodStatus, ready corev1.PodCondition) corev1.PodCondition {
	for _, gate := range pod.Spec.ReadinessGates {
		if ready.Status != corev1.ConditionTrue {
			break
		}
		if c := conditionOf(status, gate.ConditionType); c == nil || c.Status != corev1.ConditionTrue {
			ready.Status, ready.Reason = corev1.ConditionFalse, "ReadinessGatesNotReady"
			ready.Message = "condition " + string(gate.ConditionType) + " is not true"
		}
	}
	return ready
}

// setCondition sets one condition, keeping the time of its last transition when
// it already had that status. It tells whether anything changed.
func setCondition(status *corev1.PodStatus, c corev1.PodCondition, now time.Time) bool {
	c.LastTransitionTime = metav1.Time{Time: now.Truncate(time.Second)}
	old := conditionOf(status, c.Type)
	if old == nil {
		status.Conditions = append(status.Conditions, c)
		return true
	}
	if old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
	}
	c.LastProbeTime = old.LastProbeTime
	changed := *old != c
	*old = c
	return changed
}

func conditionOf(status *corev1.PodStatus, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range status.Conditions {
		if status.Conditions[i].Type == kind {
			return &status.Conditions[i]
		}
	}
	return nil
}

func truth(b bool) corev1.ConditionStatus {
	if b {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}
