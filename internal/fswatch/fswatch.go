// Package fswatch has what everybody needs who adds folders to a watch while it is
// being followed.
package fswatch

import "github.com/fsnotify/fsnotify"

// Errors takes a watcher's errors out of its hands at once, until it is closed. The
// watcher may hold a lock while it hands one over, and whoever adds a folder meanwhile
// waits for that lock: both would wait for ever if they were one goroutine. One error
// waits; those that come on top of it are dropped.
func Errors(w *fsnotify.Watcher) <-chan error {
	out := make(chan error, 1)
	go func() {
		for err := range w.Errors {
			select {
			case out <- err:
			default:
			}
		}
	}()
	return out
}
