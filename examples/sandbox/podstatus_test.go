package main

import (
	"io"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPodStatusFollowsFromSpecAndClock(t *testing.T) {
	always, never, onFailure := corev1.RestartPolicyAlways, corev1.RestartPolicyNever, corev1.RestartPolicyOnFailure
	for name, test := range map[string]struct {
		policy  corev1.RestartPolicy
		image   string
		command []string
		init    []string
		ready   []string
		age     time.Duration
		phase   corev1.PodPhase
		isReady corev1.ConditionStatus
		reason  string // of the container's waiting
		again   bool   // it changes by itself
	}{
		"a server runs":                  {policy: always, phase: corev1.PodRunning, isReady: corev1.ConditionTrue},
		"a server that sleeps runs on":   {policy: always, command: []string{"sleep", "5"}, age: time.Hour, phase: corev1.PodRunning, isReady: corev1.ConditionTrue},
		"an image is missing":            {policy: always, image: "x:broken", phase: corev1.PodPending, isReady: corev1.ConditionFalse, reason: reasonImagePull},
		"an image is refused by flag":    {policy: never, image: "bad.example/x", phase: corev1.PodPending, isReady: corev1.ConditionFalse, reason: reasonImagePull},
		"a server crashes":               {policy: always, command: []string{"sh", "-c", "exit 1"}, phase: corev1.PodRunning, isReady: corev1.ConditionFalse, reason: reasonCrashLoop, again: true},
		"a server has crashed for long":  {policy: always, command: []string{"/bin/false"}, age: time.Hour, phase: corev1.PodRunning, isReady: corev1.ConditionFalse, reason: reasonCrashLoop},
		"a probe fails":                  {policy: always, ready: []string{"false"}, phase: corev1.PodRunning, isReady: corev1.ConditionFalse},
		"a job's pod runs first":         {policy: never, phase: corev1.PodRunning, isReady: corev1.ConditionTrue, again: true},
		"a job's pod succeeds":           {policy: never, age: time.Second, phase: corev1.PodSucceeded, isReady: corev1.ConditionFalse},
		"a job's pod takes its time":     {policy: never, command: []string{"sleep 30"}, age: 29 * time.Second, phase: corev1.PodRunning, isReady: corev1.ConditionTrue, again: true},
		"a job's pod never ends":         {policy: never, command: []string{"sleep", "infinity"}, age: time.Hour, phase: corev1.PodRunning, isReady: corev1.ConditionTrue},
		"a job's pod fails":              {policy: never, command: []string{"sh", "-c", "sleep 1 && exit 4"}, age: time.Second, phase: corev1.PodFailed, isReady: corev1.ConditionFalse},
		"a job's pod is restarted":       {policy: onFailure, command: []string{"false"}, age: 2 * time.Second, phase: corev1.PodRunning, isReady: corev1.ConditionFalse, reason: reasonCrashLoop, again: true},
		"an init container fails":        {policy: always, init: []string{"false"}, phase: corev1.PodPending, isReady: corev1.ConditionFalse, reason: reasonInitializing, again: true},
		"an init container fails a job":  {policy: never, init: []string{"false"}, phase: corev1.PodFailed, isReady: corev1.ConditionFalse, reason: reasonInitializing},
		"an init container is no hurdle": {policy: always, init: []string{"sleep", "5"}, phase: corev1.PodRunning, isReady: corev1.ConditionTrue},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u"}}
			pod.Status.StartTime = &metav1.Time{Time: now.Truncate(time.Second).Add(-test.age)}
			c := corev1.Container{Name: "c", Image: test.image, Command: test.command}
			if test.ready != nil {
				c.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: test.ready}}}
			}
			pod.Spec = corev1.PodSpec{RestartPolicy: test.policy, Containers: []corev1.Container{c}}
			if test.init != nil {
				pod.Spec.InitContainers = []corev1.Container{{Name: "i", Command: test.init}}
			}
			status, again := podStatus(pod, imagePolicy{"bad.example"}, now)
			if status.Phase != test.phase {
				t.Errorf("phase %s, want %s", status.Phase, test.phase)
			}
			if got := conditionOf(&status, corev1.PodReady).Status; got != test.isReady {
				t.Errorf("ready %s, want %s", got, test.isReady)
			}
			reason := ""
			if w := status.ContainerStatuses[0].State.Waiting; w != nil {
				reason = w.Reason
			}
			if reason != test.reason {
				t.Errorf("waiting for %q, want %q", reason, test.reason)
			}
			if (again > 0) != test.again {
				t.Errorf("looks again after %s, want that to be %v", again, test.again)
			}
			pod.Status = status
			if second, _ := podStatus(pod, imagePolicy{"bad.example"}, now); second.String() != status.String() {
				t.Errorf("not stable:\n%s\n%s", &status, &second)
			}
		})
	}
}

func TestStandardInputsEndStopsTheSandbox(t *testing.T) {
	r, w := io.Pipe()
	ctx := untilStdinCloses(t.Context(), r)
	if _, err := w.Write([]byte("ignored")); err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatal("it stops although standard input is open")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done() // Or the test times out.
}
