package reconciler

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
)

func TestObjectsSayHowEachStands(t *testing.T) {
	withEngine(t, func(b *bench) {
		secret := sources.NewItem(thing("Secret", "web", "s"), "v1", sources.Origin{File: "s.yaml", Line: 2}, []byte("hunter2"), true)
		items := []sources.Item{thingItem("b", "1"), thingItem("a", "1"), secret}
		if _, ok := b.engine.Objects("none"); ok {
			b.Error("an environment that there is not has objects")
		}
		a := b.assignment("r1", items...)
		b.assign(a)
		all := func() map[string]Object {
			b.Helper()
			list, ok := b.engine.Objects("prod")
			if !ok {
				b.Fatal("no such environment")
			}
			out := map[string]Object{}
			last := sources.ID{}
			for o := range list {
				if last.Compare(o.Object) >= 0 {
					b.Errorf("%s comes after %s", o.Object, last)
				}
				out[o.Object.Name], last = o, o.Object
			}
			return out
		}
		got := all()
		if len(got) != 3 || got["a"].Sync != ObjectSynced || got["a"].Origin.String() != "a.yaml:1" || len(got["a"].Digest) != shownDigest {
			b.Errorf("after a first run: %+v", got)
		}
		if s := got["s"]; !s.Sensitive || s.Digest != "" {
			b.Errorf("a digest of a secret confirms guesses: %+v", s)
		}
		// Corrected, and drifted in a mode that leaves it.
		b.shelf.put(items[1].ID, "x")
		b.hint("a")
		if got := all()["a"]; got.Sync != ObjectSynced || got.LastApplied.IsZero() {
			b.Errorf("after a correction: %+v", got)
		}
		a = b.assignment("r2", items...)
		a.Spec.Drift.Mode = "report"
		b.assign(a)
		b.shelf.put(items[1].ID, "y")
		b.hint("a")
		if got := all()["a"]; got.Sync != ObjectDrifted || got.Drift == "" || got.Why == "" {
			b.Errorf("drifted: %+v", got)
		}
		// A hold keeps what git asks for from being made, and a deletion, too.
		if _, err := b.engine.Hold(b.Context(), HoldRequest{Environments: []string{"prod"}, Reason: "x", Author: "ann", Until: time.Now().Add(time.Hour)}); err != nil {
			b.Fatal(err)
		}
		b.assign(b.assignment("r3", thingItem("a", "1"), thingItem("b", "2")))
		got = all()
		if got["b"].Sync != ObjectWaits || got["b"].Why == "" || got["s"].Sync != ObjectUnwanted {
			b.Errorf("held: b %+v, s %+v", got["b"], got["s"])
		}
	})
}

func TestUnreadyObjectsSayWhy(t *testing.T) {
	id := thing("Thing", "web", "a")
	v := objectsView{
		order: []int32{0, 1}, items: []sources.Item{thingItem("a", "1"), thingItem("b", "1")}, compared: true, health: HealthFailed,
		unready: []Unready{{Object: id, Why: "not available", RootCause: "Pod a-1: ImagePullBackOff", Failed: true}},
		failed:  []ObjectChange{{Object: thing("Thing", "web", "b"), Error: "forbidden"}},
	}
	got := slices.Collect(v.objects([]drift.Episode{{ID: "e1", Object: thing("Thing", "web", "other")}}))
	if len(got) != 2 || got[0].Health != HealthFailed || got[0].RootCause == "" || got[1].Health != HealthReady || got[1].Sync != ObjectFailed || got[1].Why != "forbidden" {
		t.Errorf("%+v", got)
	}
	v.compared, v.health, v.unready, v.failed = false, HealthUnknown, nil, nil
	if got := slices.Collect(v.objects(nil)); got[0].Sync != ObjectUnknown || got[0].Health != HealthUnknown {
		t.Errorf("before a comparison: %+v", got)
	}
}

func TestDecidedListsHoldsOnOneAndOnAll(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.assign(b.assignment("r1", thingItem("a", "1")))
		for _, names := range [][]string{nil, {"prod"}} {
			if _, err := b.engine.Hold(b.Context(), HoldRequest{Environments: names, Reason: "x", Author: "ann", Until: time.Now().Add(time.Hour)}); err != nil {
				b.Fatal(err)
			}
		}
		d := b.engine.Decided(b.Context())
		if len(d.Holds) != 2 || d.Holds[0].Environment+d.Holds[1].Environment != "prod" || d.Holds[0].Target+d.Holds[1].Target != "default" {
			b.Errorf("%+v", d.Holds)
		}
		b.pass(2 * time.Hour)
		if d := b.engine.Decided(b.Context()); len(d.Holds) != 0 || d.Decisions == nil {
			b.Errorf("holds that ended count: %+v", d)
		}
	})
}

func TestAListOfObjectsCostsWhatIsKeptOfIt(t *testing.T) {
	v := objectsView{compared: true, health: HealthReady}
	for i := range 1000 {
		v.items = append(v.items, thingItem(fmt.Sprintf("t%04d", 999-i), "1"))
	}
	v.order = orderOf(v.items)
	count := 0
	made := testing.AllocsPerRun(10, func() {
		count = 0
		for range v.objects(nil) {
			count++
		}
	})
	if count != 1000 || made > 20 {
		t.Errorf("%.0f allocations for %d objects", made, count)
	}
	for o := range v.objects(nil) {
		if o.Object.Name != "t0000" {
			t.Errorf("%s comes first", o.Object)
		}
		break
	}
}
