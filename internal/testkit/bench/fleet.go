package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/internal/testkit/demo/rig"
)

// measureFleet measures what drift costs where there are many objects in many
// environments: how fast single edits are put back, what a storm does, what is
// resident, and what is asked of the server while nothing changes.
func measureFleet(ctx context.Context, o options) (_ results, err error) {
	programs, err := rig.Build(ctx, os.Stdout)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	size := o.sizes[0]
	fmt.Printf("%d objects in %d environments\n", size, o.environments)
	b := &bench{options: o, size: size, spaces: o.environments, each: true, objects: mixed(ours, size, o.environments)}
	proceed(b.objects)
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.open(ctx, programs, dir); err != nil {
		return nil, err
	}
	if err := b.fleet(ctx); err != nil {
		return nil, errors.Join(err, fmt.Errorf("the end of the daemon's log (%s):\n%s", filepath.Base(b.daemon.LogFile), b.daemon.LastLog()))
	}
	return b.results, nil
}

func (b *bench) fleet(ctx context.Context) error {
	for _, part := range []struct {
		name string
		take func(context.Context) error
	}{
		{"apply", b.populate},
		{"single edits", b.interleaved},
		{"storm", b.storm},
		{"memory", b.memory},
		{"start", b.restart},
		{"idle", b.idle},
	} {
		if b.fleetPart != "" && part.name != "apply" && part.name != b.fleetPart {
			continue
		}
		fmt.Printf("  %s\n", part.name)
		if err := part.take(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// coldEach is how much longer the first runs may take for each object, where that is
// more than coldTime in all.
const coldEach = 20 * time.Millisecond

// populate lets the daemon apply all, and applies as many raw.
func (b *bench) populate(ctx context.Context) error {
	began := time.Now()
	if err := b.daemon.Start(); err != nil {
		return err
	}
	b.watched = watchMemory(b.daemon.PID())
	bound := max(coldTime, time.Duration(b.size)*coldEach)
	cold, cancel := context.WithTimeoutCause(ctx, bound, fmt.Errorf("the first runs took longer than %s", bound))
	defer cancel()
	if err := b.daemon.WaitReady(cold); err != nil {
		return err
	}
	took := time.Since(began)
	if err := b.countLive(ctx); err != nil || b.fleetPart == "memory" {
		return err // it needs no raw objects
	}
	raw, err := b.rawApply(ctx, rawAfter)
	if err != nil {
		return err
	}
	b.add(against("cold-apply", took, raw, 1.5))
	return nil
}

// interleaved makes each edit twice, half a pause apart: once for Holdfast and once
// for a bare corrector, so that whatever else happens on the machine happens to
// both.
func (b *bench) interleaved(ctx context.Context) error {
	if err := settle(ctx, b.cluster); err != nil {
		return err
	}
	got, bare, err := b.both(ctx, pick(b.objects, b.edits), pick(mixed(rawAfter, b.size, b.spaces), b.edits))
	if err != nil {
		return err
	}
	b.add(against("drift-p50", percentile(got, 0.5), percentile(bare, 0.5), 2))
	b.add(against("drift-p99", percentile(got, 0.99), percentile(bare, 0.99), 2))
	return nil
}

const (
	// stormSize is how many objects one manager edits at once, stormTime how long
	// it may take until they are put back.
	stormSize = 2000
	stormTime = 5 * time.Minute
	// stormEdits is how many edits are made elsewhere meanwhile.
	stormEdits = 40
	// stormLook is how often the report is looked at.
	stormLook = time.Second
)

// storm edits many ConfigMaps of all environments but the last at once. Single
// edits before and meanwhile, in the last environment and for a bare corrector,
// tell what others feel of it beyond what the server does to everybody.
func (b *bench) storm(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, stormTime, fmt.Errorf("the storm was not over within %s", stormTime))
	defer cancel()
	last := namespace(ours, b.spaces-1)
	var hit, spared []object
	for _, o := range b.objects {
		switch {
		case o.namespace == last:
			spared = append(spared, o)
		case o.kind == aConfigMap.kind && len(hit) < stormSize:
			hit = append(hit, o)
		}
	}
	n := min(stormEdits, len(spared)/2)
	single, raw := pick(spared, 2*n), pick(mixed(rawAfter, b.size, b.spaces), 2*n)
	calm, bareCalm, err := b.both(ctx, single[:n], raw[:n])
	if err != nil {
		return fmt.Errorf("before the storm: %w", err)
	}
	var peak *memory
	if canReadMemory() {
		peak = watchMemory(b.daemon.PID())
	}
	var took time.Duration
	var others, bare []time.Duration
	var err1, err2 error
	var all sync.WaitGroup
	all.Go(func() { took, err1 = b.stormOver(ctx, hit) })
	all.Go(func() { others, bare, err2 = b.both(ctx, single[n:], raw[n:]) })
	all.Wait()
	if peak != nil {
		peak.stop()
	}
	if err := errors.Join(err1, err2, b.oneRow(ctx)); err != nil {
		return err
	}
	again := time.Now()
	if _, err := applyAll(ctx, b.cluster.Objects, rawAfter, b.spaces, mixed(rawAfter, len(hit), b.spaces)); err != nil {
		return err
	}
	// Each was edited, read and applied, of which the last is what is raw here.
	b.add(against("storm-corrected", took, time.Since(again), 4))
	fmt.Printf("    elsewhere, p50: before the storm %.1f ms (bare %.1f ms), in it %.1f ms (bare %.1f ms)\n",
		millis(median(calm)), millis(median(bareCalm)), millis(median(others)), millis(median(bare)))
	b.add(against("storm-others-p50", percentile(others, 0.5), percentile(bare, 0.5), 2))
	b.add(against("storm-others-max", percentile(others, 1), percentile(bare, 1), 2))
	if peak != nil {
		b.add(within("storm-memory-peak", float64(peak.most)/1e6, "MB", stormMemory))
	}
	return nil
}

// stormMemory is what may be resident at most in a storm, in MB.
const stormMemory = 200

// both makes edits of ours, and for a bare corrector of the raw objects, in the
// same period: half a pause apart, so that whatever else happens on the machine
// happens to both.
func (b *bench) both(ctx context.Context, mine, raw []edit) (got, bare []time.Duration, err error) {
	t := newTracker()
	stop, err := observe(ctx, b.cluster.Config, ours, t.see)
	if err != nil {
		return nil, nil, err
	}
	defer stop()
	var err1, err2 error
	var all sync.WaitGroup
	all.Go(func() { bare, err1 = bareDrift(ctx, b.cluster, rawAfter, raw) })
	time.Sleep(editEvery / 2)
	all.Go(func() { got, err2 = timeEdits(ctx, b.cluster.Objects, t, mine) })
	all.Wait()
	return got, bare, errors.Join(err1, err2)
}

// stormOver edits objects as fast as it goes, and says how long it took until a
// watcher had seen all of them put back.
func (b *bench) stormOver(ctx context.Context, objects []object) (time.Duration, error) {
	t := newTracker()
	stop, err := observe(ctx, b.cluster.Config, ours, t.see)
	if err != nil {
		return 0, err
	}
	defer stop()
	attempts := make([]*attempt, len(objects))
	for i, o := range objects {
		attempts[i] = t.expect(edit{object: o})
	}
	began := time.Now()
	if err := b.editAll(ctx, objects); err != nil {
		return 0, err
	}
	end := began
	for i, a := range attempts {
		select {
		case at := <-a.healed:
			if at.After(end) {
				end = at
			}
		case <-ctx.Done():
			return 0, fmt.Errorf("%d of %d are put back: %w", i, len(attempts), context.Cause(ctx))
		}
	}
	return end.Sub(began), nil
}

// stormManager is who edits in the storm.
const stormManager = "storm-script"

func (b *bench) editAll(ctx context.Context, objects []object) error {
	next := make(chan object)
	var all sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for range 2 * atATime {
		all.Go(func() {
			for o := range next {
				_, err := b.cluster.Objects.Resource(o.GroupVersionResource).Namespace(o.namespace).Patch(ctx, o.name, types.MergePatchType,
					[]byte(`{"data":{"value":"storm"}}`), metav1.PatchOptions{FieldManager: stormManager})
				if err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
		})
	}
	for _, o := range objects {
		next <- o
	}
	close(next)
	all.Wait()
	return failed
}

// oneRow looks how many rows of the report are about the storm, once all of it has
// ended there.
func (b *bench) oneRow(ctx context.Context) error {
	for {
		report, err := b.daemon.Client().Drift(ctx)
		if err != nil {
			return err
		}
		rows, open := 0, 0
		for _, g := range report.ByCause().Groups {
			if len(g.By) == 1 && g.By[0] == stormManager {
				rows++
				if g.Ended.IsZero() {
					open++
				}
			}
		}
		if open == 0 {
			b.add(within("storm-rows", float64(rows), "rows", 1))
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(stormLook):
		}
	}
}

// restart measures until everything is compared after a start with all applied,
// which takes no more than the watches' first lists.
func (b *bench) restart(ctx context.Context) error {
	if err := b.daemon.Stop(); err != nil {
		return err
	}
	began := time.Now()
	if err := b.daemon.Start(); err != nil {
		return err
	}
	if err := b.daemon.WaitReady(ctx); err != nil {
		return err
	}
	fmt.Printf("    everything is compared %.1f s after the start\n", time.Since(began).Seconds())
	return nil
}

// idle counts what is asked of the server while nothing changes, and then, for the
// same time, what its own controllers ask when there is no daemon.
func (b *bench) idle(ctx context.Context) error {
	if err := settle(ctx, b.cluster); err != nil {
		return err
	}
	with, err := b.requestsIn(ctx, b.quiet)
	if err != nil {
		return err
	}
	if err := b.daemon.Stop(); err != nil {
		return err
	}
	if err := settle(ctx, b.cluster); err != nil {
		return err
	}
	without, err := b.requestsIn(ctx, b.quiet)
	if err != nil {
		return err
	}
	fmt.Printf("    in %s with the daemon: %s; without: %s\n", b.quiet, with, without)
	b.add(within("idle-requests", float64(with.Since(without).Total()), "requests", 0))
	return nil
}

func (b *bench) requestsIn(ctx context.Context, d time.Duration) (rig.Requests, error) {
	before, err := b.cluster.Requests(ctx)
	if err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(d):
	}
	after, err := b.cluster.Requests(ctx)
	if err != nil {
		return nil, err
	}
	return after.Since(before), nil
}
