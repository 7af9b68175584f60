package dashboard

import (
	"cmp"
	"net/http"
	"net/url"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/codify"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// The bounds on what the page of drift lists.
const (
	shownGroups  = 100
	shownMembers = 20
	shownChanges = 10
)

// driftBody is what the page of drift shows.
type driftBody struct {
	Report reconciler.Report
	Groups []causeGroup
	// More groups are not shown.
	More int
	// State is what was asked for, Since how far back.
	State, Since, Environment, Severity string
	Environments                        []string
	Open                                int
	Sum                                 driftSum
	Problem                             *problem
}

// causeGroup is a group with the first of its episodes.
type causeGroup struct {
	drift.Group
	Members []drift.Episode
	More    int
	// May: the viewer may decide about all of them.
	May bool
}

func (d *Dashboard) drift(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	b := driftBody{State: q.Get("state"), Since: q.Get("since"), Environment: q.Get("environment"), Severity: q.Get("severity")}
	ask := url.Values{"group": {"cause"}, "expand": {"true"}}
	switch b.State {
	case "ended", "all":
		b.Since = cmp.Or(b.Since, "24h")
		ask.Set("since", b.Since)
	default:
		b.State = "open"
		ask.Set("open", "true")
	}
	if b.Severity != "" {
		ask.Set("severity", b.Severity)
	}
	path := api.PathDrift
	if b.Environment != "" {
		path = about(b.Environment, "/drift")
	}
	address := twin(path, ask)
	report, problem := get[reconciler.Report](d, r, address)
	if problem != nil && problem.Status == http.StatusNotFound {
		d.failed(w, r, "drift", *problem)
		return
	}
	b.Problem = problem
	b.fill(report, d.opts.Viewer(r))
	for _, s := range d.environments(d.opts.Viewer(r)) {
		b.Environments = append(b.Environments, s.Name)
	}
	d.show(w, r, http.StatusOK, "drift", d.newPage(r, "drift", driftTitle(b.Open), address, b))
}

func driftTitle(open int) string {
	if open == 0 {
		return "no open drift"
	}
	return plural(open, "open drift")
}

func (b *driftBody) fill(report reconciler.Report, viewer Viewer) {
	byID := make(map[string]*drift.Episode, len(report.Episodes))
	for i := range report.Episodes {
		e := &report.Episodes[i]
		byID[e.ID] = e
		if e.Ended.IsZero() {
			b.Sum.add(e)
		}
	}
	b.Open = b.Sum.Open
	for _, g := range report.Groups {
		if b.State == "ended" && g.Ended.IsZero() {
			continue
		}
		if len(b.Groups) == shownGroups {
			b.More++
			continue
		}
		out := causeGroup{Group: g, May: viewer.May != nil}
		for _, id := range g.Episodes {
			e := byID[id]
			switch {
			case e == nil:
			case len(out.Members) == shownMembers:
				out.More++
			default:
				out.Members = append(out.Members, *e)
			}
		}
		for _, name := range g.Environments {
			out.May = out.May && viewer.may(name)
		}
		b.Groups = append(b.Groups, out)
	}
	report.Episodes, report.Groups = nil, nil
	b.Report = report
}

// episodeBody is what the page of one drift shows.
type episodeBody struct {
	drift.Episode
	May    bool
	Source string
	// Rules would leave it alone for good, once they are committed.
	Rules []string
	// Earlier are further drifts of the object, Decisions those about it that count,
	// Runs those that touched it.
	Earlier   []drift.Episode
	Decisions []drift.Decision
	Runs      []reconciler.Run
	// Patch is what codify found of Field, Refused why it found nothing.
	Patch   *codify.Patch
	Field   string
	Refused *problem
	// Proposing is how the patch may be pushed as a branch; nil where it may not.
	Proposing *proposing
	// Pushed is the branch that it was pushed as.
	Pushed *api.Proposal
}

func (d *Dashboard) episode(w http.ResponseWriter, r *http.Request) {
	if b, ok := d.episodeOf(w, r); ok {
		d.showEpisode(w, r, b)
	}
}

func (d *Dashboard) episodeOf(w http.ResponseWriter, r *http.Request) (episodeBody, bool) {
	detail, problem := get[api.DriftDetail](d, r, api.PathDrift+"/"+url.PathEscape(r.PathValue("id")))
	if problem != nil {
		d.failed(w, r, "drift", *problem)
		return episodeBody{}, false
	}
	e := detail.Episode
	b := episodeBody{Episode: e, May: d.opts.Viewer(r).may(e.Environment), Earlier: detail.History, Decisions: detail.Decisions, Runs: detail.Runs}
	if status, ok := d.opts.Engine.Environment(e.Environment); ok {
		b.Source = status.Source
	}
	if e.Ended.IsZero() {
		if rules, p := get[api.IgnoreRules](d, r, twin(about(e.Environment, "/drift/ignore"), url.Values{"object": {e.Object.String()}})); p == nil {
			b.Rules = rules.Rules
		}
	}
	return b, true
}

func (d *Dashboard) showEpisode(w http.ResponseWriter, r *http.Request, b episodeBody) {
	title := "drift of " + b.Object.String() + " in " + b.Environment
	p := d.newPage(r, "drift", cut(title, maxTitle), api.PathDrift+"/"+url.PathEscape(b.ID), b)
	if !b.Ended.IsZero() || b.Patch != nil || b.Refused != nil {
		p.Refresh = 0
	}
	d.show(w, r, http.StatusOK, "episode", p)
}

// codify shows the change of the source by which git says what is live. It is a
// form, since it makes the daemon work and is for those who may change.
func (d *Dashboard) codify(w http.ResponseWriter, r *http.Request) {
	b, ok := d.episodeOf(w, r)
	if !ok {
		return
	}
	d.findPatch(r, &b)
	d.showEpisode(w, r, b)
}

// findPatch looks for the change of the field that a form names.
func (d *Dashboard) findPatch(r *http.Request, b *episodeBody) {
	q := url.Values{"object": {b.Object.String()}}
	if b.Field = r.PostFormValue("field"); b.Field != "" {
		q.Set("field", b.Field)
	}
	var patch codify.Patch
	if b.Refused = d.call(r, http.MethodPost, twin(about(b.Environment, "/drift/codify"), q), nil, &patch); b.Refused == nil {
		b.Patch = &patch
		b.Proposing = d.mayPropose(r, *b)
	}
}
