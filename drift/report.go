package drift

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
)

// Report is the answer to "what drifted". All formats are made of it.
type Report struct {
	// At is when the report was made.
	At       time.Time `json:"at"`
	Episodes []Episode `json:"episodes"`
	// Next, when not empty, is where a report goes on that was asked for in pages:
	// its sums are of all pages.
	Next string `json:"next,omitempty"`
	// Groups hold the episodes by cause, where that was asked for.
	Groups []Group `json:"groups,omitempty"`
	// Severities counts what is open and not quiet; Quiet what is open and quiet:
	// accepted, or left alone because of a fight.
	Severities map[Severity]int `json:"severities,omitempty"`
	Quiet      int              `json:"quiet,omitempty"`
	// Foreign counts what others added, where that was asked for: it is no drift.
	Foreign int `json:"foreign,omitempty"`
	// Behind are things at which git is newer than what is live. That is no drift:
	// it is what a run still has to do, or could not.
	Behind []Behind `json:"behind,omitempty"`
	// Detectors say of each environment as of when the report speaks.
	Detectors []Detector `json:"detectors,omitempty"`
	// Unsure names environments of which nothing can be said now, and why: a
	// report without them would read as clean.
	Unsure map[string]string `json:"unsure,omitempty"`
}

// Behind is one thing with the state of an older revision.
type Behind struct {
	Environment string     `json:"environment"`
	Object      sources.ID `json:"object"`
	Class       Class      `json:"class"`
	Cause       Cause      `json:"cause"`
	// Next says what it waits for.
	Next string `json:"next"`
}

// Sight says how good the view of an environment is.
type Sight string

// The sights: Fresh can be relied on, Stale was true once, Blind never saw.
const (
	Fresh Sight = "fresh"
	Stale Sight = "stale"
	Blind Sight = "blind"
)

// Detector is how well an environment can be seen.
type Detector struct {
	Environment string `json:"environment"`
	Target      string `json:"target"`
	Sight       Sight  `json:"sight"`
	// AsOf is when its watches last said anything.
	AsOf time.Time `json:"asOf,omitzero"`
	Why  string    `json:"why,omitempty"`
}

// Group is all episodes of one cause: the same fields of the same kind got the
// same values from the same manager, whatever the environment.
type Group struct {
	ID    string   `json:"id"`
	Kind  string   `json:"kind"`
	Class Class    `json:"class"`
	Cause Cause    `json:"cause"`
	State State    `json:"state"`
	Fate  Fate     `json:"fate,omitempty"`
	Next  string   `json:"next,omitempty"`
	By    []string `json:"by"`
	// Person is who did it, where audit events say so.
	Person *Person `json:"person,omitempty"`
	// Severity is the worst of its episodes.
	Severity Severity `json:"severity,omitempty"`
	// Changes are those of the first of its episodes.
	Changes      []Change `json:"changes"`
	Environments []string `json:"environments"`
	// Objects counts them, and First is one of them.
	Objects     int        `json:"objects"`
	First       sources.ID `json:"first"`
	Occurrences int        `json:"occurrences"`
	FirstSeen   time.Time  `json:"firstSeen"`
	LastSeen    time.Time  `json:"lastSeen"`
	Ended       time.Time  `json:"ended,omitzero"`
	// Episodes are their ids.
	Episodes []string `json:"episodes"`
}

// Quiet reports whether the group is folded: it is known, and somebody decided or
// gave up.
func (g Group) Quiet() bool { return g.Ended.IsZero() && g.Fate.Quiet() }

// Summed counts a report's open episodes by severity.
func (r Report) Summed() Report {
	r.Severities, r.Quiet, r.Foreign = map[Severity]int{}, 0, 0
	for _, e := range r.Episodes {
		switch {
		case !e.Ended.IsZero():
		case e.Class.Foreign():
			r.Foreign++
		case e.Fate.Quiet():
			r.Quiet++
		default:
			r.Severities[cmp.Or(e.Severity, Medium)]++
		}
	}
	return r
}

// ByCause puts a report's episodes into groups: the open ones first, of those the
// worst, then the newest.
func (r Report) ByCause() Report {
	groups := map[string]*Group{}
	for i := range r.Episodes {
		e := &r.Episodes[i]
		key := causeKey(e)
		g := groups[key]
		if g == nil {
			sum := sha256.Sum256([]byte(key))
			g = &Group{
				ID: hex.EncodeToString(sum[:6]), Kind: e.Object.GroupKind(), Class: e.Class, Cause: e.Cause, State: e.State,
				Fate: e.Fate, Next: e.Next, By: e.By(), Person: e.Person, Changes: e.Changes, First: e.Object, FirstSeen: e.FirstSeen,
			}
			groups[key] = g
		}
		g.add(e)
	}
	r.Groups = make([]Group, 0, len(groups))
	for _, g := range groups {
		slices.Sort(g.Environments)
		g.Environments = slices.Compact(g.Environments)
		r.Groups = append(r.Groups, *g)
	}
	slices.SortFunc(r.Groups, func(a, b Group) int {
		return cmp.Or(
			boolOrder(a.Ended.IsZero(), b.Ended.IsZero()), boolOrder(!a.Quiet(), !b.Quiet()),
			cmp.Compare(b.Severity.rank(), a.Severity.rank()), b.LastSeen.Compare(a.LastSeen), cmp.Compare(a.ID, b.ID),
		)
	})
	return r
}

func (g *Group) add(e *Episode) {
	g.Severity = Worst(g.Severity, e.Severity)
	g.Environments = append(g.Environments, e.Environment)
	g.Episodes = append(g.Episodes, e.ID)
	g.Objects++
	g.Occurrences += e.Occurrences
	if e.FirstSeen.Before(g.FirstSeen) {
		g.FirstSeen = e.FirstSeen
	}
	if e.LastSeen.After(g.LastSeen) {
		g.LastSeen = e.LastSeen
	}
	if e.Ended.After(g.Ended) {
		g.Ended = e.Ended
	}
	if g.Next != e.Next {
		g.Next = string(g.Fate)
	}
}

// causeKey is what episodes of one cause share.
func causeKey(e *Episode) string {
	var b strings.Builder
	parts := []string{e.Object.GroupKind(), string(e.Class), string(e.State), string(e.Fate)}
	for _, c := range e.Changes {
		parts = append(parts, c.Path, c.Live.String(), c.Manager)
	}
	if e.Person != nil {
		parts = append(parts, e.Person.User)
	}
	for _, p := range parts {
		b.WriteString(p)
		b.WriteByte(0)
	}
	return b.String()
}

// By names who made an episode's changes, each once: the manager, and the person
// where that is known.
func (e Episode) By() []string {
	var out []string
	for _, c := range e.Changes {
		if c.Manager != "" && !slices.Contains(out, c.Manager) {
			out = append(out, c.Manager)
		}
	}
	if e.Person != nil {
		out = append(out, e.Person.String())
	}
	if len(out) == 0 {
		out = []string{Unknown}
	}
	return out
}
