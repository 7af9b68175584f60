package kube

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/sources"
)

// scalerKind is a kind whose objects change fields of a workload all the time.
type scalerKind struct {
	kind schema.GroupKind
	// target is where an object names its workload.
	target []string
	// updates reports whether an object does change anything.
	updates func(*unstructured.Unstructured) bool
	// resources: it sets containers' resources, else the number of replicas.
	resources bool
}

var scalerKinds = []scalerKind{
	{kind: schema.GroupKind{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}, target: []string{"spec", "scaleTargetRef"}},
	{kind: schema.GroupKind{Group: "keda.sh", Kind: "ScaledObject"}, target: []string{"spec", "scaleTargetRef"}},
	{
		kind: schema.GroupKind{Group: "autoscaling.k8s.io", Kind: "VerticalPodAutoscaler"}, target: []string{"spec", "targetRef"},
		resources: true, updates: updatesPods,
	},
}

// updatesPods: a VerticalPodAutoscaler without a mode updates.
func updatesPods(u *unstructured.Unstructured) bool {
	mode, _, _ := unstructured.NestedString(u.Object, "spec", "updatePolicy", "updateMode")
	return mode != "Off" && mode != "Initial"
}

// scalers knows which workloads autoscalers work on. Of an autoscaler it keeps
// no more than its name and what it targets.
type scalers struct {
	mu sync.Mutex
	// targets are by autoscaler, counts by workload.
	targets map[sources.ID]scaled
	counts  map[scaled]int
	// asked is when the cluster was last asked for kinds that it did not serve.
	asked time.Time
	// touched is called without locks for a workload that got or lost one.
	touched func(sources.ID)
}

// scaled is a workload, and what of it is scaled.
type scaled struct {
	workload  sources.ID
	resources bool
}

func newScalers(touched func(sources.ID)) *scalers {
	return &scalers{targets: map[sources.ID]scaled{}, counts: map[scaled]int{}, touched: touched}
}

// yields are the fields of an item that autoscalers set.
func (s *scalers) yields(item sources.Item) []string {
	s.mu.Lock()
	replicas, resources := s.counts[scaled{item.ID, false}] > 0, s.counts[scaled{item.ID, true}] > 0
	s.mu.Unlock()
	if !replicas && !resources {
		return nil
	}
	var object map[string]any
	if decode(item.Body, &object) != nil {
		return nil
	}
	var out []string
	if replicas && kubelive.Has(object, ".spec.replicas") {
		out = append(out, ".spec.replicas")
	}
	if !resources {
		return out
	}
	for _, kind := range []string{"containers", "initContainers"} {
		list, _, _ := unstructured.NestedFieldNoCopy(object, "spec", "template", "spec", kind)
		elements, _ := list.([]any)
		for _, e := range elements {
			m, _ := e.(map[string]any)
			if _, has := m["resources"]; has {
				out = append(out, fmt.Sprintf(".spec.template.spec.%s[name=%v].resources", kind, m["name"]))
			}
		}
	}
	return out
}

// set notes what an autoscaler targets; a zero target is none.
func (s *scalers) set(id sources.ID, to scaled) {
	s.mu.Lock()
	from := s.targets[id]
	if from == to {
		s.mu.Unlock()
		return
	}
	if from.workload.Name != "" {
		if s.counts[from]--; s.counts[from] == 0 {
			delete(s.counts, from)
		}
		delete(s.targets, id)
	}
	if to.workload.Name != "" {
		s.counts[to]++
		s.targets[id] = to
	}
	s.mu.Unlock()
	for _, w := range []scaled{from, to} {
		if w.workload.Name != "" {
			s.touched(w.workload)
		}
	}
}

// targetOf is what an autoscaler works on.
func (k scalerKind) targetOf(u *unstructured.Unstructured) scaled {
	ref, _, _ := unstructured.NestedStringMap(map[string]any{"ref": onlyText(u.Object, k.target...)}, "ref")
	if ref["name"] == "" || u.GetDeletionTimestamp() != nil || k.updates != nil && !k.updates(u) {
		return scaled{}
	}
	gv, err := schema.ParseGroupVersion(ref["apiVersion"])
	if err != nil {
		return scaled{}
	}
	if ref["kind"] == "" {
		ref["kind"], gv.Group = "Deployment", "apps" // KEDA's default
	}
	return scaled{
		workload:  sources.ID{Group: gv.Group, Kind: ref["kind"], Namespace: u.GetNamespace(), Name: ref["name"]},
		resources: k.resources,
	}
}

// onlyText is a map's entries that are strings.
func onlyText(object map[string]any, path ...string) map[string]any {
	m, _, _ := unstructured.NestedMap(object, path...)
	out := map[string]any{}
	for k, v := range m {
		if text, ok := v.(string); ok {
			out[k] = text
		}
	}
	return out
}

// watchScalers sees that the autoscalers which the cluster serves are watched.
// It costs no request where they are already, and where there are none. Its error
// means that autoscalers may be there that are not known.
func (t *Target) watchScalers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, scalersWait)
	defer cancel()
	var problems []error
	find := t.cluster.Mapper.Peek
	if t.scalers.mayAsk() {
		find = func(gk schema.GroupKind) (kubelive.Resource, error) { return t.cluster.Mapper.Resource(gk) }
	}
	for _, k := range scalerKinds {
		r, err := find(k.kind)
		if err != nil {
			continue // not served here, or not to be found out now
		}
		for _, ns := range t.listScopes(r) {
			err := t.objects.Ensure(ctx, kubelive.ObjectWatch{
				Resource: r, Namespace: ns,
				Reduce: func(u *unstructured.Unstructured) any { return k.targetOf(u) },
				Seen: func(name types.NamespacedName, v any) {
					to, _ := v.(scaled)
					t.scalers.set(k.id(name), to)
				},
				Gone: func(name types.NamespacedName) { t.scalers.set(k.id(name), scaled{}) },
			})
			t.tellOnce("autoscalers of kind "+k.kind.String(), err)
			if err != nil && !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) {
				problems = append(problems, err)
			}
		}
	}
	return errors.Join(problems...)
}

// scalersWait bounds the wait for the first lists of autoscalers.
const scalersWait = 20 * time.Second

// askEvery bounds how often the cluster is asked whether it has got autoscalers of
// a kind that it did not serve.
const askEvery = 5 * time.Minute

func (s *scalers) mayAsk() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.asked) < askEvery {
		return false
	}
	s.asked = time.Now()
	return true
}

func (k scalerKind) id(n types.NamespacedName) sources.ID {
	return sources.ID{Group: k.kind.Group, Kind: k.kind.Kind, Namespace: n.Namespace, Name: n.Name}
}
