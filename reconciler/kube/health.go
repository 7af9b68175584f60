package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// withoutStatus are the kinds that work as soon as they are there. All others
// are watched in full while an environment has them.
var withoutStatus = map[schema.GroupKind]bool{
	{Kind: "ConfigMap"}: true, {Kind: "Secret"}: true, {Kind: "ServiceAccount"}: true, {Kind: "Namespace"}: true,
	{Kind: "LimitRange"}: true, {Kind: "ResourceQuota"}: true, {Kind: "Endpoints"}: true, {Kind: "PodTemplate"}: true,
	{Group: "rbac.authorization.k8s.io", Kind: "Role"}:                                true,
	{Group: "rbac.authorization.k8s.io", Kind: "RoleBinding"}:                         true,
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole"}:                         true,
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRoleBinding"}:                  true,
	{Group: "networking.k8s.io", Kind: "NetworkPolicy"}:                               true,
	{Group: "networking.k8s.io", Kind: "IngressClass"}:                                true,
	{Group: "networking.k8s.io", Kind: "Ingress"}:                                     true,
	{Group: "scheduling.k8s.io", Kind: "PriorityClass"}:                               true,
	{Group: "storage.k8s.io", Kind: "StorageClass"}:                                   true,
	{Group: "node.k8s.io", Kind: "RuntimeClass"}:                                      true,
	{Group: "coordination.k8s.io", Kind: "Lease"}:                                     true,
	{Group: "discovery.k8s.io", Kind: "EndpointSlice"}:                                true,
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingWebhookConfiguration"}:   true,
	{Group: "admissionregistration.k8s.io", Kind: "MutatingWebhookConfiguration"}:     true,
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicyBinding"}: true,
	{Group: "admissionregistration.k8s.io", Kind: "MutatingAdmissionPolicy"}:          true,
	{Group: "admissionregistration.k8s.io", Kind: "MutatingAdmissionPolicyBinding"}:   true,
	{Group: "flowcontrol.apiserver.k8s.io", Kind: "PriorityLevelConfiguration"}:       true,
}

// condition is all that is kept of how an object does.
type condition struct {
	environment string
	version     string
	status      status.Status
	why         string
	// finished is the digest of a Job that has ended.
	finished string
	// since is when it became unready, cause what was found to be behind it.
	since time.Time
	cause string
	// next is when to look for the cause, looks how often that was done.
	next  time.Time
	looks int
}

func (c *condition) isReady() bool { return c.status == status.CurrentStatus }

// health knows how the objects of a target do, from watches.
type health struct {
	mu      sync.Mutex
	objects map[sources.ID]*condition
	// ailing are, by environment, the unready ones whose cause can be looked for.
	ailing map[string]map[sources.ID]bool
	// wanted are, by environment, the objects that have to work.
	wanted map[string][]sources.ID
	checks map[string]checks
	// listeners are told of environments whose answer may have changed.
	listeners map[int]func(string)
	next      int
	// wake is written to when there is a cause to look for.
	wake chan struct{}
}

func newHealth() *health {
	return &health{
		objects: map[sources.ID]*condition{}, ailing: map[string]map[sources.ID]bool{}, wanted: map[string][]sources.ID{}, checks: map[string]checks{},
		listeners: map[int]func(string){}, wake: make(chan struct{}, 1),
	}
}

// healthWait bounds the wait for the first lists of status in a comparison.
const healthWait = 3 * time.Second

// watchHealth notes what an environment wants, and watches its kinds.
func (t *Target) watchHealth(ctx context.Context, c *comparison, want []sources.Item, resources map[schema.GroupKind]kubelive.Resource) {
	if c.scope.Partial || c.scope.Preview {
		return
	}
	ids, kinds := t.healthOf(c, want, resources)
	if again := t.health.want(c.owner.Environment, ids, checksOf(c.scope.Checks)); len(again) > 0 {
		t.objects.Again(func(gk schema.GroupKind) bool { return slices.Contains(again, gk) })
	}
	// A list that takes long only makes objects unready for longer.
	ctx, cancel := context.WithTimeout(ctx, healthWait)
	defer cancel()
	for _, r := range kinds {
		t.ensureHealth(ctx, r)
	}
}

func (t *Target) ensureHealth(ctx context.Context, r kubelive.Resource) {
	for _, ns := range t.healthScopes(r) {
		err := t.objects.Ensure(ctx, t.healthWatch(r, ns))
		if errors.Is(err, context.DeadlineExceeded) {
			err = nil // it goes on listing
		}
		t.tellOnce("status of "+r.GVR.GroupResource().String(), err)
	}
}

func (t *Target) healthScopes(r kubelive.Resource) []string {
	if t.opts.Namespaces == nil {
		return []string{""}
	}
	if !r.Namespaced {
		return nil
	}
	return t.opts.Namespaces
}

