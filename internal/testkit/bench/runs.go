package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// coldTime bounds the first run.
const coldTime = 10 * time.Minute

// coldApply measures from the start of the process, with an empty data directory
// and an empty cluster, to the end of the run that applied everything. The raw
// measure is taken before and after it, since the server slows down as it fills
// and other work on the machine comes and goes; the better of the two counts, so
// that a disturbance never flatters.
func (b *bench) coldApply(ctx context.Context) error {
	if _, err := applyAll(ctx, b.cluster.Objects, warmUp, namespaceCount, mixed(warmUp, 60, namespaceCount)); err != nil {
		return fmt.Errorf("raw: %w", err)
	}
	before, err := b.rawApply(ctx, rawBefore)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := b.daemon.Start(); err != nil {
		return err
	}
	b.watched = watchMemory(b.daemon.PID())
	run, err := b.awaitFirst(ctx)
	if err != nil {
		return err
	}
	if err := b.countLive(ctx); err != nil {
		return err
	}
	after, err := b.rawApply(ctx, rawAfter)
	if err != nil {
		return err
	}
	fmt.Printf("    raw: %.1f ms before, %.1f ms after\n", millis(before), millis(after))
	b.add(against("cold-apply", run.Finished.Sub(began), min(before, after), 1.5))
	return nil
}

func (b *bench) rawApply(ctx context.Context, set string) (time.Duration, error) {
	if err := settle(ctx, b.cluster); err != nil {
		return 0, err
	}
	took, err := applyAll(ctx, b.cluster.Objects, set, b.spaces, mixed(set, b.size, b.spaces))
	if err != nil {
		return 0, fmt.Errorf("raw: %w", err)
	}
	return took, settle(ctx, b.cluster)
}

// awaitFirst is the daemon's first run, which must have applied everything.
func (b *bench) awaitFirst(ctx context.Context) (reconciler.Run, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, coldTime, fmt.Errorf("the first run took longer than %s", coldTime))
	defer cancel()
	if err := b.daemon.WaitReady(ctx); err != nil {
		return reconciler.Run{}, err
	}
	status, err := b.daemon.Client().Environment(ctx, "bench")
	if err != nil {
		return reconciler.Run{}, err
	}
	if status.LastRun == nil || status.LastRun.Result != reconciler.Applied {
		return reconciler.Run{}, fmt.Errorf("the first run ended as %s: %v", status.Sync, status.Errors)
	}
	return *status.LastRun, nil
}

// countLive sees that what the run says is so.
func (b *bench) countLive(ctx context.Context) error {
	live := 0
	for _, k := range objectKinds {
		list, err := b.cluster.Objects.Resource(k.GroupVersionResource).
			List(ctx, metav1.ListOptions{LabelSelector: mark + "=" + ours + "," + kubelive.LabelEnvironment})
		if err != nil {
			return fmt.Errorf("count what is live: %w", err)
		}
		live += len(list.Items)
	}
	if live != b.size {
		return fmt.Errorf("%d objects are live after the first run, of %d", live, b.size)
	}
	return nil
}

// resync measures runs in which nothing changed, against one listing of the
// repository's refs, and counts what they ask of the API server. That counts its
// own controllers too, so the median of the runs is what counts.
func (b *bench) resync(ctx context.Context) error {
	var times, listings []time.Duration
	var requests []int
	for range b.repeats {
		took, sent, err := b.resyncOnce(ctx)
		if err != nil {
			return err
		}
		times, requests = append(times, took), append(requests, sent)
		began := time.Now()
		if _, err := b.mirror.Head(ctx); err != nil {
			return err
		}
		listings = append(listings, time.Since(began))
	}
	b.add(against("resync-unchanged", median(times), median(listings), 3))
	b.add(within("resync-requests", float64(median(requests)), "requests", 0))
	return nil
}

func (b *bench) resyncOnce(ctx context.Context) (took time.Duration, sent int, err error) {
	before, err := b.cluster.Requests(ctx)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := b.resyncAs(ctx, reconciler.Unchanged); err != nil {
		return 0, 0, err
	}
	took = time.Since(began)
	after, err := b.cluster.Requests(ctx)
	if err != nil {
		return 0, 0, err
	}
	if added := after.Since(before); added.Total() > 0 {
		fmt.Printf("    with a resync came %s\n", added)
		sent = added.Total()
	}
	return took, sent, nil
}

// resyncAs asks for a run and wants it to end so.
func (b *bench) resyncAs(ctx context.Context, want reconciler.Result) error {
	runs, err := b.daemon.Client().Resync(ctx, time.Minute)
	if err != nil {
		return err
	}
	if len(runs) != 1 || runs[0].Result != want {
		return fmt.Errorf("the run was to end as %s: %+v", want, runs)
	}
	return nil
}

// commit measures from the trigger to a change of one object being seen by a
// watcher, against an incremental fetch of that commit and an apply of that
// object.
func (b *bench) commit(ctx context.Context) error {
	if err := settle(ctx, b.cluster); err != nil {
		return err
	}
	if err := b.fetch(ctx); err != nil {
		return err
	}
	var times, fetches, applies []time.Duration
	raw := mixed(rawAfter, b.size, b.spaces)
	for i := range b.repeats {
		// Every 20th object is a ConfigMap.
		o, value := b.objects[i*20%b.size], "commit "+strconv.Itoa(i)
		took, err := b.commitOnce(ctx, o, value)
		if err != nil {
			return err
		}
		began := time.Now()
		if err := b.fetch(ctx); err != nil {
			return err
		}
		fetched := time.Now()
		same := raw[i*20%b.size]
		same.content["data"].(map[string]any)["value"] = value
		if err := applyOne(ctx, b.cluster.Objects, same); err != nil {
			return err
		}
		times = append(times, took)
		fetches, applies = append(fetches, fetched.Sub(began)), append(applies, time.Since(fetched))
	}
	fmt.Printf("    raw: fetch %.1f ms, apply %.1f ms\n", millis(median(fetches)), millis(median(applies)))
	b.add(against("commit-to-live", median(times), median(fetches)+median(applies), 3))
	return nil
}

func (b *bench) fetch(ctx context.Context) error {
	snap, err := b.mirror.Fetch(ctx)
	if err != nil {
		return err
	}
	snap.Close()
	return nil
}

// commitOnce changes what is desired of an object and measures until it is live.
func (b *bench) commitOnce(ctx context.Context, o object, value string) (time.Duration, error) {
	o.content["data"].(map[string]any)["value"] = value
	t := newTracker()
	a := t.expectCommit(o)
	stop, err := observe(ctx, b.cluster.Config, ours, t.see)
	if err != nil {
		return 0, err
	}
	defer stop()
	path, text := o.file()
	if _, err := b.repo.Commit(map[string]string{path: text}); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	began := time.Now()
	go func() { ended <- b.resyncAs(ctx, reconciler.Applied) }()
	took, err := a.wait(ctx, began)
	if err != nil {
		return 0, err
	}
	return took, <-ended
}
