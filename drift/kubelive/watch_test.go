package kubelive

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/holdfast-gitops/holdfast/sources"
)

// feed is a server of metadata that says what a test wants said. It is where no real
// one can be: silent for minutes, or sending what fills the memory.
type feed struct {
	mu sync.Mutex
	// first makes the objects that a list has, at each list anew.
	first func() []*metav1.PartialObjectMetadata
	// mute: watches are opened and nothing comes.
	mute   bool
	opened int
	now    *watch.RaceFreeFakeWatcher
}

func (f *feed) list(context.Context, metav1.ListOptions) (apiruntime.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := &metav1.PartialObjectMetadataList{ListMeta: metav1.ListMeta{ResourceVersion: "100"}}
	for _, o := range f.first() {
		list.Items = append(list.Items, *o)
	}
	return list, nil
}

func (f *feed) watch(_ context.Context, o metav1.ListOptions) (watch.Interface, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opened++
	f.now = watch.NewRaceFreeFake()
	if o.SendInitialEvents != nil && *o.SendInitialEvents && !f.mute {
		for _, one := range f.first() {
			f.now.Add(one)
		}
		f.now.Action(watch.Bookmark, bookmark(map[string]string{metav1.InitialEventsAnnotationKey: "true"}))
	}
	return f.now, nil
}

func (f *feed) set(mute bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mute = mute
}

func (f *feed) openings() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.opened
}

func (f *feed) send(kind watch.EventType, o apiruntime.Object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now.Action(kind, o)
}

func bookmark(annotations map[string]string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "100", Annotations: annotations}}
}

// watched starts a watcher of Deployments on the feed, and returns its end.
func (f *feed) watched(t *testing.T, index *Index) (w *Watcher, stop func()) {
	t.Helper()
	gvr := schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	s := &stream{
		index: index, resource: Resource{GVR: gvr, Kind: "Deployment", Namespaced: true},
		synced: make(chan struct{}), failed: make(chan struct{}), lastAct: time.Now(),
		api: streamAPI{list: f.list, watch: f.watch, example: &metav1.PartialObjectMetadata{}},
	}
	s.store = s
	w = newWatcher(nil, index, nil, manner{})
	w.streams[streamKey{gvr.GroupResource(), ""}] = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.run(ctx) }()
	if err := s.wait(ctx); err != nil {
		t.Fatal(err)
	}
	return w, func() { cancel(); <-done }
}

// TestAWatchThatSaysNothingIsStale: bookmarks are signs of life; without them for
// three minutes a watch is stale, and begins anew until something is said. That it can
// be opened is none.
func TestAWatchThatSaysNothingIsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &feed{first: func() []*metav1.PartialObjectMetadata { return nil }}
		w, stop := f.watched(t, NewIndex(nil, func(Hint) {}))
		defer stop()
		expect := func(when, want string) {
			t.Helper()
			synctest.Wait()
			_, broken := w.AsOf(func(schema.GroupKind) bool { return true })
			if got := fmt.Sprint(broken["deployments.apps"]); (want == "") != (len(broken) == 0) || !strings.Contains(got, want) {
				t.Errorf("%s: %s; want %q", when, got, want)
			}
		}
		for range 5 {
			time.Sleep(time.Minute)
			f.send(watch.Bookmark, bookmark(nil))
			expect("with bookmarks", "")
		}
		if at, _ := w.AsOf(func(schema.GroupKind) bool { return true }); !at.Equal(time.Now()) {
			t.Errorf("as of %s, at %s", at, time.Now())
		}
		if f.openings() != 1 {
			t.Errorf("a watch that lives was opened %d times", f.openings())
		}
		f.set(true)
		time.Sleep(silence - time.Second)
		expect("shortly before", "")
		time.Sleep(2 * time.Second)
		expect("after three minutes", "silent for 3m1s")
		heard, _ := w.AsOf(func(schema.GroupKind) bool { return true })
		time.Sleep(silence / 6)
		expect("begun anew, without a word", "silent for")
		if n := f.openings(); n != 2 {
			t.Errorf("it was opened %d times", n)
		}
		time.Sleep(2 * silence)
		expect("long after", "silent for 9m")
		if n := f.openings(); n < 3 || n > 4 {
			t.Errorf("in six minutes it was opened %d times", n-2)
		}
		if at, _ := w.AsOf(func(schema.GroupKind) bool { return true }); !at.Equal(heard) {
			t.Errorf("as of %s, though the last word was at %s", at, heard)
		}
		f.set(false)
		time.Sleep(2 * silence)
		f.send(watch.Bookmark, bookmark(nil))
		expect("it speaks again", "")
	})
}

