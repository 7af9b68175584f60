// Package notify tells people what needs them, and tells them once.
//
// What is wrong is a set of alerts, made anew from how things stand, each with a
// fingerprint. A state machine compares it with what was told before, and makes
// notices: new, changed, reminder, resolved. Notices wait for each receiver on
// disk, together with the machine's state, until the receiver took them.
package notify

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
)

// The kinds of alerts.
const (
	// Failed: the last run failed, wholly or in part.
	Failed = "failed"
	// Unhealthy: what was applied did not get ready in time.
	Unhealthy = "unhealthy"
	// Stale: a target's watches are silent, so that drift would go unseen.
	Stale = "stale"
	// SourceFails: a source cannot be read, or what it says cannot be used.
	SourceFails = "source"
	// Fight: another writer never gives up.
	Fight = "fight"
	// Approval: something waits for somebody.
	Approval = "approval"
	// HoldEnds: a hold is about to end.
	HoldEnds = "hold-ends"
	// Drift: drift of high severity, open or corrected.
	Drift = "drift"
	// Digest is the daily summary of corrected drift.
	Digest = "digest"
	// Test is what `holdfast notify test` sends.
	Test = "test"
)

// Alert is one thing that is wrong.
type Alert struct {
	// Fingerprint is the same as long as it is the same thing.
	Fingerprint string `json:"fingerprint"`
	Kind        string `json:"kind"`
	Environment string `json:"environment,omitempty"`
	Source      string `json:"source,omitempty"`
	Target      string `json:"target,omitempty"`
	// Labels are those of the environment.
	Labels   map[string]string `json:"labels,omitempty"`
	Severity drift.Severity    `json:"severity"`
	// Title is one line; Text says more, in lines.
	Title string `json:"title"`
	Text  string `json:"text,omitempty"`
	// Since is when it was first seen.
	Since time.Time `json:"since,omitzero"`
}

// words are what makes two sightings differ.
func (a Alert) words() string { return string(a.Severity) + "\x00" + a.Title + "\x00" + a.Text }

// Phase is what is told of an alert.
type Phase string

// The phases.
const (
	New      Phase = "new"
	Changed  Phase = "changed"
	Reminder Phase = "reminder"
	Resolved Phase = "resolved"
	// Info is told once and needs no end.
	Info Phase = "info"
)

// Notice is one phase of an alert, as it is told.
type Notice struct {
	Alert
	Phase Phase     `json:"phase"`
	At    time.Time `json:"at"`
}

// Message is what a receiver gets at once.
type Message struct {
	// ID is the same each time the message is tried.
	ID      string    `json:"id"`
	At      time.Time `json:"at"`
	Notices []Notice  `json:"notices"`
	// Link is the dashboard's address.
	Link string `json:"link,omitempty"`
}

// maxListed bounds the notices that a text lists, maxText the length of one.
const (
	maxListed = 20
	maxText   = 16 << 10
)

// Title is the message in one line.
func (m Message) Title() string {
	if len(m.Notices) == 1 {
		return m.Notices[0].line()
	}
	counts := map[string]int{}
	for _, n := range m.Notices {
		counts[string(n.Phase)+" "+n.Kind]++
	}
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, itoa(counts[key])+" "+key)
	}
	return "Holdfast: " + strings.Join(parts, ", ")
}

func (n Notice) line() string {
	var b strings.Builder
	b.WriteString("[" + string(n.Phase) + "] ")
	if where := n.where(); where != "" {
		b.WriteString(where + ": ")
	}
	b.WriteString(n.Title)
	return b.String()
}

func (n Notice) where() string {
	if n.Environment != "" {
		return n.Environment
	}
	return n.Source
}

// Text is the message in lines.
func (m Message) Text() string {
	var b strings.Builder
	for i, n := range m.Notices {
		if i == maxListed {
			b.WriteString("and " + itoa(len(m.Notices)-i) + " more\n")
			break
		}
		if len(m.Notices) > 1 {
			b.WriteString(n.line() + "\n")
		}
		if n.Text != "" && n.Phase != Resolved {
			b.WriteString(cut(n.Text, 1500) + "\n")
		}
	}
	if m.Link != "" {
		b.WriteString(m.Link + "\n")
	}
	return strings.TrimSpace(cut(b.String(), maxText))
}

// cut shortens a text to at most n bytes, between characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n-3], "") + "…"
}
