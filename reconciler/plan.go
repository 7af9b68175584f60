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
	OpCreate  OpKind = "create"
	OpUpdate  OpKind = "update"
	OpCorrect OpKind = "correct"
	OpAdopt   OpKind = "adopt"
	OpDelete  OpKind = "delete"
	// OpRecreate deletes a thing and makes it again, since a field that has to
	// change cannot be.
	OpRecreate OpKind = "recreate"
	// OpHook runs something once before or after the others of a run.
	OpHook      OpKind = "hook"
	OpUnchanged OpKind = "unchanged"
	// OpSettled stands for all that is wanted: see Settled.
	OpSettled  OpKind = "settled"
	OpConflict OpKind = "conflict"
	// OpUnknown: the live state could not be read.
	OpUnknown OpKind = "unknown"
)

// writes reports whether the operation changes the target.
func (k OpKind) writes() bool {
	switch k {
	case OpCreate, OpUpdate, OpCorrect, OpAdopt, OpDelete, OpRecreate, OpHook:
		return true
	}
	return false
}

// deletes reports whether something that is there goes.
func (k OpKind) deletes() bool { return k == OpDelete || k == OpRecreate }

// Operation is one thing's part of a plan.
type Operation struct {
	Object sources.ID `json:"object"`
	Kind   OpKind     `json:"kind"`
	// Why explains the operation.
	Why string `json:"why,omitempty"`
	// Item is what is desired; the zero Item for a delete.
	Item sources.Item `json:"-"`
	// Before is what was last applied in its place, where that is known and is
	// something else.
	Before *sources.Item `json:"-"`
	// Changes are the fields that differ, where comparing found them out, and
	// Class the kind of drift that they are.
	Changes []drift.Change `json:"changes,omitempty"`
	Class   drift.Class    `json:"class,omitempty"`
	// Digest stands for what is desired; the driver sees that it confirms no
	// guess of a sensitive item's content.
	Digest string `json:"digest,omitempty"`
	// UID is that of the live thing, which is all that may be changed.
	UID string `json:"uid,omitempty"`
	// Moves: it is taken over from another environment of ours.
	Moves bool `json:"moves,omitempty"`
	// Protected: deleting it destroys what nothing brings back.
	Protected bool `json:"protected,omitempty"`
	// Live is the driver's own note of what it compared with.
	Live any `json:"-"`
	// Held, when not empty, says why it is not carried out: what the first of the
	// gates in HeldBy says.
	Held   string     `json:"held,omitempty"`
	HeldBy []GateKind `json:"heldBy,omitempty"`
	// Leave are the paths of changes that a correction does not put back, because
	// a rule or a decision says so: the driver applies their live values.
	Leave []string `json:"leave,omitempty"`
	// Accepted is the decision that holds it; nil where none does.
	Accepted *drift.Decision `json:"accepted,omitempty"`
	// Err is why nothing can be done, for OpConflict and OpUnknown.
	Err error `json:"-"`
	// Error is its text, and Origin where the item was written down; both are
	// filled in by NewPlan.
	Error  string         `json:"error,omitempty"`
	Origin sources.Origin `json:"origin,omitzero"`
}

// drifted: it is about drift and about nothing that git changed. What cannot be put
// back in place is made again.
func (op *Operation) drifted() bool {
	return op.Kind == OpCorrect || op.Kind == OpRecreate && op.Class != ""
}

// Plan is what a run would do, decided before anything is written.
type Plan struct {
	Environment string           `json:"environment"`
	Revision    sources.Revision `json:"revision,omitzero"`
	Operations  []Operation      `json:"operations"`
	// Gates are all that are active for the environment.
	Gates []Gate `json:"gates,omitempty"`
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
	Drift       environment.Drift
	Prune       bool
	Reach       Reach
	// Wanted is how many things the environment has, which the deletion budget
	// is measured by.
	Wanted int
	// Budget is the deletion budget; nil is the default.
	Budget *environment.DeletionBudget
	// Gates are the holds and whatever else holds changes back now.
	Gates []Gate
	// Approve is the hash of a plan whose held deletions somebody approved.
	Approve string
	// ApproveBudget is the hash of a plan whose deletions are approved, but for
	// those of protected kinds.
	ApproveBudget string
	// First: nothing was ever applied for the environment, so that what it takes
	// over has to be approved.
	First bool
	// Whole: the target carries a plan out as a whole, so that a gate on one
	// operation holds all.
	Whole bool
	// OwnNamespaces are those that a preview environment made for itself: no
	// deletion in them has to be approved.
	OwnNamespaces []string
	// Fights are the fields that are left alone because another writer never gives
	// up.
	Fights fights
	// Accepted are the decisions that count now, and Revert the things whose drift
	// is put back once whatever leaves it.
	Accepted []drift.Decision
	Revert   []sources.ID
	// Partial: the operations are about hinted things only.
	Partial bool
}

