package render

import (
	"context"

	"github.com/holdfast-gitops/holdfast/sources"
)

// Confine is what the child does to itself.
var Confine = confine

// RaceEnabled says that the race detector is built in.
const RaceEnabled = raceEnabled

// Build runs kustomize on a folder without looking at the kustomization before.
func (r *Renderer) Build(ctx context.Context, tree sources.Tree, dir, file string) ([]sources.Item, Inputs, error) {
	rec := newRecorder(tree, r.o)
	s := &scanner{rec: rec, folders: map[string]*kustomization{dir: {dir: dir, file: file}}}
	items, err := r.build(ctx, rec, s, dir, r.o.Manifest)
	return items, rec.inputs(), err
}

// LoadListed loads a folder without kustomize but for what it changes, and says
// whether that is the same.
func (r *Renderer) LoadListed(ctx context.Context, tree sources.Tree, dir string) ([]sources.Item, bool, error) {
	rec := newRecorder(tree, r.o)
	s := &scanner{rec: rec}
	if err := s.scan(dir); err != nil {
		return nil, false, err
	}
	files, ok := s.listed(dir)
	if !ok {
		return nil, false, nil
	}
	items, ok, err := r.loadListed(rec, files, r.o.Manifest)
	if !ok || err != nil {
		return nil, false, err
	}
	return r.light(ctx, rec, s.folders[dir], items)
}
