package reconciler

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestWhatFailsAgainAndAgainIsLeftForAWhile(t *testing.T) {
	b, now := breakers{}, time.Now()
	op := Operation{Object: thing("A", "web", "a"), Kind: OpUpdate, Digest: "1"}
	tried := func(op Operation) bool {
		ops := []Operation{op}
		b.open(ops, now)
		return ops[0].Kind == OpUpdate
	}
	for range breakerFails {
		if !tried(op) {
			t.Fatal("left alone too early")
		}
		b.failed(op, errors.New("the server refuses it"), now)
	}
	ops := []Operation{op}
	b.open(ops, now)
	if ops[0].Kind != OpConflict || !strings.Contains(ops[0].Err.Error(), "the server refuses it; it failed 3 times in a row, and is tried again in 5s") {
		t.Errorf("left alone as %s: %v", ops[0].Kind, ops[0].Err)
	}
	changed := op
	changed.Digest = "2"
	if !tried(changed) {
		t.Error("changed content is not tried")
	}
	now = now.Add(breakerFirst + time.Second)
	if !tried(op) {
		t.Error("not tried again when the time is over")
	}
	for range 20 {
		b.failed(op, errors.New("x"), now)
	}
	if wait := b[op.Object].until.Sub(now); wait != breakerMost {
		t.Errorf("waits %s, want at most %s", wait, breakerMost)
	}
}
