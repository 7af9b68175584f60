package reconciler

import (
	"errors"
	"fmt"
	"testing"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

func thing(kind, namespace, name string) sources.ID {
	return sources.ID{Kind: kind, Namespace: namespace, Name: name}
}

func deletes(n int) []Operation {
	var out []Operation
	for i := range n {
		out = append(out, Operation{Object: thing("ConfigMap", "web", fmt.Sprint(i)), Kind: OpDelete, UID: fmt.Sprint(i)})
	}
	return out
}

func TestPlanHoldsWhatPolicyForbids(t *testing.T) {
	open := Policy{Mode: environment.ModeApply, Drift: environment.Drift{Mode: environment.DriftCorrect}, Prune: true, Reach: Reach{Namespaces: []string{"*"}, Cluster: true}, Wanted: 100}
	with := func(change func(*Policy)) Policy {
		p := open
		change(&p)
		return p
	}
	create := Operation{Object: thing("ConfigMap", "web", "a"), Kind: OpCreate}
	correct := Operation{Object: thing("ConfigMap", "web", "a"), Kind: OpCorrect}
	remade := Operation{Object: thing("ConfigMap", "web", "a"), Kind: OpRecreate, Class: drift.Changed}
	unread := Operation{Object: thing("Secret", "", ""), Kind: OpUnknown, Err: errors.New("forbidden")}
	protectedDelete := Operation{Object: thing("Namespace", "", "web"), Kind: OpDelete, Protected: true}
	for _, c := range []struct {
		name   string
		ops    []Operation
		policy Policy
		active int
		held   string
	}{
		{"a create goes ahead", []Operation{create}, open, 1, ""},
		{"plan mode writes nothing", []Operation{create, correct}, with(func(p *Policy) { p.Mode = environment.ModePlan }), 0, "mode plan"},
		{"report mode does not correct", []Operation{correct}, with(func(p *Policy) { p.Drift.Mode = environment.DriftReport }), 0, "drift mode report"},
		{"ignore mode does not correct", []Operation{correct}, with(func(p *Policy) { p.Drift.Mode = environment.DriftIgnore }), 0, "drift mode ignore"},
		{"report mode does not make drifted things again", []Operation{remade}, with(func(p *Policy) { p.Drift.Mode = environment.DriftReport }), 0, "drift mode report"},
		{"report mode makes again what git changed", []Operation{{Object: remade.Object, Kind: OpRecreate}}, with(func(p *Policy) { p.Drift.Mode = environment.DriftReport }), 1, ""},
		{"a drifted thing is made again", []Operation{remade}, open, 1, ""},
		{"report mode still applies git", []Operation{create}, with(func(p *Policy) { p.Drift.Mode = environment.DriftReport }), 1, ""},
		{"prune off deletes nothing", deletes(1), with(func(p *Policy) { p.Prune = false }), 0, ""},
		{"one delete is within the budget", deletes(1), with(func(p *Policy) { p.Wanted = 1 }), 1, ""},
		{"five deletes are within the budget", deletes(5), with(func(p *Policy) { p.Wanted = 5 }), 5, ""},
		{"six of many are within the budget", deletes(6), open, 6, ""},
		{"six of twenty wait", deletes(6), with(func(p *Policy) { p.Wanted = 14 }), 0, "deletion budget: 6 deletions are 30% of the environment; approve the plan"},
		{"six of twenty do not hold a create", append(deletes(6), create), with(func(p *Policy) { p.Wanted = 14 }), 1, "deletion budget: 6 deletions are 30% of the environment; approve the plan"},
		{"over half holds the whole run", append(deletes(6), create), with(func(p *Policy) { p.Wanted = 2 }), 0, "deletion budget: 6 deletions are 75% of the environment; approve the plan"},
		{"a protected kind waits", []Operation{protectedDelete}, open, 0, "protected kind: approve the plan, or delete it by hand"},
		{"nothing is deleted while a kind is unread", append(deletes(1), unread), open, 0, "nothing is deleted while Secret cannot be read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			plan := NewPlan(c.ops, c.policy)
			if got := len(plan.Active()); got != c.active {
				t.Errorf("%d operations are active, want %d: %+v", got, c.active, plan.Operations)
			}
			held := ""
			for _, op := range plan.Operations {
				if op.Held != "" {
					held = op.Held
				}
			}
			if held != c.held {
				t.Errorf("held by %q, want %q", held, c.held)
			}
		})
	}
}

func TestPlanStaysWithinReach(t *testing.T) {
	for _, c := range []struct {
		id    sources.ID
		reach Reach
		ok    bool
	}{
		{thing("ConfigMap", "web", "a"), Reach{Namespaces: []string{"web"}}, true},
		{thing("ConfigMap", "db", "a"), Reach{Namespaces: []string{"web"}}, false},
		{thing("ConfigMap", "db", "a"), Reach{Namespaces: []string{"*"}}, true},
		{thing("Namespace", "", "web"), Reach{Namespaces: []string{"*"}}, false},
		{thing("Namespace", "", "web"), Reach{Cluster: true}, true},
		{thing("ConfigMap", "web", "a"), Reach{}, false},
	} {
		plan := NewPlan([]Operation{{Object: c.id, Kind: OpCreate}}, Policy{Mode: environment.ModeApply, Reach: c.reach})
		if got := len(plan.Active()) == 1; got != c.ok {
			t.Errorf("%s with reach %+v: active is %v, want %v", c.id, c.reach, got, c.ok)
		}
		if !c.ok && plan.Operations[0].Err == nil {
			t.Errorf("%s with reach %+v: refused without an error", c.id, c.reach)
		}
	}
}

func TestApprovalIsBoundToThePlan(t *testing.T) {
	policy := Policy{Mode: environment.ModeApply, Prune: true, Reach: Reach{Namespaces: []string{"*"}}, Wanted: 14}
	held := NewPlan(deletes(6), policy)
	policy.Approve = held.Hash
	if got := len(NewPlan(deletes(6), policy).Active()); got != 6 {
		t.Errorf("approved: %d deletions are active, want 6", got)
	}
	if got := len(NewPlan(deletes(7), policy).Active()); got != 0 {
		t.Errorf("approved for another plan: %d deletions are active, want 0", got)
	}
	other := deletes(6)
	other[0].UID = "another object of the same name"
	if got := len(NewPlan(other, policy).Active()); got != 0 {
		t.Errorf("approved for another object: %d deletions are active, want 0", got)
	}
	policy.Mode = environment.ModePlan
	if got := len(NewPlan(deletes(6), policy).Active()); got != 0 {
		t.Errorf("approved in mode plan: %d deletions are active, want 0", got)
	}
}
