package reconciler

import (
	"slices"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
)

// Settled is what a driver may answer instead of an operation for each thing: it
// found all that is wanted as desired when it was last asked in full, and nothing
// can have changed since. It neither keeps nor makes as many operations as things.
func Settled() []Operation { return []Operation{{Kind: OpSettled}} }

// Expand makes of what a driver answers an operation for each thing.
func Expand(ops []Operation, want []sources.Item) []Operation {
	if !isSettled(ops) {
		return ops
	}
	out := make([]Operation, len(want))
	for i, item := range want {
		out[i] = Operation{Object: item.ID, Kind: OpUnchanged, Item: item}
	}
	return out
}

func isSettled(ops []Operation) bool { return len(ops) == 1 && ops[0].Kind == OpSettled }

// isQuiet reports whether a driver says that nothing changed since a comparison
// that found nothing to do, and which was accounted for: everything it says is
// known.
func (w *worker) isQuiet(ops []Operation, c choice) bool {
	settled, known := isSettled(ops), w.quiet
	w.quiet = settled || !slices.ContainsFunc(ops, func(op Operation) bool { return op.Kind != OpUnchanged })
	return settled && known && c.head == nil && !w.acceptLater && !c.state.outdated(c.a) && c.state.Rendered.Version == w.engine.opts.Version
}

// countUnchanged accounts for what is as desired, and returns the rest: few
// operations, as a rule, of many.
func (w *worker) countUnchanged(ops []Operation, out *Run) []Operation {
	var rest []Operation
	for i := range ops {
		if ops[i].Kind == OpUnchanged {
			w.unchanged(&ops[i], out)
		} else {
			rest = append(rest, ops[i])
		}
	}
	return rest
}

func (w *worker) unchanged(op *Operation, out *Run) {
	out.Counts.Unchanged++
	if op.Item.Body != nil {
		if good := w.good[op.Object]; good == nil || good.Digest != op.Item.Digest {
			item := op.Item // which does not keep the operation
			w.good[op.Object] = &item
		}
		w.endDrift(op.Object, drift.Gone)
	}
}
