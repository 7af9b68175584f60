package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
	"github.com/holdfast-gitops/holdfast/sources"
)

// PathEvents streams what changes, as server-sent events.
const PathEvents = "/api/v1/events"

// EventIDHeader goes with answers that events bring up to date: the id after
// which to listen, so that nothing between answer and stream is missed.
const EventIDHeader = "Holdfast-Event-Id"

// EventType says what an event is about.
type EventType string

// The types of events.
const (
	// EventHello begins a stream that resumes nothing.
	EventHello EventType = "hello"
	// EventReset begins one that cannot resume: read everything again.
	EventReset EventType = "reset"
	// EventEnvironment: an environment stands otherwise than before.
	EventEnvironment EventType = "environment"
	// EventEnvironmentGone: there is no such environment any more.
	EventEnvironmentGone EventType = "environment.gone"
	EventRunBegan        EventType = "run.began"
	EventRunEnded        EventType = "run.ended"
	EventDriftOpened     EventType = "drift.opened"
	EventDriftChanged    EventType = "drift.changed"
	EventDriftEnded      EventType = "drift.ended"
	// EventSource: a source stands otherwise than before.
	EventSource EventType = "source"
	// EventResync: somebody asked for a run.
	EventResync EventType = "resync"
	// EventHold: somebody began, ended or extended a hold.
	EventHold EventType = "hold"
	// EventDecision: somebody decided something else.
	EventDecision EventType = "decision"
)

// EventTypes are all that a stream can be limited to.
var EventTypes = []EventType{
	EventEnvironment, EventEnvironmentGone, EventRunBegan, EventRunEnded, EventDriftOpened, EventDriftChanged, EventDriftEnded,
	EventSource, EventResync, EventHold, EventDecision,
}

// Event is one thing that changed. It names what it is about, and says of it what
// fits in a few hundred bytes; all of it is where the API serves it.
type Event struct {
	// ID grows from event to event while a daemon runs.
	ID   string    `json:"id"`
	Type EventType `json:"type"`
	At   time.Time `json:"at"`
	// Environment is empty where it is about no single one.
	Environment string `json:"environment,omitempty"`

	// One of these, by the type.
	Status *EnvironmentBrief `json:"status,omitempty"`
	// Run is without what it changed and what waits, and has its first errors only.
	Run    *reconciler.Run `json:"run,omitempty"`
	Drift  *DriftBrief     `json:"drift,omitempty"`
	Source *SourceBrief    `json:"source,omitempty"`
	Action *ledger.Action  `json:"action,omitempty"`
}

// EnvironmentBrief is how an environment stands, in short.
type EnvironmentBrief struct {
	Name    string            `json:"name"`
	Source  string            `json:"source"`
	Target  string            `json:"target"`
	Sync    reconciler.Sync   `json:"sync"`
	Health  reconciler.Health `json:"health"`
	Head    sources.Revision  `json:"head,omitzero"`
	Applied sources.Revision  `json:"applied,omitzero"`
	Objects int               `json:"objects"`
	// OpenDrifts, Unready, Errors and Gates count.
	OpenDrifts int `json:"openDrifts"`
	Unready    int `json:"unready"`
	Errors     int `json:"errors"`
	Gates      int `json:"gates"`
	// Running and LastRun are ids of runs.
	Running    string            `json:"running,omitempty"`
	LastRun    string            `json:"lastRun,omitempty"`
	LastResult reconciler.Result `json:"lastResult,omitempty"`
}

// BriefOf is a status in short.
func BriefOf(s reconciler.Status) EnvironmentBrief {
	b := EnvironmentBrief{
		Name: s.Name, Source: s.Source, Target: s.Target, Sync: s.Sync, Health: s.Health, Head: s.Head, Applied: s.Applied,
		Objects: s.Objects, OpenDrifts: s.OpenDrifts, Unready: len(s.Unready), Errors: len(s.Errors), Gates: len(s.Gates),
	}
	if s.Running != nil {
		b.Running = s.Running.ID
	}
	if s.LastRun != nil {
		b.LastRun, b.LastResult = s.LastRun.ID, s.LastRun.Result
	}
	return b
}

