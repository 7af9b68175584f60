package outbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func TestBackoffDoublesUpToABound(t *testing.T) {
	for attempt, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 9: 256 * time.Second, 10: 5 * time.Minute, 1000: 5 * time.Minute} {
		if got := Backoff(attempt); got != want {
			t.Errorf("after attempt %d: %s, want %s", attempt, got, want)
		}
	}
}

func TestRetryAfterIsSecondsOrADate(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "soon": 0, "-1": 0, "0": 0, " 7 ": 7 * time.Second, "1.5": 1500 * time.Millisecond, "999999": MaxRetryAfter, "1m": 0, "99999999999999999999": MaxRetryAfter,
		"Thu, 26 Nov 2026 12:00:30 GMT": 30 * time.Second, "Thu, 26 Nov 2026 11:00:00 GMT": 0, "Fri, 27 Nov 2026 12:00:00 GMT": MaxRetryAfter,
	} {
		if got := RetryAfter(text, now); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// TestTheLastAttemptHasAWhile: it is not cut off with everything else, and does not
// keep the process from ending either.
func TestTheLastAttemptHasAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		err := Attempt(ctx, func(own context.Context) error {
			cancel()
			<-own.Done()
			return own.Err()
		})
		if took := time.Since(began); !errors.Is(err, context.Canceled) || took != atTheEnd {
			t.Errorf("it ended after %s: %v", took, err)
		}
		if err := Attempt(ctx, func(own context.Context) error { return own.Err() }); err != nil {
			t.Errorf("one that is quick: %v", err)
		}
	})
}

func TestAFileIsReplacedAsAWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	for _, text := range []string{"one", "two"} {
		if err := ReplaceFile(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
	}
	if err := ReplaceFile(filepath.Join(path, "below", "a file"), nil); err == nil {
		t.Error("it was written where nothing can be")
	}
	if left, err := filepath.Glob(path + ".*"); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
