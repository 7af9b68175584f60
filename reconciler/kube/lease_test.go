package kube

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/internal/testkit/kube"
)

// lead makes a world's target one of two that want the lease, with short times.
func (w *world) lead(holder string) {
	w.target.lease = &lease{
		objects: w.target.cluster.Objects, namespace: w.namespace, name: leaseName("test"), holder: holder,
		length: 2 * time.Second, renew: 200 * time.Millisecond, margin: 500 * time.Millisecond,
	}
}

// leading runs Lead until the test ends or stop is called.
func (w *world) leading() (leads *atomic.Bool, stop func()) {
	leads = &atomic.Bool{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.target.Lead(ctx, func(ctx context.Context) {
			leads.Store(true)
			<-ctx.Done()
			leads.Store(false)
		})
	}()
	stop = func() { cancel(); <-done }
	w.t.Cleanup(stop)
	return leads, stop
}

func TestOnlyTheHolderOfTheLeaseWrites(t *testing.T) {
	t.Parallel()
	first := newWorld(t)
	second := newWorld(t)
	second.namespace, second.name = first.namespace, first.name
	second.restart()
	first.lead("one")
	second.lead("two")
	items := first.items(shop)
	if _, err := first.try(t.Context(), items); !errors.Is(err, ErrNotLeader) {
		t.Errorf("written without a lease: %v", err)
	}
	firstLeads, stopFirst := first.leading()
	first.eventually("the first leads", firstLeads.Load)
	secondLeads, _ := second.leading()
	if got := first.run(items); got.errors() != "" {
		t.Fatal(got.errors())
	}
	second.eventually("the second knows who leads", func() bool { by, ours := second.target.Leader(); return by == "one" && !ours })
	if _, err := second.try(t.Context(), second.items(shop+"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: more, namespace: NS}\n")); err == nil || !strings.Contains(err.Error(), "one has it") {
		t.Errorf("the standby wrote: %v", err)
	}
	stopFirst()
	second.eventually("the second takes over at once what was given back", secondLeads.Load)
	if got := second.run(items); got.errors() != "" {
		t.Error(got.errors())
	}
}

func TestLostLeaseEndsWhatRunsAndIsTakenOver(t *testing.T) {
	t.Parallel()
	first := newWorld(t)
	second := newWorld(t)
	second.namespace, second.name = first.namespace, first.name
	second.restart()
	first.lead("one")
	second.lead("two")
	items := first.items(shop)
	firstLeads, _ := first.leading()
	first.eventually("the first leads", firstLeads.Load)
	secondLeads, _ := second.leading()
	cut := func(r *http.Request) error {
		if strings.Contains(r.URL.Path, "/leases") {
			return errors.New("no way to the server")
		}
		return nil
	}
	first.allow.Store(&cut)
	second.eventually("the second takes over", func() bool {
		if firstLeads.Load() && secondLeads.Load() {
			t.Error("two lead at one time")
		}
		return secondLeads.Load()
	})
	if firstLeads.Load() {
		t.Error("the first goes on")
	}
	if _, err := first.try(t.Context(), items); !errors.Is(err, ErrNotLeader) {
		t.Errorf("it still writes: %v", err)
	}
	if got := second.run(items); got.errors() != "" {
		t.Error(got.errors())
	}
}

func TestWriteCannotOutliveTheLease(t *testing.T) {
	t.Parallel()
	l := &lease{margin: time.Second, until: time.Now().Add(3 * time.Second), held: make(chan struct{})}
	ctx, cancel, err := l.bound(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	if end, ok := ctx.Deadline(); !ok || time.Until(end) > 2*time.Second {
		t.Errorf("the request may last until %v", end)
	}
	l.drop()
	<-ctx.Done()
	if _, _, err := l.bound(t.Context()); !errors.Is(err, ErrNotLeader) {
		t.Errorf("without a lease: %v", err)
	}
}

func TestNamesOfLeases(t *testing.T) {
	t.Parallel()
	for installation, want := range map[string]string{"default": "holdfast-lease-default", "Team A/blue": "holdfast-lease-team-a-blue", "---": "holdfast-lease"} {
		if got := leaseName(installation); got != want {
			t.Errorf("%q: %q, want %q", installation, got, want)
		}
	}
}

func TestALeaseThatMayNotBeHadSaysWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var faults kube.Faults
	faults.Forbid("leases.coordination.k8s.io")
	target, err := Open(Options{
		Name: "test", Config: faults.Wrap(w.config), StateNamespace: w.namespace, Installation: "test", Version: "test",
		Holder: "somebody", Key: make([]byte, 32), Failed: func(error) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- target.Lead(ctx, func(context.Context) { t.Error("led without the right to") }) }()
	w.eventually("it says why", func() bool { return strings.Contains(target.LeaseProblem(), "give Holdfast's identity") })
	if holder, ours := target.Leader(); holder != "" || ours {
		t.Errorf("leader %q, ours %v", holder, ours)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
