package daemon

import "github.com/holdfast-gitops/holdfast/cmd/internal/forge"

// repo is where a source's repository has its pages; the zero Repo has none.
func (d *daemon) repo(source string) forge.Repo {
	g := d.now.Load()
	if g == nil || g.followers[source] == nil {
		return forge.Repo{}
	}
	repo, _ := g.followers[source].config.Repo()
	return repo
}

// The methods below implement dashboard.Links.

// Commit implements dashboard.Links.
func (d *daemon) Commit(source, id string) string { return d.repo(source).Commit(id) }

// File implements dashboard.Links.
func (d *daemon) File(source, id, path string, line int) string {
	return d.repo(source).File(id, path, line)
}

// Compare implements dashboard.Links.
func (d *daemon) Compare(source, from, to string) string { return d.repo(source).Compare(from, to) }
