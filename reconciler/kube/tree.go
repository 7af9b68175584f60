package kube

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"golang.org/x/sync/singleflight"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

const (
	// treeFresh is how long a tree answers for whoever asks for it, and keptTrees how
	// many are kept.
	treeFresh = 5 * time.Second
	keptTrees = 64
	// maxParts bounds one list of what belongs to an object.
	maxParts = 200
	// treeDepth is how deep things belong to each other: a CronJob has Jobs, and they
	// have pods.
	treeDepth = 3
)

// trees are those that were read just now.
type trees struct {
	reads singleflight.Group

	mu   sync.Mutex
	kept map[sources.ID]reconciler.Tree
}

func (t *trees) get(id sources.ID, now time.Time) (reconciler.Tree, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one, ok := t.kept[id]
	return one, ok && now.Sub(one.AsOf) < treeFresh
}

func (t *trees) put(id sources.ID, one reconciler.Tree) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for other, kept := range t.kept {
		if one.AsOf.Sub(kept.AsOf) >= treeFresh {
			delete(t.kept, other)
		}
	}
	if t.kept == nil {
		t.kept = map[sources.ID]reconciler.Tree{}
	}
	if len(t.kept) < keptTrees {
		t.kept[id] = one
	}
}

// Tree implements reconciler.TreeDriver: it reads an object and lists what its
// controllers made of it, in at most three requests, once for all who ask within
// seconds.
func (t *Target) Tree(ctx context.Context, id sources.ID) (reconciler.Tree, error) {
	if one, ok := t.trees.get(id, time.Now()); ok {
		return one, nil
	}
	one, err, _ := t.trees.reads.Do(id.String(), func() (any, error) {
		// Who asked first may leave, and others wait for the same.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.opts.RequestTimeout)
		defer cancel()
		if err := t.slots.acquire(ctx, ""); err != nil {
			return reconciler.Tree{}, fmt.Errorf("read %s: %w", id, err)
		}
		defer t.slots.release()
		one, err := t.readTree(ctx, id)
		if err == nil {
			t.trees.put(id, one)
		}
		return one, err
	})
	return one.(reconciler.Tree), err
}

// readTree reads one object and what belongs to it.
func (t *Target) readTree(ctx context.Context, id sources.ID) (reconciler.Tree, error) {
	out := reconciler.Tree{Part: reconciler.Part{Object: id, Health: reconciler.HealthUnknown}, AsOf: time.Now()}
	r, err := t.cluster.Mapper.Resource(kubelive.GroupKind(id))
	if err != nil {
		return out, fmt.Errorf("read %s: %w", id, err)
	}
	live, err := t.cluster.Get(ctx, r, id)
	switch {
	case apierrors.IsNotFound(err):
		out.Why = "is not there"
		return out, nil
	case err != nil:
		return out, fmt.Errorf("read %s: %w", id, err)
	}
	b, lost := branches{}, false
	for _, l := range partsOf(live) {
		list, err := t.cluster.Objects.Resource(l.resource).Namespace(live.GetNamespace()).List(ctx, metav1.ListOptions{LabelSelector: l.selector, Limit: maxParts})
		if err != nil {
			lost = lost || l.resource == replicaSets
			out.Problems = append(out.Problems, shorten(fmt.Sprintf("list %s in %s: %v", l.resource.Resource, live.GetNamespace(), err)))
			continue
		}
		out.Cut = out.Cut || list.GetContinue() != ""
		b.add(list.Items)
		for i := range list.Items {
			if lost && ownedBy(&list.Items[i], live) { // by way of a ReplicaSet that cannot be read
				b[live.GetUID()] = append(b[live.GetUID()], &list.Items[i])
			}
		}
	}
	out.Part = t.part(live, b, 0)
	out.Object = id
	return out, nil
}

// partList is a list of what may belong to an object.
type partList struct {
	resource schema.GroupVersionResource
	selector string
}

var (
	replicaSets    = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "replicasets"}
	jobs           = schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}
	endpointSlices = schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}
)

// partsOf are the lists in which the parts of an object are, the nearest first. Of
// kinds that are not known here there are none.
func partsOf(live *unstructured.Unstructured) []partList {
	gk := live.GroupVersionKind().GroupKind()
	switch {
	case gk == schema.GroupKind{Group: "batch", Kind: "CronJob"}:
		return []partList{{resource: jobs}, {pods, "batch.kubernetes.io/job-name"}}
	case gk == schema.GroupKind{Kind: "Service"}:
		return []partList{{endpointSlices, "kubernetes.io/service-name=" + live.GetName()}}
	case gk.Kind == "Pod" || !withPods[gk]:
		return nil
	}
	selector, err := selectorOf(live)
	switch {
	case err != nil: // it selects nothing, so that nothing is its own
		return nil
	case gk.Kind == "Deployment":
		return []partList{{replicaSets, selector}, {pods, selector}}
	}
	return []partList{{pods, selector}}
}

