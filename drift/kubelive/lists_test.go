package kubelive

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
)

// crowd is a server of many kinds of which each full list takes a second. It
// remembers nothing of the past: a watch that ended cannot go on where it was.
type crowd struct {
	mu sync.Mutex
	// now and most are how many lists are under way, and were at a time.
	now, most int
	lists     map[string]int
	open      map[string]*watch.RaceFreeFakeWatcher
	// hangs are kinds whose lists never come.
	hangs map[string]bool
}

func (c *crowd) watch(kind string) func(context.Context, metav1.ListOptions) (watch.Interface, error) {
	return func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
		if o.SendInitialEvents == nil || !*o.SendInitialEvents {
			return nil, apierrors.NewResourceExpired("too old resource version")
		}
		w := watch.NewRaceFreeFake()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.hangs[kind] {
			return w, nil
		}
		c.now++
		c.most = max(c.most, c.now)
		c.lists[kind]++
		c.open[kind] = w
		go func() {
			time.Sleep(time.Second)
			c.mu.Lock()
			c.now--
			c.mu.Unlock()
			w.Action(watch.Bookmark, bookmark(map[string]string{metav1.InitialEventsAnnotationKey: "true"}))
		}()
		return w, nil
	}
}

// start watches a kind.
func (c *crowd) start(ctx context.Context, all *sync.WaitGroup, m manner, kind string) *stream {
	s := &stream{
		manner: m, index: NewIndex(nil, func(Hint) {}), synced: make(chan struct{}), failed: make(chan struct{}), lastAct: time.Now(),
		resource: Resource{GVR: schema.GroupVersionResource{Version: "v1", Resource: kind}, Kind: kind},
		api:      streamAPI{watch: c.watch(kind), example: &metav1.PartialObjectMetadata{}},
	}
	s.store = s
	all.Go(func() { s.run(ctx) })
	return s
}

// expire ends the watches of some kinds at once.
func (c *crowd) expire(kinds ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most = 0
	clear(c.lists)
	for _, kind := range kinds {
		c.open[kind].Stop()
	}
}

// TestManyListsAtOnceAreFewSideBySide: when the watches of all kinds expire at once,
// as after a restart of the server, each kind is listed once, and a few at a time.
// One that expires alone waits for nobody, and those that hang hold up nobody for long.
func TestManyListsAtOnceAreFewSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{lists: map[string]int{}, open: map[string]*watch.RaceFreeFakeWatcher{}, hangs: map[string]bool{}}
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		defer func() { cancel(); all.Wait() }()
		m := manner{lists: newTurns()}
		var kinds []string
		var streams []*stream
		for i := range 30 {
			kinds = append(kinds, fmt.Sprint("kind", i))
			streams = append(streams, c.start(ctx, &all, m, kinds[i]))
		}
		expect := func(when string, most int, kinds ...string) {
			t.Helper()
			synctest.Wait()
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.now != 0 || c.most != most || len(c.lists) != len(kinds) {
				t.Errorf("%s: of %d kinds %d were listed, %d at a time and %d not yet; want %d at a time", when, len(kinds), len(c.lists), c.most, c.now, most)
			}
			for _, kind := range kinds {
				if c.lists[kind] != 1 {
					t.Errorf("%s: %s was listed %d times", when, kind, c.lists[kind])
				}
			}
		}
		for _, s := range streams {
			if err := s.wait(ctx); err != nil {
				t.Fatal(err)
			}
		}
		expect("at the start", sideBySide, kinds...)
		c.expire(kinds...)
		time.Sleep(12 * time.Second)
		expect("after all have expired", sideBySide, kinds...)
		c.expire("kind7")
		time.Sleep(5 * time.Second)
		expect("after one has", 1, "kind7")

		for i := range sideBySide {
			c.mu.Lock()
			c.hangs[fmt.Sprint("hangs", i)] = true
			c.mu.Unlock()
			c.start(ctx, &all, m, fmt.Sprint("hangs", i))
		}
		synctest.Wait()
		began := time.Now()
		if err := c.start(ctx, &all, m, "late").wait(ctx); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != turnLength+time.Second {
			t.Errorf("behind lists that hang it took %s", took)
		}
	})
}

// TestAListThatFailsGivesItsTurnBack: otherwise a few that fail would end all watching.
func TestAListThatFailsGivesItsTurnBack(t *testing.T) {
	lists := newTurns()
	refused := func(context.Context, metav1.ListOptions) (watch.Interface, error) {
		return nil, apierrors.NewServiceUnavailable("away")
	}
	s := &stream{manner: manner{lists: lists}, api: streamAPI{watch: refused}}
	for range 2 * sideBySide {
		if _, err := s.listAndWatch(t.Context(), metav1.ListOptions{}); !apierrors.IsServiceUnavailable(err) {
			t.Fatal(err)
		}
	}
	if len(lists) != 0 {
		t.Errorf("%d turns are gone", len(lists))
	}
	s.api.watch = func(context.Context, metav1.ListOptions) (watch.Interface, error) {
		return watch.NewRaceFreeFake(), nil
	}
	for range sideBySide {
		w, err := s.listAndWatch(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.listAndWatch(ctx, metav1.ListOptions{}); err != context.Canceled {
		t.Errorf("without a turn, and asked to stop: %v", err)
	}
}
