package daemon

import (
	"context"
	"fmt"
	"path"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/codify"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// Revert implements server.Drifts.
func (d *daemon) Revert(ctx context.Context, name string, id sources.ID, actor string) (reconciler.Run, error) {
	return d.now.Load().engine.Revert(ctx, name, id, actor)
}

// Accept implements server.Drifts.
func (d *daemon) Accept(ctx context.Context, name string, r reconciler.AcceptRequest) (drift.Decision, error) {
	return d.now.Load().engine.Accept(ctx, name, r)
}

// IgnoreRules implements server.Drifts.
func (d *daemon) IgnoreRules(name string, id sources.ID, path string) ([]string, error) {
	return d.now.Load().engine.IgnoreRules(name, id, path)
}

// Codify implements server.Drifts.
func (d *daemon) Codify(ctx context.Context, name string, id sources.ID, field string) (codify.Patch, error) {
	patch, _, err := d.now.Load().codify(ctx, name, id, field)
	return patch, err
}

// codify looks for the change in the revision that is in force, and says which
// that is.
func (g *generation) codify(ctx context.Context, name string, id sources.ID, field string) (codify.Patch, sources.Revision, error) {
	episode, err := g.engine.OpenDrift(name, id, field)
	if err != nil {
		return codify.Patch{}, sources.Revision{}, err
	}
	status, _ := g.engine.Environment(name)
	f := g.followers[status.Source]
	if f == nil {
		return codify.Patch{}, sources.Revision{}, fmt.Errorf("no environment %q", name)
	}
	if _, apart := f.elsewhere.noted(name); apart {
		return codify.Patch{}, sources.Revision{}, sources.Problem{Object: id.String(), Message: "cannot be codified: the environment's files lie in another source or ref"}
	}
	l := f.inForce.Load()
	if l == nil || !l.acquire() {
		return codify.Patch{}, sources.Revision{}, reconciler.ErrSuperseded
	}
	defer l.release()
	repo, err := f.find(l.snap.Tree)
	if err != nil {
		return codify.Patch{}, sources.Revision{}, err
	}
	spec, err := specNamed(repo, name, l.snap.Revision)
	if err != nil {
		return codify.Patch{}, sources.Revision{}, err
	}
	changes := episode.Changes
	if field != "" {
		changes = nil
		for _, c := range episode.Changes {
			if c.Path == field {
				changes = append(changes, c)
			}
		}
	}
	patch, err := codify.Codify(ctx, codify.Request{
		Tree: l.snap.Tree, Roots: rootsOf(spec, episode.Origin), Environment: name, Object: id, Changes: changes,
		Render: func(ctx context.Context, tree sources.Tree) (map[string][]sources.Item, error) {
			return f.renderAll(ctx, tree, l.snap.Revision)
		},
	})
	return patch, l.snap.Revision, err
}

// rootsOf are where a value of an environment may be written down, the likeliest
// first.
func rootsOf(spec environment.Spec, origin sources.Origin) []string {
	var out []string
	if origin.File != "" {
		out = append(out, origin.File)
	}
	out = append(out, spec.Path, spec.File)
	for _, l := range spec.Layers {
		out = append(out, l.File)
	}
	if origin.File != "" && path.Dir(origin.File) != "." {
		out = append(out, path.Dir(origin.File))
	}
	return out
}

// renderAll renders every environment whose files are in a tree. One that cannot
// be rendered counts as empty, before and after.
func (f *follower) renderAll(ctx context.Context, tree sources.Tree, rev sources.Revision) (map[string][]sources.Item, error) {
	repo, err := f.find(tree)
	if err != nil {
		return nil, err
	}
	out := map[string][]sources.Item{}
	l := newLease(sources.NewSnapshot(f.name, rev, tree, nil))
	defer l.release()
	for _, spec := range repo.Specs {
		if _, apart := f.elsewhere.placeOf(spec); apart {
			continue
		}
		items, err := f.render(ctx, l, spec)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			items = nil
		}
		out[spec.Name] = items
	}
	return out, nil
}
