package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/holdfast-gitops/holdfast/sources"
)

// The times of a lease. A holder that cannot renew stops writing leaseMargin
// before the lease runs out by its own clock; a standby takes over when it has
// seen no renewal for the whole of leaseLength by its own clock, so that clocks
// need not agree.
const (
	leaseLength = 25 * time.Second
	leaseRenew  = 5 * time.Second
	leaseMargin = 5 * time.Second
)

var leases = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}

// ErrNotLeader is the error of a write while another has the target's lease.
var ErrNotLeader = errors.New("this daemon does not have the target's lease")

// leaseName is the lease of an installation: two installations have different
// environments, and must not wait for each other.
func leaseName(installation string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(installation))
	return strings.TrimRight("holdfast-lease-"+clean[:min(len(clean), 200)], "-")
}

// lease is the right to write to a target, held by one daemon at a time.
type lease struct {
	objects   dynamic.Interface
	namespace string
	name      string
	holder    string
	// length, renew and margin are the times above.
	length, renew, margin time.Duration
	// prepare makes the namespace, where that is allowed; it may be nil.
	prepare func(context.Context) error

	mu sync.Mutex
	// until is when the lease runs out by our clock; zero while it is not ours.
	// Held is closed when it is lost or given back.
	until time.Time
	held  chan struct{}
	// seen is the last state of another's lease, and since when it has not moved.
	seen  string
	since time.Time
	// by is the other's name.
	by string
	// problem is why it could not be had.
	problem string
}

// remaining is for how long writes are allowed.
func (l *lease) remaining() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.until.IsZero() {
		return 0
	}
	return time.Until(l.until) - l.margin
}

// bound is a context that ends before the lease does, and when it is lost.
func (l *lease) bound(ctx context.Context) (context.Context, context.CancelFunc, error) {
	left := l.remaining()
	l.mu.Lock()
	held := l.held
	l.mu.Unlock()
	if left <= 0 || held == nil {
		return nil, nil, l.notOurs()
	}
	ctx, cancel := context.WithTimeoutCause(ctx, left, ErrNotLeader)
	go func() {
		select {
		case <-held:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel, nil
}

func (l *lease) notOurs() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by != "" {
		return fmt.Errorf("%w: %s has it", ErrNotLeader, l.by)
	}
	return ErrNotLeader
}

// Lead holds the target's lease until ctx ends, and calls lead whenever it was
// got; the context that lead gets ends when the lease is lost. Lead waits for
// lead to return before it tries again, and gives the lease back at the end. It
// returns nil when ctx has ended, and at once when the target was opened without
// a holder: lead then runs unbounded.
func (t *Target) Lead(ctx context.Context, lead func(context.Context)) error {
	if t.lease == nil {
		lead(ctx)
		return nil
	}
	return t.lease.run(ctx, lead, t.opts.Failed)
}

// Leader says who has the target's lease, as far as it is known; ours is true
// when this daemon may write.
func (t *Target) Leader() (holder string, ours bool) {
	if t.lease == nil {
		return "", true
	}
	if t.lease.remaining() > 0 {
		return t.lease.holder, true
	}
	t.lease.mu.Lock()
	defer t.lease.mu.Unlock()
	return t.lease.by, false
}

func (l *lease) run(ctx context.Context, lead func(context.Context), told func(error)) error {
	var last string
	for ctx.Err() == nil {
		err := l.try(ctx)
		l.noteProblem(err)
		if err != nil {
			if text := err.Error(); text != last && ctx.Err() == nil {
				told(err)
				last = text
			}
			pause(ctx, l.renew/2)
			continue
		}
		last = ""
		l.keep(ctx, lead, told)
	}
	return nil
}

// noteProblem keeps why the lease cannot be had, if that is not because another
// has it.
func (l *lease) noteProblem(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.problem = ""
	if err != nil && !errors.Is(err, ErrNotLeader) {
		l.problem = err.Error()
	}
}

// LeaseProblem is why the target's lease cannot be had, such as a right that is
// missing; empty when it can, or when another has it.
func (t *Target) LeaseProblem() string {
	if t.lease == nil {
		return ""
	}
	t.lease.mu.Lock()
	defer t.lease.mu.Unlock()
	return t.lease.problem
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// keep renews while lead runs, and ends lead when the lease is lost.
func (l *lease) keep(ctx context.Context, lead func(context.Context), told func(error)) {
	held, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		lead(held)
	}()
	tick := time.NewTicker(l.renew)
	defer tick.Stop()
	for {
		select {
		case <-done:
			l.release()
			return
		case <-ctx.Done():
			<-done
			l.release()
			return
		case <-tick.C:
		}
		err := l.try(ctx)
		if err == nil || ctx.Err() != nil {
			continue
		}
		if errors.Is(err, ErrNotLeader) || l.remaining() <= 0 {
			l.drop()
			told(fmt.Errorf("lost the lease: %w", err))
			lost(fmt.Errorf("lost the target's lease: %w", err))
			<-done
			return
		}
	}
}

func (l *lease) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose()
}

