package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// order lets environments wait for the only slot, each by its demand and in the
// order given, and says who got it when.
func order(t *testing.T, demands map[string]int, arrivals ...string) (got []string) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1)
		for name, n := range demands {
			s.want(name, n)
		}
		if err := s.acquire(t.Context(), "holder"); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		var mu sync.Mutex
		for _, name := range arrivals {
			all.Go(func() {
				if err := s.acquire(t.Context(), name); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				got = append(got, name)
				mu.Unlock()
				s.want(name, -1)
				s.release()
			})
			synctest.Wait()
		}
		s.release()
		all.Wait()
	})
	return got
}

func TestAFreeSlotGoesToTheOldestAndTheSmallestByTurns(t *testing.T) {
	got := order(t, map[string]int{"storm": 100, "calm": 1}, "storm", "storm", "storm", "calm")
	at := slices.Index(got, "calm")
	if at > 1 {
		t.Errorf("calm came as number %d of %v", at+1, got)
	}
	// Many small ones do not keep a big one from its share.
	small := make([]string, 20)
	demands := map[string]int{"storm": 100}
	for i := range small {
		small[i] = fmt.Sprintf("small-%02d", i)
		demands[small[i]] = 1
	}
	got = order(t, demands, slices.Concat([]string{"storm"}, small)...)
	if at := slices.Index(got, "storm"); at > 1 {
		t.Errorf("storm, which waited longest, came as number %d of %v", at+1, got)
	}
}

func TestSlotsAreNeverMoreThanAllowedAndNoneIsLost(t *testing.T) {
	s := newSlots(3)
	target := &Target{opts: Options{RequestTimeout: time.Minute}, slots: s}
	var held, most, done atomic.Int64
	var all sync.WaitGroup
	for e := range 8 {
		all.Go(func() {
			each(t.Context(), target, fmt.Sprint(e), make([]int, 50), func(context.Context, int) {
				n := held.Add(1)
				for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
				}
				done.Add(1)
				held.Add(-1)
			})
		})
	}
	all.Wait()
	if most.Load() > 3 || done.Load() != 400 {
		t.Errorf("%d at once, %d done", most.Load(), done.Load())
	}
	if len(s.wanted)+len(s.waiting)+s.held != 0 {
		t.Errorf("left behind: %+v", s)
	}
}

func TestWhoGivesUpWaitingLeavesTheSlotToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1)
		target := &Target{opts: Options{RequestTimeout: time.Minute}, slots: s}
		if err := s.acquire(t.Context(), "holder"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.acquire(ctx, "impatient"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("acquire without a free slot: %v", err)
		}
		each(ctx, target, "late", []int{1, 2}, func(context.Context, int) { t.Error("done though the time is over") })
		s.release()
		if err := s.acquire(t.Context(), "next"); err != nil {
			t.Fatal(err)
		}
		s.release()
		if len(s.wanted)+len(s.waiting)+s.held != 0 {
			t.Errorf("left behind: %+v", s)
		}
	})
}
