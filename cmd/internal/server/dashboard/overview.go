package dashboard

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// driftSum adds up the open drift of an environment, or of all.
type driftSum struct {
	By     map[drift.Severity]int
	Open   int
	Quiet  int
	Oldest time.Time
}

func (s *driftSum) add(e *drift.Episode) {
	if e.Fate.Quiet() {
		s.Quiet++
		return
	}
	if s.By == nil {
		s.By = map[drift.Severity]int{}
	}
	s.Open++
	s.By[cmp.Or(e.Severity, drift.Medium)]++
	if s.Oldest.IsZero() || e.FirstSeen.Before(s.Oldest) {
		s.Oldest = e.FirstSeen
	}
}

// row is one environment of the overview.
type row struct {
	reconciler.Status
	Sum driftSum
	// Last is the newest run that ended, also from before the start.
	Last *reconciler.Run
	// Attention: somebody should look.
	Attention bool
}

// group is the rows that have one thing in common.
type group struct {
	Name string
	Rows []row
	// Bad counts the rows that need attention.
	Bad int
}

// choice is one value of a filter.
type choice struct {
	Name, Label string
	Count       int
	On          bool
	// To is the address with this value chosen, or no more.
	To string
}

// overviewBody is what the overview shows.
type overviewBody struct {
	Groups []group
	Total  int
	Shown  int
	Sum    driftSum
	States []choice
	// GroupBy are the ways to group, Filter what is chosen.
	GroupBy []choice
	Filter  filter
	Sources map[string]sources.Problems
	// Worst are the worst drifts, of the environments that are shown.
	Worst []drift.Episode
	// Running counts the runs under way, Held the environments that something holds.
	Running, Held int
}

// filter is what the query of the overview asks for.
type filter struct {
	Text, State, Group, Label string
}

func readFilter(q url.Values) filter {
	return filter{Text: strings.TrimSpace(cut(q.Get("q"), 200)), State: cut(q.Get("state"), 40), Group: cut(q.Get("group"), 100), Label: cut(q.Get("label"), 200)}
}

// with is the address with one thing changed.
func (f filter) with(key, value string) string {
	q := url.Values{}
	for k, v := range map[string]string{"q": f.Text, "state": f.State, "group": f.Group, "label": f.Label} {
		if k == key {
			v = value
		}
		if v != "" {
			q.Set(k, v)
		}
	}
	return twin("/", q)
}

// Without is the address without one thing.
func (f filter) Without(key string) string { return f.with(key, "") }

// twin is the same list of the API, as far as it knows the filters.
func (f filter) twin() string {
	sync := f.State
	if sync == attention || sync == heldState {
		sync = ""
	}
	return query("/api/v1/environments", "sync", sync, "label", f.Label)
}

// attention is the state that gathers all that somebody should look at.
const attention = "attention"

// held is the state of those that something holds back.
const heldState = "held"

func (f filter) matches(r *row) bool {
	switch f.State {
	case "":
	case attention:
		if !r.Attention {
			return false
		}
	case heldState:
		if len(r.Gates) == 0 {
			return false
		}
	default:
		if string(r.Sync) != f.State && string(r.Health) != f.State {
			return false
		}
	}
	if f.Label != "" {
		key, value, exact := strings.Cut(f.Label, "=")
		have, ok := r.Labels[key]
		if !ok || exact && have != value {
			return false
		}
	}
	for _, word := range strings.Fields(strings.ToLower(f.Text)) {
		if !contains(r, word) {
			return false
		}
	}
	return true
}

func contains(r *row, word string) bool {
	for _, text := range []string{
		r.Name, r.Source, r.Target, r.Path, r.Mode, string(r.Sync), string(r.Health), r.Applied.ID, r.Applied.Ref, r.Applied.Subject, r.Applied.Author,
	} {
		if strings.Contains(strings.ToLower(text), word) {
			return true
		}
	}
	for k, v := range r.Labels {
		if strings.Contains(strings.ToLower(k+"="+v), word) {
			return true
		}
	}
	return false
}

// needs reports whether somebody should look at an environment.
func needs(s *reconciler.Status) bool {
	switch s.Sync {
	case reconciler.SyncFailed, reconciler.SyncStale, reconciler.SyncDrifted, reconciler.SyncRemoved:
		return true
	case reconciler.SyncChanges:
		return s.Mode != "plan"
	}
	return s.Health == reconciler.HealthFailed || len(s.Errors) > 0
}

// rank orders rows: what somebody should look at comes first.
func rank(r *row) int {
	if !r.Attention {
		return 9
	}
	return max(0, slices.Index([]reconciler.Sync{
		reconciler.SyncFailed, reconciler.SyncStale, reconciler.SyncDrifted, reconciler.SyncRemoved, reconciler.SyncChanges,
	}, r.Sync))
}

// shownWorst is how many drifts the overview names.
const shownWorst = 6

