package kube

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The first wait after a write that lost against another writer, the longest,
// and how long it is tried in all. A controller that reports status writes a few
// times in a second, and then is done.
const (
	firstPause    = 5 * time.Millisecond
	longestPause  = 200 * time.Millisecond
	patienceLimit = 10 * time.Second
	// lateTries is how many tries are bound to the resourceVersion.
	lateTries = 8
)

// patience spaces the tries of a write that others get in the way of.
type patience struct {
	started time.Time
	pause   time.Duration
	tries   int
}

// late reports whether the careful tries are used up.
func (p *patience) late() bool { return p.tries >= lateTries }

// wait blocks for a growing time with jitter, so that two writers do not meet
// again. It is false when it has been long enough, or ctx ended.
func (p *patience) wait(ctx context.Context) bool {
	if p.started.IsZero() {
		p.started, p.pause = time.Now(), firstPause
	}
	if time.Since(p.started) > patienceLimit {
		return false
	}
	timer := time.NewTimer(p.pause/2 + rand.N(p.pause))
	defer timer.Stop()
	p.pause = min(2*p.pause, longestPause)
	p.tries++
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// isStale reports whether a write was refused because the object has moved on
// since it was read. A conflict between field managers has the same code, and
// names the fields: trying again does not help it.
func isStale(err error) bool {
	return apierrors.IsConflict(err) && !isFieldConflict(err)
}

// isFieldConflict reports whether an apply without force met fields that another
// manager owns.
func isFieldConflict(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !apierrors.IsConflict(err) {
		return false
	}
	_, found := apierrors.StatusCause(err, metav1.CauseTypeFieldManagerConflict)
	return found
}
