package server

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/codify"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
	"github.com/holdfast-gitops/holdfast/sources"
)

// obliging does whatever it is asked.
type obliging struct{ fakeSources }

func (obliging) Hold(_ context.Context, r reconciler.HoldRequest) ([]reconciler.Hold, error) {
	return []reconciler.Hold{{ID: "hold-1", Author: r.Author, Reason: r.Reason, Until: r.Until}}, nil
}

func (obliging) EndHold(_ context.Context, id string, until time.Time) (reconciler.Hold, error) {
	return reconciler.Hold{ID: id, Until: until}, nil
}

func (obliging) Rollback(context.Context, string, reconciler.RollbackRequest) (reconciler.Run, reconciler.Plan, error) {
	return reconciler.Run{ID: "run-1"}, reconciler.Plan{Revision: sources.Revision{ID: "a1b2c3d4"}}, nil
}

func (obliging) Release(context.Context, string, string) (reconciler.Run, error) {
	return reconciler.Run{ID: "run-1"}, nil
}

func (obliging) Retry(context.Context, string, string) (reconciler.Run, error) {
	return reconciler.Run{ID: "run-1"}, nil
}

func (obliging) ConfirmRemoval(context.Context, string, string) (reconciler.Run, error) {
	return reconciler.Run{ID: "run-1"}, nil
}

func (obliging) WaitReady(context.Context, string) (reconciler.Status, error) {
	return reconciler.Status{}, nil
}

func (obliging) Plan(context.Context, string, string) (reconciler.Plan, error) {
	return reconciler.Plan{}, nil
}

func (obliging) PlanFiles(_ context.Context, _ string, files io.Reader) (reconciler.Plan, error) {
	_, err := io.Copy(io.Discard, files)
	return reconciler.Plan{}, err
}

func (obliging) Revert(context.Context, string, sources.ID, string) (reconciler.Run, error) {
	return reconciler.Run{ID: "run-1"}, nil
}

func (obliging) Accept(_ context.Context, _ string, r reconciler.AcceptRequest) (drift.Decision, error) {
	return drift.Decision{ID: "d1", Object: r.Object, Author: r.Author, Reason: r.Reason, Until: r.Until}, nil
}

func (obliging) IgnoreRules(string, sources.ID, string) ([]string, error) { return nil, nil }

func (obliging) Codify(context.Context, string, sources.ID, string) (codify.Patch, error) {
	return codify.Patch{}, nil
}

func (obliging) Propose(_ context.Context, _ string, r api.ProposeRequest) (api.Proposal, error) {
	return api.Proposal{Branch: r.Branch, Commit: "cccc"}, nil
}

func (obliging) TestNotifications(context.Context, string) (api.NotifyOutcomes, error) {
	return api.NotifyOutcomes{}, nil
}

// changesNothing are the calls that are posts for another reason than that they
// change something: they send files, or make the daemon work.
var changesNothing = map[string]bool{inEnvironment + "/plan": true, inEnvironment + "/drift/codify": true}

// changingBodies are what each call of the API is sent that changes something.
var changingBodies = map[string]string{
	inEnvironment + "/resync":         ``,
	api.PathResync:                    `{"environments": ["dev"]}`,
	api.PathLedgerCheck:               ``,
	api.PathLedgerBackup:              ``,
	api.PathHolds:                     `{"environments": ["dev"], "for": "1h", "reason": "a look"}`,
	api.PathHolds + "/{id}/end":       `{}`,
	api.PathHolds + "/{id}/extend":    `{"for": "1h"}`,
	inEnvironment + "/rollback":       `{}`,
	inEnvironment + "/release":        `{}`,
	inEnvironment + "/retry":          `{}`,
	inEnvironment + "/delete":         `{}`,
	inEnvironment + "/drift/revert":   `{"object": {"kind": "ConfigMap", "name": "a"}}`,
	inEnvironment + "/drift/accept":   `{"object": {"kind": "ConfigMap", "name": "a"}, "for": "1h", "reason": "a look"}`,
	inEnvironment + "/drift/propose":  `{"object": {"kind": "ConfigMap", "name": "a"}, "branch": "holdfast/a", "reason": "a look"}`,
	api.PathSources + "/{name}/allow": `{"revision": "bbbb", "reason": "a look"}`,
	api.PathNotifyTest:                `{}`,
}

// TestEveryChangingCallIsOnRecordWithItsActor calls everything that is described
// as a post: a call that is new has to be added here.
func TestEveryChangingCallIsOnRecordWithItsActor(t *testing.T) {
	l := recorded(t)
	f := newFake("dev")
	h := testServer(f, Options{
		Decider: obliging{}, Planner: obliging{}, Drifts: obliging{}, Sources: obliging{}, Notifications: obliging{}, Ledger: l, Tokens: staff(t),
	}).Handler(false)
	before := 0
	for _, o := range operations {
		if o.method == "GET" {
			continue
		}
		sent, known := changingBodies[o.path]
		if changesNothing[o.path] == known {
			t.Errorf("%s %s: nobody says whether it is on record", o.method, o.path)
			continue
		}
		name := "dev"
		if strings.HasPrefix(o.path, api.PathSources) {
			name = "shop"
		}
		target := strings.NewReplacer("{name}", name, "{id}", "hold-1").Replace(o.path)
		if strings.HasSuffix(o.path, "codify") {
			target += "?object=ConfigMap/a"
		}
		res := ask(t, h, o.method, target, bearer(rootToken), header("X-Request-Id", o.id()), body("application/json", sent))
		if answer := text(t, res); res.StatusCode >= 300 {
			t.Errorf("%s %s: %d %s", o.method, o.path, res.StatusCode, answer)
			continue
		}
		flushed(t, l)
		page, err := l.Actions(t.Context(), ledger.ActionQuery{})
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case !known && len(page.Actions) != before:
			t.Errorf("%s is on record and changes nothing: %+v", o.path, page.Actions[0])
		case known && len(page.Actions) != before+1:
			t.Errorf("%s is on record %d times", o.path, len(page.Actions)-before)
		case known:
			a := page.Actions[0]
			if a.Actor != "root" || a.Verb == "" || a.Request != o.id() || a.At.IsZero() || strings.HasPrefix(o.path, inEnvironment) && a.Environment != "dev" {
				t.Errorf("%s is on record as %+v", o.path, a)
			}
		}
		before = len(page.Actions)
	}
	if before < 14 {
		t.Errorf("only %d calls are on record", before)
	}
}
