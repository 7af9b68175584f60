package reconciler

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// OpKind is what an operation does to one thing.
type OpKind string

// The kinds of operation.
const (
	OpCreate    OpKind = "create"
	OpUpdate    OpKind = "update"
	OpCorrect   OpKind = "correct"
	OpAdopt     OpKind = "adopt"
	OpDelete    OpKind = "delete"
	OpUnchanged OpKind = "unchanged"
	OpConflict  OpKind = "conflict"
	// OpUnknown: the live state could not be read.
	OpUnknown OpKind = "unknown"
)

// writes reports whether the operation changes the target.
func (k OpKind) writes() bool {
	switch k {
	case OpCreate, OpUpdate, OpCorrect, OpAdopt, OpDelete:
		return true
	}
	return false
}

// Operation is one thing's part of a plan.
type Operation struct {
	Object sources.ID `json:"object"`
	Kind   OpKind     `json:"kind"`
	// Why explains the operation.
	Why string `json:"why,omitempty"`
	// Item is what is desired; the zero Item for a delete.
	Item sources.Item `json:"-"`
	// Changes are the fields that differ, where comparing found them out, and
	// Class the kind of drift that they are.
	Changes []drift.Change `json:"changes,omitempty"`
	Class   drift.Class    `json:"class,omitempty"`
	// Digest stands for what is desired; the driver sees that it confirms no
	// guess of a sensitive item's content.
	Digest string `json:"digest,omitempty"`
	// UID is that of the live thing, which is all that may be changed.
	UID string `json:"uid,omitempty"`
	// Protected: deleting it destroys what nothing brings back.
	Protected bool `json:"protected,omitempty"`
	// Live is the driver's own note of what it compared with.
	Live any `json:"-"`
	// Held, when not empty, is the gate that keeps it from being carried out.
	Held string `json:"held,omitempty"`
	// Err is why nothing can be done, for OpConflict and OpUnknown.
	Err error `json:"-"`
}

// Plan is what a run would do, decided before anything is written.
type Plan struct {
	Environment string           `json:"environment"`
	Revision    sources.Revision `json:"revision,omitzero"`
	Operations  []Operation      `json:"operations"`
	// Hash names the plan; an approval is bound to it.
	Hash string `json:"hash"`
}

// Reach is what an environment's source was granted in its target.
type Reach struct {
	// Namespaces it may touch; "*" is all.
	Namespaces []string
	// Cluster allows what lives outside namespaces.
	Cluster bool
}

// allows reports whether the reach covers a thing.
func (r Reach) allows(id sources.ID) bool {
	if id.Namespace == "" {
		return r.Cluster
	}
	return slices.Contains(r.Namespaces, "*") || slices.Contains(r.Namespaces, id.Namespace)
}

// Policy is everything that decides beside the comparison.
type Policy struct {
	Environment string
	Revision    sources.Revision
	Mode        environment.Mode
	Drift       environment.DriftMode
	Prune       bool
	Reach       Reach
	// Wanted is how many things the environment has, which the deletion budget
	// is measured by.
	Wanted int
	// Approve is the hash of a plan whose held deletions somebody approved.
	Approve string
	// Partial: the operations are about hinted things only.
	Partial bool
}

// The deletion budget: more than budgetCount deletions that are more than
// budgetShare of the environment wait, and over budgetStop the whole run does.
const (
	budgetCount = 5
	budgetShare = 0.10
	budgetStop  = 0.50
)

// NewPlan decides. It is a pure function of the comparison and the policy: all
// policy is here, so that what a run does can be read in one place.
func NewPlan(ops []Operation, p Policy) Plan {
	out := make([]Operation, 0, len(ops))
	for _, op := range ops {
		if op.Kind == OpDelete && !p.Prune {
			op.Kind, op.Why = OpUnchanged, "left git, but prune is off"
		}
		out = append(out, withinReach(op, p.Reach))
	}
	plan := Plan{Environment: p.Environment, Revision: p.Revision, Operations: out}
	plan.Hash = hashOf(out)
	approved := p.Approve != "" && p.Approve == plan.Hash
	for i := range out {
		holdByMode(&out[i], p)
	}
	holdUnread(out)
	if !approved {
		holdProtected(out)
		holdOverBudget(out, p.Wanted)
	}
	return plan
}

