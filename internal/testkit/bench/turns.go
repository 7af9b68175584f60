package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/reconciler"
)

const (
	// turn is for how long the API is left alone, and read, within one run.
	turn = 2 * time.Second
	// begun is how many objects are written before turns count, and beginTime bounds
	// until then.
	begun     = 50
	beginTime = time.Minute
	// look is how often it is asked whether they are.
	look = 20 * time.Millisecond
)

// pace is how many objects were written in which time.
type pace struct {
	objects int64
	time    time.Duration
}

// each is what a thousand objects took.
func (p pace) each() time.Duration {
	if p.objects == 0 {
		return 0
	}
	return p.time * 1000 / time.Duration(p.objects)
}

func (p *pace) add(more pace) { p.objects, p.time = p.objects+more.objects, p.time+more.time }

// inTurns has every object changed by a commit, in a run in which the API is left
// alone and read in short turns, so that what else the machine does meanwhile weighs
// on both. What every turn left to be cleaned up is paid for in the next, so that
// the difference is rather too small than too large; the connections are made anew
// in each, which makes it larger.
func (b *bench) inTurns(ctx context.Context, value string, readFirst bool) (alone, read pace, err error) {
	if err := b.commitAll(ctx, value); err != nil {
		return alone, read, err
	}
	before, err := b.written(ctx)
	if err != nil {
		return alone, read, err
	}
	ended := make(chan error, 1)
	go func() {
		runs, err := b.daemon.Client().Resync(ctx, apiTime)
		if err == nil && (len(runs) != 1 || runs[0].Result != reconciler.Applied || runs[0].Counts.Updated != b.size) {
			err = fmt.Errorf("the run was to update %d objects: %s", b.size, endOf(runs))
		}
		ended <- err
	}()
	err = b.awaitWritten(ctx, before+begun)
	for reading := readFirst; err == nil; reading = !reading {
		var got pace
		var over bool
		if got, over, err = b.oneTurn(ctx, reading, ended); over {
			return alone, read, err
		}
		if reading {
			read.add(got)
		} else {
			alone.add(got)
		}
	}
	return alone, read, errors.Join(err, <-ended)
}

// oneTurn is over, and counts for nothing, when the run ends in it.
func (b *bench) oneTurn(ctx context.Context, reading bool, ended <-chan error) (got pace, over bool, err error) {
	if reading {
		l := startLoad(ctx, b.daemon.Listen, b.socket(), b.pace)
		defer func() {
			l.stop()
			if n := l.failed.Load(); n > 0 && err == nil {
				err = fmt.Errorf("%d calls failed", n)
			}
		}()
	}
	before, err := b.written(ctx)
	if err != nil {
		return got, false, err
	}
	began := time.Now()
	select {
	case err := <-ended:
		return got, true, err
	case <-time.After(turn):
	}
	after, err := b.written(ctx)
	return pace{after - before, time.Since(began)}, false, err
}

func (b *bench) awaitWritten(ctx context.Context, count int64) error {
	ctx, cancel := context.WithTimeoutCause(ctx, beginTime, fmt.Errorf("the run did not begin to write within %s", beginTime))
	defer cancel()
	for {
		now, err := b.written(ctx)
		if err != nil {
			return errors.Join(err, context.Cause(ctx))
		}
		if now >= count {
			return nil
		}
		time.Sleep(look)
	}
}

// written counts what the daemon asked the cluster to write, as it says itself: other
// programs write, too.
func (b *bench) written(ctx context.Context) (int64, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.daemon.Listen+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	sum, lines := 0.0, bufio.NewScanner(res.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), "} ")
		if !strings.HasPrefix(name, "holdfast_target_requests_total{") || !strings.Contains(name, `verb="patch"`) {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("the metric %s: %w", name, err)
		}
		sum += n
	}
	return int64(sum), lines.Err()
}
