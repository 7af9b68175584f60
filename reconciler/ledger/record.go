package ledger

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// The bounds on one run's record. What is left out is counted.
const (
	maxProblems   = 1000
	maxText       = 4096
	maxChangeJSON = 4 << 20
)

// Action is something that somebody asked for: a resync, an approval, a hold, a
// decision.
type Action struct {
	At time.Time `json:"at"`
	// Actor is who asked: "socket", "token", "signal".
	Actor string `json:"actor"`
	// Verb is what was asked for, as in the API: "resync", "approve".
	Verb string `json:"verb"`
	// Environment is empty where it is about all.
	Environment string `json:"environment,omitempty"`
	// Subject is what it is about, in the environment or beside it.
	Subject string `json:"subject,omitempty"`
	Reason  string `json:"reason,omitempty"`
	// Until is when it ends by itself.
	Until time.Time `json:"until,omitzero"`
	// Request finds the call in the log, and Outcome is what came of it.
	Request string `json:"request,omitempty"`
	Outcome string `json:"outcome,omitempty"`
}

// runRow is a run as it is written.
type runRow struct {
	id, environment                       string
	started, finished                     time.Time
	reason, actor, revision, author, plan string
	result                                string
	record                                []byte
	changes                               []changeRow
}

// changeRow is what a run did to one object.
type changeRow struct {
	object, op string
	record     []byte
}

// size is about how much memory a row takes.
func (r *runRow) size() int {
	n := len(r.record) + 512
	for i := range r.changes {
		n += len(r.changes[i].record) + len(r.changes[i].object) + 64
	}
	return n
}

// encodeRun makes a row of a run. It happens where the run ended, so that the
// queue's size is known.
func encodeRun(r reconciler.Run) (*runRow, error) {
	row := &runRow{
		id: r.ID, environment: r.Environment, started: r.Started, finished: r.Finished,
		reason: r.Trigger.Reason.String(), actor: r.Trigger.Actor, revision: r.Revision.ID,
		author: r.Revision.Author, plan: r.PlanHash, result: string(r.Result),
	}
	size := 0
	for i, c := range r.Changes {
		c.Error = short(c.Error)
		data, err := encode(c)
		if err != nil {
			return nil, err
		}
		if size += len(data); size > maxChangeJSON {
			r.MoreChanges += len(r.Changes) - i
			break
		}
		row.changes = append(row.changes, changeRow{object: c.Object.String(), op: string(c.Op), record: data})
	}
	r.Changes = nil
	r.Errors = boundProblems(r.Errors)
	if len(r.Waiting) > maxProblems {
		r.Waiting = slices.Clone(r.Waiting[:maxProblems])
	}
	var err error
	row.record, err = encode(r)
	return row, err
}

// encode is compact JSON that leaves <, > and & as they are.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode for the ledger: %w", err)
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

func boundProblems(all sources.Problems) sources.Problems {
	if len(all) == 0 {
		return nil
	}
	out := slices.Clone(all[:min(len(all), maxProblems)])
	for i := range out {
		out[i].Message = short(out[i].Message)
	}
	if more := len(all) - len(out); more > 0 {
		out = append(out, sources.Problem{Message: fmt.Sprintf("and %d more errors, which the ledger does not keep", more)})
	}
	return out
}

// short cuts a text that is too long for history.
func short(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}

// managersOf names who made an episode's changes, each once.
func managersOf(e drift.Episode) string {
	var names []string
	for _, c := range e.Changes {
		if c.Manager != "" && !slices.Contains(names, c.Manager) {
			names = append(names, c.Manager)
		}
	}
	switch {
	case len(names) == 0:
		return drift.Unknown
	case len(names) > 3:
		return strings.Join(names[:3], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}
