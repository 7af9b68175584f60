// Package audit names the person behind a drift, from the audit events of a
// Kubernetes API server (audit.k8s.io/v1, EventList), which it joins to episodes
// by object and time.
//
// It names nobody where more than one could have been it: an unknown is better
// than a wrong name. Who feeds it events has to be authenticated before.
package audit

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
)

// The bounds of what is read and kept.
const (
	// MaxBatch is how many events of one batch are looked at.
	MaxBatch = 10_000
	maxKept  = 20_000
	maxName  = 253
)

// The times by which an event and a drift are joined: a change is stamped to the
// second by the server, and clocks differ; what left no stamp is looked for over
// a longer time before it was noticed.
const (
	stampBlur = 2 * time.Second
	lookBack  = time.Minute
	keepFor   = 15 * time.Minute
)

// Event is a write that somebody made.
type Event struct {
	Group, Resource, Namespace, Name string
	Subresource, Verb                string
	User, As                         string
	// Manager is the field manager that the request named; empty where it named
	// none.
	Manager string
	At      time.Time
}

// wire is what is read of an event (audit.k8s.io/v1); its bodies and the groups of
// its user are passed over.
type wire struct {
	Stage      string `json:"stage"`
	RequestURI string `json:"requestURI"`
	Verb       string `json:"verb"`
	User       struct {
		Username string `json:"username"`
	} `json:"user"`
	ImpersonatedUser *struct {
		Username string `json:"username"`
	} `json:"impersonatedUser"`
	UserAgent string `json:"userAgent"`
	ObjectRef *struct {
		Resource    string `json:"resource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
		APIGroup    string `json:"apiGroup"`
		Subresource string `json:"subresource"`
	} `json:"objectRef"`
	ResponseStatus *struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
	RequestReceivedTimestamp time.Time `json:"requestReceivedTimestamp"`
	StageTimestamp           time.Time `json:"stageTimestamp"`
}

// Decode reads a batch, and keeps what may explain a drift: writes that succeeded,
// were no dry run, and were not our own. It decodes one event at a time. The
// reader has to be bounded.
func Decode(r io.Reader) ([]Event, error) {
	dec := json.NewDecoder(r)
	var out []Event
	list, version := false, ""
	if err := expect(dec, '{'); err != nil {
		return nil, err
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("read the batch: %w", err)
		}
		switch key {
		case "apiVersion":
			err = dec.Decode(&version)
		case "items":
			list = true
			out, err = items(dec)
		default:
			var skipped json.RawMessage
			err = dec.Decode(&skipped)
		}
		if err != nil {
			return nil, fmt.Errorf("read the batch: %w", err)
		}
	}
	if version != "audit.k8s.io/v1" || !list {
		return nil, fmt.Errorf("the body is no EventList of audit.k8s.io/v1")
	}
	return out, nil
}

func expect(dec *json.Decoder, want json.Delim) error {
	t, err := dec.Token()
	if err != nil {
		return fmt.Errorf("read the batch: %w", err)
	}
	if t != want {
		return fmt.Errorf("the body is no EventList of audit.k8s.io/v1")
	}
	return nil
}

func items(dec *json.Decoder) ([]Event, error) {
	if err := expect(dec, '['); err != nil {
		return nil, err
	}
	var out []Event
	for n := 0; dec.More(); n++ {
		if n == MaxBatch {
			return nil, fmt.Errorf("it holds more than %d events", MaxBatch)
		}
		var w wire
		if err := dec.Decode(&w); err != nil {
			return nil, err
		}
		if e, ok := w.event(); ok {
			out = append(out, e)
		}
	}
	_, err := dec.Token()
	return out, err
}

var writes = []string{"create", "update", "patch", "delete"}

func (w wire) event() (Event, bool) {
	ref := w.ObjectRef
	if w.Stage != "ResponseComplete" || ref == nil || ref.Name == "" || !slices.Contains(writes, w.Verb) || w.User.Username == "" {
		return Event{}, false
	}
	if w.ResponseStatus == nil || w.ResponseStatus.Code < 200 || w.ResponseStatus.Code > 299 || ref.Subresource == "status" {
		return Event{}, false
	}
	if strings.HasPrefix(w.UserAgent, "holdfast/") {
		return Event{}, false // our own
	}
	e := Event{
		Group: ref.APIGroup, Resource: ref.Resource, Namespace: ref.Namespace, Name: ref.Name, Subresource: ref.Subresource,
		Verb: w.Verb, User: name(w.User.Username), At: w.StageTimestamp,
	}
	if w.ImpersonatedUser != nil {
		e.As = name(w.ImpersonatedUser.Username)
	}
	if e.At.IsZero() {
		e.At = w.RequestReceivedTimestamp
	}
	if u, err := url.ParseRequestURI(w.RequestURI); err == nil {
		if len(u.Query()["dryRun"]) > 0 {
			return Event{}, false
		}
		e.Manager = u.Query().Get("fieldManager")
	}
	if e.Manager == "" {
		// The server takes the beginning of the user agent for the manager.
		e.Manager, _, _ = strings.Cut(w.UserAgent, "/")
	}
	return e, !e.At.IsZero()
}

// name makes a name fit for a report.
func name(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\ufffd'
	}, s)
	if runes := []rune(s); len(runes) > maxName {
		s = string(runes[:maxName])
	}
	return s
}

// key finds the events of one object. Resources are told apart later.
type key struct{ group, namespace, name string }

// Joiner keeps the newest events for a while. It is safe for concurrent use.
type Joiner struct {
	mu     sync.Mutex
	events map[key][]Event
	order  []key
}

// NewJoiner makes one that knows nothing.
func NewJoiner() *Joiner { return &Joiner{events: map[key][]Event{}} }

// Add keeps events, the newest 20,000 of at most the last quarter of an hour.
func (j *Joiner) Add(events []Event, now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range events {
		k := key{e.Group, e.Namespace, e.Name}
		j.events[k] = append(j.events[k], e)
		j.order = append(j.order, k)
	}
	for len(j.order) > 0 && (len(j.order) > maxKept || now.Sub(j.events[j.order[0]][0].At) > keepFor) {
		k := j.order[0]
		j.order = j.order[1:]
		if j.events[k] = j.events[k][1:]; len(j.events[k]) == 0 {
			delete(j.events, k)
		}
	}
}

// Who is the person behind a drift; ok is false if that is not certain.
func (j *Joiner) Who(e drift.Episode) (p drift.Person, ok bool) {
	j.mu.Lock()
	candidates := slices.Clone(j.events[key{e.Object.Group, e.Object.Namespace, e.Object.Name}])
	j.mu.Unlock()
	var found []Event
	for _, event := range candidates {
		if isOf(event.Resource, e.Object) && explains(event, e) {
			found = append(found, event)
		}
	}
	if len(found) == 0 {
		return p, false
	}
	last := found[0]
	for _, event := range found {
		if event.User != last.User || event.As != last.As {
			return p, false // one of them, but nothing says which
		}
		if event.At.After(last.At) {
			last = event
		}
	}
	return drift.Person{User: last.User, As: last.As, Verb: last.Verb, At: last.At}, true
}

// explains reports whether an event may be what made a drift: at the time and by
// the manager that the server noted at the field; where it noted none, as of what
// was removed, in the minute before it was noticed.
func explains(event Event, e drift.Episode) bool {
	if (e.Class == drift.Missing) != (event.Verb == "delete") {
		return false
	}
	for _, c := range e.Changes {
		if c.Time.IsZero() {
			if near(event.At, e.FirstSeen, lookBack) {
				return true
			}
			continue
		}
		if event.At.After(c.Time.Add(-stampBlur)) && event.At.Before(c.Time.Add(stampBlur)) &&
			(c.Manager == drift.Unknown || event.Manager == "" || c.Manager == event.Manager) {
			return true
		}
	}
	return len(e.Changes) == 0 && near(event.At, e.FirstSeen, lookBack)
}

func near(at, noticed time.Time, before time.Duration) bool {
	return at.After(noticed.Add(-before)) && at.Before(noticed.Add(stampBlur))
}

// isOf reports whether a resource is the plural of an object's kind, as English
// has it. Kinds with another plural are not joined.
func isOf(resource string, id sources.ID) bool {
	kind := strings.ToLower(id.Kind)
	switch resource {
	case kind, kind + "s", kind + "es":
		return true
	}
	stem, isY := strings.CutSuffix(kind, "y")
	return isY && resource == stem+"ies"
}