// healthOf are the objects whose status counts, and their kinds.
func (t *Target) healthOf(c *comparison, want []sources.Item, resources map[schema.GroupKind]kubelive.Resource) (ids []sources.ID, kinds []kubelive.Resource) {
	checked := checksOf(c.scope.Checks)
	seen := map[schema.GroupKind]bool{}
	for _, item := range want {
		gk := kubelive.GroupKind(item.ID)
		if withoutStatus[gk] && !checked.has(gk) {
			continue
		}
		if d, err := directivesOf(item); err != nil || d.hook != "" || d.apply == applyNever {
			continue
		}
		ids = append(ids, item.ID)
		if r, ok := resources[gk]; ok && !seen[gk] {
			seen[gk] = true
			kinds = append(kinds, r)
		}
	}
	return ids, kinds
}

func (t *Target) healthWatch(r kubelive.Resource, namespace string) kubelive.ObjectWatch {
	id := func(n types.NamespacedName) sources.ID {
		return sources.ID{Group: r.GVR.Group, Kind: r.Kind, Namespace: n.Namespace, Name: n.Name}
	}
	return kubelive.ObjectWatch{
		Resource: r, Namespace: namespace, Selector: kubelive.LabelEnvironment,
		Reduce: func(u *unstructured.Unstructured) any { return t.health.judge(u) },
		Seen: func(n types.NamespacedName, v any) {
			if c, ok := v.(*condition); ok {
				base := t.cluster.Index.Look(id(n)).Base.ResourceVersion
				t.health.put(id(n), c, base)
				if c.finished != "" {
					t.jobFinished(c.environment, id(n), c.finished)
				}
			}
		},
		Gone: func(n types.NamespacedName) { t.health.drop(id(n)) },
	}
}

// want notes what an environment wants, and answers the kinds that have to be
// judged anew since its checks changed.
func (h *health) want(environment string, ids []sources.ID, c checks) []schema.GroupKind {
	h.mu.Lock()
	same := slices.Equal(h.wanted[environment], ids)
	h.wanted[environment] = ids
	old := h.checks[environment]
	var again []schema.GroupKind
	if !old.equal(c) {
		h.checks[environment] = c
		again = append(old.kinds(), c.kinds()...)
	}
	h.mu.Unlock()
	if !same || len(again) > 0 {
		h.tell(environment)
	}
	return again
}

// judge computes an object's status: by the environment's checks, or else by what
// is known of its kind.
func (h *health) judge(u *unstructured.Unstructured) *condition {
	c := &condition{environment: u.GetLabels()[kubelive.LabelEnvironment], version: u.GetResourceVersion(), status: status.CurrentStatus}
	h.mu.Lock()
	own := h.checks[c.environment]
	h.mu.Unlock()
	if s, why, ok := own.judge(u); ok && u.GetDeletionTimestamp() == nil {
		c.status, c.why = s, why
		return c
	}
	if isJob(idOf(u)) {
		judgeJob(u, c)
		return c
	}
	r, err := status.Compute(u)
	if err != nil {
		c.status, c.why = status.UnknownStatus, "its status cannot be read: "+err.Error()
		return c
	}
	if c.status = r.Status; r.Status != status.CurrentStatus {
		c.why = shorten(r.Message)
	}
	return c
}

// judgeJob: a Job is ready when it has finished.
func judgeJob(u *unstructured.Unstructured, c *condition) {
	succeeded, why, ended := jobEnd(u)
	suspended, _, _ := unstructured.NestedBool(u.Object, "spec", "suspend")
	switch {
	case ended:
		c.finished = u.GetAnnotations()[kubelive.AnnotationApplied]
		if !succeeded {
			c.status, c.why = status.FailedStatus, shorten(why)
		}
	case u.GetDeletionTimestamp() != nil:
		c.status, c.why = status.TerminatingStatus, "is being deleted"
	case !suspended:
		c.status, c.why = status.InProgressStatus, "the Job is running"
	}
}

// maxWhy bounds what is kept of an object's own words, in bytes.
const maxWhy = 400

func shorten(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxWhy {
		s = strings.ToValidUTF8(s[:maxWhy], "") + "…"
	}
	return s
}

// put takes in a new state of an object. Applied is the version that our last
// apply gave, which somebody may be waiting for.
func (h *health) put(id sources.ID, c *condition, applied string) {
	h.mu.Lock()
	old := h.objects[id]
	changed := old == nil || old.status != c.status || old.why != c.why || old.environment != c.environment
	if old != nil && !c.isReady() && !old.isReady() {
		c.since, c.cause, c.next, c.looks = old.since, old.cause, old.next, old.looks
		if changed {
			c.next, c.looks = time.Now().Add(firstLook), 0
		}
	} else if !c.isReady() {
		c.since, c.next = time.Now(), time.Now().Add(firstLook)
	}
	awaited := old != nil && applied != "" && isNewer(applied, old.version)
	h.objects[id] = c
	h.note(id, old, c)
	h.mu.Unlock()
	if !c.isReady() {
		select {
		case h.wake <- struct{}{}:
		default:
		}
	}
	if changed || awaited {
		h.tell(c.environment)
	}
}

