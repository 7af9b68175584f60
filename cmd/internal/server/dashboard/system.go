package dashboard

import (
	"net/http"
	"slices"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
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
	all, p := get[api.Sources](d, r, api.PathSources)
	b := sourcesBody{Problem: p, MayAll: d.opts.Viewer(r).MayAll}
	follow := map[string][]string{}
	for _, s := range d.opts.Engine.Environments() {
		follow[s.Source] = append(follow[s.Source], s.Name)
	}
	for _, s := range all.Sources {
		b.Sources = append(b.Sources, sourceRow{Source: s, Environments: follow[s.Name]})
	}
	d.show(w, r, http.StatusOK, "sources", d.newPage(r, "sources", "sources", api.PathSources, b))
}

// targetRow adds up what is known of a target.
type targetRow struct {
	Name         string
	Environments []reconciler.Status
	Objects      int
	// Stale and Standby name what is wrong with the view of it.
	Stale []drift.Detector
	Sum   driftSum
}

// targetsBody is what the page of targets shows.
type targetsBody struct {
	Targets []targetRow
}

func (d *Dashboard) targets(w http.ResponseWriter, r *http.Request) {
	byName := map[string]*targetRow{}
	row := func(name string) *targetRow {
		if byName[name] == nil {
			byName[name] = &targetRow{Name: name}
		}
		return byName[name]
	}
	for _, s := range d.opts.Engine.Environments() {
		t := row(s.Target)
		t.Environments, t.Objects = append(t.Environments, s), t.Objects+s.Objects
	}
	report := d.opts.Engine.Drift(reconciler.Filter{OpenOnly: true})
	for i := range report.Episodes {
		if e := &report.Episodes[i]; e.Ended.IsZero() {
			row(e.Target).Sum.add(e)
		}
	}
	for _, s := range report.Detectors {
		if s.Sight != drift.Fresh {
			row(s.Target).Stale = append(row(s.Target).Stale, s)
		}
	}
	b := targetsBody{}
	for _, t := range byName {
		b.Targets = append(b.Targets, *t)
	}
	slices.SortFunc(b.Targets, func(a, b targetRow) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	d.show(w, r, http.StatusOK, "targets", d.newPage(r, "targets", "targets", api.PathEnvironments, b))
}

// healthBody is what the page of Holdfast itself shows.
type healthBody struct {
	Ready     string
	Ledger    *ledger.Stats
	Running   []reconciler.Status
	Detectors []drift.Detector
	Fresh     int
	Total     int
	Sources   []sourceRow
}

func (d *Dashboard) health(w http.ResponseWriter, r *http.Request) {
	b := healthBody{}
	if stats, p := get[ledger.Stats](d, r, api.PathLedger); p == nil {
		b.Ledger = &stats
	}
	if p := d.call(r, http.MethodGet, "/readyz", nil, nil); p != nil && p.Status == http.StatusServiceUnavailable {
		b.Ready = p.Detail
	}
	all := d.opts.Engine.Environments()
	b.Total = len(all)
	for _, s := range all {
		if s.Running != nil {
			b.Running = append(b.Running, s)
		}
	}
	report := d.opts.Engine.Drift(reconciler.Filter{OpenOnly: true})
	for _, s := range report.Detectors {
		if s.Sight == drift.Fresh {
			b.Fresh++
			continue
		}
		b.Detectors = append(b.Detectors, s)
	}
	if found, p := get[api.Sources](d, r, api.PathSources); p == nil {
		for _, s := range found.Sources {
			b.Sources = append(b.Sources, sourceRow{Source: s})
		}
	}
	d.show(w, r, http.StatusOK, "health", d.newPage(r, "health", "how Holdfast is", api.PathLedger, b))
}
