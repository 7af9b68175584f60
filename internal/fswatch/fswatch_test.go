package fswatch

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/fsnotify/fsnotify"
)

func TestErrorsKeepTheWatcherFromWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fsnotify.Watcher{Errors: make(chan error)} // which hands over one at a time
		got := Errors(w)
		first := errors.New("first")
		for _, err := range []error{first, errors.New("second"), errors.New("third")} {
			w.Errors <- err // nobody reads got: without Errors this waits for ever
		}
		synctest.Wait()
		if err := <-got; !errors.Is(err, first) {
			t.Errorf("told: %v, want the first", err)
		}
		again := errors.New("again")
		w.Errors <- again
		if err := <-got; !errors.Is(err, again) {
			t.Errorf("told: %v, want what came later", err)
		}
		close(w.Errors) // which ends the goroutine, or the test does not end
	})
}
