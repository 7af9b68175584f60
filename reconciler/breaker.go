package reconciler

import (
	"fmt"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
)

// After breakerFails failures in a row a thing is left alone for a while, from
// breakerFirst up to breakerMost, unless its content changes or somebody asks.
// However often its environment runs meanwhile, its last error stands for it.
const (
	breakerFails = 3
	breakerFirst = 5 * time.Second
	breakerMost  = 4 * time.Minute // less than between the retries of a run
)

// breaker is what is known of a thing that fails.
type breaker struct {
	digest string
	fails  int
	until  time.Time
	err    error
}

// breakers are the things that fail. They belong to the worker.
type breakers map[sources.ID]*breaker

// failed notes that an operation failed.
func (b breakers) failed(op Operation, err error, now time.Time) {
	k := b[op.Object]
	if k == nil || k.digest != op.Digest {
		k = &breaker{digest: op.Digest}
		b[op.Object] = k
	}
	k.fails++
	k.err = err
	if k.fails >= breakerFails {
		k.until = now.Add(min(breakerFirst<<min(k.fails-breakerFails, 10), breakerMost))
	}
}

// open takes the operations out that would only fail again, and puts their last
// error in their place. It reports whether there were any.
func (b breakers) open(ops []Operation, now time.Time) (any bool) {
	for i := range ops {
		op := &ops[i]
		k := b[op.Object]
		if k == nil || !op.Kind.writes() || k.digest != op.Digest || !k.until.After(now) {
			continue
		}
		problems := sources.ProblemsOf(k.err)
		last := problems[0]
		last.Message += fmt.Sprintf("; it failed %d times in a row, and is tried again in %s", k.fails, k.until.Sub(now).Round(time.Second))
		op.Kind, op.Err, any = OpConflict, last, true
	}
	return any
}

// holdDeletes keeps all deletes: what replaces the deleted may be just what fails.
func holdDeletes(ops []Operation) {
	for i := range ops {
		if ops[i].Kind == OpDelete {
			ops[i].hold(GateFailing, "not deleted while other objects of the run cannot be applied")
		}
	}
}
