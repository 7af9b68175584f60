package reconciler

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
)

func change(path, manager string) drift.Change {
	return drift.Change{Path: path, Manager: manager, Desired: drift.NewValue(1, false), Live: drift.NewValue(2, false)}
}

func TestAFieldThatIsFoughtOverIsLeftAlone(t *testing.T) {
	f, id := fights{}, sources.ID{Group: "apps", Kind: "Deployment", Namespace: "web", Name: "a"}
	now := time.Now()
	for range fightLimit - 1 {
		now = now.Add(time.Minute)
		if lost := f.note(id, []drift.Change{change(".spec.replicas", "keda")}, now); len(lost) != 0 {
			t.Fatalf("lost early: %+v", lost)
		}
	}
	if lost := f.note(id, []drift.Change{change(".spec.replicas", "keda"), change(".spec.paused", "keda")}, now); len(lost) != 1 {
		t.Fatalf("lost %+v, want replicas alone", lost)
	}
	p := Policy{Mode: environment.ModeApply, Prune: true, Reach: Reach{Namespaces: []string{"*"}}, Fights: f}
	correct := func(paths ...string) Operation {
		op := Operation{Object: id, Kind: OpCorrect}
		for _, path := range paths {
			op.Changes = append(op.Changes, change(path, "keda"))
		}
		return NewPlan([]Operation{op}, p).Operations[0]
	}
	alone := correct(".spec.replicas")
	if !alone.heldFirstBy(GateFight) || !strings.Contains(alone.Held, `{group: apps, kind: Deployment, namespace: web, name: a, paths: ["/spec/replicas"], mode: ignore}`) || !strings.Contains(alone.Held, "keda") {
		t.Errorf("held: %s", alone.Held)
	}
	both := correct(".spec.replicas", ".spec.paused")
	if both.Held != "" || !slices.Equal(both.Leave, []string{".spec.replicas"}) {
		t.Errorf("with another field: held %q, leaves %v", both.Held, both.Leave)
	}
}

func TestRareCorrectionsAreNoFight(t *testing.T) {
	f, id := fights{}, thing("A", "web", "a")
	now := time.Now()
	for range 5 * fightLimit {
		now = now.Add(fightDecay + time.Second)
		if lost := f.note(id, []drift.Change{change(".x", "m")}, now); len(lost) != 0 {
			t.Fatalf("lost %+v", lost)
		}
	}
}

func TestDriftRulesChooseByFieldAndManager(t *testing.T) {
	rules := []environment.DriftRule{
		{Match: environment.Match{Kind: "Deployment", Paths: []string{"/spec/replicas"}}, Mode: environment.DriftIgnore},
		{Match: environment.Match{Kind: "Deployment", Paths: []string{"/spec/template/spec/containers/*/image"}}, Mode: environment.DriftReport},
		{Match: environment.Match{Managers: []string{"istio*"}}, Mode: environment.DriftIgnore},
		{Match: environment.Match{Name: "legacy-*"}, Mode: environment.DriftReport},
		{Match: environment.Match{Paths: []string{"/metadata/annotations/**"}}, Mode: environment.DriftIgnore},
	}
	deploy := sources.ID{Group: "apps", Kind: "Deployment", Namespace: "web", Name: "a"}
	for _, c := range []struct {
		name    string
		id      sources.ID
		changes []drift.Change
		held    string
		leave   []string
	}{
		{"an ignored field", deploy, []drift.Change{change(".spec.replicas", "hand")}, heldIgnored, nil},
		{"a reported field", deploy, []drift.Change{change(".spec.template.spec.containers[name=web].image", "hand")}, heldReport, nil},
		{"a field that no rule is about", deploy, []drift.Change{change(".spec.paused", "hand")}, "", nil},
		{"one of both", deploy, []drift.Change{change(".spec.paused", "hand"), change(".spec.replicas", "hand")}, "", []string{".spec.replicas"}},
		{"a manager", deploy, []drift.Change{change(".spec.paused", "istio-operator")}, heldIgnored, nil},
		{"a name", thing("A", "web", "legacy-x"), []drift.Change{change(".x", "hand")}, heldReport, nil},
		{"another name", thing("A", "web", "new"), []drift.Change{change(".x", "hand")}, "", nil},
		{"all below a field", deploy, []drift.Change{change(`.metadata.annotations["a.b/c"]`, "hand")}, heldIgnored, nil},
		{"the field itself is not below", deploy, []drift.Change{change(".metadata.annotations", "hand")}, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := Policy{Mode: environment.ModeApply, Prune: true, Reach: Reach{Namespaces: []string{"*"}}, Drift: environment.Drift{Mode: environment.DriftCorrect, Rules: rules}}
			op := NewPlan([]Operation{{Object: c.id, Kind: OpCorrect, Changes: c.changes}}, p).Operations[0]
			if op.Held != c.held || !slices.Equal(op.Leave, c.leave) {
				t.Errorf("held %q, leaves %v; want %q, %v", op.Held, op.Leave, c.held, c.leave)
			}
		})
	}
}

func TestARolloutGoesWaveByWave(t *testing.T) {
	withEngine(t, func(b *bench) {
		at := func(name, revision string, wave int) Assignment {
			a := b.named(name, revision, thingItem(name, revision))
			a.Spec.Rollout = &environment.Rollout{Group: "fleet", Wave: wave, MaxUnavailable: 1}
			return a
		}
		push := func(revision string) {
			b.assign(at("canary", revision, 0), at("east", revision, 1), at("west", revision, 1))
		}
		push("1")
		b.pass(time.Second)
		for _, name := range []string{"canary", "east", "west"} {
			if b.thing(name) != "1" {
				b.Errorf("the first revision is not at %s: %+v", name, b.of(name).Gates)
			}
		}
		b.breakHealth("canary", thing("Thing", "web", "canary"))
		push("2")
		b.pass(10 * time.Minute)
		if b.thing("canary") != "2" || b.thing("east") != "1" || b.thing("west") != "1" {
			b.Errorf("a broken canary: %q %q %q", b.thing("canary"), b.thing("east"), b.thing("west"))
		}
		if s := b.of("east"); !slices.Contains(gateKinds(s), GateRollout) || !strings.Contains(s.Gates[0].Why, "canary") {
			b.Errorf("gates %+v", s.Gates)
		}
		b.breakHealth("east", thing("Thing", "web", "east"))
		b.breakHealth("west", thing("Thing", "web", "west"))
		b.breakHealth("canary")
		b.pass(time.Second)
		if n := strings.Count(b.thing("east")+b.thing("west"), "2"); n != 1 {
			b.Errorf("%d of wave 1 went on at a time", n)
		}
		b.breakHealth("east")
		b.breakHealth("west")
		b.pass(time.Second)
		if b.thing("east") != "2" || b.thing("west") != "2" {
			b.Errorf("in the end: %q %q", b.thing("east"), b.thing("west"))
		}
	})
}