// worst are the worst drifts of some environments that nobody has decided about.
func worst(episodes []drift.Episode, rows []row) []drift.Episode {
	shown := make(map[string]bool, len(rows))
	for i := range rows {
		shown[rows[i].Name] = true
	}
	episodes = slices.DeleteFunc(episodes, func(e drift.Episode) bool { return e.Fate.Quiet() || !shown[e.Environment] })
	worstFirst(episodes)
	return episodes[:min(len(episodes), shownWorst)]
}

func (d *Dashboard) rows(v Viewer, episodes []drift.Episode) ([]row, driftSum) {
	var all driftSum
	sums := map[string]*driftSum{}
	for i := range episodes {
		e := &episodes[i]
		s := sums[e.Environment]
		if s == nil {
			s = &driftSum{}
			sums[e.Environment] = s
		}
		s.add(e)
		all.add(e)
	}
	statuses := d.environments(v)
	rows := make([]row, len(statuses))
	for i, s := range statuses {
		rows[i] = row{Status: s, Last: cmp.Or(s.LastRun, s.Earlier), Attention: needs(&s)}
		if sum := sums[s.Name]; sum != nil {
			rows[i].Sum = *sum
		}
	}
	return rows, all
}

func (d *Dashboard) overview(w http.ResponseWriter, r *http.Request) {
	viewer := d.opts.Viewer(r)
	episodes := d.open(viewer, "")
	rows, sum := d.rows(viewer, episodes)
	f := readFilter(r.URL.Query())
	body := overviewBody{Total: len(rows), Sum: sum, Filter: f, Sources: d.opts.Engine.SourceProblems()}
	body.States, body.GroupBy = states(rows, f), groupings(rows, f)
	chosen := rows[:0:0]
	for i := range rows {
		if rows[i].Running != nil {
			body.Running++
		}
		if len(rows[i].Gates) > 0 {
			body.Held++
		}
		if f.matches(&rows[i]) {
			chosen = append(chosen, rows[i])
		}
	}
	body.Shown, body.Groups, body.Worst = len(chosen), grouped(chosen, f.Group), worst(episodes, chosen)
	p := d.newPage(r, "environments", overviewTitle(rows), f.twin(), body)
	d.show(w, r, http.StatusOK, "overview", p)
}

// grouped puts rows into groups, and orders both.
func grouped(rows []row, by string) []group {
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Or(rank(&a)-rank(&b), strings.Compare(a.Name, b.Name)) })
	groups := map[string]*group{}
	for i := range rows {
		key := keyOf(&rows[i], by)
		g := groups[key]
		if g == nil {
			g = &group{Name: key}
			groups[key] = g
		}
		g.Rows = append(g.Rows, rows[i])
		if rows[i].Attention {
			g.Bad++
		}
	}
	out := make([]group, 0, len(groups))
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		out = append(out, *groups[key])
	}
	return out
}

func keyOf(r *row, by string) string {
	switch by {
	case "source":
		return r.Source
	case "target":
		return r.Target
	case "state":
		return string(r.Sync)
	case "health":
		return string(r.Health)
	case "":
		return ""
	}
	key, _ := strings.CutPrefix(by, "label:")
	return cmp.Or(r.Labels[key], "without "+key)
}

// states counts the rows by state, those that there are.
func states(rows []row, f filter) []choice {
	count := map[string]int{}
	for i := range rows {
		count[string(rows[i].Sync)]++
		if rows[i].Attention {
			count[attention]++
		}
		if len(rows[i].Gates) > 0 {
			count[heldState]++
		}
	}
	out := []choice{{Label: "all", Count: len(rows), On: f.State == "", To: f.with("state", "")}}
	for _, name := range []string{attention, "failed", "stale", "drifted", "changes", "removed", heldState, "verifying", "pending", "standby", "clean"} {
		if count[name] == 0 && f.State != name {
			continue
		}
		c := choice{Name: name, Label: name, Count: count[name], On: f.State == name, To: f.with("state", name)}
		if name == attention {
			c.Label = "needs attention"
		}
		out = append(out, c)
	}
	return out
}

// maxLabels bounds the labels that are offered to group by.
const maxLabels = 12

func groupings(rows []row, f filter) []choice {
	keys := map[string]bool{}
	for i := range rows {
		for k := range rows[i].Labels {
			keys[k] = true
		}
	}
	out := []choice{{Label: "nothing"}, {Name: "source", Label: "source"}, {Name: "target", Label: "target"}, {Name: "state", Label: "state"}, {Name: "health", Label: "health"}}
	for i, k := range slices.Sorted(maps.Keys(keys)) {
		if i == maxLabels {
			break
		}
		out = append(out, choice{Name: "label:" + k, Label: "label " + k})
	}
	for i := range out {
		out[i].On = out[i].Name == f.Group
	}
	return out
}

// overviewTitle says in a browser's tab whether a look is worth it.
func overviewTitle(rows []row) string {
	bad := 0
	for i := range rows {
		if rows[i].Attention {
			bad++
		}
	}
	switch {
	case len(rows) == 0:
		return "no environments yet"
	case bad == 0:
		return "all " + plural(len(rows), "environment") + " in order"
	case bad == 1:
		return "1 of " + plural(len(rows), "environment") + " needs attention"
	}
	return plural(bad, "environment") + " need attention"
}
