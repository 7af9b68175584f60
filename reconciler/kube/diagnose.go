package kube

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/sources"
)

// The cause of an unready object is looked for a moment after it became unready,
// so that what just starts costs nothing, and then more and more rarely.
const (
	firstLook   = time.Second
	longestLook = 5 * time.Minute
	// maxPods bounds how many pods are looked at for one cause.
	maxPods = 50
	// maxCauses bounds of how many objects of one environment the cause is looked
	// for at a time: where a hundred fail, it is the same as a rule, and a rollout of
	// a thousand is no reason for a thousand requests.
	maxCauses = 16
	// lookPause is the least time between two looks at what is unready.
	lookPause = 200 * time.Millisecond
)

var pods = schema.GroupVersionResource{Version: "v1", Resource: "pods"}

// withPods are the kinds whose trouble is found in their pods.
var withPods = map[schema.GroupKind]bool{
	{Kind: "Pod"}: true, {Group: "batch", Kind: "Job"}: true,
	{Group: "apps", Kind: "Deployment"}: true, {Group: "apps", Kind: "StatefulSet"}: true,
	{Group: "apps", Kind: "DaemonSet"}: true, {Group: "apps", Kind: "ReplicaSet"}: true,
}

// diagnose looks for the causes of unready objects until ctx ends. It rests while
// everything is ready.
func (t *Target) diagnose(ctx context.Context) {
	for ctx.Err() == nil {
		due, next, any := t.health.due(time.Now())
		for _, id := range due {
			if !t.health.isUnready(id) {
				continue // it has got well while others were looked at
			}
			bounded, cancel := context.WithTimeout(ctx, t.opts.RequestTimeout)
			t.health.found(id, t.rootCause(bounded, id))
			cancel()
		}
		if len(due) > 0 {
			continue
		}
		timer := time.NewTimer(time.Until(next))
		if !any {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
		case <-t.health.wake:
			pause(ctx, lookPause)
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (h *health) isUnready(id sources.ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.objects[id]
	return c != nil && !c.isReady()
}

// due are the unready objects whose cause it is time to look for, and when the
// next is.
func (h *health) due(now time.Time) (due []sources.ID, next time.Time, any bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, ids := range h.ailing {
		for _, id := range h.foremost(ids) {
			c := h.objects[id]
			if !c.next.After(now) {
				due = append(due, id)
				continue
			}
			if !any || c.next.Before(next) {
				next, any = c.next, true
			}
		}
	}
	return due, next, any
}

// foremost are those of which the cause is looked for: the failed first, then those
// that have been unready for longest. It needs h.mu.
func (h *health) foremost(ids map[sources.ID]bool) []sources.ID {
	out := slices.Collect(maps.Keys(ids))
	if len(out) <= maxCauses {
		return out
	}
	slices.SortFunc(out, func(x, y sources.ID) int {
		a, b := h.objects[x], h.objects[y]
		if fa, fb := a.status == status.FailedStatus, b.status == status.FailedStatus; fa != fb {
			if fa {
				return -1
			}
			return 1
		}
		return cmp.Or(a.since.Compare(b.since), x.Compare(y))
	})
	return out[:maxCauses]
}

// note keeps who is ailing up to date: of which objects the cause can be looked
// for. It needs h.mu; old or c is nil where there was or is none.
func (h *health) note(id sources.ID, old, c *condition) {
	if !withPods[kubelive.GroupKind(id)] {
		return
	}
	if old != nil && (c == nil || c.isReady() || c.environment != old.environment) {
		if delete(h.ailing[old.environment], id); len(h.ailing[old.environment]) == 0 {
			delete(h.ailing, old.environment)
		}
	}
	if c == nil || c.isReady() {
		return
	}
	if h.ailing[c.environment] == nil {
		h.ailing[c.environment] = map[sources.ID]bool{}
	}
	h.ailing[c.environment][id] = true
}

// found notes a cause; an empty one is none that could be found.
func (h *health) found(id sources.ID, cause string) {
	h.mu.Lock()
	c := h.objects[id]
	if c == nil {
		h.mu.Unlock()
		return
	}
	changed := c.cause != cause
	c.cause = cause
	c.next = time.Now().Add(min(firstLook<<min(c.looks, 10), longestLook))
	c.looks++
	environment := c.environment
	h.mu.Unlock()
	if changed {
		h.tell(environment)
	}
}

// rootCause names what keeps a workload from working, by its pods; empty when
// there is nothing to be said.
func (t *Target) rootCause(ctx context.Context, id sources.ID) string {
	gk := kubelive.GroupKind(id)
	r, err := t.cluster.Mapper.Resource(gk)
	if err != nil || !withPods[gk] {
		return ""
	}
	live, err := t.cluster.Get(ctx, r, id)
	if err != nil {
		return ""
	}
	if id.Kind == "Pod" {
		return podCause(live)
	}
	selector, err := selectorOf(live)
	if err != nil {
		return ""
	}
	list, err := t.cluster.Objects.Resource(pods).Namespace(id.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector, Limit: maxPods})
	if err != nil {
		return ""
	}
	slices.SortFunc(list.Items, func(a, b unstructured.Unstructured) int { // the newest first: the old ones may well be ready
		return b.GetCreationTimestamp().Compare(a.GetCreationTimestamp().Time)
	})
	worst, rank := "", 0
	for i := range list.Items {
		pod := &list.Items[i]
		if !ownedBy(pod, live) {
			continue
		}
		if cause, r := podTrouble(pod); r > rank {
			worst, rank = cause, r
		}
	}
	if worst == "" {
		worst = failureCondition(live)
	}
	return worst
}

func selectorOf(live *unstructured.Unstructured) (string, error) {
	raw, _, _ := unstructured.NestedMap(live.Object, "spec", "selector")
	var s metav1.LabelSelector
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &s); err != nil {
		return "", err
	}
	selector, err := metav1.LabelSelectorAsSelector(&s)
	if err != nil || selector.Empty() || selector.String() == labels.Nothing().String() {
		return "", fmt.Errorf("%s selects no pods", live.GetName())
	}
	return selector.String(), nil
}

// ownedBy reports whether a pod is a workload's: by owner, or for a Deployment by
// one of its ReplicaSets, which are named after it.
func ownedBy(pod, workload *unstructured.Unstructured) bool {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return false
	}
	if owner.UID == workload.GetUID() {
		return true
	}
	return workload.GetKind() == "Deployment" && owner.Kind == "ReplicaSet" && strings.HasPrefix(owner.Name, workload.GetName()+"-")
}

