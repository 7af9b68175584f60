package reconciler

import (
	"context"
	"slices"
	"sync"
	"time"
)

// slots bounds how many runs render, compare and apply at the same time. The
// more urgent go first, those of equal urgency in the order they came. One
// target cannot take all: a cluster that does not answer leaves room for the
// others.
type slots struct {
	mu      sync.Mutex
	free    int
	share   int
	running map[string]int
	queue   []*ticket
}

// ticket is one run that waits.
type ticket struct {
	reason Reason
	target string
	since  time.Time
	ready  chan struct{}
}

func newSlots(n int) *slots {
	return &slots{free: n, share: max(n-n/4, 1), running: map[string]int{}}
}

// acquire waits for a slot. Release gives it back.
func (s *slots) acquire(ctx context.Context, r Reason, target string) (release func(), err error) {
	t := &ticket{reason: r, target: target, since: time.Now(), ready: make(chan struct{})}
	s.mu.Lock()
	at := slices.IndexFunc(s.queue, func(q *ticket) bool { return q.reason > r })
	if at < 0 {
		at = len(s.queue)
	}
	s.queue = slices.Insert(s.queue, at, t)
	s.next()
	s.mu.Unlock()
	select {
	case <-t.ready:
		return sync.OnceFunc(func() { s.release(target) }), nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.queue, t); i >= 0 {
		s.queue = slices.Delete(s.queue, i, i+1)
	} else {
		s.put(target) // it was given at the same moment
	}
	return nil, ctx.Err()
}

func (s *slots) release(target string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(target)
}

// put needs s.mu.
func (s *slots) put(target string) {
	s.free++
	if s.running[target]--; s.running[target] == 0 {
		delete(s.running, target)
	}
	s.next()
}

// next hands out free slots. It needs s.mu.
func (s *slots) next() {
	for i := 0; s.free > 0 && i < len(s.queue); {
		t := s.queue[i]
		if s.running[t.target] >= s.share {
			i++
			continue
		}
		s.queue = slices.Delete(s.queue, i, i+1)
		s.free--
		s.running[t.target]++
		close(t.ready)
	}
}

// Queue is how many runs wait for their turn, and for how long the oldest has.
func (e *Engine) Queue() (length int, oldest time.Duration) {
	s := e.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.queue {
		oldest = max(oldest, time.Since(t.since))
	}
	return len(s.queue), oldest
}