func (h *health) drop(id sources.ID) {
	h.mu.Lock()
	old := h.objects[id]
	delete(h.objects, id)
	h.note(id, old, nil)
	h.mu.Unlock()
	if old != nil {
		h.tell(old.environment)
	}
}

func (h *health) tell(environment string) {
	h.mu.Lock()
	listeners := make([]func(string), 0, len(h.listeners))
	for _, l := range h.listeners {
		listeners = append(listeners, l)
	}
	h.mu.Unlock()
	for _, l := range listeners {
		l(environment)
	}
}

func (h *health) listen(f func(string)) (stop func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.next
	h.next++
	h.listeners[n] = f
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.listeners, n)
	}
}

// WatchReady implements reconciler.ReadyDriver. Changed is called from a watch,
// and must not block.
func (t *Target) WatchReady(ctx context.Context, changed func(environment string)) error {
	defer t.health.listen(changed)()
	<-ctx.Done()
	return nil
}

// Ready implements reconciler.ReadyDriver.
func (t *Target) Ready(environment string) (bool, []reconciler.Unready) {
	t.health.mu.Lock()
	wanted, known := t.health.wanted[environment]
	t.health.mu.Unlock()
	if !known {
		return false, []reconciler.Unready{{Why: "it has not been compared yet"}}
	}
	waiting := t.unready(environment, wanted)
	return len(waiting) == 0, waiting
}

// unready are those of some objects that do not work, the failed first.
func (t *Target) unready(environment string, ids []sources.ID) []reconciler.Unready {
	var out []reconciler.Unready
	for _, id := range ids {
		if u, ok := t.unreadyOne(environment, id); ok {
			out = append(out, u)
		}
	}
	slices.SortStableFunc(out, func(a, b reconciler.Unready) int {
		if a.Failed != b.Failed {
			if a.Failed {
				return -1
			}
			return 1
		}
		return cmp.Compare(len(b.RootCause), len(a.RootCause))
	})
	return out
}

func (t *Target) unreadyOne(environment string, id sources.ID) (reconciler.Unready, bool) {
	base := t.cluster.Index.Look(id).Base
	t.health.mu.Lock()
	defer t.health.mu.Unlock()
	c := t.health.objects[id]
	switch {
	case c == nil && isJob(id) && base.UID == "":
		return reconciler.Unready{Object: id, Why: "is not there"}, !t.wasFinished(environment, id)
	case c == nil:
		return reconciler.Unready{Object: id, Why: "is not there, or nothing is known of it yet"}, !isJob(id) || !t.wasFinished(environment, id)
	case base.ResourceVersion != "" && isNewer(base.ResourceVersion, c.version):
		return reconciler.Unready{Object: id, Why: "was just applied", Since: c.since}, true
	case c.isReady():
		return reconciler.Unready{}, false
	}
	return reconciler.Unready{
		Object: id, Why: c.why, RootCause: c.cause, Since: c.since, Failed: c.status == status.FailedStatus,
	}, true
}

// wasFinished reports whether a Job finished, with whatever content.
func (t *Target) wasFinished(environment string, id sources.ID) bool {
	p := t.parent(environment)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.records.Jobs[id.String()] != ""
}

func isNewer(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order > 0
}

// waveWait bounds the wait for objects to work before what depends on them.
const waveWait = 2 * time.Minute

// untilWorking waits until the objects of some operations work, or with nil all of
// the environment; it answers what they still wait for when it has been long
// enough. A failed object ends the wait.
func (t *Target) untilWorking(ctx context.Context, environment string, ops []reconciler.Operation) string {
	ctx, cancel := context.WithTimeout(ctx, waveWait)
	defer cancel()
	changed := make(chan struct{}, 1)
	defer t.health.listen(func(name string) {
		if name == environment {
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	})()
	for {
		waiting := t.unready(environment, t.concerned(environment, ops))
		if len(waiting) == 0 {
			return ""
		}
		first := waiting[0]
		text := fmt.Sprintf("%s: %s", first.Object, cmp.Or(first.RootCause, first.Why))
		if first.Failed {
			return text
		}
		select {
		case <-ctx.Done():
			return text
		case <-changed:
		}
	}
}

// concerned are the objects of operations that have a status and are wanted.
func (t *Target) concerned(environment string, ops []reconciler.Operation) []sources.ID {
	t.health.mu.Lock()
	wanted := t.health.wanted[environment]
	t.health.mu.Unlock()
	if ops == nil {
		return wanted
	}
	concerned := make(map[sources.ID]bool, len(ops))
	for _, op := range ops {
		concerned[op.Object] = true
	}
	var out []sources.ID
	for _, id := range wanted {
		if concerned[id] {
			out = append(out, id)
		}
	}
	return out
}
