package kubelive

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
)

// ObjectWatch is a watch on full objects, for what metadata does not tell. No
// object is kept: each is reduced as it comes.
type ObjectWatch struct {
	Resource  Resource
	Namespace string
	// Selector is of labels; empty is all objects.
	Selector string
	// Reduce makes what is kept of an object while a first list is on its way;
	// Seen gets that. Gone is called for what is there no more. They are called
	// one at a time for one watch.
	Reduce func(*unstructured.Unstructured) any
	Seen   func(types.NamespacedName, any)
	Gone   func(types.NamespacedName)
}

func (w ObjectWatch) key() string {
	return w.Resource.GVR.String() + "\x00" + w.Namespace + "\x00" + w.Selector
}

// ObjectWatches keeps watches on full objects while Run runs.
type ObjectWatches struct {
	client dynamic.Interface
	manner manner

	mu      sync.Mutex
	streams map[string]*stream
	start   chan *stream
}

// NewObjectWatches makes none yet.
func (c *Cluster) NewObjectWatches() *ObjectWatches {
	return &ObjectWatches{client: c.Objects, manner: c.manner, streams: map[string]*stream{}, start: make(chan *stream)}
}

// Run keeps the watches until ctx ends, then waits for them to stop.
func (o *ObjectWatches) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-o.start:
			all.Go(func() {
				s.run(ctx)
				o.mu.Lock()
				defer o.mu.Unlock()
				for key, have := range o.streams {
					if have == s {
						delete(o.streams, key)
					}
				}
			})
		}
	}
}

// Ensure sees that something is watched, and waits for its first full list. A
// second call for the same changes nothing, and costs no request.
func (o *ObjectWatches) Ensure(ctx context.Context, w ObjectWatch) error {
	o.mu.Lock()
	s, known := o.streams[w.key()]
	if !known {
		s = o.stream(w)
		o.streams[w.key()] = s
	}
	o.mu.Unlock()
	if !known {
		select {
		case o.start <- s:
		case <-ctx.Done():
			o.mu.Lock()
			delete(o.streams, w.key())
			o.mu.Unlock()
			return fmt.Errorf("watch %s: %w", s.name(), ctx.Err())
		}
	}
	return s.wait(ctx)
}

// Again lists the objects of some kinds anew, so that each is reduced again.
func (o *ObjectWatches) Again(kinds func(schema.GroupKind) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.streams {
		if kinds(s.kind()) {
			s.restart()
		}
	}
}

func (o *ObjectWatches) stream(w ObjectWatch) *stream {
	var api dynamic.ResourceInterface = o.client.Resource(w.Resource.GVR)
	if w.Namespace != "" {
		api = o.client.Resource(w.Resource.GVR).Namespace(w.Namespace)
	}
	s := &stream{
		manner: o.manner, resource: w.Resource, namespace: w.Namespace,
		synced: make(chan struct{}), failed: make(chan struct{}), lastAct: time.Now(),
	}
	example := &unstructured.Unstructured{}
	example.SetGroupVersionKind(w.Resource.GVR.GroupVersion().WithKind(w.Resource.Kind))
	s.api = streamAPI{
		list:  func(ctx context.Context, l metav1.ListOptions) (runtime.Object, error) { return api.List(ctx, l) },
		watch: api.Watch, selector: w.Selector, example: example,
	}
	s.store = &objectStore{stream: s, watch: w, there: map[types.NamespacedName]bool{}}
	return s
}

// objectStore is the store of a reflector that keeps names only.
type objectStore struct {
	stream *stream
	watch  ObjectWatch

	mu    sync.Mutex
	there map[types.NamespacedName]bool
}

// reduced stands for an object: its key, and what is made of it.
type reduced struct {
	metav1.PartialObjectMetadata
	value any
}

// Transformer reduces objects before a streamed first list is complete.
func (s *objectStore) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		if u, ok := obj.(*unstructured.Unstructured); ok {
			return s.reduce(u), nil
		}
		return obj, nil
	}
}

func (s *objectStore) reduce(u *unstructured.Unstructured) *reduced {
	r := &reduced{value: s.watch.Reduce(u)}
	r.Namespace, r.Name, r.UID, r.ResourceVersion = u.GetNamespace(), u.GetName(), u.GetUID(), u.GetResourceVersion()
	return r
}

func (s *objectStore) take(obj any) (types.NamespacedName, any, error) {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		obj = s.reduce(u)
	}
	r, ok := obj.(*reduced)
	if !ok {
		return types.NamespacedName{}, nil, fmt.Errorf("watch %s: unexpected %T", s.stream.name(), obj)
	}
	return types.NamespacedName{Namespace: r.Namespace, Name: r.Name}, r.value, nil
}

// Add implements cache.ReflectorStore.
func (s *objectStore) Add(obj any) error {
	name, value, err := s.take(obj)
	if err != nil {
		return err
	}
	s.stream.heard()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.there[name] = true
	s.watch.Seen(name, value)
	return nil
}

// Update implements cache.ReflectorStore.
func (s *objectStore) Update(obj any) error { return s.Add(obj) }

// Delete implements cache.ReflectorStore.
func (s *objectStore) Delete(obj any) error {
	name, _, err := s.take(obj)
	if err != nil {
		return err
	}
	s.stream.heard()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.there, name)
	s.watch.Gone(name)
	return nil
}

// Replace implements cache.ReflectorStore: it takes in a full list.
func (s *objectStore) Replace(list []any, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	listed := make(map[types.NamespacedName]bool, len(list))
	for _, obj := range list {
		name, value, err := s.take(obj)
		if err != nil {
			return err
		}
		listed[name] = true
		s.watch.Seen(name, value)
	}
	for name := range s.there {
		if !listed[name] {
			s.watch.Gone(name)
		}
	}
	s.there = listed
	s.stream.heard()
	s.stream.listed()
	return nil
}

// Resync implements cache.ReflectorStore; there is nothing to do.
func (s *objectStore) Resync() error { return nil }

// Bookmark implements cache.ReflectorBookmarkStore: the watch is alive.
func (s *objectStore) Bookmark(string) error {
	s.stream.heard()
	return nil
}
