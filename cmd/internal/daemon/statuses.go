package daemon

import (
	"cmp"
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/cmd/internal/forge"
	"github.com/holdfast-gitops/holdfast/cmd/internal/forge/statuses"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// openTeller says where to tell what becomes of a source's commits; false where
// nothing is to be told.
func openTeller(c config.Source) (statuses.Target, bool, error) {
	repo, ok := c.Repo()
	if !ok || !c.Forge.Tells() {
		return statuses.Target{}, false, nil
	}
	o := c.Git()
	if c.Forge.TokenFile != "" {
		o.Username, o.PasswordFile, o.BearerFile, o.GitHubApp = "", c.Forge.TokenFile, "", nil
	}
	api, err := gitrepo.OpenAPI(o, map[string]string{"statuses": "write", "deployments": "write"})
	if err != nil {
		return statuses.Target{}, false, fmt.Errorf("source %s: forge: %w", c.Name, err)
	}
	t := statuses.Target{
		Repo: repo, API: cmp.Or(c.Forge.API, statuses.API(repo)), Statuses: c.Forge.Statuses, Deployments: c.Forge.Deployments, Client: api.Client,
	}
	t.Credential = func(ctx context.Context) (statuses.Credential, error) {
		username, secret, bearer, err := api.Secret(ctx)
		if repo.Kind == forge.GitHub || repo.Kind == forge.GitLab {
			username = "" // their APIs know tokens only
		}
		return statuses.Credential{Username: username, Secret: secret, Bearer: bearer}, err
	}
	return t, true, nil
}

// openReporter reads what was told of commits before. Nothing is told before it
// runs.
func (d *daemon) openReporter() {
	sent := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_commit_statuses_total", Help: "Attempts to tell a repository's host what became of a commit, by how they ended.",
	}, []string{"source", "outcome"})
	d.reporter = statuses.Open(statuses.Options{
		DataDir: d.opts.Config.DataDir, Link: d.opts.Config.Notifications.Link, Logger: d.log,
		Environments: d.Environments, Settled: func() bool { return d.ready() == nil },
		Targets: func() map[string]statuses.Target { return d.now.Load().tellers },
		Count:   func(source, outcome string) { sent.WithLabelValues(source, outcome).Inc() },
	})
	d.metrics.registry.MustRegister(sent, statusMetrics{d.reporter})
}

var descStatusesWaiting = prometheus.NewDesc("holdfast_commit_statuses_waiting", "Commit statuses that the repository's host has not taken yet.", []string{"source"}, nil)

// statusMetrics says what waits.
type statusMetrics struct{ r *statuses.Reporter }

// Describe implements prometheus.Collector.
func (m statusMetrics) Describe(ch chan<- *prometheus.Desc) { ch <- descStatusesWaiting }

// Collect implements prometheus.Collector.
func (m statusMetrics) Collect(ch chan<- prometheus.Metric) {
	for source, waiting := range m.r.Waiting() {
		ch <- prometheus.MustNewConstMetric(descStatusesWaiting, prometheus.GaugeValue, float64(waiting), source)
	}
}
