package drift

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
)

// keepEnded bounds how many ended episodes the book remembers.
const keepEnded = 2000

// maxChanges bounds how many fields one episode lists.
const maxChanges = 100

// Sighting is one look at a drifted object.
type Sighting struct {
	Environment string
	Target      string
	Object      sources.ID
	Class       Class
	Changes     []Change
	Origin      sources.Origin
	Revision    string
	Cause       Cause
	Next        string
	Fate        Fate
	Decision    *Decision
	Commit      string
	Author      string
	// Seen is when the drift was sensed; At when the sighting was complete.
	Seen time.Time
	At   time.Time
}

// Book keeps the episodes: those that are open, and the newest of those that
// ended. It is safe for concurrent use.
type Book struct {
	mu    sync.Mutex
	open  map[bookKey]*Episode
	ended []Episode
	// earlier are episodes that were open when another process stopped, until
	// somebody looks at their objects again.
	earlier map[bookKey]Episode
}

type bookKey struct {
	environment string
	object      sources.ID
	// foreign: it is about what others added, beside which the object may drift.
	foreign bool
}

// NewBook makes an empty book.
func NewBook() *Book {
	return &Book{open: map[bookKey]*Episode{}, earlier: map[bookKey]Episode{}}
}

// Recall tells of episodes that were open in an earlier process. None is listed
// as open before its drift is seen again, which then goes on under its old id;
// where it is not there any more, the episode ends.
func (b *Book) Recall(earlier []Episode) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range earlier {
		key := bookKey{e.Environment, e.Object, e.Class.Foreign()}
		if have, ok := b.earlier[key]; !ok || have.FirstSeen.Before(e.FirstSeen) {
			b.earlier[key] = e
		}
	}
}

// resume opens the earlier episode of an object again, if there is one. It needs
// b.mu.
func (b *Book) resume(key bookKey) (*Episode, bool) {
	if e, ok := b.open[key]; ok {
		return e, true
	}
	e, ok := b.earlier[key]
	if !ok {
		return nil, false
	}
	delete(b.earlier, key)
	e.State = Open
	b.open[key] = &e
	return &e, true
}

// See records a sighting: a new episode, or another occurrence of the open one.
// It returns a copy of the episode, and whether it is new.
func (b *Book) See(s Sighting) (Episode, bool) {
	if len(s.Changes) > maxChanges {
		s.Changes = s.Changes[:maxChanges]
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	key := bookKey{s.Environment, s.Object, s.Class.Foreign()}
	e, known := b.resume(key)
	if !known {
		e = &Episode{
			ID: episodeID(s), Environment: s.Environment, Target: s.Target, Object: s.Object,
			FirstSeen: s.Seen, State: Open,
		}
		b.open[key] = e
	}
	e.Class, e.Changes, e.Cause, e.Next = s.Class, s.Changes, s.Cause, s.Next
	e.Origin, e.Revision, e.LastSeen = s.Origin, s.Revision, s.At
	e.Fate, e.Decision, e.Commit, e.Author = s.Fate, s.Decision, s.Commit, s.Author
	e.Severity, e.SeverityRule = "", ""
	for _, c := range s.Changes {
		if worst := Worst(e.Severity, c.Severity); worst != e.Severity {
			e.Severity, e.SeverityRule = worst, c.SeverityRule
		}
	}
	e.Occurrences++
	return *e, !known
}

// Touch notes that an open episode was seen just as it was, and reports whether it
// was: then there is nothing to tell.
func (b *Book) Touch(s Sighting) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.open[bookKey{s.Environment, s.Object, s.Class.Foreign()}]
	if e == nil || e.Class != s.Class || e.Next != s.Next || !slices.EqualFunc(e.Changes, s.Changes[:min(len(s.Changes), maxChanges)], sameChange) {
		return false
	}
	e.LastSeen = s.At
	return true
}

func sameChange(a, b Change) bool {
	return a.Path == b.Path && a.Manager == b.Manager && a.Severity == b.Severity && a.Live.String() == b.Live.String()
}

