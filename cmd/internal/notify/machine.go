package notify

import (
	"maps"
	"slices"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
)

// changeEvery bounds how often an alert is told again because it changed.
const changeEvery = 5 * time.Minute

// tracked is an alert that goes on.
type tracked struct {
	Alert
	// Told is when it was last told; zero while it is not.
	Told time.Time `json:"told,omitzero"`
	// Words are what was told.
	Words string `json:"words,omitempty"`
	// Missing is since when it is not there.
	Missing time.Time `json:"missing,omitzero"`
}

// machine is what was told of what.
type machine struct {
	Alerts map[string]*tracked `json:"alerts"`
	// Corrected counts drift for the next digest, by environment; Digested is when
	// the last was.
	Corrected map[string]int `json:"corrected,omitempty"`
	Digested  time.Time      `json:"digested,omitzero"`
}

// timing is how patient a machine is.
type timing struct {
	remind, settle time.Duration
	// digest is the time of day; negative is never.
	digest time.Duration
	zone   *time.Location
}

// step compares how things stand with what was told, and returns what is to be
// told now. The order is that of fingerprints.
func (m *machine) step(now time.Time, v View, t timing) []Notice {
	var out []Notice
	current := v.alerts(now)
	for _, key := range slices.Sorted(maps.Keys(current)) {
		a := current[key]
		k := m.Alerts[key]
		if k == nil {
			a.Since = now
			k = &tracked{Alert: a}
			m.Alerts[key] = k
		}
		a.Since = k.Since
		k.Alert, k.Missing = a, time.Time{}
		if n := k.notice(now, t); n != nil {
			out = append(out, *n)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(m.Alerts)) {
		k := m.Alerts[key]
		if _, still := current[key]; still {
			continue
		}
		if n := m.missing(now, v, k, t); n != nil {
			out = append(out, *n)
		}
	}
	if n := m.daily(now, t); n != nil {
		out = append(out, *n)
	}
	return out
}

// notice is what is to be told of an alert that is there.
func (k *tracked) notice(now time.Time, t timing) *Notice {
	var phase Phase
	switch {
	case k.Told.IsZero() && k.Kind == SourceFails && now.Sub(k.Since) < t.settle:
		return nil // a source that fails once is nobody's business
	case k.Told.IsZero():
		phase = New
	case k.Words != k.words() && now.Sub(k.Told) >= changeEvery:
		phase = Changed
	case now.Sub(k.Told) >= t.remind:
		phase = Reminder
	default:
		return nil
	}
	k.Told, k.Words = now, k.words()
	return &Notice{Alert: k.Alert, Phase: phase, At: now}
}

// missing is what is to be told of an alert that is not there.
func (m *machine) missing(now time.Time, v View, k *tracked, t timing) *Notice {
	switch {
	case v.elsewhere(k.Alert):
		delete(m.Alerts, k.Fingerprint)
		return nil
	case v.unsure(k.Alert):
		k.Missing = time.Time{}
		return nil
	case k.Told.IsZero(), k.Kind == HoldEnds: // an end that was announced is no news
		delete(m.Alerts, k.Fingerprint)
		return nil
	case k.Missing.IsZero():
		k.Missing = now
	}
	if now.Sub(k.Missing) < t.settle {
		return nil
	}
	delete(m.Alerts, k.Fingerprint)
	return &Notice{Alert: k.Alert, Phase: Resolved, At: now}
}

// ended takes note of a drift that ended. One of high severity that nobody was
// told of is told now; the others go into the digest.
func (m *machine) ended(now time.Time, e drift.Episode, labels map[string]string) *Notice {
	if e.State != drift.Corrected {
		return nil
	}
	if drift.Worst(e.Severity, drift.Medium) == drift.Medium {
		m.Corrected[e.Environment]++
		return nil
	}
	a := driftAlert(e, labels)
	if k := m.Alerts[Drift+"/"+e.Environment+"/"+e.Object.String()]; k != nil && !k.Told.IsZero() {
		return nil // its end is told as that of the alert
	}
	a.Fingerprint, a.Since = Drift+"/"+e.Environment+"/"+e.Object.String()+"/"+e.ID, e.FirstSeen
	a.Title += " was corrected"
	return &Notice{Alert: a, Phase: Info, At: now}
}

// daily is the digest, when it is time.
func (m *machine) daily(now time.Time, t timing) *Notice {
	if t.digest < 0 {
		clear(m.Corrected)
		return nil
	}
	local := now.In(t.zone)
	due := time.Date(local.Year(), local.Month(), local.Day(), 0, int(t.digest.Minutes()), 0, 0, t.zone)
	if due.After(now) {
		due = due.AddDate(0, 0, -1)
	}
	if m.Digested.IsZero() { // the first day is not over
		m.Digested = now
	}
	if !m.Digested.Before(due) {
		return nil
	}
	m.Digested = now
	n := digest(m.Corrected, now)
	clear(m.Corrected)
	return n
}
