package reconciler

import (
	"fmt"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// windowGate says whether windows stop new revisions at a time, and when that
// may change next; a zero time means never. A deny window that is open is the
// stronger; where there are allow windows, one of them has to be open.
func windowGate(windows []environment.Window, now time.Time) (gate *Gate, next time.Time, err error) {
	allows, allowed, stop := false, false, false
	var until time.Time // when the closed allow windows open again
	for i, w := range windows {
		opened, closes, opens, err := openAt(w, now)
		if err != nil {
			return nil, time.Time{}, fmt.Errorf("window %d: %w", i+1, err)
		}
		next = earliest(next, opens)
		if opened {
			next = earliest(next, closes)
		}
		switch {
		case w.Kind == environment.WindowDeny && opened:
			if gate == nil || closes.After(gate.Until) {
				gate = &Gate{Kind: GateWindow, Until: closes, Why: "new revisions are stopped by a deny window until " + clock(closes)}
			}
			stop = stop || w.StopCorrection
		case w.Kind == environment.WindowAllow:
			allows, allowed = true, allowed || opened
			if !opened {
				until = earliest(until, opens)
				stop = stop || w.StopCorrection
			}
		}
	}
	if gate == nil && allows && !allowed {
		gate = &Gate{Kind: GateWindow, Until: until, Why: "no allow window is open until " + clock(until)}
	}
	if gate != nil {
		gate.StopsCorrection = stop
		if stop {
			gate.Why += "; so is the correction of drift"
		}
	}
	return gate, next, nil
}

// openAt says whether a window is open, when it closes, and when it opens next.
func openAt(w environment.Window, now time.Time) (open bool, closes, opens time.Time, err error) {
	zone := time.UTC
	if w.Timezone != "" {
		if zone, err = time.LoadLocation(w.Timezone); err != nil {
			return false, closes, opens, fmt.Errorf("time zone: %w", err)
		}
	}
	schedule, err := cron.ParseStandard(w.Schedule)
	if err != nil {
		return false, closes, opens, fmt.Errorf("schedule %q: %w", w.Schedule, err)
	}
	now = now.In(zone)
	// Openings may follow each other while it is still open: the last one counts.
	for start := schedule.Next(now.Add(-w.Duration)); !start.IsZero() && !start.After(now); start = schedule.Next(start) {
		open, closes = true, start.Add(w.Duration)
	}
	return open, closes, schedule.Next(now), nil
}

// earliest is the earlier of two times, of which a zero one does not count.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
