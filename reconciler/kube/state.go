package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// labelState is on the objects that state is read from, by which they are
// watched: an environment's state object, and its parent.
const labelState = "holdfast.dev/state"

// The annotations by which anybody who may annotate the parent object holds an
// environment, without the API.
const (
	annotationHoldUntil  = "holdfast.dev/hold-until"
	annotationHoldReason = "holdfast.dev/hold-reason"
)

// stateKey is the entry of a state object that holds the state as JSON.
const stateKey = "state.json"

// stateName is the name of an environment's state object, a ConfigMap; that of
// all environments together has no environment in it. Names of environments
// hold no dot, so that no parent has this name.
//
// It is an object of its own, so that a parent that is missing still shows as
// missing, and the kinds in use are found again.
func stateName(environment string) string {
	if environment == "" {
		return "holdfast.state"
	}
	return kubelive.ParentName(environment) + ".state"
}

// states is what the target's state objects say. While the watch runs it is
// read without a request.
type states struct {
	mu      sync.Mutex
	synced  bool
	objects map[string]*unstructured.Unstructured
	changed func(environment string)
}

// put takes a state object in, unless a newer one is known.
func (s *states) put(object *unstructured.Unstructured) {
	s.mu.Lock()
	old := s.objects[object.GetName()]
	if old != nil {
		if order, err := resourceversion.CompareResourceVersion(object.GetResourceVersion(), old.GetResourceVersion()); err == nil && order <= 0 {
			s.mu.Unlock()
			return
		}
	}
	s.objects[object.GetName()] = object
	s.tell(object)
}

// drop forgets a state object that was deleted.
func (s *states) drop(object *unstructured.Unstructured) {
	s.mu.Lock()
	delete(s.objects, object.GetName())
	s.tell(object)
}

// tell unlocks, and says whose state changed.
func (s *states) tell(object *unstructured.Unstructured) {
	changed := s.changed
	s.mu.Unlock()
	if changed != nil {
		changed(object.GetLabels()[labelState])
	}
}

func (s *states) get(name string) (object *unstructured.Unstructured, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	object = s.objects[name]
	return object, object != nil || s.synced
}

// State implements reconciler.Keeper.
func (t *Target) State(ctx context.Context, environment string) (reconciler.State, error) {
	ctx, cancel := context.WithTimeout(ctx, t.opts.RequestTimeout)
	defer cancel()
	object, err := t.stateObject(ctx, stateName(environment))
	if err != nil {
		return reconciler.State{}, err
	}
	state, err := stateIn(object)
	if err != nil || environment == "" {
		return state, err
	}
	parent, err := t.stateObject(ctx, kubelive.ParentName(environment))
	if err != nil {
		return reconciler.State{}, err
	}
	if h, ok := annotatedHold(parent, time.Now()); ok && !t.opts.NoHoldAnnotation {
		state.Holds = append(state.Holds, h)
	}
	if !t.opts.NoHoldAnnotation {
		state.Holds = append(state.Holds, t.heldObjects(environment, time.Now())...)
	}
	return state, nil
}

// heldObjects are the holds that annotations of live objects ask for, as the
// watches told last.
func (t *Target) heldObjects(environment string, now time.Time) (out []reconciler.Hold) {
	for id, seconds := range t.cluster.Index.Held(environment) {
		until := time.Unix(seconds, 0)
		if !until.After(now) {
			continue
		}
		out = append(out, reconciler.Hold{
			ID: "annotation " + id.String(), Object: &id, Author: "whoever annotated it", Until: until,
			Reason: "annotation " + annotationHoldUntil,
		})
	}
	slices.SortFunc(out, func(a, b reconciler.Hold) int { return a.Object.Compare(*b.Object) })
	return out
}

// stateObject is one of the objects that state is read from; nil if there is none.
func (t *Target) stateObject(ctx context.Context, name string) (*unstructured.Unstructured, error) {
	if object, known := t.states.get(name); known {
		return object, nil
	}
	return t.readState(ctx, name)
}

func (t *Target) readState(ctx context.Context, name string) (*unstructured.Unstructured, error) {
	object, err := t.cluster.Objects.Resource(configMaps).Namespace(t.opts.StateNamespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ConfigMap/%s/%s: %w", t.opts.StateNamespace, name, err)
	}
	return object, nil
}

func stateIn(object *unstructured.Unstructured) (state reconciler.State, err error) {
	if object == nil {
		return state, nil
	}
	text, _, err := unstructured.NestedString(object.Object, "data", stateKey)
	if err == nil && text != "" {
		err = json.Unmarshal([]byte(text), &state)
	}
	if err != nil {
		return state, sources.Problem{
			Object:  "ConfigMap/" + object.GetNamespace() + "/" + object.GetName(),
			Message: fmt.Sprintf("its %s cannot be read: %v", stateKey, err),
			Hint:    "mend it, or delete the object to undo its holds and rollbacks",
		}
	}
	return state, nil
}

// annotatedHold is the hold that a parent's annotations ask for. A time that
// cannot be read holds until it is mended: whoever set it wanted a hold.
func annotatedHold(parent *unstructured.Unstructured, now time.Time) (reconciler.Hold, bool) {
	if parent == nil {
		return reconciler.Hold{}, false
	}
	notes := parent.GetAnnotations()
	text := strings.TrimSpace(notes[annotationHoldUntil])
	if text == "" {
		return reconciler.Hold{}, false
	}
	h := reconciler.Hold{ID: "annotation", Author: "whoever annotated " + parent.GetName(), Reason: notes[annotationHoldReason]}
	if h.Reason == "" {
		h.Reason = "annotation " + annotationHoldUntil
	}
	until, err := time.Parse(time.RFC3339, text)
	if err != nil {
		h.Reason = fmt.Sprintf("annotation %s says %.40q, which is no time such as %s", annotationHoldUntil, text, now.UTC().Format(time.RFC3339))
		until = now.Add(24 * time.Hour)
	}
	h.Until = until
	return h, until.After(now)
}

