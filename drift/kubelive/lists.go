package kubelive

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	// sideBySide is how many full lists of one target run at a time. When a server
	// has restarted, the watches of all kinds may expire at once, and each would be
	// listed anew within the same second.
	sideBySide = 4
	// turnLength is how long a list keeps others waiting. One that hangs, as of an
	// API whose own server is away, hurts nobody else for longer.
	turnLength = 5 * time.Second
)

// turns lets a few lists run side by side. A nil one bounds nothing.
type turns chan struct{}

func newTurns() turns { return make(turns, sideBySide) }

// take waits for a turn. What it returns gives it back, once, however often it is
// called.
func (t turns) take(ctx context.Context) (end func(), err error) {
	if t == nil {
		return func() {}, nil
	}
	select {
	case t <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	back := sync.OnceFunc(func() { <-t })
	late := time.AfterFunc(turnLength, back)
	return func() { late.Stop(); back() }, nil
}

// manner is what the watches of one target have in common.
type manner struct {
	lists turns
	// silence is how long a watch may say nothing before it counts as stale and is
	// started anew; zero is the usual time.
	silence time.Duration
}

// listAndWatch opens a watch that begins with a full list, when it is its turn.
func (s *stream) listAndWatch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	end, err := s.lists.take(ctx)
	if err != nil {
		return nil, err
	}
	w, err := s.api.watch(ctx, o)
	if err != nil {
		end()
		return nil, err
	}
	s.mu.Lock()
	s.endList = end
	s.mu.Unlock()
	return listing{w, end}, nil
}

// listing is a watch whose list has a turn until it is complete, or given up.
type listing struct {
	watch.Interface
	end func()
}

// Stop implements watch.Interface.
func (l listing) Stop() {
	l.end()
	l.Interface.Stop()
}