// lose ends the writes in flight; the caller holds the mutex.
func (l *lease) lose() {
	l.until = time.Time{}
	if l.held != nil {
		close(l.held)
		l.held = nil
	}
}

// try takes or renews the lease once. ErrNotLeader means that another has it.
func (l *lease) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.renew)
	defer cancel()
	asked := time.Now()
	api := l.objects.Resource(leases).Namespace(l.namespace)
	live, err := api.Get(ctx, l.name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = api.Create(ctx, l.object(nil), metav1.CreateOptions{FieldManager: FieldManager})
		if apierrors.IsNotFound(err) && l.prepare != nil {
			if err = l.prepare(ctx); err == nil {
				_, err = api.Create(ctx, l.object(nil), metav1.CreateOptions{FieldManager: FieldManager})
			}
		}
	case err == nil && !l.free(live):
		return l.notOurs()
	case err == nil:
		_, err = api.Update(ctx, l.object(live), metav1.UpdateOptions{FieldManager: FieldManager})
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("%w: another took it at this moment", ErrNotLeader)
	}
	if apierrors.IsForbidden(err) {
		return sources.Problem{
			Object: "Lease/" + l.namespace + "/" + l.name, Message: err.Error(),
			Hint: "give Holdfast's identity get, create and update on leases in its state namespace",
		}
	}
	if err != nil {
		return fmt.Errorf("lease %s/%s: %w", l.namespace, l.name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until, l.by = asked.Add(l.length), ""
	if l.held == nil {
		l.held = make(chan struct{})
	}
	return nil
}

// free reports whether the lease is ours, given back, or has not been renewed for
// its whole length while we looked.
func (l *lease) free(live *unstructured.Unstructured) bool {
	holder, _, _ := unstructured.NestedString(live.Object, "spec", "holderIdentity")
	l.mu.Lock()
	defer l.mu.Unlock()
	if holder == "" || holder == l.holder {
		return true
	}
	l.by = holder
	l.lose()
	if state := live.GetResourceVersion(); state != l.seen {
		l.seen, l.since = state, time.Now()
		return false
	}
	return time.Since(l.since) >= l.length
}

// object is the lease in our name; live is what it replaces.
func (l *lease) object(live *unstructured.Unstructured) *unstructured.Unstructured {
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000000Z07:00")
	spec := map[string]any{
		"holderIdentity": l.holder, "leaseDurationSeconds": int64(l.length / time.Second),
		"renewTime": now, "acquireTime": now, "leaseTransitions": int64(0),
	}
	out := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
		"metadata": map[string]any{"name": l.name, "namespace": l.namespace},
		"spec":     spec,
	}}
	if live == nil {
		return out
	}
	out.SetResourceVersion(live.GetResourceVersion())
	before, _, _ := unstructured.NestedMap(live.Object, "spec")
	moves, _ := before["leaseTransitions"].(int64)
	if before["holderIdentity"] == l.holder {
		spec["acquireTime"] = before["acquireTime"]
	} else {
		moves++
	}
	spec["leaseTransitions"] = moves
	return out
}

// release gives the lease back, so that a standby need not wait for its end.
func (l *lease) release() {
	l.drop()
	ctx, cancel := context.WithTimeout(context.Background(), l.renew)
	defer cancel()
	api := l.objects.Resource(leases).Namespace(l.namespace)
	live, err := api.Get(ctx, l.name, metav1.GetOptions{})
	if err != nil {
		return // it runs out by itself
	}
	if holder, _, _ := unstructured.NestedString(live.Object, "spec", "holderIdentity"); holder != l.holder {
		return
	}
	out := l.object(live)
	_ = unstructured.SetNestedField(out.Object, "", "spec", "holderIdentity")
	_, _ = api.Update(ctx, out, metav1.UpdateOptions{FieldManager: FieldManager}) // it runs out by itself
}
