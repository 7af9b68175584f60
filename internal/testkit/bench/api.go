package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/internal/testkit/demo/rig"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

const (
	// apiSlower is how much longer a run may take while the API is read.
	apiSlower = 1.1
	// apiMemory is how much more may be resident then, in MB.
	apiMemory = 40
	// apiTime bounds one run.
	apiTime = 10 * time.Minute
	// dropTime bounds until those are dropped who do not read.
	dropTime = 2 * time.Minute
)

// measureAPI measures each size on a cluster of its own.
func measureAPI(ctx context.Context, o options) (all results, err error) {
	programs, err := rig.Build(ctx, os.Stdout)
	if err != nil {
		return nil, err
	}
	for _, n := range o.sizes {
		got, err := measureSize(ctx, programs, n, o, (*bench).underLoad)
		if err != nil {
			return nil, fmt.Errorf("%d objects: %w", n, err)
		}
		all = append(all, got...)
	}
	return all, nil
}

// underLoad has every object changed by a commit, again and again: in whole runs in
// turn with the API left alone and with it read, for memory and to be printed, and
// in runs with both in short turns, whose throughput counts: whole runs differ among
// themselves by more than what is asked.
func (b *bench) underLoad(ctx context.Context) error {
	if err := b.daemon.Start(); err != nil {
		return err
	}
	if _, err := b.awaitFirst(ctx); err != nil {
		return err
	}
	if _, err := b.changeAll(ctx, "warm up"); err != nil {
		return err
	}
	var alone, read []update
	for i := range b.pairs {
		quiet, err := b.changeAll(ctx, fmt.Sprintf("alone %d", i))
		if err != nil {
			return err
		}
		l := startLoad(ctx, b.daemon.Listen, b.socket(), b.pace)
		busy, err := b.changeAll(ctx, fmt.Sprintf("read %d", i))
		if err == nil && i == b.pairs-1 {
			err = b.awaitDropped(ctx)
		}
		l.stop()
		if err != nil {
			return err
		}
		alone, read = append(alone, quiet), append(read, busy)
		fmt.Printf("    alone %s\n    read  %s; %d requests, %d of them unchanged, %.1f ms in the middle, %.1f ms the slowest of a hundred; %d events\n",
			quiet, busy, l.requests.Load(), l.unchanged.Load(), millis(median(l.times)), millis(percentile(l.times, 0.99)), l.events.Load())
		if n := l.failed.Load(); n > 0 {
			return fmt.Errorf("%d calls failed", n)
		}
	}
	fmt.Printf("    whole runs, in the middle: %.2f\n", ratio(millis(middle(read)), millis(middle(alone))))
	if err := b.throughput(ctx); err != nil {
		return err
	}
	if canReadMemory() {
		b.add(within("memory-of-readers", max(0, float64(most(read)-most(alone))/1e6), "MB", apiMemory))
	}
	return nil
}

// throughput compares what a thousand objects take.
func (b *bench) throughput(ctx context.Context) error {
	var alone, read pace
	for i := range 2 * b.pairs {
		a, r, err := b.inTurns(ctx, fmt.Sprintf("turns %d", i), i%2 == 1)
		if err != nil {
			return err
		}
		alone.add(a)
		read.add(r)
		fmt.Printf("    in turns: alone %.0f ms, read %.0f ms for 1,000 objects\n", millis(a.each()), millis(r.each()))
	}
	if alone.objects == 0 || read.objects == 0 {
		fmt.Println("    the runs are too short for turns")
		return nil
	}
	b.add(against("apply-while-read", read.each(), alone.each(), apiSlower))
	return nil
}

// update is one run in which every object was updated.
type update struct {
	took time.Duration
	// peak is what was resident at most, and processor the time that the daemon had
	// of it.
	peak      int64
	processor time.Duration
}

// String is for people.
func (c update) String() string {
	return fmt.Sprintf("%.0f ms, %.0f ms of processor, %.1f MB", millis(c.took), millis(c.processor), float64(c.peak)/1e6)
}

func middle(all []update) time.Duration {
	times := make([]time.Duration, len(all))
	for i, c := range all {
		times[i] = c.took
	}
	return median(times)
}

func most(all []update) int64 {
	peak := int64(0)
	for _, c := range all {
		peak = max(peak, c.peak)
	}
	return peak
}

func (b *bench) socket() string { return filepath.Join(b.daemon.DataDir(), "holdfast.sock") }

// changeAll commits another value to every object, and measures the run that
// applies it.
func (b *bench) changeAll(ctx context.Context, value string) (update, error) {
	if err := b.commitAll(ctx, value); err != nil {
		return update{}, err
	}
	m, before := watchMemory(b.daemon.PID()), b.processor()
	runs, err := b.daemon.Client().Resync(ctx, apiTime)
	m.stop()
	if err != nil {
		return update{}, err
	}
	if len(runs) != 1 || runs[0].Result != reconciler.Applied || runs[0].Counts.Updated != b.size {
		return update{}, fmt.Errorf("the run was to update %d objects: %s", b.size, endOf(runs))
	}
	return update{took: runs[0].Finished.Sub(runs[0].Started), peak: m.most, processor: b.processor() - before}, nil
}

// commitAll commits another value to every object.
func (b *bench) commitAll(ctx context.Context, value string) error {
	files := map[string]string{}
	for _, o := range b.objects {
		meta := o.content["metadata"].(map[string]any)
		meta["annotations"] = map[string]any{"example.com/team": "bench", "example.com/change": value}
		path, text := o.file()
		files[path] = text
	}
	if _, err := b.repo.Commit(files); err != nil {
		return err
	}
	return settle(ctx, b.cluster)
}

// endOf is how runs ended, with the first of their errors.
func endOf(runs []reconciler.Run) string {
	var parts []string
	for _, r := range runs {
		text := fmt.Sprintf("%s, %+v", r.Result, r.Counts)
		if len(r.Errors) > 0 {
			text += fmt.Sprintf(", %d errors, of which the first is: %v", len(r.Errors), r.Errors[0])
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

// processor is what the daemon has used; 0 where nothing tells.
func (b *bench) processor() time.Duration {
	used, _ := processorTime(b.daemon.PID())
	return used
}

// awaitDropped makes events until those are dropped who do not read them.
func (b *bench) awaitDropped(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, dropTime, errors.New("readers that stand still are not dropped"))
	defer cancel()
	for {
		if _, err := b.daemon.Client().Resync(ctx, time.Minute); err != nil {
			return errors.Join(err, context.Cause(ctx))
		}
		dropped, open, err := b.streams(ctx)
		if err != nil {
			return errors.Join(err, context.Cause(ctx))
		}
		if dropped >= stuckOnes {
			fmt.Printf("    %d streams that nobody read were dropped, %d are open\n", dropped, open)
			return nil
		}
	}
}

// streams are those of events, as the daemon says.
func (b *bench) streams(ctx context.Context) (dropped, open int, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.daemon.Listen+"/api/v1/health", nil)
	if err != nil {
		return 0, 0, err
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, 0, err
	}
	defer res.Body.Close()
	var health struct{ Streams struct{ Dropped, Open int } }
	err = json.NewDecoder(res.Body).Decode(&health)
	return health.Streams.Dropped, health.Streams.Open, err
}
