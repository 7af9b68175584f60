package dashboard

import (
	"net/http"
	"slices"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// sourcesBody is what the page of sources shows.
type sourcesBody struct {
	Sources []sourceRow
	Problem *problem
	MayAll  bool
}

// sourceRow is a source with the environments that follow it.
type sourceRow struct {
	api.Source
	Environments []string
}

func (d *Dashboard) sources(w http.ResponseWriter, r *http.Request) {
	viewer := d.opts.Viewer(r)
	all, p := get[api.Sources](d, r, api.PathSources)
	b := sourcesBody{Problem: p, MayAll: viewer.MayAll}
	follow := map[string][]string{}
	for _, s := range d.environments(viewer) {
		follow[s.Source] = append(follow[s.Source], s.Name)
	}
	for _, s := range all.Sources {
		b.Sources = append(b.Sources, sourceRow{Source: s, Environments: follow[s.Name]})
	}
	d.show(w, r, http.StatusOK, "sources", d.newPage(r, "sources", "sources", api.PathSources, b))
}

// targetRow is a target with what goes on in it.
type targetRow struct {
	api.Target
	Environments []reconciler.Status
	Sum          driftSum
	// Silent are the watches that say nothing, Watching counts the others.
	Silent   []reconciler.TargetWatch
	Watching int
	Requests int64
}

// targetsBody is what the page of targets shows.
type targetsBody struct {
	Targets []targetRow
	Problem *problem
}

func (d *Dashboard) targets(w http.ResponseWriter, r *http.Request) {
	viewer := d.opts.Viewer(r)
	found, p := get[api.Targets](d, r, api.PathTargets)
	b := targetsBody{Problem: p}
	place := map[string]int{}
	for i, t := range found.Targets {
		row := targetRow{Target: t}
		for _, watch := range t.Watches {
			if watch.Problem != "" || !watch.Synced {
				row.Silent = append(row.Silent, watch)
				continue
			}
			row.Watching++
		}
		for _, n := range t.TargetReport.Requests.Total {
			row.Requests += n
		}
		place[t.Name] = i
		b.Targets = append(b.Targets, row)
	}
	for _, s := range d.environments(viewer) {
		if i, ok := place[s.Target]; ok {
			b.Targets[i].Environments = append(b.Targets[i].Environments, s)
		}
	}
	episodes := d.open(viewer, "")
	for i := range episodes {
		if at, ok := place[episodes[i].Target]; ok {
			b.Targets[at].Sum.add(&episodes[i])
		}
	}
	d.show(w, r, http.StatusOK, "targets", d.newPage(r, "targets", "targets", api.PathTargets, b))
}

// healthBody is what the page of Holdfast itself shows.
type healthBody struct {
	api.Health
	Problem *problem
	// Under are the runs under way, Unseen the environments that are not seen.
	Under   []reconciler.Status
	Unseen  []drift.Detector
	Seen    int
	Sources []api.Source
}

func (d *Dashboard) health(w http.ResponseWriter, r *http.Request) {
	viewer := d.opts.Viewer(r)
	found, p := get[api.Health](d, r, api.PathHealth)
	b := healthBody{Health: found, Problem: p}
	for _, s := range d.environments(viewer) {
		if s.Running != nil {
			b.Under = append(b.Under, s)
		}
	}
	for _, s := range d.opts.Engine.Drift(reconciler.Filter{OpenOnly: true}).Detectors {
		switch {
		case !viewer.sees(s.Environment):
		case s.Sight == drift.Fresh:
			b.Seen++
		default:
			b.Unseen = append(b.Unseen, s)
		}
	}
	if found, p := get[api.Sources](d, r, api.PathSources); p == nil {
		b.Sources = found.Sources
		slices.SortStableFunc(b.Sources, func(a, c api.Source) int { return c.Failures - a.Failures })
	}
	d.show(w, r, http.StatusOK, "health", d.newPage(r, "health", "how Holdfast is", api.PathHealth, b))
}