func episodeID(s Sighting) string {
	sum := sha256.Sum256([]byte(s.Environment + "\x00" + s.Target + "\x00" + s.Object.GroupKind() + "\x00" +
		s.Object.Namespace + "\x00" + s.Object.Name + "\x00" + s.Seen.UTC().Format(time.RFC3339Nano)))
	return hex.EncodeToString(sum[:6])
}

// End closes the open episode of an object, if there is one. Persists is no end:
// it leaves the episode open, and says that nothing is done about it. What others
// added is ended by EndForeign.
func (b *Book) End(environment string, object sources.ID, how State, at time.Time) (Episode, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := bookKey{environment: environment, object: object}
	e, ok := b.resume(key)
	// What admission keeps putting back is not gone because nobody looked again.
	if !ok || e.State == Persists && how == Gone {
		return Episode{}, false
	}
	return b.end(key, e, how, at), true
}

// end needs b.mu.
func (b *Book) end(key bookKey, e *Episode, how State, at time.Time) Episode {
	e.State = how
	if how == Persists {
		e.Next = "not retried: admission puts the live value back after every apply"
		e.Cause, e.Fate = Admission, Rewritten
		return *e
	}
	e.Ended, e.Next = at, ""
	delete(b.open, key)
	b.ended = append(b.ended, *e)
	if over := len(b.ended) - keepEnded; over > keepEnded/4 { // not for each: it moves all
		b.ended = slices.Delete(b.ended, 0, over)
	}
	return *e
}

// EndAll closes the open episodes of an environment that keep rejects, and
// returns them. What others added is ended by EndForeign.
func (b *Book) EndAll(environment string, how State, at time.Time, keep func(sources.ID) bool) []Episode {
	return b.endWhere(how, at, func(key bookKey) bool {
		return key.environment == environment && !key.foreign && !keep(key.object)
	})
}

// EndForeign closes the open episodes of what others added in an environment that
// keep rejects, and returns them.
func (b *Book) EndForeign(environment string, at time.Time, keep func(sources.ID) bool) []Episode {
	return b.endWhere(Gone, at, func(key bookKey) bool {
		return key.environment == environment && key.foreign && !keep(key.object)
	})
}

func (b *Book) endWhere(how State, at time.Time, rejected func(bookKey) bool) []Episode {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key := range b.earlier {
		if rejected(key) {
			b.resume(key)
		}
	}
	var out []Episode
	for key, e := range b.open {
		if rejected(key) {
			out = append(out, b.end(key, e, how, at))
		}
	}
	return out
}

// Name notes who made a drift, by the episode's id. It returns a copy, and
// whether that was news.
func (b *Book) Name(id string, p Person) (Episode, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	named := func(e *Episode) (Episode, bool) {
		if e.Person != nil && *e.Person == p {
			return *e, false
		}
		e.Person = &p
		return *e, true
	}
	for _, e := range b.open {
		if e.ID == id {
			return named(e)
		}
	}
	for i := range b.ended {
		if b.ended[i].ID == id {
			return named(&b.ended[i])
		}
	}
	return Episode{}, false
}

// OpenCount is how many episodes of an environment are open, without what others
// added.
func (b *Book) OpenCount(environment string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for key := range b.open {
		if key.environment == environment && !key.foreign {
			n++
		}
	}
	return n
}

// List copies the episodes that match, open ones first, newest first.
func (b *Book) List(match func(*Episode) bool) []Episode {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := []Episode{}
	for _, e := range b.open {
		if match(e) {
			out = append(out, *e)
		}
	}
	for i := range b.ended {
		if match(&b.ended[i]) {
			out = append(out, b.ended[i])
		}
	}
	slices.SortFunc(out, func(a, b Episode) int {
		return cmp.Or(
			boolOrder(a.Ended.IsZero(), b.Ended.IsZero()),
			b.LastSeen.Compare(a.LastSeen),
			a.Object.Compare(b.Object),
		)
	})
	return out
}

// boolOrder puts true before false.
func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}
