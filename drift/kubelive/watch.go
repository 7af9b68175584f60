package kubelive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
)

// silence is how long a watch may say nothing, not even a bookmark, before it
// counts as stale and is started anew, where nothing else is asked for.
const silence = 3 * time.Minute

// Resource is one kind of object as the server serves it.
type Resource struct {
	GVR        schema.GroupVersionResource
	Kind       string
	Namespaced bool
}

// Watcher keeps one metadata watch per resource (and namespace, where it is
// limited to some) and feeds the index. Watches are started by Ensure and live
// until Run ends.
type Watcher struct {
	client metadata.Interface
	index  *Index
	manner manner
	// namespaces limits the watches; nil is the whole cluster.
	namespaces []string

	mu      sync.Mutex
	streams map[streamKey]*stream
	start   chan *stream
}

type streamKey struct {
	gr        schema.GroupResource
	namespace string
}

// newWatcher makes a watcher; it watches nothing before Run.
func newWatcher(client metadata.Interface, index *Index, namespaces []string, m manner) *Watcher {
	return &Watcher{
		client: client, index: index, namespaces: namespaces, manner: m,
		streams: map[streamKey]*stream{}, start: make(chan *stream),
	}
}

// Run keeps the watches until ctx ends, then waits for them to stop.
func (w *Watcher) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-w.start:
			all.Go(func() {
				s.run(ctx)
				w.drop(s)
			})
		}
	}
}

// Ensure sees that the resources are watched and waits until each has been
// listed in full once. The error of a resource that cannot be listed is in the
// map; ctx bounds the wait.
func (w *Watcher) Ensure(ctx context.Context, resources []Resource) map[schema.GroupKind]error {
	failed := map[schema.GroupKind]error{}
	var streams []*stream
	for _, r := range resources {
		for _, ns := range w.scopes(r) {
			s, err := w.ensureStream(ctx, r, ns)
			if err != nil {
				failed[schema.GroupKind{Group: r.GVR.Group, Kind: r.Kind}] = err
				continue
			}
			streams = append(streams, s)
		}
	}
	for _, s := range streams {
		if err := s.wait(ctx); err != nil {
			failed[s.kind()] = err
		}
	}
	return failed
}

func (w *Watcher) scopes(r Resource) []string {
	if w.namespaces == nil {
		return []string{""}
	}
	if !r.Namespaced {
		return nil
	}
	return w.namespaces
}

func (w *Watcher) ensureStream(ctx context.Context, r Resource, namespace string) (*stream, error) {
	key := streamKey{r.GVR.GroupResource(), namespace}
	w.mu.Lock()
	s := w.streams[key]
	fresh := s == nil
	if fresh {
		s = newStream(w.client, w.index, r, namespace, w.manner)
		w.streams[key] = s
	}
	w.mu.Unlock()
	if !fresh {
		return s, nil
	}
	select {
	case w.start <- s:
		return s, nil
	case <-ctx.Done():
		w.mu.Lock()
		delete(w.streams, key)
		w.mu.Unlock()
		return nil, fmt.Errorf("watch %s: %w", r.GVR.GroupResource(), ctx.Err())
	}
}

// drop forgets a stream that ended, so that the next Ensure starts another.
func (w *Watcher) drop(s *stream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.streams, streamKey{s.resource.GVR.GroupResource(), s.namespace})
}

// AsOf is when the quietest watch last said something, bookmarks included; zero
// while nothing is watched. Only the watches of kinds in use count. Broken names the watches that fail or are silent.
func (w *Watcher) AsOf(used func(schema.GroupKind) bool) (asOf time.Time, broken map[string]error) {
	w.mu.Lock()
	streams := slices.Collect(maps.Values(w.streams))
	w.mu.Unlock()
	broken = map[string]error{}
	for _, s := range streams {
		if !used(s.kind()) {
			continue
		}
		at, err := s.health()
		if err != nil {
			broken[s.name()] = err
		}
		if asOf.IsZero() || at.Before(asOf) {
			asOf = at
		}
	}
	return asOf, broken
}

// stream is one watch. It is its own reflector store: what the reflector brings
// goes into the index in digested form and is not kept.
type stream struct {
	manner
	api       streamAPI
	store     cache.ReflectorStore
	index     *Index
	resource  Resource
	namespace string
	synced    chan struct{}

	mu      sync.Mutex
	isSync  bool
	lastErr error
	// lastAct is when it last said something; opened is when it last began. That it
	// could be opened says nothing: whatever is in between may take a watch and never
	// send anything.
	lastAct time.Time
	opened  time.Time
	// errSince is when lastErr began; ended: the resource is not served or
	// cannot be watched, so that there is no use in trying on.
	errSince time.Time
	ended    bool
	giveUp   context.CancelFunc
	// optional: there is no use in trying on without the right either.
	optional bool
	// endList ends the turn of the list that is under way, if one is.
	endList func()
	// failed is closed and replaced whenever lastErr is set, to wake waiters.
	failed chan struct{}
}

