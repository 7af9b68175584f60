package kubelive

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// WatchState is how one watch stands.
type WatchState struct {
	Kind, Namespace string
	// Heard is when it last said anything.
	Heard  time.Time
	Synced bool
	Err    error
}

// State is how the watches stand, by kind and namespace.
func (w *Watcher) State() []WatchState {
	w.mu.Lock()
	all := slices.Collect(maps.Values(w.streams))
	w.mu.Unlock()
	return statesOf(all)
}

// State is how the watches stand, by kind and namespace.
func (o *ObjectWatches) State() []WatchState {
	o.mu.Lock()
	all := slices.Collect(maps.Values(o.streams))
	o.mu.Unlock()
	return statesOf(all)
}

func statesOf(all []*stream) []WatchState {
	out := make([]WatchState, 0, len(all))
	for _, s := range all {
		heard, err := s.health()
		s.mu.Lock()
		synced := s.isSync
		s.mu.Unlock()
		out = append(out, WatchState{Kind: s.resource.GVR.GroupResource().String(), Namespace: s.namespace, Heard: heard, Synced: synced, Err: err})
	}
	slices.SortFunc(out, func(a, b WatchState) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace))
	})
	return out
}
