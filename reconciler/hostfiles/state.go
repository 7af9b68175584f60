package hostfiles

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"

	"github.com/holdfast-gitops/holdfast/reconciler"
)

// nameOf is the record that keeps an environment's state, or that of all.
func nameOf(environment string) string {
	if environment == "" {
		return everything
	}
	return environment
}

// State implements reconciler.Keeper.
func (t *Target) State(_ context.Context, environment string) (reconciler.State, error) {
	var out reconciler.State
	err := t.with(func(*os.Root) error {
		if r := t.records[nameOf(environment)]; r != nil {
			out = r.State
			// What the caller does with its lists is not to be seen here.
			out.Holds, out.Earlier = slices.Clone(out.Holds), slices.Clone(out.Earlier)
		}
		return nil
	})
	return out, err
}

// SaveState implements reconciler.Keeper.
func (t *Target) SaveState(ctx context.Context, environment string, change func(*reconciler.State) error) (reconciler.State, error) {
	state, err := t.State(ctx, environment)
	if err != nil {
		return state, err
	}
	err = t.with(func(root *os.Root) error {
		if err := t.claim(root); err != nil {
			return err
		}
		if err := t.load(root); err != nil {
			return err
		}
		r, err := t.recordOf(reconciler.Scope{Environment: nameOf(environment)})
		if err != nil {
			return err
		}
		r = r.clone()
		r.State.Holds, r.State.Earlier = slices.Clone(r.State.Holds), slices.Clone(r.State.Earlier)
		if err := change(&r.State); err != nil {
			return err
		}
		if r.State.Source != "" {
			r.Source = r.State.Source
		}
		state = r.State
		return t.store(root, r)
	})
	return state, err
}

// Environments implements reconciler.Remover.
func (t *Target) Environments(context.Context) ([]string, error) {
	var out []string
	err := t.with(func(*os.Root) error {
		for _, name := range slices.Sorted(maps.Keys(t.records)) {
			if name != everything && t.records[name].Installation == t.opts.Installation {
				out = append(out, name)
			}
		}
		return nil
	})
	return out, err
}

// Detach implements reconciler.Remover: the files stay, and are nobody's.
func (t *Target) Detach(_ context.Context, environment string) (n int, err error) {
	err = t.with(func(root *os.Root) error {
		if err := t.claim(root); err != nil {
			return err
		}
		if err := t.load(root); err != nil {
			return err
		}
		r, err := t.recordOf(reconciler.Scope{Environment: environment})
		if err != nil {
			return err
		}
		r = r.clone()
		n = len(r.Files)
		for _, e := range r.Files {
			delete(t.seen, e.Path)
		}
		r.Files, r.Folders = map[string]entry{}, nil
		t.rouse()
		return t.store(root, r)
	})
	return n, err
}

// Forget implements reconciler.Remover.
func (t *Target) Forget(_ context.Context, environment string) error {
	return t.with(func(root *os.Root) error {
		if err := t.claim(root); err != nil {
			return err
		}
		if err := t.load(root); err != nil {
			return err
		}
		if r := t.records[environment]; r != nil && len(r.Files) > 0 {
			for _, e := range r.Files {
				if s, err := glance(root, e.Path); err != nil || s.there {
					return fmt.Errorf("environment %s still has files, such as %s", environment, e.Path)
				}
			}
		}
		err := root.Remove(path.Join(stateDir, environment+".json"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget environment %s: %w", environment, err)
		}
		delete(t.records, environment)
		return syncFolder(root, stateDir)
	})
}

// with does work that needs the records.
func (t *Target) with(do func(*os.Root) error) error {
	root, err := t.open()
	if err != nil {
		return err
	}
	defer root.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.load(root); err != nil {
		return err
	}
	return do(root)
}