// SaveState implements reconciler.Keeper.
func (t *Target) SaveState(ctx context.Context, environment string, change func(*reconciler.State) error) (reconciler.State, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*t.opts.RequestTimeout)
	defer cancel()
	name := stateName(environment)
	object, err := t.stateObject(ctx, name)
	var again patience
	for err == nil {
		var state reconciler.State
		if state, err = stateIn(object); err != nil {
			return state, err
		}
		if err = change(&state); err != nil {
			return state, err
		}
		var written *unstructured.Unstructured
		if written, err = t.writeState(ctx, environment, object, state); err == nil {
			t.states.put(written)
			return state, nil
		}
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsNotFound(err) || !again.wait(ctx) {
			break
		}
		object, err = t.readState(ctx, name)
	}
	return reconciler.State{}, fmt.Errorf("write ConfigMap/%s/%s: %w", t.opts.StateNamespace, name, err)
}

// writeState creates the object, or replaces the one that was read.
func (t *Target) writeState(ctx context.Context, environment string, old *unstructured.Unstructured, state reconciler.State) (*unstructured.Unstructured, error) {
	text, err := json.Marshal(state)
	if err != nil {
		return nil, err
	}
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{
			"name": stateName(environment), "namespace": t.opts.StateNamespace,
			"labels": map[string]any{labelState: environment},
			"annotations": map[string]any{
				kubelive.AnnotationTooling: "holdfast/" + t.opts.Version,
				annotationInstallation:     t.opts.Installation,
			},
		},
		"data": map[string]any{stateKey: string(text)},
	}}
	api := t.stateAPI()
	if old != nil {
		// The version makes it fail where somebody else wrote in between.
		object.SetResourceVersion(old.GetResourceVersion())
		patch, err := object.MarshalJSON()
		if err != nil {
			return nil, err
		}
		return api.Patch(ctx, object.GetName(), types.MergePatchType, patch, metav1.PatchOptions{FieldManager: FieldManager})
	}
	written, err := api.Create(ctx, object, metav1.CreateOptions{FieldManager: FieldManager})
	if apierrors.IsNotFound(err) && t.opts.CreateState {
		if err = t.createState(ctx); err == nil {
			written, err = api.Create(ctx, object, metav1.CreateOptions{FieldManager: FieldManager})
		}
	}
	return written, err
}

// Environments implements reconciler.Remover.
func (t *Target) Environments(ctx context.Context) ([]string, error) {
	t.states.mu.Lock()
	synced, objects := t.states.synced, slices.Collect(maps.Values(t.states.objects))
	t.states.mu.Unlock()
	if !synced {
		ctx, cancel := context.WithTimeout(ctx, t.opts.RequestTimeout)
		defer cancel()
		list, err := t.cluster.Objects.Resource(configMaps).Namespace(t.opts.StateNamespace).List(ctx, metav1.ListOptions{LabelSelector: labelState})
		if err != nil {
			return nil, fmt.Errorf("list the state in namespace %s: %w", t.opts.StateNamespace, err)
		}
		for i := range list.Items {
			objects = append(objects, &list.Items[i])
		}
	}
	var out []string
	for _, o := range objects {
		name := o.GetLabels()[labelState]
		if by := o.GetAnnotations()[annotationInstallation]; name != "" && o.GetName() == stateName(name) && by == t.opts.Installation {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Forget implements reconciler.Remover.
func (t *Target) Forget(ctx context.Context, environment string) error {
	ctx, cancel := context.WithTimeout(ctx, t.opts.RequestTimeout)
	defer cancel()
	err := t.stateAPI().Delete(ctx, stateName(environment), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete ConfigMap/%s/%s: %w", t.opts.StateNamespace, stateName(environment), err)
	}
	t.states.mu.Lock()
	delete(t.states.objects, stateName(environment))
	t.states.mu.Unlock()
	return t.dropParent(ctx, environment)
}

// WatchState implements reconciler.StateWatcher: one watch on the state
// namespace, which also makes reading state cost nothing.
func (t *Target) WatchState(ctx context.Context, changed func(environment string)) error {
	t.states.mu.Lock()
	t.states.changed = changed
	t.states.mu.Unlock()
	api := t.cluster.Objects.Resource(configMaps).Namespace(t.opts.StateNamespace)
	take := func(obj any) {
		if o, ok := obj.(*unstructured.Unstructured); ok {
			t.states.put(o)
		}
	}
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: &cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				o.LabelSelector = labelState
				return api.List(ctx, o)
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				o.LabelSelector = labelState
				return api.Watch(ctx, o)
			},
		},
		ObjectType: &unstructured.Unstructured{},
		Transform:  slimState,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    take,
			UpdateFunc: func(_, obj any) { take(obj) },
			DeleteFunc: func(obj any) {
				if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
					obj = last.Obj
				}
				if o, ok := obj.(*unstructured.Unstructured); ok {
					t.states.drop(o)
				}
			},
		},
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			t.states.mu.Lock()
			t.states.synced = true
			t.states.mu.Unlock()
		}
	}()
	informer.RunWithContext(ctx)
	<-done
	return nil
}

// slimState drops what nobody reads.
func slimState(obj any) (any, error) {
	if o, ok := obj.(*unstructured.Unstructured); ok {
		o.SetManagedFields(nil)
	}
	return obj, nil
}
