package notify

import (
	"path"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/drift"
)

// receiversOf are those that a notice goes to.
func receiversOf(c config.Notifications, a Alert) []string {
	var out []string
	if len(c.Routes) == 0 {
		for _, r := range c.Receivers {
			out = append(out, r.Name)
		}
	}
	for _, r := range c.Routes {
		if matches(r, a) {
			out = append(out, r.Receivers...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func matches(r config.Route, a Alert) bool {
	atLeast := r.Severity == "" || drift.Worst(drift.Severity(r.Severity), a.Severity) == a.Severity
	named := len(r.Environments) == 0 || slices.ContainsFunc(r.Environments, func(pattern string) bool {
		ok, err := path.Match(pattern, a.Environment)
		return ok && err == nil
	})
	labelled := !slices.ContainsFunc(r.Labels, func(pair string) bool {
		key, value, _ := strings.Cut(pair, "=")
		have, ok := a.Labels[key]
		return !ok || have != value
	})
	return atLeast && named && labelled && (len(r.Kinds) == 0 || slices.Contains(r.Kinds, a.Kind))
}

// clock is a time of day.
func clock(text string) time.Duration {
	t, err := time.Parse("15:04", text)
	if err != nil {
		return -1 // "off"; others are refused where the file is read
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
}

// quietUntil is when the quiet hours end that a notice falls into; zero where it
// falls into none.
func quietUntil(all []config.QuietHours, zone *time.Location, severity drift.Severity, now time.Time) time.Time {
	var end time.Time
	for _, q := range all {
		if drift.Worst(drift.Severity(q.Except), severity) == severity {
			continue
		}
		for _, ago := range []int{0, -1} { // those of yesterday may go on
			from, to := hours(q, zone, now.In(zone).AddDate(0, 0, ago))
			if len(q.Days) > 0 && !slices.Contains(q.Days, strings.ToLower(from.Weekday().String()[:3])) {
				continue
			}
			if !now.Before(from) && now.Before(to) && to.After(end) {
				end = to
			}
		}
	}
	return end
}

// hours are the quiet hours that begin on a day.
func hours(q config.QuietHours, zone *time.Location, day time.Time) (from, to time.Time) {
	at := func(text string) time.Time {
		return time.Date(day.Year(), day.Month(), day.Day(), 0, int(clock(text).Minutes()), 0, 0, zone)
	}
	from, to = at(q.From), at(q.To)
	if !to.After(from) {
		day = day.AddDate(0, 0, 1)
		to = at(q.To)
	}
	return from, to
}
