package kube

import (
	"slices"

	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// settled is a comparison that found nothing to do. It holds as long as the same
// items are wanted and nothing was learned of the environment's objects.
type settled struct {
	first   *sources.Item
	count   int
	checks  []environment.HealthCheck
	version uint64
}

// recall reports whether the last comparison still holds.
func (t *Target) recall(want []sources.Item, scope reconciler.Scope, version uint64) bool {
	if scope.Partial || scope.Verify || scope.Preview || len(want) == 0 {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.settled[scope.Environment]
	return s.first == &want[0] && s.count == len(want) && slices.Equal(s.checks, scope.Checks) && s.version == version
}

// settle remembers a comparison, if it found every item as desired and nothing
// else. Items are never changed in place, so the address of the first stands for
// the whole list.
func (t *Target) settle(want []sources.Item, scope reconciler.Scope, version uint64, ops []reconciler.Operation) {
	if scope.Partial || scope.Preview {
		return
	}
	quiet := len(want) > 0 && len(ops) == len(want)
	for i := range ops {
		quiet = quiet && ops[i].Kind == reconciler.OpUnchanged
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !quiet {
		delete(t.settled, scope.Environment)
		return
	}
	t.settled[scope.Environment] = settled{first: &want[0], count: len(want), checks: scope.Checks, version: version}
}

// forgetSettled makes the next comparison a real one.
func (t *Target) forgetSettled(environment string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.settled, environment)
}
