package dashboard

import (
	"fmt"
	"html/template"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// The bounds on texts that come from elsewhere.
const (
	maxValue = 600
	maxWhy   = 400
	maxTitle = 120
)

func (d *Dashboard) functions() template.FuncMap {
	return template.FuncMap{
		"asset":    d.address,
		"icon":     icon,
		"cut":      func(n int, s any) string { return cut(fmt.Sprint(s), n) },
		"ago":      func(now, then time.Time) template.HTML { return moment(now, then, "ago") },
		"in":       func(now, then time.Time) template.HTML { return moment(now, then, "in") },
		"age":      func(now, then time.Time) template.HTML { return moment(now, then, "") },
		"clock":    clock,
		"span":     span,
		"seconds":  func(s float64) string { return span(time.Duration(s * float64(time.Second))) },
		"bytes":    bytesText,
		"counts":   api.CountsText,
		"did":      did,
		"value":    shown,
		"tone":     tone,
		"symbol":   symbol,
		"word":     func(v any) string { return strings.ReplaceAll(fmt.Sprint(v), "-", " ") },
		"env":      func(name string) string { return "/environments/" + url.PathEscape(name) },
		"run":      func(id string) string { return "/runs/" + url.PathEscape(id) },
		"drift":    func(id string) string { return "/drift/" + url.PathEscape(id) },
		"query":    query,
		"path":     url.PathEscape,
		"older":    older,
		"commit":   d.commitLink,
		"file":     d.fileLink,
		"compare":  d.compareLink,
		"short":    func(r sources.Revision) string { return cut(r.Short(), 60) },
		"hash":     hash,
		"letter":   letter,
		"severest": func() []drift.Severity { return drift.Severities },
		"dict":     dict,
		"plural":   plural,
		"add":      func(a, b int) int { return a + b },
		"object":   func(id sources.ID) string { return cut(id.String(), 300) },
		"slug":     slug,
		"tree":     treeOf,
		"gate":     gateTitle,
		"events":   eventTypes,
		"spans":    func(texts ...string) []string { return texts },
		"lasting":  lasting,
		"interval": interval,
		"int64":    func(n uint64) int64 { return int64(n) },
		"lines":    lines,
		"swapped":  swapped,
		"first":    func(c []drift.Change) []drift.Change { return c[:min(len(c), shownChanges)] },
		// approvable says whether something waits for an approval.
		"approvable": approvable,
		"patchline":  patchLine,
		"title":      sentence,
		"width":      func(part, whole int) string { return strconv.Itoa(part * 100 / max(whole, 1)) },
	}
}

// cut bounds a text in characters, and makes one line of it that a terminal or a
// page shows as it is.
func cut(s string, n int) string {
	out := make([]rune, 0, min(len(s), n))
	for _, r := range s {
		if len(out) == n {
			return string(out[:max(n-1, 0)]) + "…"
		}
		if unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r) {
			r = unicode.ReplacementChar
		}
		out = append(out, r)
	}
	return string(out)
}

// sentence begins with a capital.
func sentence(s string) string {
	for i, r := range s {
		return string(unicode.ToUpper(r)) + s[i+len(string(r)):]
	}
	return s
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// moment is a time as its distance, with the time itself for who points at it,
// and for the script that keeps it current.
func moment(now, then time.Time, how string) template.HTML {
	if then.IsZero() {
		return "–"
	}
	text := api.Age(now, then)
	switch how {
	case "ago":
		text += " ago"
	case "in":
		text = "in " + api.Age(then, now)
		if !then.After(now) {
			text = "now"
		}
	}
	at := then.UTC().Format(time.RFC3339)
	return template.HTML(`<time datetime="` + at + `" title="` + clock(then) + `" data-age="` + how + `">` + text + `</time>`)
}

// span is a length of time.
func span(d time.Duration) string {
	switch {
	case d <= 0:
		return "0 s"
	case d < time.Second:
		return strconv.Itoa(int(max(d.Milliseconds(), 1))) + " ms"
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

func bytesText(n int64) string {
	switch {
	case n < 1<<10:
		return strconv.FormatInt(n, 10) + " B"
	case n < 1<<20:
		return strconv.FormatInt(n>>10, 10) + " KiB"
	}
	return strconv.FormatFloat(float64(n)/(1<<20), 'f', 1, 64) + " MiB"
}

// did names what happened in a run, and not what was as desired.
func did(c reconciler.Counts) string {
	c.Unchanged = 0
	return api.CountsText(c)
}

// shown is a value as text, which masks what is sensitive, cut to what fits.
func shown(v drift.Value) string { return cut(v.String(), maxValue) }

// query is a path with a query of pairs; empty values are left out.
func query(path string, pairs ...any) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if v := fmt.Sprint(pairs[i+1]); v != "" {
			q.Add(fmt.Sprint(pairs[i]), v)
		}
	}
	return twin(path, q)
}

// dict hands several values to a template.
func dict(pairs ...any) map[string]any {
	out := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		out[fmt.Sprint(pairs[i])] = pairs[i+1]
	}
	return out
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	if strings.HasSuffix(one, "ch") {
		one += "e"
	}
	return strconv.Itoa(n) + " " + one + "s"
}

// slug makes a text fit for an element's id.
func slug(text any) string {
	return strings.Map(func(r rune) rune {
		if r < 128 && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return r
		}
		return '-'
	}, cut(fmt.Sprint(text), 200))
}

func hash(id string) string {
	id, _, _ = strings.Cut(strings.TrimPrefix(id, "sha256:"), sources.DirtyMark)
	return id[:min(len(id), 7)]
}

func letter(s drift.Severity) string {
	if s == "" {
		return "?"
	}
	return strings.ToUpper(string(s[:1]))
}

