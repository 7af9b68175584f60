package reconciler

import (
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// Matches reports whether a rule is about a field of a thing, written as in
// drift.Change, that a manager owns. With no path it says whether the rule can be
// about the thing at all.
func Matches(m environment.Match, id sources.ID, path, manager string) bool {
	if path == "" {
		m.Paths, m.Managers = nil, nil
	}
	return matches(m, id, &drift.Change{Path: path, Manager: manager})
}
