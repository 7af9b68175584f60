package dashboard

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
	"github.com/holdfast-gitops/holdfast/sources"
)

// runBody is what the page of a run shows.
type runBody struct {
	reconciler.Run
	Source string
	May    bool
	// Changes are bounded; More are not shown.
	Shown []reconciler.ObjectChange
	More  int
	// Commits are those that the run brought, where they are known, since Before.
	Commits []sources.Revision
	Before  sources.Revision
	// Approve is the hash of the plan, where something waits for an approval of it.
	Approve string
}

func (d *Dashboard) run(w http.ResponseWriter, r *http.Request) {
	address := api.PathRuns + "/" + url.PathEscape(r.PathValue("id"))
	run, problem := get[reconciler.Run](d, r, address)
	if problem != nil {
		d.failed(w, r, "history", *problem)
		return
	}
	b := runBody{Run: run, Shown: run.Changes, More: run.MoreChanges, May: d.opts.Viewer(r).may(run.Environment)}
	if more := len(run.Changes) - shownOperations; more > 0 {
		b.Shown, b.More = run.Changes[:shownOperations], b.More+more
	}
	status, known := d.opts.Engine.Environment(run.Environment)
	if known {
		b.Source = status.Source
	}
	b.Commits, b.Before = d.commits(r, &b)
	if approvable(run.Waiting) && known && status.LastRun != nil && status.LastRun.ID == run.ID {
		b.Approve = run.PlanHash
	}
	p := d.newPage(r, "history", "run of "+run.Environment+" "+string(run.Result), address, b)
	if run.Result != reconciler.Pending {
		p.Refresh = 0
	}
	d.show(w, r, http.StatusOK, "run", p)
}

// commits are what a run brought: those between its revision and that of the run
// of its environment before.
func (d *Dashboard) commits(r *http.Request, b *runBody) (commits []sources.Revision, before sources.Revision) {
	q := url.Values{"environment": {b.Environment}, "limit": {"50"}}
	page, p := get[ledger.Runs](d, r, twin(api.PathRuns, q))
	if p != nil || b.Revision.ID == "" {
		return nil, before
	}
	seen := false
	for _, earlier := range page.Runs {
		seen = seen || earlier.ID == b.ID
		if seen && earlier.Revision.ID != "" && earlier.Revision.ID != b.Revision.ID {
			before = earlier.Revision
			break
		}
	}
	commits = []sources.Revision{b.Revision}
	source, p := get[api.Source](d, r, api.PathSources+"/"+url.PathEscape(b.Source))
	if p != nil || before.ID == "" {
		return commits, before
	}
	from := slices.IndexFunc(source.Commits, func(c sources.Revision) bool { return c.ID == b.Revision.ID })
	if from < 0 {
		return commits, before
	}
	commits = nil
	for _, c := range source.Commits[from:] {
		if c.ID == before.ID {
			break
		}
		commits = append(commits, c)
	}
	return commits, before
}

// approvable reports whether something waits for an approval.
func approvable(waiting []reconciler.Waiting) bool {
	return slices.ContainsFunc(waiting, func(w reconciler.Waiting) bool { return forApproval(w.Gate) })
}

// forApproval reports whether an approval opens a gate.
func forApproval(gate reconciler.GateKind) bool {
	switch gate {
	case reconciler.GateAdoption, reconciler.GateProtected, reconciler.GateBudget, reconciler.GateVersion:
		return true
	}
	return false
}

// historyBody is what the page of all that happened shows.
type historyBody struct {
	Kind    string
	Runs    []reconciler.Run
	Actions []ledger.Action
	Drift   *api.DriftHistory
	Group   string
	Since   string
	Next    string
	// Results are the ways in which runs end, as filters.
	Results []choice
	// Charts is where their data comes from.
	Charts  string
	Problem *problem
}

func (d *Dashboard) history(w http.ResponseWriter, r *http.Request) {
	in := r.URL.Query()
	b := historyBody{Kind: in.Get("kind"), Since: in.Get("since")}
	q := url.Values{"limit": {strconv.Itoa(shownRuns)}}
	for _, key := range []string{"before", "since", "object", "environment", "result", "reason"} {
		if v := in.Get(key); v != "" {
			q.Set(key, v)
		}
	}
	var address string
	switch b.Kind {
	case "actions":
		address = twin(api.PathActions, q)
		page, p := get[ledger.Actions](d, r, address)
		b.Actions, b.Next, b.Problem = page.Actions, page.Next, p
	case "drift":
		if !q.Has("since") {
			q.Set("since", "7d")
			b.Since = "7d"
		}
		b.Group = in.Get("group")
		if !slices.Contains(ledger.Groupings, ledger.Grouping(b.Group)) {
			b.Group = string(ledger.ByManager)
		}
		q.Set("group", b.Group)
		address = twin(api.PathDriftHistory, q)
		page, p := get[api.DriftHistory](d, r, address)
		b.Drift, b.Next, b.Problem = &page, page.Next, p
	default:
		b.Kind = "runs"
		address = twin(api.PathRuns, q)
		page, p := get[ledger.Runs](d, r, address)
		b.Runs, b.Next, b.Problem = page.Runs, page.Next, p
		b.Results = results(in.Get("result"))
	}
	b.Charts = seriesOf("")
	d.show(w, r, http.StatusOK, "history", d.newPage(r, "history", "history", address, b))
}

// results are filters of runs by how they ended.
func results(chosen string) []choice {
	out := []choice{{Label: "all", On: chosen == "", To: "/history"}}
	for _, r := range []reconciler.Result{reconciler.Failed, reconciler.Partial, reconciler.Held, reconciler.Applied, reconciler.Unchanged} {
		out = append(out, choice{Name: string(r), Label: string(r), On: chosen == string(r), To: query("/history", "result", r)})
	}
	return out
}
