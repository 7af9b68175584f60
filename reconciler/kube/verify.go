package kube

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
)

// Verification says how often everything is read in full though no watch told of
// anything, and at which pace.
type Verification struct {
	// Interval is the time between two passes; zero: there are none.
	Interval time.Duration
	// RequestsPerMinute is the budget of all that is verified; a request reads 100
	// objects.
	RequestsPerMinute int

	// after is how long changes are collected that are reacted to; zero is reactAfter.
	after time.Duration
}

func (v Verification) on() bool { return v.Interval > 0 && v.RequestsPerMinute > 0 }

// pacer spaces requests, whoever sends them.
type pacer struct {
	mu   sync.Mutex
	next time.Time
}

// wait returns when the next request may be sent.
func (p *pacer) wait(ctx context.Context, each time.Duration) error {
	p.mu.Lock()
	if now := time.Now(); p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(each)
	at := p.next
	p.mu.Unlock()
	pause(ctx, time.Until(at))
	return ctx.Err()
}

// keepVerifying passes over all objects at the interval, until ctx ends. The first
// pass comes sooner, since a daemon that is restarted daily would have none.
func (t *Target) keepVerifying(ctx context.Context) {
	v := t.opts.Verification
	if !v.on() {
		return
	}
	wait := v.Interval/24 + rand.N(v.Interval/24+1)
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if _, ours := t.Leader(); ours {
			t.verifyOnce(ctx)
		}
		wait = v.Interval - v.Interval/20 + rand.N(v.Interval/10+1)
	}
}

// verifyOnce is one pass.
func (t *Target) verifyOnce(ctx context.Context) {
	err := t.verify(ctx, t.cluster.Watcher.Watched())
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		t.mu.Lock()
		t.verified = time.Now()
		t.mu.Unlock()
	} else {
		err = fmt.Errorf("the background verification did not see everything, and is tried again in its turn: %w", err)
	}
	t.tellOnce("verification", err)
}

// verify reads some of what is watched within the budget.
func (t *Target) verify(ctx context.Context, what []kubelive.Watched) error {
	each := time.Minute / time.Duration(t.opts.Verification.RequestsPerMinute)
	found, err := t.cluster.Verify(ctx, what, func(ctx context.Context) error { return t.pacer.wait(ctx, each) })
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doubted += found.Doubted
	return err
}

// Verified is when the background verification last saw everything, and how many
// objects it has found that no watch had told of. The time is zero before the
// first.
func (t *Target) Verified() (at time.Time, found int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.verified, t.doubted
}
