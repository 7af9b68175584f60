package dashboard

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
)

// The bounds of lists on the pages of an environment.
const (
	shownEpisodes = 50
	shownRuns     = 100
	shownEvents   = 40
)

// environmentBody is what all pages of an environment have on top.
type environmentBody struct {
	reconciler.Status
	Sum driftSum
	// Tab is which of the pages it is.
	Tab string
	// May: the viewer may change it.
	May bool
	// Last is the newest run that ended.
	Last *reconciler.Run
	// Source is how its source stands; nil where that is not known.
	Source *api.Source
	// Ahead are the commits of head that are not applied, as far as they are known.
	Ahead []string
	// Episodes are what drifts, the worst first; More are not shown.
	Episodes []drift.Episode
	More     int
	Unsure   string
	// Events is what happened, newest first.
	Events []event
	// Charts is where their data comes from.
	Charts string
	// Summary adds up the drift of the last days.
	Summary *ledger.Summary

	// What the other pages show.
	List    objectList
	Plan    *planBody
	Runs    []reconciler.Run
	Actions []ledger.Action
	Drifts  []drift.Episode
	Next    string
	Problem *problem
}

// environmentOf prepares a page about an environment; it answers for one that
// there is not.
func (d *Dashboard) environmentOf(w http.ResponseWriter, r *http.Request, tab string) (environmentBody, bool) {
	viewer := d.opts.Viewer(r)
	status, ok := d.opts.Engine.Environment(r.PathValue("name"))
	if !ok || !viewer.sees(status.Name) {
		d.unknownEnvironment(w, r, r.PathValue("name"))
		return environmentBody{}, false
	}
	b := environmentBody{Status: status, Tab: tab, Last: cmp.Or(status.LastRun, status.Earlier), May: viewer.may(status.Name)}
	b.Episodes, b.Unsure = d.open(viewer, status.Name), d.opts.Engine.Drift(reconciler.Filter{Environment: status.Name, OpenOnly: true}).Unsure[status.Name]
	for i := range b.Episodes {
		b.Sum.add(&b.Episodes[i])
	}
	worstFirst(b.Episodes)
	if more := len(b.Episodes) - shownEpisodes; more > 0 {
		b.Episodes, b.More = b.Episodes[:shownEpisodes], more
	}
	return b, true
}

// worstFirst orders episodes: those nobody has decided about, of those the worst,
// then the newest.
func worstFirst(episodes []drift.Episode) {
	rank := func(e *drift.Episode) int {
		i := slices.Index(drift.Severities, e.Severity)
		if i < 0 {
			i = 2
		}
		if e.Fate.Quiet() {
			i += 10
		}
		return i
	}
	slices.SortStableFunc(episodes, func(a, b drift.Episode) int {
		return cmp.Or(rank(&a)-rank(&b), b.FirstSeen.Compare(a.FirstSeen))
	})
}

func (d *Dashboard) environment(w http.ResponseWriter, r *http.Request) {
	b, ok := d.environmentOf(w, r, "summary")
	if !ok {
		return
	}
	if found, p := get[api.Source](d, r, "/api/v1/sources/"+url.PathEscape(b.Status.Source)); p == nil {
		b.Source = &found
	}
	b.Events = d.events(r, b.Name)
	b.Charts = seriesOf(b.Name)
	q := url.Values{"environment": {b.Name}, "since": {"7d"}, "limit": {"1"}}
	if h, p := get[api.DriftHistory](d, r, twin(api.PathDriftHistory, q)); p == nil {
		b.Summary = &h.Summary
	}
	d.show(w, r, http.StatusOK, "environment", d.newPage(r, "environments", b.Name+" "+string(b.Sync), about(b.Name), b))
}

// event is one line of what happened.
type event struct {
	At   time.Time
	Kind string // run, drift or action
	// Word is how it ended or what was asked for; the tone goes by it.
	Word string
	Text string
	By   string
	To   string
}

// events merges runs, drift and what people asked for.
func (d *Dashboard) events(r *http.Request, environment string) []event {
	q := url.Values{"limit": {strconv.Itoa(shownEvents)}}
	if environment != "" {
		q.Set("environment", environment)
	}
	var out []event
	if page, p := get[ledger.Runs](d, r, twin(api.PathRuns, q)); p == nil {
		for i := range page.Runs {
			out = append(out, runEvent(&page.Runs[i]))
		}
	}
	if page, p := get[api.DriftHistory](d, r, twin(api.PathDriftHistory, q)); p == nil {
		for i := range page.Episodes {
			out = append(out, driftEvent(&page.Episodes[i]))
		}
	}
	if page, p := get[ledger.Actions](d, r, twin(api.PathActions, q)); p == nil {
		for _, a := range page.Actions {
			out = append(out, actionEvent(a))
		}
	}
	slices.SortStableFunc(out, func(a, b event) int { return b.At.Compare(a.At) })
	return out[:min(len(out), shownEvents)]
}

