package reconciler

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-gitops/holdfast/sources/environment"
)

func TestADenyWindowStopsNewRevisionsAndHealsTheOld(t *testing.T) {
	withEngine(t, func(b *bench) {
		// The test's time begins at midnight UTC, on the first of January 2000.
		windows := []environment.Window{{Kind: environment.WindowDeny, Schedule: "0 1 * * *", Duration: 5 * time.Hour}}
		at := func(revision, text string) Assignment {
			a := b.assignment(revision, thingItem("a", text))
			a.Spec.Windows = windows
			return a
		}
		b.assign(at("1", "blue"))
		b.pass(90 * time.Minute)
		b.assign(at("2", "green"))
		s := b.status()
		if b.thing("a") != "blue" || !slices.Contains(gateKinds(s), GateWindow) || s.LastRun.Result != Held {
			b.Errorf("in the window: a is %q, %s, %+v", b.thing("a"), s.LastRun.Result, s.Gates)
		}
		if w := s.LastRun.Waiting; len(w) != 1 || !strings.Contains(w[0].Why, "until 2000-01-01 06:00 UTC") {
			b.Errorf("waiting %+v", w)
		}
		b.shelf.put(thing("Thing", "web", "a"), "red")
		b.hint("a")
		if b.thing("a") != "blue" {
			b.Errorf("drift in the window left a %q", b.thing("a"))
		}
		b.pass(5 * time.Hour)
		if b.thing("a") != "green" || b.status().Sync != SyncClean {
			b.Errorf("after the window: a is %q, %s", b.thing("a"), b.status().Sync)
		}
	})
}

func TestWindows(t *testing.T) {
	deny := environment.Window{Kind: environment.WindowDeny, Schedule: "0 22 * * *", Duration: 8 * time.Hour, Timezone: "Europe/Berlin"}
	allow := environment.Window{Kind: environment.WindowAllow, Schedule: "0 9 * * 1-5", Duration: 8 * time.Hour}
	for _, c := range []struct {
		name    string
		windows []environment.Window
		now     string
		closed  bool
		until   string
	}{
		{"none is always open", nil, "2026-01-05T12:00:00Z", false, ""},
		{"deny, in its time zone", []environment.Window{deny}, "2026-01-05T21:30:00Z", true, "2026-01-06T05:00:00Z"},
		{"deny, over midnight", []environment.Window{deny}, "2026-01-06T04:59:00Z", true, "2026-01-06T05:00:00Z"},
		{"deny is over", []environment.Window{deny}, "2026-01-06T05:00:00Z", false, ""},
		{"deny in summer time", []environment.Window{deny}, "2026-07-05T20:30:00Z", true, "2026-07-06T04:00:00Z"},
		{"allow is open", []environment.Window{allow}, "2026-01-05T09:00:00Z", false, ""},
		{"allow is closed on a Saturday", []environment.Window{allow}, "2026-01-10T12:00:00Z", true, "2026-01-12T09:00:00Z"},
		{"deny is stronger than allow", []environment.Window{allow, {Kind: environment.WindowDeny, Schedule: "0 12 * * *", Duration: time.Hour}}, "2026-01-05T12:30:00Z", true, "2026-01-05T13:00:00Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			now, _ := time.Parse(time.RFC3339, c.now)
			gate, _, err := windowGate(c.windows, now)
			if err != nil || (gate != nil) != c.closed {
				t.Fatalf("gate %+v, error %v", gate, err)
			}
			if gate != nil && gate.Until.UTC().Format(time.RFC3339) != c.until {
				t.Errorf("until %s, want %s", gate.Until.UTC(), c.until)
			}
		})
	}
	if _, _, err := windowGate([]environment.Window{{Kind: environment.WindowDeny, Schedule: "nonsense"}}, time.Now()); err == nil {
		t.Error("a bad schedule was accepted")
	}
}

func TestDependsOnWaitsForReadiness(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.breakHealth("base", thing("Thing", "web", "crd"))
		app := b.named("app", "1", thingItem("a", "blue"))
		app.Spec.DependsOn = []string{"base"}
		b.assign(b.named("base", "1", thingItem("crd", "x")), app)
		s := b.of("app")
		if b.thing("a") != "" || !slices.Contains(gateKinds(s), GateDependsOn) || !strings.Contains(s.Gates[0].Why, "ImagePullBackOff") {
			b.Errorf("before base is ready: a is %q, gates %+v", b.thing("a"), s.Gates)
		}
		b.breakHealth("base")
		if b.thing("a") != "blue" || len(b.of("app").Gates) != 0 {
			b.Errorf("after base got ready: a is %q, gates %+v", b.thing("a"), b.of("app").Gates)
		}
	})
}

