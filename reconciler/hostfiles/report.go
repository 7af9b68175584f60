package hostfiles

import "github.com/holdfast-gitops/holdfast/reconciler"

// Report implements reconciler.Reporter.
func (t *Target) Report() reconciler.TargetReport {
	heard, troubles := t.Health("")
	watch := reconciler.TargetWatch{Kind: "File", Of: "files", Heard: heard, Synced: !heard.IsZero()}
	if len(troubles) > 0 {
		watch.Problem = troubles[0]
	}
	return reconciler.TargetReport{
		Driver: "files", Address: t.opts.Dir, Ours: true, Watches: []reconciler.TargetWatch{watch}, Problems: troubles,
		Requests: reconciler.TargetRequests{Total: map[string]int64{}},
	}
}
