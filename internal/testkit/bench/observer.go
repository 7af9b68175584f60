package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// observe watches every object of a set over connections of its own, and calls
// each for every event from now on. It returns once the watches stand; stop ends
// them and waits.
func observe(ctx context.Context, cfg *rest.Config, set string, each func(objectKind, watch.Event)) (stop func(), err error) {
	own := rest.CopyConfig(cfg)
	own.UserAgent = "holdfast-bench-watch" // another transport than others use
	client, err := dynamic.NewForConfig(own)
	if err != nil {
		return nil, fmt.Errorf("connect a watcher: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	stop = func() { cancel(); all.Wait() }
	for _, k := range objectKinds {
		list, err := client.Resource(k.GroupVersionResource).List(ctx, metav1.ListOptions{LabelSelector: mark + "=" + set, Limit: 1})
		if err != nil {
			stop()
			return nil, fmt.Errorf("list %s: %w", k.Resource, err)
		}
		w, err := client.Resource(k.GroupVersionResource).Watch(ctx, metav1.ListOptions{
			LabelSelector: mark + "=" + set, ResourceVersion: list.GetResourceVersion(),
		})
		if err != nil {
			stop()
			return nil, fmt.Errorf("watch %s: %w", k.Resource, err)
		}
		all.Go(func() { follow(ctx, client, k, set, w, list.GetResourceVersion(), each) })
	}
	return stop, nil
}

// follow hands on the events of a watch. A server ends a watch that does not keep up,
// as in a storm; another then goes on where it ended.
func follow(ctx context.Context, client dynamic.Interface, k objectKind, set string, w watch.Interface, version string, each func(objectKind, watch.Event)) {
	for {
		for event := range w.ResultChan() {
			if o, ok := event.Object.(*unstructured.Unstructured); ok {
				version = o.GetResourceVersion()
				each(k, event)
			}
		}
		w.Stop()
		for {
			if ctx.Err() != nil {
				return
			}
			var err error
			w, err = client.Resource(k.GroupVersionResource).Watch(ctx, metav1.ListOptions{
				LabelSelector: mark + "=" + set, ResourceVersion: version,
			})
			if err == nil {
				break
			}
			if ctx.Err() == nil {
				fmt.Printf("    watching %s goes on: %v\n", k.Resource, err)
				time.Sleep(10 * time.Millisecond)
			}
		}
	}
}

// attempt is an edit on its way to being put back.
type attempt struct {
	edit
	// seenBroken: the watcher saw the deed, so that what it sees next is its end.
	seenBroken bool
	// healed receives when it was seen to be as desired again.
	healed chan time.Time
}

// tracker tells when edits were put back, as seen by a watcher that has no part
// in it.
type tracker struct {
	mu       sync.Mutex
	attempts map[key]*attempt
}

func newTracker() *tracker { return &tracker{attempts: map[key]*attempt{}} }

// expect registers an edit before it is made.
func (t *tracker) expect(e edit) *attempt {
	a := &attempt{edit: e, healed: make(chan time.Time, 1)}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.attempts[e.key()] = a
	return a
}

// expectCommit registers an object of which git is about to want something else:
// what is live counts as broken until that is applied.
func (t *tracker) expectCommit(o object) *attempt {
	a := &attempt{edit: edit{object: o}, seenBroken: true, healed: make(chan time.Time, 1)}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.attempts[o.key()] = a
	return a
}

// lookup finds the edit that an event may be about.
func (t *tracker) lookup(k objectKind, event watch.Event) *attempt {
	live, ok := event.Object.(*unstructured.Unstructured)
	if !ok {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.attempts[key{k.Resource, live.GetNamespace(), live.GetName()}]
}

// see takes an event in.
func (t *tracker) see(k objectKind, event watch.Event) {
	now := time.Now()
	a := t.lookup(k, event)
	if a == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch broken := a.broken(event); {
	case broken:
		a.seenBroken = true
	case a.seenBroken:
		delete(t.attempts, a.key())
		a.healed <- now
	}
}

// healTime bounds how long one edit may take to be put back.
const healTime = 30 * time.Second

// wait is the time from a moment to the edit being seen put back.
func (a *attempt) wait(ctx context.Context, since time.Time) (time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, healTime, fmt.Errorf("it was not put back within %s", healTime))
	defer cancel()
	select {
	case at := <-a.healed:
		return at.Sub(since), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("%s %s/%s: %w", a.kind, a.namespace, a.name, context.Cause(ctx))
	}
}

// editEvery spaces the edits, so that each is measured by itself.
const editEvery = 200 * time.Millisecond

// timeEdits makes the edits one after the other, without waiting for the one
// before, and measures each from just before it is sent.
func timeEdits(ctx context.Context, c dynamic.Interface, t *tracker, edits []edit) ([]time.Duration, error) {
	tick := time.NewTicker(editEvery)
	defer tick.Stop()
	times, problems := make([]time.Duration, len(edits)), make([]error, len(edits))
	var all sync.WaitGroup
	for i, e := range edits {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
		all.Go(func() {
			a, began := t.expect(e), time.Now()
			if problems[i] = e.carryOut(ctx, c); problems[i] == nil {
				times[i], problems[i] = a.wait(ctx, began)
			}
		})
	}
	all.Wait()
	return times, errors.Join(problems...)
}