func TestPromotionWaitsForTheSameRevisionToProveItself(t *testing.T) {
	withEngine(t, func(b *bench) {
		push := func(revision, text string) {
			prod := b.named("prod", revision, thingItem("p", text))
			prod.Spec.After = &environment.After{Environment: "staging", Ready: 10 * time.Minute}
			b.assign(b.named("staging", revision, thingItem("s", text)), prod)
		}
		push("1", "blue")
		if b.thing("s") != "blue" || b.thing("p") != "" {
			b.Errorf("at once: staging %q, prod %q", b.thing("s"), b.thing("p"))
		}
		b.pass(11 * time.Minute)
		if b.thing("p") != "blue" {
			b.Errorf("after ten minutes prod is %q", b.thing("p"))
		}
		b.breakHealth("staging", thing("Thing", "web", "s"))
		push("2", "green")
		b.pass(30 * time.Minute)
		if s := b.of("prod"); b.thing("p") != "blue" || !slices.Contains(gateKinds(s), GateAfter) {
			b.Errorf("staging is broken, and prod is %q, gates %+v", b.thing("p"), s.Gates)
		}
		b.breakHealth("staging")
		b.pass(11 * time.Minute)
		if b.thing("p") != "green" {
			b.Errorf("staging was mended, and prod is %q", b.thing("p"))
		}
	})
}

func TestPromotionTakesTheNewestRevisionThatProvedItself(t *testing.T) {
	withEngine(t, func(b *bench) {
		push := func(revision string) {
			prod := b.named("prod", revision, thingItem("p", revision))
			prod.Spec.After = &environment.After{Environment: "staging", Ready: 10 * time.Minute}
			b.assign(b.named("staging", revision, thingItem("s", revision)), prod)
		}
		push("1")
		b.pass(11 * time.Minute)
		b.hold(HoldRequest{Environments: []string{"prod"}, Until: time.Now().Add(15 * time.Minute)})
		push("2")
		b.pass(12 * time.Minute) // staging proves 2 while prod is held
		push("3")
		b.pass(4 * time.Minute)
		if b.thing("p") != "2" {
			b.Errorf("after the hold prod is at %q, want 2", b.thing("p"))
		}
		for i := range 5 {
			push("4" + string(rune('a'+i)))
			b.pass(2 * time.Minute)
		}
		if b.thing("p") != "2" {
			b.Errorf("prod took %q, which staging had for two minutes only", b.thing("p"))
		}
		push("5")
		b.pass(9 * time.Minute)
		push("6")
		if b.thing("p") != "2" {
			b.Errorf("prod took %q after nine minutes", b.thing("p"))
		}
		b.breakHealth("staging", thing("Thing", "web", "s"))
		b.pass(time.Hour)
		if b.thing("p") != "2" {
			b.Errorf("prod took %q of a staging that is broken", b.thing("p"))
		}
	})
}

func TestARevisionThatDoesNotGetReadyIsLeft(t *testing.T) {
	withEngine(t, func(b *bench) {
		at := func(revision, text string) Assignment {
			a := b.assignment(revision, thingItem("a", text))
			a.Spec.Health = environment.Health{Timeout: 2 * time.Minute, OnFailure: environment.OnFailureReturn}
			return a
		}
		b.assign(at("1", "blue"))
		if s := b.status(); s.Health != HealthReady {
			b.Fatalf("health %s", s.Health)
		}
		b.breakHealth("prod", thing("Thing", "web", "a"))
		b.assign(at("2", "green"))
		if s := b.status(); s.Health != HealthProgressing || b.thing("a") != "green" {
			b.Errorf("soon after: %s, a is %q", s.Health, b.thing("a"))
		}
		b.pass(3 * time.Minute)
		if s := b.status(); b.thing("a") != "blue" || !slices.Contains(gateKinds(s), GateReturned) {
			b.Errorf("after the deadline: a is %q, gates %+v", b.thing("a"), s.Gates)
		}
		b.breakHealth("prod")
		b.assign(at("3", "yellow"))
		if b.thing("a") != "yellow" {
			b.Errorf("a new commit: a is %q", b.thing("a"))
		}
	})
}

func TestAnEnvironmentThatLeftGitGoesWhenThatIsConfirmed(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.assign(b.named("other", "1", thingItem("o", "x")), b.assignment("1", thingItem("a", "blue")))
		b.assign(b.named("other", "2", thingItem("o", "x")))
		s := b.of("prod")
		if b.thing("a") != "blue" || s.Sync != SyncRemoved || !slices.Contains(gateKinds(s), GateRemoval) {
			b.Errorf("left git: a is %q, %s, %+v", b.thing("a"), s.Sync, s.Gates)
		}
		if _, err := b.engine.ConfirmRemoval(b.Context(), "other", "anna"); err == nil {
			b.Error("an environment in git could be removed")
		}
		if _, err := b.engine.ConfirmRemoval(b.Context(), "prod", "anna"); err != nil {
			b.Fatal(err)
		}
		synctest.Wait()
		if _, known := b.engine.Environment("prod"); known || b.thing("a") != "" || b.thing("o") != "x" {
			b.Errorf("confirmed: known %v, a is %q, o %q", known, b.thing("a"), b.thing("o"))
		}
	})
}

