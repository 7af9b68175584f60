package reconciler

// Watcher is an Observer that is told, too, when a run begins, and when an
// environment's status may have become another.
type Watcher interface {
	// RunBegan tells of a run as it begins: without a result.
	RunBegan(Run)
	// StatusChanged may be called under locks: it must neither block nor ask the
	// engine.
	StatusChanged(environment string)
}

// tell says that the environment's status may have become another.
func (w *worker) tell() {
	if o := w.engine.watcher; o != nil {
		o.StatusChanged(w.name)
	}
}
