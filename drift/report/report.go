// Package report writes a drift report for people and their tools: Markdown for a
// ticket, HTML for a browser or a mail, CSV for a spreadsheet. Whatever a
// repository, a cluster or a person put into it comes out as text: nothing of it
// is taken for markup, a formula or a command.
package report

import (
	"encoding/csv"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/holdfast-gitops/holdfast/drift"
)

// Formats are the names of what Write writes.
var Formats = []string{"markdown", "html", "csv"}

// maxText bounds a value in a cell for people; CSV has all that the report has.
const maxText = 120

// Write writes a report in one of Formats. With expand, Markdown and HTML have a
// row for each object instead of one for each cause.
func Write(w io.Writer, format string, r drift.Report, expand bool) error {
	r = r.ByCause().Summed()
	switch format {
	case "markdown":
		return markdown(w, r, expand)
	case "html":
		return page.Execute(w, view{Report: r, Rows: rows(r, expand), Counts: Counts(r), Unseen: unseen(r), Newer: behind(r), Seen: seen(r), Expand: expand})
	case "csv":
		return asCSV(w, r)
	}
	return fmt.Errorf("no format %q of a report; there are: %s", format, strings.Join(Formats, ", "))
}

// Counts says in one line how much is open, by severity.
func Counts(r drift.Report) string {
	var parts []string
	for _, s := range drift.Severities {
		if n := r.Severities[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	if r.Quiet > 0 {
		parts = append(parts, fmt.Sprintf("%d accepted or fought over", r.Quiet))
	}
	text := "no open drift"
	if len(parts) > 0 {
		text = "open: " + strings.Join(parts, ", ")
	}
	if r.Foreign > 0 {
		text += fmt.Sprintf("; %d that others added", r.Foreign)
	}
	return text
}

// row is one line for people.
type row struct {
	Severity, Where, What, Field, Values, By, Cause, Since, State, Next string
	Quiet                                                               bool
}

func rows(r drift.Report, expand bool) []row {
	var out []row
	if expand {
		for i := range r.Episodes {
			out = append(out, episodeRow(r.Episodes[i]))
		}
		return out
	}
	for _, g := range r.Groups {
		out = append(out, groupRow(g))
	}
	return out
}

func groupRow(g drift.Group) row {
	where, what := g.Environments[0], g.First.String()
	if n := len(g.Environments); n > 1 {
		where = fmt.Sprintf("%d environments: %s", n, strings.Join(g.Environments[:min(n, 5)], ", "))
	}
	if g.Objects > 1 {
		what = fmt.Sprintf("%d × %s", g.Objects, g.Kind)
	}
	out := row{
		Severity: string(g.Severity), Where: where, What: what, By: strings.Join(g.By, ", "), Cause: string(g.Cause),
		Since: moment(g.FirstSeen), State: string(g.State), Next: g.Next, Quiet: g.Quiet(),
	}
	out.Field, out.Values = fields(g.Changes, g.Class)
	return out
}

func episodeRow(e drift.Episode) row {
	out := row{
		Severity: string(e.Severity), Where: e.Environment, What: e.Object.String(), By: strings.Join(e.By(), ", "),
		Cause: string(e.Cause), Since: moment(e.FirstSeen), State: string(e.State), Next: e.Next,
		Quiet: e.Ended.IsZero() && e.Fate.Quiet(),
	}
	out.Field, out.Values = fields(e.Changes, e.Class)
	return out
}

// fields are the first of the changes, and how many there are beside it.
func fields(changes []drift.Change, class drift.Class) (names, values string) {
	if len(changes) == 0 || changes[0].Path == "" {
		return string(class), ""
	}
	c := changes[0]
	names = c.Path
	if more := len(changes) - 1; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return names, short(c.Desired.String()) + " → " + short(c.Live.String())
}

func short(s string) string {
	if runes := []rune(s); len(runes) > maxText {
		return string(runes[:maxText-1]) + "…"
	}
	return s
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// unseen says which environments the report cannot speak of.
func unseen(r drift.Report) []string {
	var out []string
	for _, d := range r.Detectors {
		if d.Sight == drift.Fresh {
			continue
		}
		text := fmt.Sprintf("%s is %s: %s", d.Environment, d.Sight, d.Why)
		if !d.AsOf.IsZero() {
			text += ", as of " + moment(d.AsOf)
		}
		out = append(out, text)
	}
	return out
}

var columns = []string{"severity", "environment", "object", "field", "desired → live", "by", "cause", "since", "state", "next"}

func (r row) cells() []string {
	return []string{r.Severity, r.Where, r.What, r.Field, r.Values, r.By, r.Cause, r.Since, r.State, r.Next}
}

func markdown(w io.Writer, r drift.Report, expand bool) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Drift as of %s\n\n%s\n", moment(r.At), markdownText(Counts(r)))
	all := rows(r, expand)
	table := func(title string, quiet bool) {
		chosen := slices.DeleteFunc(slices.Clone(all), func(r row) bool { return r.Quiet != quiet })
		if len(chosen) == 0 {
			return
		}
		b.WriteString("\n" + title)
		b.WriteString("| " + strings.Join(columns, " | ") + " |\n|" + strings.Repeat(" --- |", len(columns)) + "\n")
		for _, row := range chosen {
			b.WriteByte('|')
			for _, cell := range row.cells() {
				b.WriteString(" " + markdownText(cell) + " |")
			}
			b.WriteByte('\n')
		}
	}
	table("", false)
	table("## Accepted or fought over\n\n", true)
	list := func(title string, lines []string) {
		if len(lines) > 0 {
			b.WriteString("\n## " + title + "\n\n")
		}
		for _, line := range lines {
			b.WriteString("- " + markdownText(line) + "\n")
		}
	}
	list("Git is newer than what is live", behind(r))
	if expand {
		for _, e := range r.Episodes {
			var lines []string
			for _, d := range Details(r, e) {
				lines = append(lines, d.Name+": "+d.Value)
			}
			list(markdownText(e.Environment+" "+e.Object.String()), lines)
		}
	}
	list("Not known", unseen(r))
	list("Known", seen(r))
	_, err := io.WriteString(w, b.String())
	return err
}

// markdownText escapes what Markdown or the HTML in it would take for markup.
func markdownText(s string) string {
	var b strings.Builder
	for _, r := range strings.Join(strings.Fields(s), " ") {
		switch {
		case !unicode.IsPrint(r):
			b.WriteRune('\ufffd')
			continue
		case r == '<':
			b.WriteString("&lt;")
			continue
		case r == '&':
			b.WriteString("&amp;")
			continue
		case strings.ContainsRune("\\`*_{}[]()#+!|>~@:", r) && r < unicode.MaxASCII:
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

var csvHeader = []string{
	"id", "environment", "target", "object", "class", "field", "git", "applied", "live", "manager", "operation", "subresource", "written",
	"person", "file", "line", "commit", "author", "first seen", "last seen", "ended", "age seconds", "occurrences", "severity", "severity rule", "cause",
	"state", "fate", "next", "decision", "decided by", "decision until", "detector", "detector as of",
	"value line", "line commit", "line author", "line time",
}

func asCSV(w io.Writer, r drift.Report) error {
	out := csv.NewWriter(w)
	if err := out.Write(csvHeader); err != nil {
		return err
	}
	for _, e := range r.Episodes {
		changes := e.Changes
		if len(changes) == 0 {
			changes = []drift.Change{{Severity: e.Severity, SeverityRule: e.SeverityRule}}
		}
		for _, c := range changes {
			if err := out.Write(csvRow(r, e, c)); err != nil {
				return err
			}
		}
	}
	for _, b := range r.Behind {
		e := drift.Episode{Environment: b.Environment, Object: b.Object, Class: b.Class, Cause: b.Cause, Next: b.Next, FirstSeen: r.At, State: drift.Open}
		if err := out.Write(csvRow(r, e, drift.Change{Severity: drift.Medium})); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

func csvRow(r drift.Report, e drift.Episode, c drift.Change) []string {
	git, person, decision := "", "", drift.Decision{}
	if c.Git != nil {
		git = c.Git.String()
	}
	if e.Person != nil {
		person = e.Person.String()
	}
	if e.Decision != nil {
		decision = *e.Decision
	}
	number, line := "", drift.Line{}
	if c.Line != nil {
		number = strconv.Itoa(c.Line.Number)
		if c.Line.Unsure == "" {
			line = *c.Line
		}
	}
	detector := detectorOf(r, e.Environment)
	cells := []string{
		e.ID, e.Environment, e.Target, e.Object.String(), string(e.Class), c.Path, git, c.Desired.String(), c.Live.String(), c.Manager, c.Operation,
		c.Subresource, stamp(c.Time), person, e.Origin.File, strconv.Itoa(e.Origin.Line), e.Commit, e.Author, stamp(e.FirstSeen), stamp(e.LastSeen),
		stamp(e.Ended), strconv.FormatInt(int64(ageOf(r, e).Seconds()), 10), strconv.Itoa(e.Occurrences), string(c.Severity), c.SeverityRule,
		string(e.Cause), string(e.State), string(e.Fate), e.Next, decision.Reason, decision.Author, stamp(decision.Until),
		string(detector.Sight), stamp(detector.AsOf), number, line.Commit, line.Author, stamp(line.Time),
	}
	for i, cell := range cells {
		cells[i] = harmless(cell)
	}
	return cells
}

// harmless keeps a spreadsheet from taking a cell for a formula.
func harmless(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// view is what the page shows.
type view struct {
	drift.Report
	Rows   []row
	Counts string
	Unseen []string
	// Newer says where git is newer than what is live, Seen which environments are
	// seen well.
	Newer, Seen []string
	// Expand: everything that is known of each drift is shown.
	Expand bool
}

// Details are all that is known of an episode.
func (v view) Details(e drift.Episode) []Detail { return Details(v.Report, e) }

// page is whole in itself: no script, no style sheet, no picture from elsewhere.
var page = template.Must(template.New("drift").Funcs(template.FuncMap{"moment": moment}).Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Drift: {{.Counts}}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
body{font:14px/1.5 system-ui,sans-serif;margin:2em;color:#1c2733}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.35em .6em;border-bottom:1px solid #d5dce3}
td{overflow-wrap:anywhere}
.critical,.high{color:#a3201a;font-weight:600}.medium{color:#8a5a00}.quiet{color:#5b6a78}
</style></head><body>
<h1>Drift as of {{moment .At}}</h1>
<p>{{.Counts}}</p>
{{with .Unseen}}<h2>Not known</h2><ul>{{range .}}<li>{{.}}</li>{{end}}</ul>{{end}}
{{define "rows"}}<table><thead><tr><th>severity</th><th>environment</th><th>object</th><th>field</th><th>desired → live</th><th>by</th><th>cause</th><th>since</th><th>state</th><th>next</th></tr></thead><tbody>
{{range .}}<tr{{if .Quiet}} class="quiet"{{end}}><td class="{{.Severity}}">{{.Severity}}</td><td>{{.Where}}</td><td>{{.What}}</td><td>{{.Field}}</td><td>{{.Values}}</td><td>{{.By}}</td><td>{{.Cause}}</td><td>{{.Since}}</td><td>{{.State}}</td><td>{{.Next}}</td></tr>
{{end}}</tbody></table>{{end}}
{{with .Loud}}{{template "rows" .}}{{end}}
{{with .Folded}}<details><summary>{{len .}} accepted or fought over</summary>{{template "rows" .}}</details>{{end}}
{{with .Newer}}<h2>Git is newer than what is live</h2><ul>{{range .}}<li>{{.}}</li>{{end}}</ul>{{end}}
{{if .Expand}}{{range .Episodes}}<h2>{{.Environment}} {{.Object}}</h2><table><tbody>
{{range $.Details .}}<tr><th>{{.Name}}</th><td>{{.Value}}</td></tr>
{{end}}</tbody></table>{{end}}{{end}}
{{with .Seen}}<h2>Known</h2><ul>{{range .}}<li>{{.}}</li>{{end}}</ul>{{end}}
</body></html>
`))

// Loud are the rows that are shown at once.
func (v view) Loud() []row {
	return slices.DeleteFunc(slices.Clone(v.Rows), func(r row) bool { return r.Quiet })
}

// Folded are those that have to be opened.
func (v view) Folded() []row {
	return slices.DeleteFunc(slices.Clone(v.Rows), func(r row) bool { return !r.Quiet })
}
