package kubelive

import (
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestGenerationsTellWhatMoved: the first list is how things are; later lists,
// after a watch that broke, tell what happened meanwhile, and nothing else.
func TestGenerationsTellWhatMoved(t *testing.T) {
	object := func(name, uid string, generation int64) any {
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(uid), Generation: generation}}
	}
	var moved []string
	lists := 0
	s := &generationStore{
		stream: &stream{synced: make(chan struct{}), failed: make(chan struct{}), lastAct: time.Now()},
		moved:  func(name string) { moved = append(moved, name) }, full: func() { lists++ },
	}
	step := func(what string, err error, want ...string) {
		t.Helper()
		slices.Sort(moved)
		if err != nil || !slices.Equal(moved, want) {
			t.Errorf("%s: %v, error %v; want %v", what, moved, err, want)
		}
		moved = nil
	}
	step("the first list", s.Replace([]any{object("a", "1", 1), object("b", "2", 1), object("c", "3", 4), object("d", "4", 1)}, "1"))
	step("another list", s.Replace([]any{object("a", "1", 1), object("b", "2", 2), object("c", "9", 4), object("e", "5", 1)}, "2"), "b", "c", "d", "e")
	step("an event without news", s.Update(object("a", "1", 1)))
	step("another generation", s.Update(object("a", "1", 2)), "a")
	step("a new one", s.Add(object("f", "6", 1)), "f")
	step("one that goes", s.Delete(object("f", "6", 1)), "f")
	if lists != 2 {
		t.Errorf("%d lists", lists)
	}
	if s.Add("no object") == nil {
		t.Error("no error for what is no metadata")
	}
}
