// Package statuses tells the hosts of repositories what becomes of commits: for
// each environment a commit status, and a deployment where the host has such.
//
// What is to be told is a pure function of how the environment stands. What was
// told is in a file of the data directory, so that a restart tells nothing twice
// and forgets nothing. A Reporter tells what differs, one host after the other and
// each at its own pace.
package statuses

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"github.com/holdfast-gitops/holdfast/reconciler"
)

// State is what becomes of a commit in an environment.
type State string

// The states. Superseded is that of a commit which another replaced before it was
// known to work.
const (
	Pending    State = "pending"
	Success    State = "success"
	Failure    State = "failure"
	Superseded State = "superseded"
)

// Verdict is what there is to tell of an environment. The zero Verdict is nothing.
type Verdict struct {
	Commit string `json:"commit"`
	// Ref is the branch or tag that was followed.
	Ref         string `json:"ref,omitempty"`
	State       State  `json:"state"`
	Description string `json:"description"`
}

var commitID = regexp.MustCompile(`^[0-9a-f]{40}$`)

// verdict says what an environment's status means for a commit. Where nothing is
// known, as while a watch is silent or another daemon looks after it, there is
// none.
func verdict(s reconciler.Status) Verdict {
	v := judged(s)
	if !commitID.MatchString(v.Commit) {
		return Verdict{}
	}
	v.Description = oneLine(v.Description)
	return v
}

func judged(s reconciler.Status) Verdict {
	of := func(id, ref string, state State, text string) Verdict {
		return Verdict{Commit: id, Ref: ref, State: state, Description: text}
	}
	switch s.Sync {
	case reconciler.SyncPending, reconciler.SyncVerifying, reconciler.SyncStale, reconciler.SyncStandby, reconciler.SyncRemoved:
		if r := s.Running; r != nil && s.Sync == reconciler.SyncPending && r.Revision.ID != "" && !r.Started.IsZero() {
			return of(r.Revision.ID, r.Revision.Ref, Pending, "is being applied")
		}
		return Verdict{}
	}
	if r := s.Running; r != nil && !r.Started.IsZero() && r.Revision.ID != "" && r.Revision.ID != s.Applied.ID {
		return of(r.Revision.ID, r.Revision.Ref, Pending, "is being applied")
	}
	about := s.Applied
	if last := s.LastRun; last != nil && last.Revision.ID != "" && last.Result != reconciler.Superseded {
		about = last.Revision
	}
	if len(s.Errors) > 0 {
		if s.Head.ID != s.Applied.ID && s.Head.ID != "" {
			about = s.Head
		}
		more := ""
		if n := len(s.Errors) - 1; n > 0 {
			more = fmt.Sprintf(" and %d more", n)
		}
		first := s.Errors[0]
		return of(about.ID, about.Ref, Failure, cut(oneLine(first.Error()), maxText-len(more))+more)
	}
	if s.Applied.ID != about.ID || s.Sync == reconciler.SyncChanges {
		why := "waits to be applied"
		if len(s.Gates) > 0 {
			why = "waits: " + s.Gates[0].Why
		}
		return of(about.ID, about.Ref, Pending, why)
	}
	switch s.Health {
	case reconciler.HealthReady:
		return of(about.ID, about.Ref, Success, counted(s))
	case reconciler.HealthFailed:
		return of(about.ID, about.Ref, Failure, "is applied and does not work: "+unready(s))
	case reconciler.HealthProgressing:
		return of(about.ID, about.Ref, Pending, "is applied; not ready yet: "+unready(s))
	}
	return Verdict{}
}

// counted is what the run did that brought the commit about, as far as it is the
// last one.
func counted(s reconciler.Status) string {
	text := fmt.Sprintf("applied and ready, %d objects", s.Objects)
	if s.Objects == 1 {
		text = "applied and ready, 1 object"
	}
	if s.LastRun == nil {
		return text
	}
	c := s.LastRun.Counts
	for _, part := range []struct {
		n    int
		word string
	}{{c.Created, "created"}, {c.Updated, "updated"}, {c.Adopted, "adopted"}, {c.Deleted, "deleted"}} {
		if part.n > 0 {
			text += fmt.Sprintf(", %d %s", part.n, part.word)
		}
	}
	return text
}

func unready(s reconciler.Status) string {
	if len(s.Unready) == 0 {
		return "its objects"
	}
	u := s.Unready[0]
	text := u.Object.String() + ": " + cmp.Or(u.RootCause, u.Why)
	if n := len(s.Unready) - 1; n > 0 {
		text = fmt.Sprintf("%s and %d more: %s", u.Object, n, cmp.Or(u.RootCause, u.Why))
	}
	return text
}

// news is what is to be told after what was told last. A commit that was ready
// once is not made pending again by a pod that restarts, and a run of another
// kind does not change what was told of its counts.
func news(told, now Verdict) bool {
	switch {
	case now == (Verdict{}):
		return false
	case told.Commit != now.Commit:
		return true
	case told.State == Success:
		return now.State == Failure
	case told.State == Failure && now.State == Failure:
		return told.Description != now.Description
	case told.State == Pending && now.State == Pending:
		return false
	}
	return told.State != now.State
}

// maxText bounds a description. The strictest host takes 140 characters.
const maxText = 140

func cut(text string, limit int) string {
	runes := []rune(text)
	if len(runes) <= limit {
		return text
	}
	return string(runes[:limit-1]) + "…"
}

// oneLine leaves out line breaks and control characters.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\ufffd"))
	return cut(strings.Join(strings.Fields(text), " "), maxText)
}
