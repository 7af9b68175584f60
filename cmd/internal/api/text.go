package api

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/reconciler"
)

// Age is how long ago something was, as people say it: "12s", "4h12m", "3d".
func Age(now, then time.Time) string {
	if then.IsZero() {
		return "–"
	}
	d := max(now.Sub(then), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

// CountsText names what happened in a run, and leaves out what did not.
func CountsText(c reconciler.Counts) string {
	var parts []string
	for _, p := range []struct {
		n    int
		word string
	}{
		{c.Created, "created"}, {c.Updated, "updated"}, {c.Corrected, "corrected"}, {c.Adopted, "adopted"},
		{c.Deleted, "deleted"}, {c.Pending, "pending"}, {c.Held, "held"}, {c.Failed, "failed"}, {c.Unchanged, "unchanged"},
	} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.word))
		}
	}
	return strings.Join(parts, ", ")
}
