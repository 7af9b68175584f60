package kube

import (
	"context"
	"slices"
	"sync"
)

// slots are the right to work on a target's server: so many at once. What is free goes
// by turns to who waits longest and to the environment that wants least, so that a
// single correction does not wait behind a storm elsewhere, and a storm makes headway
// whatever else there is.
type slots struct {
	most int

	mu   sync.Mutex
	held int
	// wanted is how much each environment still has to do, what it does now included.
	wanted map[string]int
	// waiting are in the order of their coming.
	waiting []*slot
	// fifo: the next goes to who waits longest.
	fifo bool
}

// slot is one that is waited for, until granted is closed.
type slot struct {
	environment string
	granted     chan struct{}
}

func newSlots(most int) *slots { return &slots{most: most, wanted: map[string]int{}} }

// want says that an environment has n more things to do, or has fewer.
func (s *slots) want(environment string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wanted[environment] += n; s.wanted[environment] == 0 {
		delete(s.wanted, environment)
	}
}

// acquire waits for a slot, which release gives back; its error is the context's.
func (s *slots) acquire(ctx context.Context, environment string) error {
	w := &slot{environment: environment, granted: make(chan struct{})}
	s.mu.Lock()
	s.waiting = append(s.waiting, w)
	s.handOut()
	s.mu.Unlock()
	select {
	case <-w.granted:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.waiting, w); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
	} else { // it was granted in the same moment
		s.held--
		s.handOut()
	}
	return ctx.Err()
}

func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held--
	s.handOut()
}

// handOut needs mu.
func (s *slots) handOut() {
	for s.held < s.most && len(s.waiting) > 0 {
		best := 0
		if s.fifo = !s.fifo; !s.fifo {
			for i, w := range s.waiting {
				if s.wanted[w.environment] < s.wanted[s.waiting[best].environment] {
					best = i
				}
			}
		}
		close(s.waiting[best].granted)
		s.waiting = slices.Delete(s.waiting, best, best+1)
		s.held++
	}
}

// each calls do for every element of what an environment has to do, as many at once
// as there are slots for it, and returns when all are done or ctx has ended.
func each[E any](ctx context.Context, t *Target, environment string, list []E, do func(context.Context, E)) {
	var all sync.WaitGroup
	defer all.Wait()
	t.slots.want(environment, len(list))
	for i, element := range list {
		if t.slots.acquire(ctx, environment) != nil {
			t.slots.want(environment, i-len(list))
			return
		}
		all.Go(func() {
			defer t.slots.want(environment, -1)
			defer t.slots.release()
			ctx, cancel := context.WithTimeout(ctx, t.opts.RequestTimeout)
			defer cancel()
			do(ctx, element)
		})
	}
}
