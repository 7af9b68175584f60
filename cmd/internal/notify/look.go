package notify

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// endsSoon is how long before its end a hold is told of.
const endsSoon = 15 * time.Minute

// View is how things stand.
type View struct {
	Environments []reconciler.Status
	Sources      map[string]sources.Problems
	// Drifts are the episodes that are open.
	Drifts []drift.Episode
	// Settled: every source was looked at, so that what is not there has gone.
	Settled bool
}

func itoa(n int) string { return strconv.Itoa(n) }

// approvals are the gates that wait for somebody.
var approvals = []reconciler.GateKind{
	reconciler.GateAdoption, reconciler.GateVersion, reconciler.GateProtected, reconciler.GateBudget, reconciler.GateRemoval, reconciler.GateSource,
}

// alerts are all that is wrong now.
func (v View) alerts(now time.Time) map[string]Alert {
	out := map[string]Alert{}
	add := func(a Alert, key ...string) {
		a.Fingerprint = strings.Join(append([]string{a.Kind, a.Environment + a.Source}, key...), "/")
		out[a.Fingerprint] = a
	}
	byName := map[string]reconciler.Status{}
	for _, s := range v.Environments {
		byName[s.Name] = s
		v.ofEnvironment(s, now, func(a Alert, key ...string) {
			a.Environment, a.Target, a.Labels = s.Name, s.Target, s.Labels
			add(a, key...)
		})
	}
	for name, problems := range v.Sources {
		add(Alert{Kind: SourceFails, Source: name, Severity: drift.High, Title: "the source fails", Text: lines(problems)})
	}
	for _, e := range v.Drifts {
		if e.Fate.Quiet() || drift.Worst(e.Severity, drift.Medium) == drift.Medium {
			continue
		}
		s := byName[e.Environment]
		add(driftAlert(e, s.Labels), e.Object.String())
	}
	return out
}

func driftAlert(e drift.Episode, labels map[string]string) Alert {
	a := Alert{Kind: Drift, Environment: e.Environment, Target: e.Target, Labels: labels, Severity: e.Severity, Title: "drift of " + e.Object.String()}
	var text []string
	for i, c := range e.Changes {
		if i == 10 {
			text = append(text, fmt.Sprintf("and %d fields more", len(e.Changes)-i))
			break
		}
		text = append(text, strings.TrimSpace(fmt.Sprintf("%s: %s instead of %s, by %s", c.Path, c.Live, c.Desired, c.Manager)))
	}
	a.Text = strings.Join(text, "\n")
	return a
}

func (v View) ofEnvironment(s reconciler.Status, now time.Time, add func(Alert, ...string)) {
	switch {
	case s.Sync == reconciler.SyncStandby:
		return // who has the lease tells of it
	case s.Sync == reconciler.SyncStale:
		add(Alert{Kind: Stale, Severity: drift.High, Title: "its target is silent, drift would go unseen"})
	case s.Sync == reconciler.SyncFailed && !v.onlySource(s):
		add(Alert{Kind: Failed, Severity: drift.High, Title: "it failed; what was last good stays", Text: lines(s.Errors)})
	}
	if s.Health == reconciler.HealthFailed {
		var text []string
		for _, u := range s.Unready {
			text = append(text, u.Object.String()+": "+cmp.Or(u.RootCause, u.Why))
		}
		add(Alert{Kind: Unhealthy, Severity: drift.High, Title: "it did not get ready in time", Text: list(text)})
	}
	waits := map[reconciler.GateKind][]string{}
	for _, g := range s.Gates {
		switch {
		case g.Kind == reconciler.GateFight, g.Kind == reconciler.GateReturned, slices.Contains(approvals, g.Kind):
			waits[g.Kind] = append(waits[g.Kind], g.Why)
		case g.Kind == reconciler.GateHold && g.Until.After(now) && g.Until.Sub(now) <= endsSoon:
			add(Alert{
				Kind: HoldEnds, Severity: drift.Medium, Title: "a hold ends at " + g.Until.UTC().Format("15:04 UTC"),
				Text: fmt.Sprintf("%s\n%d drifts are open, and are put back then\nto extend it: holdfast hold --extend %s --for 1h", g.Why, s.OpenDrifts, g.ID),
			}, g.ID)
		}
	}
	for kind, why := range waits {
		slices.Sort(why)
		switch kind {
		case reconciler.GateFight:
			add(Alert{Kind: Fight, Severity: drift.High, Title: "another writer never gives up", Text: list(why)})
		case reconciler.GateReturned:
			add(Alert{Kind: Unhealthy, Severity: drift.High, Title: "it returned to the last revision that was ready", Text: list(why)}, "returned")
		default:
			add(Alert{Kind: Approval, Severity: drift.Medium, Title: "something waits for a decision", Text: list(why)}, string(kind))
		}
	}
}

// onlySource: nothing but the environment's source failed, which has an alert of
// its own.
func (v View) onlySource(s reconciler.Status) bool {
	if len(v.Sources[s.Source]) == 0 {
		return false
	}
	return s.LastRun == nil || s.LastRun.Result != reconciler.Failed && s.LastRun.Result != reconciler.Partial
}

// unsure reports whether nothing can be said of an alert that is not there: its
// environment is not known again yet after a start, or its target is silent.
func (v View) unsure(a Alert) bool {
	if a.Source != "" {
		return !v.Settled && !slices.ContainsFunc(v.Environments, func(s reconciler.Status) bool { return s.Source == a.Source })
	}
	i := slices.IndexFunc(v.Environments, func(s reconciler.Status) bool { return s.Name == a.Environment })
	if i < 0 {
		return !v.Settled
	}
	s := v.Environments[i]
	switch s.Sync {
	case reconciler.SyncPending, reconciler.SyncVerifying:
		return true
	case reconciler.SyncStale:
		return a.Kind != Stale
	}
	return !s.Compared && a.Kind == Drift
}

// elsewhere reports whether another daemon looks after an alert's environment.
func (v View) elsewhere(a Alert) bool {
	return slices.ContainsFunc(v.Environments, func(s reconciler.Status) bool {
		return s.Name == a.Environment && s.Sync == reconciler.SyncStandby
	})
}

func lines(ps sources.Problems) string {
	text := make([]string, len(ps))
	for i, p := range ps {
		text[i] = p.Error()
	}
	slices.Sort(text)
	return list(text)
}

// list is at most ten lines.
func list(text []string) string {
	if over := len(text) - 10; over > 0 {
		text = append(slices.Clone(text[:10]), fmt.Sprintf("and %d more", over))
	}
	return strings.Join(text, "\n")
}

// digest is the notice of a day's corrected drift; nil where there was none.
func digest(counts map[string]int, now time.Time) *Notice {
	if len(counts) == 0 {
		return nil
	}
	total := 0
	var text []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		total += counts[name]
		text = append(text, fmt.Sprintf("%s: %d", name, counts[name]))
	}
	return &Notice{Alert: Alert{
		Fingerprint: "digest/" + now.UTC().Format(time.DateOnly), Kind: Digest, Severity: drift.Low,
		Title: fmt.Sprintf("%d drifts were corrected since the last summary", total), Text: strings.Join(text, "\n"), Since: now,
	}, Phase: Info, At: now}
}
