package kubelive

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/holdfast-gitops/holdfast/sources"
)

func (s *stream) id(m metav1.Object) sources.ID {
	return sources.ID{
		Group: s.resource.GVR.Group, Kind: s.resource.Kind,
		Namespace: m.GetNamespace(), Name: m.GetName(),
	}
}

// Transformer shrinks what a streamed first list holds until it is complete: an
// object's annotations can be as large as the object.
func (s *stream) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		if m, ok := obj.(*metav1.PartialObjectMetadata); ok {
			return compact(m), nil
		}
		return obj, nil
	}
}

// digested is the compact stand-in for an object's metadata: only what the store
// below needs to find its key and record.
type digested struct {
	metav1.PartialObjectMetadata
	record Record
}

func compact(m *metav1.PartialObjectMetadata) *digested {
	d := &digested{record: recordOf(m)}
	d.Namespace, d.Name, d.UID, d.ResourceVersion = m.Namespace, m.Name, m.UID, m.ResourceVersion
	return d
}

func (s *stream) record(obj any) (sources.ID, Record, error) {
	switch m := obj.(type) {
	case *digested:
		return s.id(m), m.record, nil
	case *metav1.PartialObjectMetadata:
		return s.id(m), recordOf(m), nil
	}
	return sources.ID{}, Record{}, fmt.Errorf("watch %s: unexpected %T", s.name(), obj)
}

// Add implements cache.ReflectorStore.
func (s *stream) Add(obj any) error {
	id, r, err := s.record(obj)
	if err != nil {
		return err
	}
	s.heard()
	s.index.observe(id, r)
	if m, ok := obj.(*metav1.PartialObjectMetadata); ok {
		s.index.noteAdditions(id, m, r)
	}
	return nil
}

// Update implements cache.ReflectorStore.
func (s *stream) Update(obj any) error { return s.Add(obj) }

// Delete implements cache.ReflectorStore.
func (s *stream) Delete(obj any) error {
	id, r, err := s.record(obj)
	if err != nil {
		return err
	}
	s.heard()
	s.index.vanished(id, r)
	return nil
}

// Replace implements cache.ReflectorStore: it takes in a full list.
func (s *stream) Replace(list []any, version string) error {
	records := make(map[sources.ID]Record, len(list))
	for _, obj := range list {
		id, r, err := s.record(obj)
		if err != nil {
			return err
		}
		records[id] = r
	}
	s.heard()
	s.index.replace(s.covers, records, version)
	s.listed()
	return nil
}

func (s *stream) covers(id sources.ID) bool {
	return id.Group == s.resource.GVR.Group && id.Kind == s.resource.Kind &&
		(s.namespace == "" || s.namespace == id.Namespace)
}

// Resync implements cache.ReflectorStore; there is nothing to do.
func (s *stream) Resync() error { return nil }

// Bookmark implements cache.ReflectorBookmarkStore: the watch is alive.
func (s *stream) Bookmark(string) error {
	s.heard()
	return nil
}
