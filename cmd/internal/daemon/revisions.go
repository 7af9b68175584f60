package daemon

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"

	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
	"github.com/holdfast-gitops/holdfast/sources/localdir"
)

// The bounds of an archive of files that is planned.
const (
	maxArchiveFiles = 20_000
	maxArchiveFile  = 16 << 20
)

var commitID = regexp.MustCompile(`^[0-9a-f]{40}$`)

// at implements the engine's wish for an environment at another revision, or at
// another ref, of its source.
func (g *generation) at(ctx context.Context, source, name, revision string) (reconciler.Assignment, error) {
	f := g.followers[source]
	if f == nil {
		return reconciler.Assignment{}, fmt.Errorf("no source %q in the configuration", source)
	}
	if a, ok := f.elsewhere.noted(name); ok {
		return f.apartAt(ctx, a, revision)
	}
	open := func(ctx context.Context) (*sources.Snapshot, error) { return f.snapshotAt(ctx, revision) }
	return g.assignmentIn(ctx, f, name, open)
}

// apartAt is the assignment of an environment whose files lie elsewhere, with
// those at a revision of that place and the spec in force: its own history is
// another.
func (f *follower) apartAt(ctx context.Context, a apart, revision string) (reconciler.Assignment, error) {
	other, err := f.elsewhere.other(a.place.source)
	if err != nil {
		return reconciler.Assignment{}, err
	}
	open := func(ctx context.Context) (*sources.Snapshot, error) { return other.snapshotAt(ctx, revision) }
	snap, err := open(ctx)
	if err != nil {
		return reconciler.Assignment{}, err
	}
	defer snap.Close()
	out, err := f.reopening(f.assignment(newLease(snap), a.spec), open)
	if err == nil && a.spec.Preview != nil {
		out.Render = confined(out.Render, a.spec)
	}
	return out, err
}

// reopening is an assignment that opens its snapshot anew for each render.
func (f *follower) reopening(a reconciler.Assignment, open func(context.Context) (*sources.Snapshot, error)) (reconciler.Assignment, error) {
	if a.Problem != nil {
		return reconciler.Assignment{}, a.Problem
	}
	spec := a.Spec
	a.Render = func(ctx context.Context) ([]sources.Item, error) {
		snap, err := open(ctx)
		if err != nil {
			return nil, err
		}
		l := newLease(snap)
		defer l.release()
		return f.render(ctx, l, spec)
	}
	return a, nil
}

// snapshotAt is the source's files at a commit, or at the head of another ref.
func (f *follower) snapshotAt(ctx context.Context, revision string) (*sources.Snapshot, error) {
	if l := f.inForce.Load(); l != nil && l.snap.Revision.ID == revision && l.acquire() {
		return sources.NewSnapshot(f.name, l.snap.Revision, l.snap.Tree, l.release), nil
	}
	if history, ok := f.source.(ancestral); ok && commitID.MatchString(revision) {
		return history.Revision(ctx, sources.Revision{ID: revision})
	}
	if repo, ok := f.source.(branched); ok {
		at := repo.At(revision)
		snap, err := at.Fetch(ctx)
		if err != nil {
			at.Close()
			return nil, err
		}
		release := func() {
			snap.Close()
			at.Close()
		}
		return sources.NewSnapshot(f.name, snap.Revision, snap.Tree, release), nil
	}
	return nil, sources.Problem{
		Object: "source " + f.name, Message: "keeps no other revisions than the one in force",
		Hint: "only git sources do",
	}
}

// assignmentIn is the assignment of an environment as a snapshot has it. The
// snapshot is opened anew for each render, so that nothing has to be kept.
func (g *generation) assignmentIn(ctx context.Context, f *follower, name string, open func(context.Context) (*sources.Snapshot, error)) (reconciler.Assignment, error) {
	snap, err := open(ctx)
	if err != nil {
		return reconciler.Assignment{}, err
	}
	defer snap.Close()
	repo, err := f.find(snap.Tree)
	if err != nil {
		return reconciler.Assignment{}, err
	}
	spec, err := specNamed(repo, name, snap.Revision)
	if err != nil {
		return reconciler.Assignment{}, err
	}
	if _, apart := f.elsewhere.placeOf(spec); apart {
		return reconciler.Assignment{}, sources.Problem{
			File: spec.File, Line: spec.Line, Object: "Environment/" + name,
			Message: "takes its files from another source or ref, of which the revision that belongs to this one is not known",
		}
	}
	return f.reopening(f.assignment(newLease(snap), spec), open)
}

func specNamed(repo *environment.Repository, name string, at sources.Revision) (environment.Spec, error) {
	for _, s := range repo.Specs {
		if s.Name == name {
			return s, nil
		}
	}
	for _, b := range repo.Broken {
		if b.Name == name {
			return environment.Spec{}, b.Problems
		}
	}
	return environment.Spec{}, sources.Problem{Object: "Environment/" + name, Message: "has no spec at " + at.Short()}
}

// planFiles plans an environment with the files of an archive in the place of its
// source's.
func (g *generation) planFiles(ctx context.Context, name string, archive io.Reader) (reconciler.Plan, error) {
	status, ok := g.engine.Environment(name)
	f := g.followers[status.Source]
	if !ok || f == nil {
		return reconciler.Plan{}, fmt.Errorf("no environment %q", name)
	}
	parent := filepath.Join(g.config.DataDir, "cache")
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return reconciler.Plan{}, fmt.Errorf("unpack the files: %w", err)
	}
	dir, err := os.MkdirTemp(parent, "plan-*")
	if err != nil {
		return reconciler.Plan{}, fmt.Errorf("unpack the files: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := unpack(dir, archive); err != nil {
		return reconciler.Plan{}, fmt.Errorf("unpack the files: %w", err)
	}
	src, err := localdir.Open(localdir.Options{Name: f.name, Dir: dir})
	if err != nil {
		return reconciler.Plan{}, err
	}
	a, err := g.assignmentIn(ctx, f, name, src.Fetch)
	if err != nil {
		return reconciler.Plan{}, err
	}
	return g.engine.PlanOf(ctx, a)
}

// unpack writes the files and links of an archive below a directory, and nothing
// outside of it: links that lead out are written, and refused by whoever reads.
func unpack(dir string, archive io.Reader) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	t := tar.NewReader(archive)
	for count := 0; ; count++ {
		h, err := t.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case count == maxArchiveFiles:
			return fmt.Errorf("there are more than %d files", maxArchiveFiles)
		case !fs.ValidPath(h.Name):
			return fmt.Errorf("%q is no path of a file", h.Name)
		case h.Size > maxArchiveFile:
			return fmt.Errorf("%s is larger than %d MiB", h.Name, maxArchiveFile>>20)
		}
		if err := unpackOne(root, h, t); err != nil {
			return err
		}
	}
}

func unpackOne(root *os.Root, h *tar.Header, content io.Reader) error {
	if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeSymlink {
		return nil
	}
	if err := root.MkdirAll(path.Dir(h.Name), 0o700); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeSymlink {
		return root.Symlink(h.Linkname, h.Name)
	}
	f, err := root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}