// large is the metadata of a Deployment as a server sends it, with a copy of the last
// manifest and a note that is ours.
func large(t *testing.T, i int, version, note string) *metav1.PartialObjectMetadata {
	t.Helper()
	text, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"name": fmt.Sprintf("d%d", i), "namespace": "web", "uid": fmt.Sprint("uid-", i), "resourceVersion": version, "generation": 1,
		"labels": map[string]any{LabelEnvironment: "prod", LabelPartOf: "us"},
		"annotations": map[string]any{
			"example.com/note": note, AnnotationApplied: "digest",
			"kubectl.kubernetes.io/last-applied-configuration": strings.Repeat(version, 50_000),
		},
		"managedFields": []any{map[string]any{
			"manager": managerOf("us"), "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
			"fieldsV1": json.RawMessage(`{"f:metadata":{"f:annotations":{"f:example.com/note":{}},"f:labels":{"f:applyset.kubernetes.io/part-of":{}}}}`),
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	m := &metav1.PartialObjectMetadata{}
	if err := json.Unmarshal(text, m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestAnnotationsAreDigestedAndDropped: what somebody wrote into annotations, as
// large as objects may be, stays in memory neither after a list nor after an event;
// that one of ours changed is seen nevertheless.
func TestAnnotationsAreDigestedAndDropped(t *testing.T) {
	const n, listed = 200, 90 // a fake watch holds 100 events at a time
	var mu sync.Mutex
	var got []Hint
	x := NewIndex(nil, func(h Hint) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, h)
	})
	f := &feed{first: func() (all []*metav1.PartialObjectMetadata) {
		for i := range listed {
			all = append(all, large(t, i, "10", "ours"))
		}
		return all
	}}
	before := heap()
	_, stop := f.watched(t, x)
	defer stop()
	id := func(i int) sources.ID {
		return sources.ID{Group: "apps", Kind: "Deployment", Namespace: "web", Name: fmt.Sprintf("d%d", i)}
	}
	until := func(i int, version string) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); x.Look(id(i)).Live.ResourceVersion != version; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%v never came to version %s", id(i), version)
			}
		}
	}
	for i := listed; i < n; i++ {
		f.send(watch.Added, large(t, i, "110", "ours"))
		until(i, "110")
	}
	for i := range n {
		x.Verified(id(i), Baseline{Record: x.Look(id(i)).Live})
	}
	// 100 and 150 kB for each; the index takes less than one for each.
	if kept := int64(heap()) - int64(before); kept > 2<<20 {
		t.Errorf("of %d objects %d kB stay in memory", n, kept>>10)
	}
	theirs := large(t, 0, "120", "ours")
	theirs.Annotations["kubectl.kubernetes.io/last-applied-configuration"] = "another"
	f.send(watch.Modified, theirs)
	until(0, "120")
	f.send(watch.Modified, large(t, 1, "121", "of others"))
	until(1, "121")
	mu.Lock()
	defer mu.Unlock()
	if len(got) != 1 || got[0].Object != id(1) {
		t.Errorf("hints %v; want one, about the annotation that is ours", got)
	}
	runtime.KeepAlive(x)
}

// heap is what is in use after everything else was collected.
func heap() uint64 {
	var m runtime.MemStats
	for range 2 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
