package reconciler

import (
	"slices"

	"github.com/holdfast-gitops/holdfast/drift"
)

// isQuiet reports whether a driver answers with the very comparison that found
// nothing to do before: everything it says is known.
func (w *worker) isQuiet(ops []Operation, c choice) bool {
	if len(ops) == 0 || w.quiet != &ops[0] || len(ops) != len(w.desired) || c.head != nil || w.acceptLater || c.state.outdated(c.a) || c.state.Rendered.Version != w.engine.opts.Version {
		w.quiet = nil
		if len(ops) > 0 && !slices.ContainsFunc(ops, func(op Operation) bool { return op.Kind != OpUnchanged }) {
			w.quiet = &ops[0]
		}
		return false
	}
	return true
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
		w.good[op.Object] = op.Item
		w.endDrift(op.Object, drift.Gone)
	}
}
