package daemon

import (
	"context"
	"os"
	"runtime/debug"
	"time"
)

// settle is how long no run may have done anything, and lull how long nothing may
// have been put back, before memory is given back. What puts drift back is small,
// and is to be there for the next.
const (
	settle = 10 * time.Second
	lull   = time.Minute
)

// frugal makes the garbage collector trade processor time, of which a daemon that
// is idle most of the time has plenty, for memory, unless GOGC says otherwise.
func frugal() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

// trim gives the memory of rendering, applying and starting back to the system when
// a burst of work is over. By itself the runtime would keep it for minutes, as if
// the next burst were due; a daemon like this one is idle most of the time.
// What is rested drops what it keeps only to be quick.
func trim(ctx context.Context, ran, healed <-chan struct{}, rest func()) error {
	quiet := time.NewTimer(settle)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ran:
			quiet.Reset(settle)
		case <-healed:
			quiet.Reset(lull)
		case <-quiet.C:
			rest()
			debug.FreeOSMemory()
			unmapProgram()
		}
	}
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
