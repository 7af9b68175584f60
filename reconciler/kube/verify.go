package kube

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// Verification says how often everything is read in full though no watch told of
// anything, and at which pace.
type Verification struct {
	// Interval is the time between two passes; zero: there are none.
	Interval time.Duration
	// RequestsPerMinute is the budget of a pass; a request reads 100 objects.
	RequestsPerMinute int
}

// keepVerifying passes over all objects at the interval, until ctx ends. The first
// pass comes sooner, since a daemon that is restarted daily would have none.
func (t *Target) keepVerifying(ctx context.Context) {
	v := t.opts.Verification
	if v.Interval <= 0 || v.RequestsPerMinute <= 0 {
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
	pause := time.Minute / time.Duration(t.opts.Verification.RequestsPerMinute)
	pace := func(ctx context.Context) error {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		}
	}
	found, err := t.cluster.Verify(ctx, t.cluster.Watcher.Watched(), pace)
	if ctx.Err() != nil {
		return
	}
	t.mu.Lock()
	if err == nil {
		t.verified = time.Now()
	}
	t.doubted += found.Doubted
	t.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("the background verification did not see everything, and is tried again in its turn: %w", err)
	}
	t.tellOnce("verification", err)
}

// Verified is when the background verification last saw everything, and how many
// objects it has found that no watch had told of. The time is zero before the
// first.
func (t *Target) Verified() (at time.Time, found int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.verified, t.doubted
}
