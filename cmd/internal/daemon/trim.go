package daemon

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"time"
)

// settle is how long no run may have done anything, and lull how long nothing may
// have been put back, before memory is given back. What puts drift back is small,
// and is to be there for the next. Tail is when that is done once more: a burst has
// an aftermath, in which controllers report on what was applied.
const (
	settle = 10 * time.Second
	lull   = time.Minute
	tail   = 30 * time.Second
)

// How much garbage there may be, in percent of what is in use, before it is collected:
// while there is work, and while there is none. A daemon that is idle most of the time
// has plenty of processor time to trade for memory, and what still goes on then, as the
// background verification, makes little garbage.
const (
	garbageAtWork = 50
	garbageAtRest = 10
)

// collector tells the garbage collector how it is to trade processor time for memory.
type collector struct {
	// fixed: GOGC says what is to be, and nothing else does.
	fixed bool
	now   int
}

func newCollector() *collector { return &collector{fixed: os.Getenv("GOGC") != ""} }

// allow sets how much garbage there may be, in percent.
func (c *collector) allow(percent int) {
	if c.fixed || c.now == percent {
		return // setting it stops the world for a moment
	}
	c.now = percent
	debug.SetGCPercent(percent)
}

// trim gives the memory of rendering, applying and starting back to the system when
// a burst of work is over. By itself the runtime would keep it for minutes, as if
// the next burst were due; a daemon like this one is idle most of the time.
// What is rested drops what it keeps only to be quick.
func trim(ctx context.Context, garbage *collector, w work, rest func()) error {
	quiet, resting := time.NewTimer(settle), false
	defer quiet.Stop()
	for {
		wait := settle
		select {
		case <-ctx.Done():
			return nil
		case <-quiet.C:
			rest()
			garbage.allow(garbageAtRest)
			runtime.GC() // what is pooled, such as buffers of large answers, goes with the second
			debug.FreeOSMemory()
			unmapProgram()
			if !resting {
				resting = true
				quiet.Reset(tail)
			}
			continue
		case <-w.began:
			if !resting { // which may find nothing to do, and then puts nothing off
				continue
			}
		case <-w.ran:
		case <-w.healed:
			wait = lull
		}
		garbage.allow(garbageAtWork)
		quiet.Reset(wait)
		resting = false
	}
}

// work is told of what there is to do: a run began; it ended, having changed
// something; a drift was put back.
type work struct{ began, ran, healed chan struct{} }

func newWork() work {
	return work{began: make(chan struct{}, 1), ran: make(chan struct{}, 1), healed: make(chan struct{}, 1)}
}

// rest has the sources drop what they keep only to be quick.
func (d *daemon) rest() {
	g := d.now.Load()
	if g == nil {
		return
	}
	for _, f := range g.followers {
		if s, ok := f.source.(interface{ Rest() }); ok {
			s.Rest()
		}
	}
}