func TestDeletionPolicies(t *testing.T) {
	for policy, want := range map[environment.Deletion]string{environment.DeletionDelete: "", environment.DeletionOrphan: "blue"} {
		withEngine(t, func(b *bench) {
			a := b.assignment("1", thingItem("a", "blue"))
			a.Spec.Deletion = policy
			b.assign(b.named("other", "1", thingItem("o", "x")), a)
			b.assign(b.named("other", "2", thingItem("o", "x")))
			if _, known := b.engine.Environment("prod"); known || b.thing("a") != want {
				b.Errorf("%s: known %v, a is %q, want %q", policy, known, b.thing("a"), want)
			}
		})
	}
}

func TestAnEnvironmentThatLeftWhileTheDaemonWasAwayIsFound(t *testing.T) {
	withEngine(t, func(b *bench) {
		id := thing("Thing", "web", "old")
		b.shelf.put(id, "x")
		b.shelf.owner[id] = "old"
		b.shelf.states["old"] = State{Source: "shop", Accepted: rev("0")}
		b.shelf.states["foreign"] = State{Source: "another", Accepted: rev("0")}
		b.assign(b.assignment("1", thingItem("a", "blue")))
		if s := b.of("old"); s.Sync != SyncRemoved || !slices.Contains(gateKinds(s), GateRemoval) || b.thing("old") != "x" {
			b.Errorf("found as %s with %+v", s.Sync, s.Gates)
		}
		if _, known := b.engine.Environment("foreign"); known {
			b.Error("another source's environment was taken")
		}
	})
}

func TestAnObjectMovesBetweenEnvironmentsWithoutADelete(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.assign(b.named("app", "1", thingItem("a", "blue"), thingItem("m", "x")), b.named("base", "1", thingItem("b", "blue")))
		b.shelf.writes = 0
		b.assign(b.named("app", "2", thingItem("a", "blue")), b.named("base", "2", thingItem("b", "blue"), thingItem("m", "x")))
		b.pass(time.Minute)
		id := thing("Thing", "web", "m")
		if b.thing("m") != "x" || b.shelf.owner[id] != "base" || b.shelf.writes != 1 {
			b.Errorf("m is %q of %s after %d writes; want one adoption", b.thing("m"), b.shelf.owner[id], b.shelf.writes)
		}
		if s := b.of("app"); s.Sync != SyncClean {
			b.Errorf("app is %s: %+v", s.Sync, s.Gates)
		}
	})
}

func TestAPlanWritesNothing(t *testing.T) {
	withEngine(t, func(b *bench) {
		b.assign(b.assignment("1", thingItem("a", "blue")))
		b.known["prod@feature"] = b.assignment("feature", thingItem("a", "green"), thingItem("b", "new"))
		plan, err := b.engine.Plan(b.Context(), "prod", "feature")
		if err != nil || len(plan.Active()) != 2 || plan.Revision.ID != "feature" {
			b.Errorf("plan %+v, error %v", plan, err)
		}
		if b.thing("a") != "blue" || b.thing("b") != "" || b.shelf.writes != 1 {
			b.Errorf("a is %q, b %q after %d writes", b.thing("a"), b.thing("b"), b.shelf.writes)
		}
		if _, err := b.engine.Plan(b.Context(), "prod", "nope"); err == nil {
			b.Error("an unknown revision was planned")
		}
	})
}

func TestUrgentRunsGoFirstAndNoTargetTakesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(4)
		var order []string
		var release []func()
		for range 3 {
			r, err := s.acquire(t.Context(), ReasonTimer, "slow")
			if err != nil {
				t.Fatal(err)
			}
			release = append(release, r)
		}
		want := func(reason Reason, target, name string) {
			go func() {
				if r, err := s.acquire(t.Context(), reason, target); err == nil {
					order = append(order, name)
					r()
				}
			}()
			synctest.Wait()
		}
		want(ReasonOnCall, "slow", "slow on call")
		want(ReasonTimer, "good", "good timer")
		if got := strings.Join(order, ", "); got != "good timer" {
			t.Errorf("while one target has its share: %s", got)
		}
		want(ReasonPoll, "slow", "slow poll")
		want(ReasonDrift, "slow", "slow drift")
		release[0]()
		synctest.Wait()
		if got := strings.Join(order, ", "); got != "good timer, slow on call, slow drift, slow poll" {
			t.Errorf("order: %s", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.acquire(ctx, ReasonOnCall, "slow"); err == nil && s.free < 0 {
			t.Error("more slots than there are")
		}
		release[1]()
		release[2]()
		if s.free < 3 || len(s.queue) != 0 {
			t.Errorf("%d free, %d waiting", s.free, len(s.queue))
		}
	})
}