func withinReach(op Operation, reach Reach) Operation {
	if !op.Kind.writes() || reach.allows(op.Object) {
		return op
	}
	where := "namespace " + op.Object.Namespace
	if op.Object.Namespace == "" {
		where = "objects outside namespaces"
	}
	op.Kind = OpConflict
	op.Err = sources.Problem{
		File: op.Item.Origin.File, Line: op.Item.Origin.Line, Object: op.Object.String(),
		Message: "not granted: this source may not touch " + where,
		Hint:    "grant it in the daemon's configuration, or with --grant cluster",
	}
	return op
}

// hold notes the first gate that keeps an operation back; gates come in order.
func (op *Operation) hold(why string) {
	if op.Held == "" && op.Kind.writes() {
		op.Held = why
	}
}

// The gates by which what is held is told apart later.
const (
	heldPlan    = "mode plan"
	heldIgnored = "drift mode ignore"
)

func holdByMode(op *Operation, p Policy) {
	if p.Mode == environment.ModePlan {
		op.hold(heldPlan)
	}
	if op.Kind == OpCorrect && p.Drift == environment.DriftIgnore {
		op.hold(heldIgnored)
	}
	if op.Kind == OpCorrect && p.Drift == environment.DriftReport {
		op.hold("drift mode report")
	}
}

// holdUnread keeps every delete while anything could not be read: what we did
// not see must not look unwanted.
func holdUnread(ops []Operation) {
	unread := slices.IndexFunc(ops, func(op Operation) bool { return op.Kind == OpUnknown })
	if unread < 0 {
		return
	}
	for i := range ops {
		if ops[i].Kind == OpDelete {
			ops[i].hold(fmt.Sprintf("nothing is deleted while %s cannot be read", ops[unread].Object.GroupKind()))
		}
	}
}

func holdProtected(ops []Operation) {
	for i := range ops {
		if ops[i].Kind == OpDelete && ops[i].Protected {
			ops[i].hold("protected kind: approve the plan, or delete it by hand")
		}
	}
}

func holdOverBudget(ops []Operation, wanted int) {
	deletes := 0
	for i := range ops {
		if ops[i].Kind == OpDelete {
			deletes++
		}
	}
	share := float64(deletes) / float64(max(wanted+deletes, 1))
	if deletes <= budgetCount || share <= budgetShare {
		return
	}
	why := fmt.Sprintf("deletion budget: %d deletions are %.0f%% of the environment; approve the plan", deletes, share*100)
	for i := range ops {
		if ops[i].Kind == OpDelete || share > budgetStop {
			ops[i].hold(why)
		}
	}
}

// hashOf covers the operations, what is rendered, and which live things are
// meant; never resourceVersions, which move with every status update.
func hashOf(ops []Operation) string {
	lines := make([]string, 0, len(ops))
	for _, op := range ops {
		if op.Kind.writes() {
			lines = append(lines, fmt.Sprintf("%s\x00%s\x00%s\x00%s\x00%s", op.Kind, op.Object.GroupKind(), op.Object, op.Digest, op.UID))
		}
	}
	if len(lines) == 0 {
		return ""
	}
	slices.Sort(lines)
	h := sha256.New()
	for _, l := range lines {
		fmt.Fprintf(h, "%d:%s", len(l), l)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// Active is the operations that will be carried out.
func (p Plan) Active() []Operation {
	var out []Operation
	for _, op := range p.Operations {
		if op.Kind.writes() && op.Held == "" {
			out = append(out, op)
		}
	}
	return out
}