// NewPlan decides. It is a pure function of the comparison and the policy: all
// policy is here, so that what a run does can be read in one place.
//
// The gates come in the order of gateOrder. An operation tells of the first that
// holds it, and names all of them.
func NewPlan(ops []Operation, p Policy) Plan {
	out := make([]Operation, 0, len(ops))
	for _, op := range ops {
		if op.Kind == OpDelete && !p.Prune {
			op.Kind, op.Why, op.Held, op.HeldBy = OpUnchanged, "left git, but prune is off", "", nil
		}
		out = append(out, withinReach(op, p.Reach))
	}
	plan := Plan{Environment: p.Environment, Revision: p.Revision, Operations: out, Gates: p.Gates}
	plan.Hash = hashOf(out)
	holdByMode(out, p)
	approved := p.Approve != "" && p.Approve == plan.Hash
	holdByGates(out, p, approved)
	holdUnread(out)
	if !approved {
		holdAdoption(out, p)
		holdProtected(out, p)
		if p.ApproveBudget == "" || p.ApproveBudget != plan.Hash {
			holdOverBudget(out, p)
		}
	}
	holdAccepted(out, p)
	holdByDrift(out, p)
	holdFights(out, p.Fights, p.Revert)
	if p.Whole {
		holdWhole(out)
	}
	for i := range out {
		if out[i].Kind == OpUnchanged {
			continue
		}
		out[i].Origin = out[i].Item.Origin
		if out[i].Err != nil {
			out[i].Error = out[i].Err.Error()
		}
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

// hold notes a gate that keeps an operation back; gates come in order.
func (op *Operation) hold(kind GateKind, why string) {
	if !op.Kind.writes() {
		return
	}
	if op.Held == "" {
		op.Held = why
	}
	if !slices.Contains(op.HeldBy, kind) {
		op.HeldBy = append(op.HeldBy, kind)
	}
}

// heldFirstBy reports whether a gate is the one that is told.
func (op *Operation) heldFirstBy(kind GateKind) bool {
	return len(op.HeldBy) > 0 && op.HeldBy[0] == kind
}

// The words by which what is held is told apart later.
const (
	heldPlan    = "mode plan"
	heldIgnored = "drift mode ignore"
	heldReport  = "drift mode report"
)

func holdByMode(ops []Operation, p Policy) {
	if p.Mode != environment.ModePlan {
		return
	}
	for i := range ops {
		ops[i].hold(GateMode, heldPlan)
	}
}

// holdByGates keeps what holds, windows and other environments keep. A gate that
// stops new revisions lets drift be corrected, unless it says otherwise.
func holdByGates(ops []Operation, p Policy, approved bool) {
	for _, g := range sortGates(slices.Clone(p.Gates)) {
		if g.Kind == GatePin || g.Kind == GateVersion && approved {
			continue
		}
		for i := range ops {
			op := &ops[i]
			if g.Object != nil && *g.Object != op.Object || op.drifted() && !g.StopsCorrection {
				continue
			}
			op.hold(g.Kind, g.Why)
		}
	}
}

func holdByDrift(ops []Operation, p Policy) {
	for i := range ops {
		if ops[i].Kind == OpUpdate {
			ops[i].Leave = append(ops[i].Leave, ignored(p.Drift, ops[i])...)
		}
		if !ops[i].drifted() || slices.Contains(p.Revert, ops[i].Object) {
			continue
		}
		switch driftModeOf(p.Drift, ops[i]) {
		case environment.DriftIgnore:
			ops[i].hold(GateDrift, heldIgnored)
		case environment.DriftReport:
			ops[i].hold(GateDrift, heldReport)
		default:
			ops[i].Leave = append(ops[i].Leave, leftAlone(p.Drift, ops[i])...)
		}
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
			ops[i].hold(GateUnread, fmt.Sprintf("nothing is deleted while %s cannot be read", ops[unread].Object.GroupKind()))
		}
	}
}

// holdAdoption keeps a first run from taking over what exists: it is shown what
// that would change, and approved. What moves here from another environment is
// ours already.
func holdAdoption(ops []Operation, p Policy) {
	for i := range ops {
		if p.First && ops[i].Kind == OpAdopt && !ops[i].Moves {
			ops[i].hold(GateAdoption, "a first run takes over what exists only when its plan is approved")
		}
	}
}

// holdWhole lets one gate hold all operations, where they cannot be separated.
func holdWhole(ops []Operation) {
	held := slices.IndexFunc(ops, func(op Operation) bool { return op.Held != "" })
	if held < 0 {
		return
	}
	for i := range ops {
		ops[i].hold(ops[held].HeldBy[0], ops[held].Held+" (this target applies a plan as a whole)")
	}
}

func holdProtected(ops []Operation, p Policy) {
	for i := range ops {
		if ops[i].Kind.deletes() && ops[i].Protected && !p.ownPlace(ops[i].Object) {
			ops[i].hold(GateProtected, "protected kind: approve the plan, or delete it by hand")
		}
	}
}

// ownPlace reports whether a thing is in a namespace, or is the namespace, that a
// preview environment made for itself.
func (p Policy) ownPlace(id sources.ID) bool {
	if id.Namespace == "" {
		return id.GroupKind() == "Namespace" && slices.Contains(p.OwnNamespaces, id.Name)
	}
	return slices.Contains(p.OwnNamespaces, id.Namespace)
}

func (p Policy) budget() environment.DeletionBudget {
	if p.Budget != nil {
		return *p.Budget
	}
	return environment.DeletionBudget{
		Count: environment.DefaultBudgetCount, Percent: environment.DefaultBudgetPercent,
		StopPercent: environment.DefaultBudgetStop,
	}
}

// holdOverBudget counts by identity: what is renamed is deleted.
func holdOverBudget(ops []Operation, p Policy) {
	deletes := 0
	for i := range ops {
		if ops[i].Kind == OpDelete && !ops[i].heldFirstBy(GateUnproven) && !p.ownPlace(ops[i].Object) {
			deletes++
		}
	}
	b := p.budget()
	share := 100 * float64(deletes) / float64(max(p.Wanted+deletes, 1))
	if deletes <= b.Count || share <= float64(b.Percent) {
		return
	}
	why := fmt.Sprintf("deletion budget: %d deletions are %.0f%% of the environment; approve the plan", deletes, share)
	for i := range ops {
		if ops[i].Kind == OpDelete && !p.ownPlace(ops[i].Object) || share > float64(b.StopPercent) {
			ops[i].hold(GateBudget, why)
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