// web lets only addresses through that a browser opens as a page.
func web(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		return ""
	}
	return address
}

func (d *Dashboard) commitLink(source, id string) string {
	if d.opts.Links == nil || id == "" {
		return ""
	}
	return web(d.opts.Links.Commit(source, id))
}

func (d *Dashboard) fileLink(source, id, path string, line int) string {
	if d.opts.Links == nil || id == "" || path == "" {
		return ""
	}
	return web(d.opts.Links.File(source, id, path, line))
}

func (d *Dashboard) compareLink(source, from, to string) string {
	if d.opts.Links == nil || from == "" || to == "" || from == to {
		return ""
	}
	return web(d.opts.Links.Compare(source, from, to))
}

// tone is how a word is coloured. The word and its symbol are always beside it.
func tone(word any) string {
	switch fmt.Sprint(word) {
	case "clean", "synced", "ready", "applied", "corrected", "gone", "fresh", "current", "ok":
		return "good"
	case "failed", "stale", "blind", "critical", "broken":
		return "bad"
	case "drifted", "changes", "held", "waits", "unwanted", "removed", "partial", "open", "persists", "high", "hold", "degraded":
		return "warn"
	case "pending", "verifying", "progressing", "running", "medium", "correct", "adopt":
		return "info"
	case "create":
		return "good"
	case "delete", "recreate", "conflict":
		return "bad"
	case "update":
		return "info"
	}
	return "quiet"
}

// symbol is the icon beside a word.
func symbol(word any) string {
	switch fmt.Sprint(word) {
	case "clean", "synced", "ready", "applied", "corrected", "gone", "fresh", "unchanged", "ok":
		return "check"
	case "failed", "broken", "conflict":
		return "cross"
	case "stale", "blind", "unknown":
		return "question"
	case "drifted", "open", "persists", "partial", "degraded":
		return "drift"
	case "changes", "update", "correct", "adopt", "recreate", "hook":
		return "dot"
	case "held", "hold", "waits", "standby":
		return "pause"
	case "removed", "unwanted", "delete", "missing":
		return "minus"
	case "create":
		return "plus"
	}
	return "wait"
}

// icon refers to a drawing of the sheet that each page has. Its name is one of
// ours.
func icon(name string) template.HTML {
	return template.HTML(`<svg class="icon" aria-hidden="true" focusable="false"><use href="#i-` + slug(name) + `"/></svg>`)
}

// gateTitle says in a word or two what kind of thing holds.
func gateTitle(k reconciler.GateKind) string {
	if title := map[reconciler.GateKind]string{
		reconciler.GateUnproven: "not proven ours", reconciler.GateMode: "plan only", reconciler.GateLease: "standby", reconciler.GatePin: "rolled back",
		reconciler.GateReturned: "left again", reconciler.GateSource: "source holds", reconciler.GateAfter: "waits for another",
		reconciler.GateDependsOn: "waits for another", reconciler.GateRollout: "rollout", reconciler.GateAdoption: "needs approval",
		reconciler.GateProtected: "needs approval", reconciler.GateBudget: "needs approval", reconciler.GateVersion: "needs approval",
		reconciler.GateRemoval: "left git", reconciler.GateDrift: "drift is left", reconciler.GateUnread: "not read", reconciler.GateHold: "on hold",
	}[k]; title != "" {
		return title
	}
	return string(k)
}

// maxLines bounds the lines that are shown of a patch.
const maxLines = 400

func lines(text string) []string {
	out := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(out) > maxLines {
		out = append(out[:maxLines], "… the rest is in the JSON")
	}
	for i := range out {
		out[i] = cut(out[i], maxValue)
	}
	return out
}

// patchLine is how a line of a patch is coloured; its first character says the
// same.
func patchLine(line string) string {
	switch {
	case strings.HasPrefix(line, "+++"), strings.HasPrefix(line, "---"), strings.HasPrefix(line, "@@"), strings.HasPrefix(line, "diff "):
		return "dim"
	case strings.HasPrefix(line, "+"):
		return "add"
	case strings.HasPrefix(line, "-"):
		return "del"
	}
	return ""
}

// swapped has the two values of each change the other way round: of an update,
// what was before is kept as what is live.
func swapped(changes []drift.Change) []drift.Change {
	out := make([]drift.Change, len(changes))
	for i, c := range changes {
		c.Desired, c.Live = c.Live, c.Desired
		out[i] = c
	}
	return out
}

// lasting is a choice of how long, as people say it.
func lasting(text string) string {
	span, err := time.ParseDuration(text)
	switch hours := int(span.Hours()); {
	case err != nil:
		return text
	case hours >= 48 && hours%24 == 0:
		return plural(hours/24, "day")
	case hours >= 1:
		return plural(hours, "hour")
	}
	return plural(int(span.Minutes()), "minute")
}

// interval is a duration without the parts that are nothing: 1h, not 1h0m0s.
func interval(text string) string {
	if minutes, ok := strings.CutSuffix(text, "m0s"); ok {
		text = minutes + "m"
	}
	if hours, ok := strings.CutSuffix(text, "h0m"); ok {
		text = hours + "h"
	}
	return text
}

// eventTypes are what a page listens for: after any of them it looks again.
func eventTypes() string {
	types := []string{string(api.EventHello), string(api.EventReset)}
	for _, t := range api.EventTypes {
		types = append(types, string(t))
	}
	return strings.Join(types, " ")
}

// older is the address of a page with the list that goes on after before.
func older(here, before string) string {
	u, err := url.Parse(here)
	if err != nil {
		return here
	}
	q := u.Query()
	q.Set("before", before)
	return twin(u.Path, q)
}
