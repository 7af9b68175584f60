package rig

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// fatal is an error that waiting will not mend.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }

// Fatal marks an error after which Until gives up.
func Fatal(err error) error { return fatal{err} }

// pollEvery is how often a condition is looked at: often enough that measured
// times mean something.
const pollEvery = 20 * time.Millisecond

// Until calls check until it returns nil. When ctx ends first, its error says
// what was still not so.
func Until(ctx context.Context, check func(context.Context) error) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := check(ctx)
		var f fatal
		switch {
		case err == nil:
			return nil
		case errors.As(err, &f):
			return f.error
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w while waiting: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