// branches are things by who owns them.
type branches map[types.UID][]*unstructured.Unstructured

func (b branches) add(list []unstructured.Unstructured) {
	for i := range list {
		for _, o := range list[i].GetOwnerReferences() {
			b[o.UID] = append(b[o.UID], &list[i])
		}
	}
}

// part is a thing with what belongs to it.
func (t *Target) part(u *unstructured.Unstructured, b branches, depth int) reconciler.Part {
	out := reconciler.Part{Object: idOf(u), Created: u.GetCreationTimestamp().Time}
	switch u.GetKind() {
	case "Pod":
		podPart(u, &out)
	case "EndpointSlice":
		slicePart(u, &out)
	default:
		c := t.health.judge(u)
		out.Health, out.Why = healthWord(c.status), c.why
		if cause := failureCondition(u); cause != "" {
			out.Health, out.Why = reconciler.HealthFailed, cause
		}
	}
	if depth == treeDepth {
		return out
	}
	for _, child := range b[u.GetUID()] {
		p := t.part(child, b, depth+1)
		if child.GetKind() == "ReplicaSet" && len(p.Parts) == 0 && wantsNone(child) {
			continue // an older revision's, kept to go back to
		}
		out.Restarts += p.Restarts
		out.Parts = append(out.Parts, p)
	}
	slices.SortFunc(out.Parts, worstFirst)
	return out
}

func wantsNone(set *unstructured.Unstructured) bool {
	n, found, err := unstructured.NestedInt64(set.Object, "spec", "replicas")
	return err == nil && found && n == 0
}

func worstFirst(a, b reconciler.Part) int {
	rank := map[reconciler.Health]int{reconciler.HealthFailed: 0, reconciler.HealthProgressing: 1, reconciler.HealthUnknown: 2, reconciler.HealthReady: 3}
	return cmp.Or(rank[a.Health]-rank[b.Health], b.Created.Compare(a.Created), a.Object.Compare(b.Object))
}

func healthWord(s status.Status) reconciler.Health {
	switch s {
	case status.CurrentStatus:
		return reconciler.HealthReady
	case status.FailedStatus:
		return reconciler.HealthFailed
	case status.UnknownStatus:
		return reconciler.HealthUnknown
	}
	return reconciler.HealthProgressing
}

// failing is from where on a pod's trouble does not end by waiting.
const failing = 3

// podPart says how a pod works.
func podPart(pod *unstructured.Unstructured, out *reconciler.Part) {
	out.Where, _, _ = unstructured.NestedString(pod.Object, "spec", "nodeName")
	for _, field := range []string{"initContainerStatuses", "containerStatuses"} {
		list, _, _ := unstructured.NestedSlice(pod.Object, "status", field)
		for _, e := range list {
			if c, ok := e.(map[string]any); ok {
				n, _, _ := unstructured.NestedInt64(c, "restartCount")
				out.Restarts += int(n)
			}
		}
	}
	phase, _, _ := unstructured.NestedString(pod.Object, "status", "phase")
	trouble, rank := podTrouble(pod)
	trouble = strings.TrimPrefix(trouble, "Pod "+pod.GetName()+": ")
	ready := slices.ContainsFunc(conditionsOf(pod), func(c statusCondition) bool { return c.Type == "Ready" && c.Status == "True" })
	switch {
	case pod.GetDeletionTimestamp() != nil:
		out.Health, out.Why = reconciler.HealthProgressing, "is being deleted"
	case phase == "Succeeded":
		out.Health, out.Why = reconciler.HealthReady, "has ended"
	case ready:
		out.Health = reconciler.HealthReady
	case rank >= failing:
		out.Health, out.Why = reconciler.HealthFailed, trouble
	default:
		out.Health, out.Why = reconciler.HealthProgressing, cmp.Or(trouble, "is "+strings.ToLower(cmp.Or(phase, "pending")))
	}
}

// slicePart counts the endpoints of a Service that are ready.
func slicePart(slice *unstructured.Unstructured, out *reconciler.Part) {
	list, _, _ := unstructured.NestedSlice(slice.Object, "endpoints")
	ready := 0
	for _, e := range list {
		if m, ok := e.(map[string]any); ok {
			if is, found, _ := unstructured.NestedBool(m, "conditions", "ready"); is || !found {
				ready++
			}
		}
	}
	out.Health, out.Why = reconciler.HealthReady, fmt.Sprintf("%d of %d endpoints are ready", ready, len(list))
	if ready == 0 {
		out.Health = reconciler.HealthProgressing
	}
}
