package reconciler

import (
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
)

// Verdict says that what an environment applied works, or that it will not by
// waiting.
type Verdict struct {
	Environment string           `json:"environment"`
	Revision    sources.Revision `json:"revision"`
	// Health is ready or failed.
	Health Health    `json:"health"`
	At     time.Time `json:"at"`
}

// HealthWatcher is an Observer that is told verdicts: each that differs from the
// one before, and the first after a run that changed something.
type HealthWatcher interface {
	HealthChanged(Verdict)
}

// tellVerdict tells how what was applied works, if that is news.
func (w *worker) tellVerdict() {
	o, ok := w.engine.opts.Observer.(HealthWatcher)
	if !ok && w.traced == nil {
		return
	}
	w.mu.Lock()
	v := Verdict{Environment: w.name, Revision: w.applied, Health: w.health, At: time.Now()}
	w.mu.Unlock()
	if v.Health != HealthReady && v.Health != HealthFailed {
		return
	}
	w.settleTrace(v.Health, v.At)
	if ok && v.Health != w.told {
		w.told = v.Health
		o.HealthChanged(v)
	}
}
