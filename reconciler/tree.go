package reconciler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
)

// Part is a thing in a target that others made out of one of ours, such as a pod.
type Part struct {
	Object sources.ID `json:"object"`
	Health Health     `json:"health"`
	// Why is what the thing says of its health.
	Why string `json:"why,omitempty"`
	// Restarts counts those of its containers, parts included.
	Restarts int       `json:"restarts,omitempty"`
	Created  time.Time `json:"created,omitzero"`
	// Where it runs, where it runs anywhere.
	Where string `json:"where,omitempty"`
	// Parts are what belongs to it, the worst first.
	Parts []Part `json:"parts,omitempty"`
}

// Tree is a thing of ours with all that belongs to it.
type Tree struct {
	Part
	// AsOf is when it was read.
	AsOf time.Time `json:"asOf,omitzero"`
	// Cut: there is more than is listed.
	Cut bool `json:"cut,omitempty"`
	// Problems are what could not be read.
	Problems []string `json:"problems,omitempty"`
}

// TreeDriver is a driver that knows what belongs to things. It reads when it is
// asked, and never otherwise.
type TreeDriver interface {
	Tree(ctx context.Context, id sources.ID) (Tree, error)
}

// ErrNotOurs means that an environment does not have an object.
var ErrNotOurs = errors.New("not an object of the environment")

// Tree reads an object of an environment with what belongs to it. Of what is not
// the environment's nothing is read.
func (e *Engine) Tree(ctx context.Context, environment string, id sources.ID) (Tree, error) {
	w, err := e.one(environment)
	if err != nil {
		return Tree{}, err
	}
	w.mu.Lock()
	ours := slices.ContainsFunc(w.items, func(i sources.Item) bool { return i.ID == id })
	w.mu.Unlock()
	a, ok := w.assignment()
	if !ours || !ok {
		return Tree{}, fmt.Errorf("%s: %w %s", id, ErrNotOurs, environment)
	}
	driver, ok := e.opts.Drivers[a.Spec.Target].(TreeDriver)
	if !ok { // such as a directory, where nothing belongs to a file
		return Tree{Part: Part{Object: id, Health: HealthUnknown}}, nil
	}
	return driver.Tree(ctx, id)
}
