package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
)

// Detail is one thing that is known of a drift.
type Detail struct{ Name, Value string }

// Details are all that a report knows of one of its episodes, in the order in
// which people ask. What is not known is left out, but for who did it.
func Details(r drift.Report, e drift.Episode) []Detail {
	var out []Detail
	add := func(name, value string) {
		if value != "" {
			out = append(out, Detail{name, value})
		}
	}
	add("id", e.ID)
	add("class", string(e.Class))
	add("target", e.Target)
	for _, c := range e.Changes {
		add(fieldName(c), fieldText(c))
		add(fieldName(c)+" written", lineText(c.Line))
	}
	if e.Person != nil {
		add("person", e.Person.String())
	}
	add("cause", string(e.Cause))
	add("severity", ruled(e.Severity, e.SeverityRule))
	add("written in", placeText(e.Origin.File, e.Origin.Line))
	add("commit", e.Commit)
	add("author", e.Author)
	add("first seen", moment(e.FirstSeen))
	add("last seen", moment(e.LastSeen))
	add("ended", moment(e.Ended))
	add("age", ageOf(r, e).Round(time.Second).String())
	add("occurrences", strconv.Itoa(e.Occurrences))
	add("state", string(e.State))
	add("next", e.Next)
	if d := e.Decision; d != nil {
		add("decision", fmt.Sprintf("accepted by %s until %s: %s", d.Author, moment(d.Until), d.Reason))
	}
	add("detector", detectorText(detectorOf(r, e.Environment)))
	return out
}

func fieldName(c drift.Change) string {
	if c.Path == "" {
		return "object"
	}
	return c.Path
}

// fieldText is a field's values, and who wrote the live one, how and when.
func fieldText(c drift.Change) string {
	git := ""
	if c.Git != nil {
		git = "git " + short(c.Git.String()) + ", "
	}
	text := git + "applied " + short(c.Desired.String()) + ", live " + short(c.Live.String()) + "; by " + c.Manager
	how := c.Operation
	if c.Subresource != "" {
		how = strings.TrimSpace(how + " of " + c.Subresource)
	}
	if at := moment(c.Time); at != "" {
		how = strings.TrimSpace(how + " at " + at)
	}
	if how != "" {
		text += " (" + how + ")"
	}
	if c.Severity != "" {
		text += "; " + ruled(c.Severity, c.SeverityRule)
	}
	return text
}

// lineText is on which line git says it, and who wrote that.
func lineText(l *drift.Line) string {
	switch {
	case l == nil:
		return ""
	case l.Unsure != "":
		return fmt.Sprintf("on line %d, by whom is not known: %s", l.Number, l.Unsure)
	}
	return fmt.Sprintf("on line %d by %s at %s in %s: %s", l.Number, l.Author, moment(l.Time), l.Commit, short(l.Subject))
}

func ruled(s drift.Severity, rule string) string {
	if rule == "" {
		return string(s)
	}
	return fmt.Sprintf("%s, by the rule: %s", s, rule)
}

func placeText(file string, line int) string {
	if file == "" || line == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d", file, line)
}

// ageOf is how long a drift has been open, or was.
func ageOf(r drift.Report, e drift.Episode) time.Duration {
	if e.Ended.IsZero() {
		return r.At.Sub(e.FirstSeen)
	}
	return e.Ended.Sub(e.FirstSeen)
}

func detectorOf(r drift.Report, environment string) drift.Detector {
	for _, d := range r.Detectors {
		if d.Environment == environment {
			return d
		}
	}
	return drift.Detector{}
}

func detectorText(d drift.Detector) string {
	text := string(d.Sight)
	if at := moment(d.AsOf); at != "" {
		text += ", as of " + at
	}
	if d.Why != "" {
		text += ": " + d.Why
	}
	return text
}

// behind says at which objects git is newer than what is live.
func behind(r drift.Report) []string {
	var out []string
	for _, b := range r.Behind {
		out = append(out, fmt.Sprintf("%s: %s is at an older revision (%s), %s", b.Environment, b.Object, b.Cause, b.Next))
	}
	return out
}

// seen says of each environment how well it is seen.
func seen(r drift.Report) []string {
	var out []string
	for _, d := range r.Detectors {
		if d.Sight == drift.Fresh {
			out = append(out, d.Environment+" is "+detectorText(d))
		}
	}
	return out
}
