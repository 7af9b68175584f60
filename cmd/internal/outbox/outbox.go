// Package outbox is what those have in common who tell others what happens and lose
// no message by it: how long to wait for the next attempt, how long the last one may
// take, and how what waits is kept.
package outbox

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// maxBackoff bounds the pause between two attempts.
	maxBackoff = 5 * time.Minute
	// MaxRetryAfter bounds what a receiver may ask for.
	MaxRetryAfter = time.Hour
	// Refusals is how often a message is tried that its receiver refuses for what it
	// says.
	Refusals = 3
	// atTheEnd is how long an attempt may still take when the process is to stop: one
	// that is cut off may have been taken, and would be made again.
	atTheEnd = 5 * time.Second
)

// Backoff is the pause after an attempt, counted from one: it doubles from a second
// up to five minutes.
func Backoff(attempt int) time.Duration {
	return min(time.Second<<min(attempt-1, 10), maxBackoff)
}

// RetryAfter is how long the header of that name asks to wait, in seconds or by a
// date as RFC 9110 has it, up to MaxRetryAfter; zero where it asks for nothing.
func RetryAfter(text string, now time.Time) time.Duration {
	text = strings.TrimSpace(text)
	if n, err := strconv.ParseFloat(text, 64); err == nil && n > 0 {
		return time.Duration(min(n, MaxRetryAfter.Seconds()) * float64(time.Second))
	}
	if at, err := http.ParseTime(text); err == nil && at.After(now) {
		return min(at.Sub(now), MaxRetryAfter)
	}
	return 0
}

// Attempt lets send go on for a while after ctx has ended.
func Attempt(ctx context.Context, send func(ctx context.Context) error) error {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		select {
		case <-own.Done():
		case <-time.After(atTheEnd):
			cancel()
		}
	})()
	return send(own)
}

// ReplaceFile leaves the old content or the new, whatever happens.
func ReplaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // it has gone where all went well
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
