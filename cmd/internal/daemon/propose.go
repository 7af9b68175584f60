package daemon

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
)

// pusher is a source that branches can be pushed to.
type pusher interface {
	Push(ctx context.Context, o gitrepo.Options, p gitrepo.Proposal) (string, error)
}

// Propose implements server.Drifts.
func (d *daemon) Propose(ctx context.Context, name string, r api.ProposeRequest) (api.Proposal, error) {
	g := d.now.Load()
	status, ok := g.engine.Environment(name)
	f := g.followers[status.Source]
	if !ok || f == nil {
		return api.Proposal{}, fmt.Errorf("no environment %q", name)
	}
	to, err := f.mayPush(r.Branch)
	if err != nil {
		return api.Proposal{}, err
	}
	patch, base, err := g.codify(ctx, name, *r.Object, r.Field)
	if err != nil {
		return api.Proposal{}, err
	}
	id, err := to.Push(ctx, f.config.PushGit(), gitrepo.Proposal{
		Base: base, Branch: r.Branch, Files: patch.Contents, Author: r.Author, At: time.Now(),
		Message: fmt.Sprintf("Say in git what is live: %s in %s\n\n%s\n\nFields: %s\nDecided by: %s\n", r.Object, name, r.Reason, strings.Join(patch.Fields, ", "), r.Author),
	})
	if err != nil {
		return api.Proposal{}, err
	}
	out := api.Proposal{Patch: patch, Branch: r.Branch, Commit: id, Base: base.ID}
	if repo, known := f.config.Repo(); known {
		into, _ := strings.CutPrefix(base.Ref, "refs/heads/")
		if into == base.Ref { // a tag or a commit is followed
			into = ""
		}
		out.Page, out.PullRequest = repo.Commit(id), repo.PullRequest(r.Branch, into)
	}
	return out, nil
}

// mayPush reports whether the configuration allows a branch of a name.
func (f *follower) mayPush(branch string) (pusher, error) {
	p, ok := f.source.(pusher)
	switch {
	case !ok:
		return nil, api.Problem{Status: http.StatusConflict, Detail: fmt.Sprintf("source %s is no git repository, and nothing can be pushed to it", f.name)}
	case f.config.Push.Branches == "":
		return nil, api.Problem{
			Status: http.StatusConflict, Detail: fmt.Sprintf("nothing may be pushed to source %s", f.name),
			Hint: "allow it in the daemon's configuration with push: {branches: holdfast/*}, or apply the patch without a branch",
		}
	case !f.config.Push.Allows(branch):
		return nil, api.Problem{
			Status: http.StatusConflict, Detail: fmt.Sprintf("no branch %q may be pushed to source %s", branch, f.name),
			Hint: "allowed are " + f.config.Push.Branches,
		}
	}
	return p, nil
}
