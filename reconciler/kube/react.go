package kube

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
)

// The kinds whose objects change what is stored or read of others.
var (
	definitionKind = schema.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}
	mutatingKinds  = []schema.GroupKind{
		{Group: "admissionregistration.k8s.io", Kind: "MutatingWebhookConfiguration"},
		{Group: "admissionregistration.k8s.io", Kind: "MutatingAdmissionPolicy"},
		{Group: "admissionregistration.k8s.io", Kind: "MutatingAdmissionPolicyBinding"},
	}
)

const (
	// reactAfter is how long changes are collected. It takes a moment, too, until
	// every API server goes by a new definition or policy.
	reactAfter = 5 * time.Second
	// lawsAgain is how often what could not be watched is tried again.
	lawsAgain = time.Hour
)

// reactions are the changes of definitions and of mutating admission that nobody
// has looked into yet.
type reactions struct {
	mu sync.Mutex
	// resources are those whose definitions changed; all: admission did.
	resources map[schema.GroupResource]bool
	all       bool
	// watched counts the full lists there were, by kind that is watched.
	watched map[schema.GroupKind]int
	// changed wakes who looks into it; used says that there may be the first
	// environment, or no more.
	changed, used chan struct{}
}

func newReactions() *reactions {
	return &reactions{
		resources: map[schema.GroupResource]bool{}, watched: map[schema.GroupKind]int{},
		changed: make(chan struct{}, 1), used: make(chan struct{}, 1),
	}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// moved notes that an object of a kind changed.
func (r *reactions) moved(kind schema.GroupKind, name string) {
	r.mu.Lock()
	if kind == definitionKind {
		r.resources[schema.ParseGroupResource(name)] = true // which is how they are named
	} else {
		r.all = true
	}
	r.mu.Unlock()
	wake(r.changed)
}

// take gives what is concerned of what is watched, and forgets it.
func (r *reactions) take(watched []kubelive.Watched) []kubelive.Watched {
	r.mu.Lock()
	defer r.mu.Unlock()
	resources, all := r.resources, r.all
	r.resources, r.all = map[schema.GroupResource]bool{}, false
	return slices.DeleteFunc(watched, func(w kubelive.Watched) bool {
		return !all && !resources[w.Resource.GVR.GroupResource()]
	})
}

// react watches what changes how objects are stored and read while the target has
// environments, and verifies the kinds concerned when that changed, until ctx ends.
func (t *Target) react(ctx context.Context) {
	if !t.opts.Verification.on() {
		return
	}
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { t.keepReacting(ctx) })
	for ctx.Err() == nil {
		used := t.inUse()
		watching, stop := context.WithCancel(ctx)
		var watches sync.WaitGroup
		for _, kind := range append([]schema.GroupKind{definitionKind}, mutatingKinds...) {
			if used {
				watches.Go(func() { t.watchLaw(watching, kind) })
			}
		}
		for ctx.Err() == nil && t.inUse() == used {
			select {
			case <-ctx.Done():
			case <-t.reactions.used:
			}
		}
		stop()
		watches.Wait()
	}
}

// inUse reports whether the target has environments.
func (t *Target) inUse() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.kinds) > 0
}

// watchLaw keeps the watch on one kind. Where it is not served there is nothing
// to miss. A right that lacks is said once, and is no more than that: what is not
// noticed here is found by the verification in its turn. A daemon that was granted
// namespaces only is not expected to have it.
func (t *Target) watchLaw(ctx context.Context, kind schema.GroupKind) {
	about := "changes of kind " + kind.String()
	for ctx.Err() == nil {
		if r, err := t.cluster.Mapper.Peek(kind); err == nil {
			err := t.cluster.WatchGenerations(ctx, r, func(name string) { t.reactions.moved(kind, name) }, func() {
				t.reactions.mu.Lock()
				t.reactions.watched[kind]++
				t.reactions.mu.Unlock()
				t.tellOnce(about, nil)
			})
			t.reactions.mu.Lock()
			delete(t.reactions.watched, kind)
			t.reactions.mu.Unlock()
			if err != nil && t.opts.Namespaces == nil && !apierrors.IsNotFound(err) {
				t.tellOnce(about, fmt.Errorf("%w (hint: allow list and watch; until then their effects are found by the background verification alone)", err))
			}
		}
		pause(ctx, lawsAgain)
	}
}

// keepReacting verifies what is concerned by changes, some time after the first.
func (t *Target) keepReacting(ctx context.Context) {
	after := t.opts.Verification.after
	if after == 0 {
		after = reactAfter
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.reactions.changed:
		}
		pause(ctx, after)
		what := t.reactions.take(t.cluster.Watcher.Watched())
		if _, ours := t.Leader(); !ours || len(what) == 0 {
			continue
		}
		err := t.verify(ctx, what)
		if ctx.Err() != nil {
			return
		}
		if apierrors.IsNotFound(err) {
			err = nil // its definition is gone, and its watch tells of the objects
		}
		if err != nil {
			err = fmt.Errorf("not all could be verified after definitions or admission changed; the background verification does it in its turn: %w", err)
		}
		t.tellOnce("verification after a change", err)
		// Somebody may write a webhook's configuration without end.
		pause(ctx, 11*after)
	}
}