func runEvent(r *reconciler.Run) event {
	e := event{At: r.Finished, Kind: "run", Word: string(r.Result), Text: did(r.Counts), By: r.Trigger.Reason.String(), To: "/runs/" + url.PathEscape(r.ID)}
	if r.Trigger.Actor != "" {
		e.By += " by " + r.Trigger.Actor
	}
	if r.Revision.ID != "" {
		e.Text = r.Revision.Short() + " " + r.Revision.Subject + withComma(e.Text)
	}
	if len(r.Errors) > 0 {
		e.Text += ": " + r.Errors[0].Message
	}
	return e
}

func withComma(s string) string {
	if s == "" {
		return ""
	}
	return " · " + s
}

func driftEvent(e *drift.Episode) event {
	out := event{At: e.FirstSeen, Kind: "drift", Word: string(e.State), Text: e.Object.String(), By: byOf(e.By()), To: "/drift/" + url.PathEscape(e.ID)}
	if len(e.Changes) > 0 && e.Changes[0].Path != "" {
		c := e.Changes[0]
		out.Text += " " + c.Path + " " + cut(c.Desired.String(), 60) + " → " + cut(c.Live.String(), 60)
		if more := len(e.Changes) - 1; more > 0 {
			out.Text += " and " + plural(more, "more field")
		}
	} else {
		out.Text += " " + string(e.Class)
	}
	if !e.Ended.IsZero() {
		out.Text += " · ended after " + span(e.Ended.Sub(e.FirstSeen))
	}
	return out
}

func actionEvent(a ledger.Action) event {
	out := event{At: a.At, Kind: "action", Word: a.Verb, Text: a.Subject, By: a.Actor}
	if a.Reason != "" {
		out.Text = strings.TrimPrefix(a.Subject+" · “"+a.Reason+"”", " · ")
	}
	return out
}

func byOf(names []string) string {
	out := ""
	for i, n := range names {
		if i > 0 {
			out += ", "
		}
		out += n
	}
	return out
}

func (d *Dashboard) environmentHistory(w http.ResponseWriter, r *http.Request) {
	b, ok := d.environmentOf(w, r, "history")
	if !ok {
		return
	}
	q := url.Values{"environment": {b.Name}, "limit": {strconv.Itoa(shownRuns)}}
	if before := r.URL.Query().Get("before"); before != "" {
		q.Set("before", before)
	}
	if object := r.URL.Query().Get("object"); object != "" {
		q.Set("object", object)
	}
	page, problem := get[ledger.Runs](d, r, twin(api.PathRuns, q))
	b.Runs, b.Next, b.Problem = page.Runs, page.Next, problem
	q.Del("before")
	if h, p := get[api.DriftHistory](d, r, twin(api.PathDriftHistory, q)); p == nil {
		b.Drifts, b.Summary = h.Episodes, &h.Summary
	}
	if h, p := get[ledger.Actions](d, r, twin(api.PathActions, url.Values{"environment": {b.Name}, "limit": {"50"}})); p == nil {
		b.Actions = h.Actions
	}
	d.show(w, r, http.StatusOK, "environment", d.newPage(r, "environments", b.Name+" history", twin(api.PathRuns, q), b))
}

// planBody is what the next run would do, by what it would do.
type planBody struct {
	reconciler.Plan
	// Held are held, Ready are not; Same counts what is as desired.
	Held, Ready []reconciler.Operation
	// Approvable: something of it waits for an approval.
	Approvable bool
	Same       int
	More       int
}

// shownOperations bounds the operations of a plan or a run that a page lists.
const shownOperations = 200

func (d *Dashboard) plan(w http.ResponseWriter, r *http.Request) {
	b, ok := d.environmentOf(w, r, "plan")
	if !ok {
		return
	}
	q := url.Values{}
	if rev := r.URL.Query().Get("revision"); rev != "" {
		q.Set("revision", rev)
	}
	address := twin(about(b.Name, "/plan"), q)
	plan, problem := get[reconciler.Plan](d, r, address)
	b.Problem = problem
	if problem == nil {
		b.Plan = split(plan)
	}
	p := d.newPage(r, "environments", b.Name+" plan", address, b)
	p.Refresh = 0 // a plan renders and compares: only when somebody asks
	d.show(w, r, http.StatusOK, "environment", p)
}

func split(plan reconciler.Plan) *planBody {
	out := &planBody{Plan: plan}
	for _, op := range plan.Operations {
		out.Approvable = out.Approvable || slices.ContainsFunc(op.HeldBy, forApproval)
		switch {
		case op.Kind == reconciler.OpUnchanged:
			out.Same++
		case len(out.Held)+len(out.Ready) == shownOperations:
			out.More++
		case op.Held != "":
			out.Held = append(out.Held, op)
		default:
			out.Ready = append(out.Ready, op)
		}
	}
	return out
}
