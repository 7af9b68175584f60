package daemon

import (
	"context"
	"os"
	"runtime/debug"
	"time"
)

// settle is how long no run may have done anything before memory is given back.
const settle = 10 * time.Second

// frugal makes the garbage collector trade processor time, of which a daemon that
// is idle most of the time has plenty, for memory, unless GOGC says otherwise.
func frugal() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

// trim gives the memory of rendering and applying back to the system when a burst
// of runs is over. By itself the runtime would keep it for minutes, as if the
// next burst were due; a daemon like this one is idle most of the time.
func trim(ctx context.Context, ran <-chan struct{}) error {
	quiet := time.NewTimer(settle)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ran:
			quiet.Reset(settle)
		case <-quiet.C:
			debug.FreeOSMemory()
		}
	}
}
