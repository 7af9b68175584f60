package kubelive

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// WatchGenerations keeps a metadata watch on all objects of a resource, whose they
// may be, and calls moved with the name of each that came, went or got another
// generation since the first list, which only says how things are. It ends with
// ctx, or with the error of a resource that is not served or may not be watched.
// Synced is called with each full list. Neither may block.
func (c *Cluster) WatchGenerations(ctx context.Context, r Resource, moved func(name string), synced func()) error {
	api := c.Metadata.Resource(r.GVR)
	s := &stream{
		manner: c.manner, resource: r, synced: make(chan struct{}), failed: make(chan struct{}), lastAct: time.Now(), optional: true,
	}
	s.api = streamAPI{
		list:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return api.List(ctx, o) },
		watch: api.Watch, example: &metav1.PartialObjectMetadata{},
	}
	s.store = &generationStore{stream: s, moved: moved, full: synced}
	s.run(ctx)
	if ctx.Err() != nil {
		return nil
	}
	_, err := s.health()
	return err
}

// generation is what is kept of an object.
type generation struct {
	uid    types.UID
	number int64
}

// generationStore is the store of a reflector that keeps generations only.
type generationStore struct {
	stream *stream
	moved  func(string)
	full   func()

	mu sync.Mutex
	// known is nil before the first list.
	known map[string]generation
}

// Transformer drops what nobody reads before a streamed first list is complete.
func (s *generationStore) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		if m, ok := obj.(*metav1.PartialObjectMetadata); ok {
			m.ManagedFields, m.Annotations, m.Labels, m.OwnerReferences = nil, nil, nil, nil
		}
		return obj, nil
	}
}

func (s *generationStore) take(obj any) (string, generation, error) {
	m, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return "", generation{}, fmt.Errorf("watch %s: unexpected %T", s.stream.name(), obj)
	}
	return m.Name, generation{m.UID, m.Generation}, nil
}

// Add implements cache.ReflectorStore.
func (s *generationStore) Add(obj any) error {
	name, g, err := s.take(obj)
	if err != nil {
		return err
	}
	s.stream.heard()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[string]generation{}
	}
	if s.known[name] != g {
		s.known[name] = g
		s.moved(name)
	}
	return nil
}

// Update implements cache.ReflectorStore.
func (s *generationStore) Update(obj any) error { return s.Add(obj) }

// Delete implements cache.ReflectorStore.
func (s *generationStore) Delete(obj any) error {
	name, _, err := s.take(obj)
	if err != nil {
		return err
	}
	s.stream.heard()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, name)
	s.moved(name)
	return nil
}

// Replace implements cache.ReflectorStore: it takes in a full list.
func (s *generationStore) Replace(list []any, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	listed := make(map[string]generation, len(list))
	for _, obj := range list {
		name, g, err := s.take(obj)
		if err != nil {
			return err
		}
		listed[name] = g
		if s.known != nil && s.known[name] != g {
			s.moved(name)
		}
	}
	for name := range s.known {
		if _, there := listed[name]; !there {
			s.moved(name)
		}
	}
	s.known = listed
	s.stream.heard()
	s.stream.listed()
	s.full()
	return nil
}

// Resync implements cache.ReflectorStore; there is nothing to do.
func (s *generationStore) Resync() error { return nil }

// Bookmark implements cache.ReflectorBookmarkStore: the watch is alive.
func (s *generationStore) Bookmark(string) error {
	s.stream.heard()
	return nil
}
