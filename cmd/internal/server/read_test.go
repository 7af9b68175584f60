package server

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/cmd/internal/events"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
	"github.com/holdfast-gitops/holdfast/sources"
)

// guest may read shop-* and nothing else.
var guest = caller{name: "guest", how: "the person", grants: []Grant{{Role: RoleRead, Environments: []string{"shop-*"}}}}

// as lets somebody call.
func as(who caller, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, who.in(r)) })
}

// twoWorlds is a server with something of every sort in shop-a, and the same in an
// environment called hidden.
func twoWorlds(t *testing.T) (*events.Hub, *Server) {
	t.Helper()
	f := newFake("shop-a", "hidden")
	l := recorded(t)
	lists := &fakeLists{}
	for i, name := range []string{"shop-a", "hidden"} {
		f.statuses[i].Gates = []reconciler.Gate{{Kind: reconciler.GateHold, ID: "hold-" + name, Why: "held in " + name}}
		run := pastRun("run-past-"+name, name, time.Hour)
		f.statuses[i].LastRun = &run
		l.RunEnded(run)
		f.finish(name, reconciler.Applied)
		e := drifted(name, time.Time{})
		e.ID = "e-" + name
		f.episodes = append(f.episodes, e)
		ended := drifted(name, now.Add(-time.Minute))
		ended.ID = "ended-" + name
		l.DriftEnded(ended)
		l.Record(ledger.Action{At: now, Actor: "ann", Verb: "hold", Environment: name})
		lists.decided.Holds = append(lists.decided.Holds, reconciler.EnvironmentHold{Environment: name, Hold: reconciler.Hold{ID: "hold-" + name}})
		lists.decided.Decisions = append(lists.decided.Decisions, reconciler.EnvironmentDecision{Environment: name, Decision: drift.Decision{ID: "d-" + name}})
	}
	f.unsure = map[string]string{"hidden": "it is stale"}
	lists.episode = f.episodes[1]
	flushed(t, l)
	hub := events.New(events.Options{
		Environments: f.Environments, Environment: f.Environment, Sources: func() []api.Source { return nil }, Pause: time.Millisecond,
	})
	return hub, testServer(f, Options{Lists: lists, Ledger: l, Events: hub, Planner: obliging{}, Drifts: obliging{}, Decider: obliging{}})
}

// TestNothingIsReadOfAnEnvironmentThatACallerMayNotKnow makes every read there is:
// what lists holds nothing of it, and what is about it is not there.
func TestNothingIsReadOfAnEnvironmentThatACallerMayNotKnow(t *testing.T) {
	_, s := twoWorlds(t)
	routes := s.routes()
	named := 0
	for _, o := range operations {
		if o.method != "GET" || o.path == api.PathEvents || strings.HasPrefix(o.path, api.PathSources) || strings.HasPrefix(o.path, api.PathTargets+"/") {
			continue
		}
		target := strings.NewReplacer("{name}", "hidden", "{id}", "run-hidden").Replace(o.path)
		if strings.HasPrefix(o.path, api.PathDrift+"/{") {
			target = api.PathDrift + "/e-hidden"
		}
		query := "?since=24h&object=Deployment/web/api&pretty"
		if o.path == api.PathRuns || o.path == api.PathDriftHistory {
			query = "?since=24h&pretty"
		}
		all := text(t, ask(t, as(caller{}, routes), "GET", target+query))
		if strings.Contains(all, "hidden") {
			named++
		}
		res := ask(t, as(guest, routes), "GET", target+query)
		body := text(t, res)
		switch {
		case target != o.path:
			if res.StatusCode != 404 || strings.Contains(body, `"hidden"`+",") {
				t.Errorf("%s: %d %s", target, res.StatusCode, body)
			}
		case strings.Contains(body, "hidden"):
			t.Errorf("%s tells of it: %s", target, body)
		}
	}
	if named < 8 {
		t.Errorf("only %d answers name it to those who may know", named)
	}
	for _, target := range []string{api.PathRuns + "/run-past-hidden", api.PathDrift + "/ended-hidden"} {
		if res := ask(t, as(guest, routes), "GET", target); res.StatusCode != 404 {
			t.Errorf("%s: %d", target, res.StatusCode)
		}
	}
	for _, target := range []string{
		api.PathEnvironments, api.PathDrift, api.PathRuns, api.PathDriftHistory, api.PathActions, api.PathPlans, api.PathHolds, api.PathDecisions,
		api.PathRuns + "/run-shop-a", api.PathRuns + "/run-past-shop-a", api.PathDrift + "/ended-shop-a",
	} {
		if res := ask(t, as(guest, routes), "GET", target); res.StatusCode != 200 || !strings.Contains(text(t, res), "shop-a") {
			t.Errorf("%s tells nothing of what may be known: %d", target, res.StatusCode)
		}
	}
}

func TestEventsTellNothingOfAnEnvironmentThatACallerMayNotKnow(t *testing.T) {
	hub, s := twoWorlds(t)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		_ = hub.Run(ctx)
	}()
	defer func() { cancel(); <-ran }()
	srv := httptest.NewServer(as(guest, s.routes()))
	defer srv.Close()
	r, err := http.NewRequestWithContext(ctx, "GET", srv.URL+api.PathEvents, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	hub.RunEnded(reconciler.Run{ID: "run-1", Environment: "hidden"})
	hub.DriftSeen(drifted("hidden", time.Time{}), time.Second)
	hub.Acted(ledger.Action{Verb: "hold", Environment: "hidden"})
	hub.RunEnded(reconciler.Run{ID: "run-2", Environment: "shop-a"})
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "hidden") {
			t.Fatalf("an event tells of it: %s", lines.Text())
		}
		if strings.Contains(lines.Text(), "run-2") {
			return
		}
	}
	t.Error("what may be known did not come")
}

// TestMeasuresCountNothingOfAnEnvironmentThatACallerMayNotKnow: sums tell, too.
func TestMeasuresCountNothingOfAnEnvironmentThatACallerMayNotKnow(t *testing.T) {
	l := recorded(t)
	for _, name := range []string{"shop-a", "hidden"} {
		run := pastRun("run-"+name, name, time.Hour)
		run.Revision = sources.Revision{ID: "c-" + name, Time: now.Add(-2 * time.Hour)}
		l.RunEnded(run)
	}
	flushed(t, l)
	routes := testServer(newFake("shop-a", "hidden"), Options{Ledger: l}).routes()
	// As an account of a cluster has it: names, and many.
	named := caller{name: "named", grants: []Grant{{Role: RoleRead, Environments: []string{"shop-a"}}}}
	for i := range 2000 {
		named.grants[0].Environments = append(named.grants[0].Environments, fmt.Sprintf("other-%d", i))
	}
	for _, tt := range []struct {
		who  caller
		want int
	}{{caller{}, 2}, {guest, 1}, {named, 1}} {
		delivery := decode[ledger.Delivery](t, ask(t, as(tt.who, routes), "GET", api.PathDelivery))
		if delivery.All.Deployments != tt.want || len(delivery.Environments) != tt.want {
			t.Errorf("%q is told of %+v", tt.who.name, delivery)
		}
		runs := 0
		for _, b := range decode[ledger.Series](t, ask(t, as(tt.who, routes), "GET", api.PathSeries)).Buckets {
			for _, n := range b.Runs {
				runs += n
			}
		}
		if runs != tt.want {
			t.Errorf("%q is told of %d runs over time", tt.who.name, runs)
		}
	}
}
