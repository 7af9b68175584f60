package reconciler

import (
	"context"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// Scope says what a comparison is about.
type Scope struct {
	Environment string
	// Source is the name of the environment's source; it cannot be taken over by
	// another.
	Source string
	// Partial: only the given items are looked at, as after a hint; nothing is
	// found to be unwanted.
	Partial bool
	// Verify distrusts what is known and asks the target about every item.
	Verify bool
	// Preview: the items are another revision's, asked about without being brought
	// about; nothing is remembered of the answer.
	Preview bool
	// ReadOnly: nothing may be written, so differences are explained by a dry run.
	ReadOnly bool
	// AdoptFrom names whose existing things may be taken over.
	AdoptFrom []string
	// MayTake says whether a thing may be taken over from another environment; nil
	// means that none may.
	MayTake func(id sources.ID, environment string) bool
	// Revision is what the items come from: hooks run once for each.
	Revision sources.Revision
	// Recreate, Conflicts and Checks are what the environment's spec says.
	Recreate  environment.Recreate
	Conflicts environment.Conflicts
	Checks    []environment.HealthCheck
	// ExtraFields and Unmanaged: what others add to the environment's things, and
	// beside them, is to be told. See Surveyor.
	ExtraFields, Unmanaged bool
	// Identity, when not empty, is who writes: for Kubernetes a service account,
	// "namespace/name", which was granted to the source.
	Identity string
}

// Unready is a thing that keeps an environment from being ready.
type Unready struct {
	Object sources.ID `json:"object"`
	// Why is what the thing itself says.
	Why string `json:"why"`
	// RootCause names what is behind it, such as "Pod web-1: ImagePullBackOff: …",
	// where that could be found out.
	RootCause string `json:"rootCause,omitempty"`
	// Failed: it will not get ready by waiting.
	Failed bool `json:"failed,omitempty"`
	// Since is when it was first seen to be unready.
	Since time.Time `json:"since,omitzero"`
}

// ReadyDriver is a driver that knows whether things work, beside being as
// desired.
type ReadyDriver interface {
	// Ready says whether everything that the last full comparison of an
	// environment wanted is there and works; otherwise what it waits for, the
	// failed first.
	Ready(environment string) (ready bool, waiting []Unready)
	// WatchReady calls changed with an environment's name whenever the answer of
	// Ready may have become another, until ctx ends.
	WatchReady(ctx context.Context, changed func(environment string)) error
}

// Hint says that a thing may have drifted. It is no verdict.
type Hint struct {
	Environment string
	Object      sources.ID
	// Seen is when it was sensed.
	Seen time.Time
}

// Outcome is what became of one operation.
type Outcome struct {
	Operation Operation
	// Changes are the fields that a correction put back.
	Changes []drift.Change
	// Class is set where Changes tell of drift.
	Class drift.Class
	// Persists: the correction was applied and the live value stayed.
	Persists bool
	// Noop: nothing had to be written after all.
	Noop bool
	// Deferred, when not empty, is why the operation was left for a later run.
	Deferred string
	Err      error
}

// Whole is a driver that states that its operations are not separable: a plan is
// carried out as a whole or not at all.
type Whole interface {
	Whole() bool
}

// Driver compares, applies and watches one target.
type Driver interface {
	// Compare says what each wanted item needs, and what is owned but not
	// wanted. Its error means that nothing at all could be compared; what could
	// not be read in part is an OpUnknown. Where nothing can have changed since
	// everything was found as desired it may answer Settled.
	Compare(ctx context.Context, want []sources.Item, scope Scope) ([]Operation, error)
	// Apply carries out the operations of a plan that are not held, and reports
	// each through done, which it calls one at a time. Its error is about the
	// plan as a whole; those of single operations are in their outcomes.
	Apply(ctx context.Context, p Plan, done func(Outcome)) error
	// Watch calls changed for what may have drifted, until ctx ends.
	Watch(ctx context.Context, changed func(Hint)) error
	// Health says when what an environment depends on was last heard of, and what
	// is wrong with it.
	Health(environment string) (asOf time.Time, problems []string)
}