// DriftBrief is an episode in short: which fields, and no values.
type DriftBrief struct {
	ID       string         `json:"id"`
	Object   sources.ID     `json:"object"`
	Class    drift.Class    `json:"class"`
	Cause    drift.Cause    `json:"cause"`
	Severity drift.Severity `json:"severity,omitempty"`
	State    drift.State    `json:"state"`
	Fate     drift.Fate     `json:"fate,omitempty"`
	// Fields are the paths of the first that differ, Manager who owns the first.
	Fields     []string  `json:"fields,omitempty"`
	MoreFields int       `json:"moreFields,omitempty"`
	Manager    string    `json:"manager,omitempty"`
	FirstSeen  time.Time `json:"firstSeen"`
	Ended      time.Time `json:"ended,omitzero"`
}

// briefFields bounds the fields of a DriftBrief, and briefText the bytes of each.
const (
	briefFields = 8
	briefText   = 256
)

// DriftBriefOf is an episode in short.
func DriftBriefOf(e drift.Episode) DriftBrief {
	b := DriftBrief{
		ID: e.ID, Object: e.Object, Class: e.Class, Cause: e.Cause, Severity: e.Severity, State: e.State, Fate: e.Fate,
		FirstSeen: e.FirstSeen, Ended: e.Ended,
	}
	for i, c := range e.Changes {
		if i == 0 {
			b.Manager = clip(c.Manager)
		}
		if i == briefFields {
			b.MoreFields = len(e.Changes) - briefFields
			break
		}
		b.Fields = append(b.Fields, clip(c.Path))
	}
	return b
}

// SourceBrief is how a source stands, in short.
type SourceBrief struct {
	Name     string           `json:"name"`
	Revision sources.Revision `json:"revision,omitzero"`
	Head     sources.Revision `json:"head,omitzero"`
	// Failing: the last look at it failed. Errors counts what is wrong.
	Failing bool `json:"failing,omitempty"`
	Errors  int  `json:"errors"`
	// Held is the id of a revision that waits.
	Held string `json:"held,omitempty"`
}

// SourceBriefOf is a source in short.
func SourceBriefOf(s Source) SourceBrief {
	b := SourceBrief{Name: s.Name, Revision: s.Revision, Head: s.Head, Failing: s.Failures > 0, Errors: len(s.Errors)}
	if s.Held != nil {
		b.Held = s.Held.To.ID
	}
	return b
}

// briefErrors bounds the errors of a run in an event.
const briefErrors = 3

// RunBriefOf is a run as an event has it.
func RunBriefOf(r reconciler.Run) reconciler.Run {
	r.Changes, r.MoreChanges, r.Waiting, r.Unready = nil, 0, nil, nil
	errs := r.Errors[:min(len(r.Errors), briefErrors)]
	r.Errors = nil
	for _, e := range errs {
		e.Message, e.Hint = clip(e.Message), clip(e.Hint)
		r.Errors = append(r.Errors, e)
	}
	if len(r.Trigger.Revert) > briefErrors {
		r.Trigger.Revert = r.Trigger.Revert[:briefErrors]
	}
	return r
}

// clip bounds a text.
func clip(text string) string {
	if len(text) <= briefText {
		return text
	}
	end := briefText
	for end > 0 && text[end]&0xC0 == 0x80 { // not within a character
		end--
	}
	return text[:end] + "…"
}

// EventsQuery chooses events. A zero field does not limit.
type EventsQuery struct {
	// Environments are patterns of names, as in "prod-*".
	Environments []string
	// Types are types, or what they begin with before the dot: "run".
	Types []string
	// After is the id of the event, or the answer, that was seen last.
	After string
}

// maxEvent bounds a line of the stream.
const maxEvent = 1 << 20

// Events calls each for every event, until ctx ends, the stream ends, or each
// fails. A stream may end at any time: go on with the last id.
func (c *Client) Events(ctx context.Context, q EventsQuery, each func(Event) error) error {
	query := url.Values{}
	if len(q.Environments) > 0 {
		query["environment"] = q.Environments
	}
	if len(q.Types) > 0 {
		query["type"] = q.Types
	}
	set(query, "after", q.After)
	res, err := c.send(ctx, http.MethodGet, PathEvents, query, payload{})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		return c.problem(res, io.LimitReader(res.Body, maxAnswer))
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue // what the lines beside it say is in the data, too
		}
		var e Event
		if err := json.Unmarshal(data, &e); err != nil {
			return fmt.Errorf("read the events of %s: %w", c.where, err)
		}
		if err := each(e); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read the events of %s: %w", c.where, err)
	}
	return nil
}