// failureCondition is what a workload says of pods that it could not make.
func failureCondition(live *unstructured.Unstructured) string {
	for _, c := range conditionsOf(live) {
		if c.Type == "ReplicaFailure" && c.Status == "True" {
			return shorten(live.GetKind() + " " + live.GetName() + ": " + c.Reason + ": " + c.Message)
		}
	}
	return ""
}

func podCause(pod *unstructured.Unstructured) string {
	cause, _ := podTrouble(pod)
	return cause
}

// podTrouble says what is wrong with a pod, and how telling that is; 0 is nothing.
func podTrouble(pod *unstructured.Unstructured) (string, int) {
	if pod.GetDeletionTimestamp() != nil {
		return "", 0
	}
	name := "Pod " + pod.GetName() + ": "
	best, rank := "", 0
	better := func(text string, r int) {
		if r > rank {
			best, rank = shorten(name+text), r
		}
	}
	for _, field := range []string{"initContainerStatuses", "containerStatuses"} {
		list, _, _ := unstructured.NestedSlice(pod.Object, "status", field)
		for _, e := range list {
			if c, ok := e.(map[string]any); ok {
				better(containerTrouble(c))
			}
		}
	}
	phase, _, _ := unstructured.NestedString(pod.Object, "status", "phase")
	if phase == "Failed" {
		reason, _, _ := unstructured.NestedString(pod.Object, "status", "reason")
		message, _, _ := unstructured.NestedString(pod.Object, "status", "message")
		better(strings.Trim("failed: "+reason+": "+message, ": "), 3)
	}
	for _, c := range conditionsOf(pod) {
		if c.Type == "PodScheduled" && c.Status == "False" {
			better(c.Reason+": "+c.Message, 4)
		}
	}
	return best, rank
}

// containerTrouble says what is wrong with a container.
func containerTrouble(c map[string]any) (string, int) {
	text := func(path ...string) string { s, _, _ := unstructured.NestedString(c, path...); return s }
	name := text("name")
	code := func(path ...string) int64 { n, _, _ := unstructured.NestedInt64(c, path...); return n }
	reason := text("state", "waiting", "reason")
	switch {
	case reason == "CrashLoopBackOff":
		return fmt.Sprintf("CrashLoopBackOff: container %s exited with code %d; %s", name, code("lastState", "terminated", "exitCode"), text("state", "waiting", "message")), 5
	case reason != "" && reason != "ContainerCreating" && reason != "PodInitializing":
		return strings.TrimSuffix(reason+": "+text("state", "waiting", "message"), ": "), 5
	case code("state", "terminated", "exitCode") != 0:
		return fmt.Sprintf("container %s exited with code %d: %s %s", name, code("state", "terminated", "exitCode"), text("state", "terminated", "reason"), text("state", "terminated", "message")), 4
	}
	if ready, found, _ := unstructured.NestedBool(c, "ready"); found && !ready {
		if _, running, _ := unstructured.NestedMap(c, "state", "running"); running {
			return "container " + name + " is running and not ready", 1
		}
	}
	return "", 0
}