// streamAPI is what is listed and watched, and of which type it comes.
type streamAPI struct {
	list  func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error)
	// selector is of labels.
	selector string
	example  runtime.Object
}

func newStream(client metadata.Interface, index *Index, r Resource, namespace string, m manner) *stream {
	api := client.Resource(r.GVR).Namespace(namespace)
	s := &stream{
		manner: m, index: index, resource: r, namespace: namespace,
		synced: make(chan struct{}), failed: make(chan struct{}), lastAct: time.Now(),
	}
	s.store = s
	s.api = streamAPI{
		list:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return api.List(ctx, o) },
		watch: api.Watch, selector: LabelEnvironment, example: &metav1.PartialObjectMetadata{},
	}
	return s
}

func (s *stream) kind() schema.GroupKind {
	return schema.GroupKind{Group: s.resource.GVR.Group, Kind: s.resource.Kind}
}

func (s *stream) name() string {
	name := s.resource.GVR.GroupResource().String()
	if s.namespace != "" {
		name += " in " + s.namespace
	}
	return name
}

// run keeps a reflector going, and starts a new one when it falls silent.
func (s *stream) run(ctx context.Context) {
	for ctx.Err() == nil && !s.hasEnded() {
		s.runOnce(ctx)
	}
}

func (s *stream) hasEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

func (s *stream) runOnce(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.giveUp, s.opened = cancel, time.Now()
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.reflector().RunWithContext(ctx)
	}()
	tick := time.NewTicker(s.patience() / 6)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			if s.isMute() {
				cancel()
			}
		}
	}
}

func (s *stream) reflector() *cache.Reflector {
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = s.api.selector
			end, err := s.lists.take(ctx)
			if err != nil {
				return nil, err
			}
			defer end()
			list, err := s.api.list(ctx, o)
			s.note(err)
			if err == nil {
				s.heard()
			}
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = s.api.selector
			open := s.api.watch
			if o.SendInitialEvents != nil && *o.SendInitialEvents {
				open = s.listAndWatch
			}
			stream, err := open(ctx, o)
			s.note(err)
			return stream, err
		},
	}
	return cache.NewReflectorWithOptions(lw, s.api.example, s.store, cache.ReflectorOptions{
		Name: "holdfast/" + s.name(),
	})
}

// note remembers how the last request went. An expired resourceVersion is part
// of watching, not a failure.
func (s *stream) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.lastErr, s.opened = nil, time.Now()
	case apierrors.IsResourceExpired(err), apierrors.IsGone(err), errors.Is(err, context.Canceled):
	default:
		if s.lastErr == nil {
			s.errSince = time.Now()
		}
		s.lastErr = fmt.Errorf("watch %s: %w", s.name(), err)
		if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) || s.optional && apierrors.IsForbidden(err) {
			s.ended = true
			s.giveUp()
		}
		close(s.failed)
		s.failed = make(chan struct{})
	}
}

// heard notes that something was said.
func (s *stream) heard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastErr, s.lastAct = nil, time.Now()
}

// isMute reports whether nothing was said for so long, since it last began, too,
// that it is to begin anew.
func (s *stream) isMute() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.lastAct) > s.patience() && time.Since(s.opened) > s.patience()
}

// patience is how long it may say nothing.
func (s *stream) patience() time.Duration { return cmp.Or(s.silence, silence) }

func (s *stream) health() (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lastErr != nil {
		return s.lastAct, s.lastErr
	}
	if quiet := time.Since(s.lastAct); quiet > s.patience() {
		return s.lastAct, fmt.Errorf("watch %s: silent for %s", s.name(), quiet.Round(time.Second))
	}
	return s.lastAct, nil
}

// blind is how long a watch may fail before what it last said is not believed.
const blind = 10 * time.Second

// wait blocks until the first full list, a failure, or the end of ctx. A watch
// that was listed once and has been failing for a while is a failure, too.
func (s *stream) wait(ctx context.Context) error {
	s.mu.Lock()
	failed, err, synced := s.failed, s.lastErr, s.isSync
	lately := time.Since(s.errSince) < blind
	s.mu.Unlock()
	if synced && (err == nil || lately) {
		return nil
	}
	if err != nil {
		return err
	}
	select {
	case <-s.synced:
		return nil
	case <-failed:
		_, err := s.health()
		return err
	case <-ctx.Done():
		return fmt.Errorf("list %s: %w", s.name(), ctx.Err())
	}
}

// restart lists anew.
func (s *stream) restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.giveUp != nil {
		s.giveUp()
	}
}

// listed notes that there has been a full list.
func (s *stream) listed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.endList != nil {
		s.endList()
		s.endList = nil
	}
	if !s.isSync {
		s.isSync = true
		close(s.synced)
	}
}
