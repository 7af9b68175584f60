package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/cmd/internal/events"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// fakeLists answers with values.
type fakeLists struct {
	objects []reconciler.Object
	decided reconciler.Decided
	targets []api.Target
	episode drift.Episode
	made    atomic.Int64
}

func (f *fakeLists) Objects(name string) (iter.Seq[reconciler.Object], bool) {
	f.made.Add(1)
	return slices.Values(f.objects), name == "prod"
}

func (f *fakeLists) Tree(_ context.Context, environment string, id sources.ID) (reconciler.Tree, error) {
	switch id.Name {
	case "away":
		return reconciler.Tree{}, errors.New("the cluster is away")
	case "other":
		return reconciler.Tree{}, fmt.Errorf("%s: %w %s", id, reconciler.ErrNotOurs, environment)
	}
	pod := reconciler.Part{Object: thing("Pod", "web", id.Name+"-1"), Health: reconciler.HealthFailed, Why: "CrashLoopBackOff: <b>back-off</b>", Restarts: 7, Where: "node-a", Created: now.Add(-time.Hour)}
	return reconciler.Tree{
		Part: reconciler.Part{Object: id, Health: reconciler.HealthProgressing, Why: "0 of 1 <i>ready</i>", Restarts: 7, Parts: []reconciler.Part{
			{Object: thing("ReplicaSet", "web", id.Name+"-abc"), Health: reconciler.HealthProgressing, Restarts: 7, Parts: []reconciler.Part{pod}},
		}},
		AsOf: now, Cut: true, Problems: []string{"list <u>replicasets</u>: forbidden"},
	}, nil
}

func (f *fakeLists) Decided(context.Context) reconciler.Decided {
	return reconciler.Decided{Holds: slices.Clone(f.decided.Holds), Decisions: slices.Clone(f.decided.Decisions), Unread: f.decided.Unread}
}
func (f *fakeLists) Episode(id string) (drift.Episode, bool) { return f.episode, f.episode.ID == id }
func (f *fakeLists) Targets() []api.Target                   { return f.targets }
func (f *fakeLists) Working() api.RunsHealth                 { return api.RunsHealth{Running: 2, Waiting: 1} }
func (f *fakeLists) NotificationsWaiting() map[string]int    { return map[string]int{"chat": 3} }

func thing(kind, namespace, name string) sources.ID {
	return sources.ID{Kind: kind, Namespace: namespace, Name: name}
}

// listing is a server with something in every list.
func listing(t *testing.T) (*fakeEngine, *fakeLists, *Server) {
	t.Helper()
	f := newFake("dev", "prod", "prod-eu")
	f.statuses[0].Source, f.statuses[0].Labels = "shop", map[string]string{"team": "blue"}
	f.statuses[1].Source, f.statuses[1].Target, f.statuses[1].Health = "shop", "east", reconciler.HealthReady
	f.statuses[2].Sync, f.statuses[2].Labels = reconciler.SyncFailed, map[string]string{"team": "red"}
	f.statuses[2].Gates = []reconciler.Gate{{Kind: reconciler.GateBudget, Why: "7 deletions"}}
	f.statuses[2].LastRun = &reconciler.Run{
		ID: "run-1", PlanHash: "feed", Waiting: []reconciler.Waiting{{Object: thing("ConfigMap", "web", "a"), Op: reconciler.OpDelete, Why: "7 deletions"}},
	}
	l := &fakeLists{episode: drifted("prod", now), targets: []api.Target{{
		Name: "east", LagSeconds: 4, TargetReport: reconciler.TargetReport{Driver: "kubernetes", Problems: []string{"watch pods: silent"}},
	}}}
	for i := range 25 {
		o := reconciler.Object{Object: thing("ConfigMap", "web", fmt.Sprintf("c%02d", i)), Sync: reconciler.ObjectSynced, Health: reconciler.HealthReady}
		if i%5 == 0 {
			o.Object.Kind, o.Sync = "Secret", reconciler.ObjectDrifted
		}
		l.objects = append(l.objects, o)
	}
	l.decided.Holds = []reconciler.EnvironmentHold{
		{Target: "east", Hold: reconciler.Hold{ID: "hold-1"}}, {Environment: "dev", Hold: reconciler.Hold{ID: "hold-2"}},
		{Environment: "prod", Hold: reconciler.Hold{ID: "hold-3"}},
	}
	l.decided.Decisions = []reconciler.EnvironmentDecision{{Environment: "prod", Decision: drift.Decision{ID: "d1", Object: l.episode.Object}}}
	return f, l, testServer(f, Options{Lists: l})
}

func TestEnvironmentsAreFilteredAndPaged(t *testing.T) {
	_, _, s := listing(t)
	h := s.Handler(true)
	for query, want := range map[string]string{
		"":                              "dev prod prod-eu",
		"source=shop":                   "dev prod",
		"target=east":                   "prod",
		"sync=failed":                   "prod-eu",
		"health=ready":                  "prod",
		"label=team":                    "dev prod-eu",
		"label=team=red":                "prod-eu",
		"label=team=red&label=tier":     "",
		"name=prod":                     "prod prod-eu",
		"name=prod-*":                   "prod-eu",
		"source=shop&sync=clean&name=v": "dev",
		"limit=2":                       "dev prod",
		"page=prod":                     "prod-eu",
		"page=never":                    "prod prod-eu",
	} {
		got := decode[api.Environments](t, ask(t, h, "GET", api.PathEnvironments+"?"+query))
		names := []string{}
		for _, e := range got.Environments {
			names = append(names, e.Name)
		}
		if strings.Join(names, " ") != want {
			t.Errorf("%s: %v, want %s", query, names, want)
		}
		if query == "limit=2" && (got.Next != "prod" || got.Total != 3) {
			t.Errorf("next %q of %d", got.Next, got.Total)
		}
	}
	for _, query := range []string{"sync=good", "health=fine", "name=%5B", "limit=0", "limit=many", "limit=1001"} {
		res := ask(t, h, "GET", api.PathEnvironments+"?"+query)
		if p := decode[api.Problem](t, res); res.StatusCode != 400 || p.Detail == "" {
			t.Errorf("%s: %d %s", query, res.StatusCode, p.Detail)
		}
	}
}

func TestObjectsArePagedWithoutLossAndFiltered(t *testing.T) {
	_, _, s := listing(t)
	h := s.Handler(true)
	at := api.PathEnvironments + "/prod/objects?"
	seen, next, pages := map[string]bool{}, "", 0
	for {
		got := decode[api.Objects](t, ask(t, h, "GET", at+"limit=10&page="+url.QueryEscape(next)))
		for _, o := range got.Objects {
			seen[o.Object.String()] = true
		}
		if pages++; got.Total != 25 || got.Counts[reconciler.ObjectDrifted] != 5 || len(got.Objects) > 10 {
			t.Errorf("page %d: %d of %d, %v", pages, len(got.Objects), got.Total, got.Counts)
		}
		if next = got.Next; next == "" {
			break
		}
	}
	if len(seen) != 25 || pages != 3 {
		t.Errorf("%d objects on %d pages", len(seen), pages)
	}
	for query, want := range map[string]int{"kind=Secret": 5, "sync=synced": 20, "namespace=none": 0, "name=c2": 5, "health=ready&kind=ConfigMap": 20} {
		if got := decode[api.Objects](t, ask(t, h, "GET", at+query)); len(got.Objects) != want {
			t.Errorf("%s: %d, want %d", query, len(got.Objects), want)
		}
	}
	for target, want := range map[string]int{at + "sync=good": 400, at + "page=gone": 400, api.PathEnvironments + "/none/objects": 404} {
		if res := ask(t, h, "GET", target); res.StatusCode != want {
			t.Errorf("%s: %d", target, res.StatusCode)
		}
	}
}

func TestPlansHoldsAndDecisionsAreListed(t *testing.T) {
	_, _, s := listing(t)
	h := s.Handler(true)
	plans := decode[api.Plans](t, ask(t, h, "GET", api.PathPlans))
	if len(plans.Plans) != 1 || plans.Plans[0].Environment != "prod-eu" || plans.Plans[0].Hash != "feed" || len(plans.Plans[0].Operations) != 1 {
		t.Errorf("plans %+v", plans)
	}
	holds := decode[api.HoldList](t, ask(t, h, "GET", api.PathHolds+"?environment=prod"))
	if len(holds.Holds) != 2 || holds.Holds[0].ID != "hold-1" || holds.Holds[1].Environment != "prod" {
		t.Errorf("the hold on everything concerns prod, too: %+v", holds)
	}
	first := decode[api.HoldList](t, ask(t, h, "GET", api.PathHolds+"?limit=2"))
	rest := decode[api.HoldList](t, ask(t, h, "GET", api.PathHolds+"?page="+url.QueryEscape(first.Next)))
	if len(first.Holds) != 2 || len(rest.Holds) != 1 || rest.Holds[0].ID != "hold-3" || rest.Next != "" {
		t.Errorf("%+v then %+v", first, rest)
	}
	if d := decode[api.DecisionList](t, ask(t, h, "GET", api.PathDecisions)); len(d.Decisions) != 1 || d.Decisions[0].ID != "d1" {
		t.Errorf("decisions %+v", d)
	}
	if d := decode[api.DecisionList](t, ask(t, h, "GET", api.PathDecisions+"?environment=dev")); d.Decisions == nil || len(d.Decisions) != 0 {
		t.Errorf("decisions of dev %+v", d)
	}
}

func TestADriftIsFoundByItsIDInMemoryAndOnRecord(t *testing.T) {
	ledger := recorded(t)
	f, l, _ := listing(t)
	h := testServer(f, Options{Lists: l, Ledger: ledger}).Handler(true)
	earlier := l.episode
	earlier.ID = "e0"
	ledger.DriftEnded(earlier)
	ledger.DriftEnded(l.episode)
	flushed(t, ledger)
	got := decode[api.DriftDetail](t, ask(t, h, "GET", api.PathDrift+"/e1"))
	if got.Episode.ID != "e1" || len(got.History) != 1 || got.History[0].ID != "e0" || len(got.Decisions) != 1 || got.Runs == nil {
		t.Errorf("%+v", got)
	}
	if got := decode[api.DriftDetail](t, ask(t, h, "GET", api.PathDrift+"/e0")); got.Episode.ID != "e0" {
		t.Errorf("of an earlier life: %+v", got)
	}
	if res := ask(t, h, "GET", api.PathDrift+"/none"); res.StatusCode != 404 {
		t.Errorf("%d", res.StatusCode)
	}
	if body := text(t, ask(t, h, "GET", api.PathDrift+"/e1")); strings.Contains(body, "sentinel") {
		t.Errorf("a secret shows: %s", body)
	}
}

func TestDriftIsPagedAndItsSumsAreOfAll(t *testing.T) {
	f, _, s := listing(t)
	for i := range 5 {
		e := drifted("prod", time.Time{})
		e.ID, e.Severity = fmt.Sprintf("e%d", i), drift.High
		if i == 4 {
			e.Severity = drift.Low
		}
		f.episodes = append(f.episodes, e)
	}
	first := decode[reconciler.Report](t, ask(t, s.Handler(true), "GET", api.PathDrift+"?limit=3"))
	rest := decode[reconciler.Report](t, ask(t, s.Handler(true), "GET", api.PathDrift+"?limit=3&page="+first.Next))
	if len(first.Episodes) != 3 || len(rest.Episodes) != 2 || rest.Next != "" || first.Severities[drift.High] != 4 {
		t.Errorf("%d then %d, next %q, %v", len(first.Episodes), len(rest.Episodes), rest.Next, first.Severities)
	}
	for query, want := range map[string]int{
		"severity=low": 5, "severity=high": 4, "severity=critical": 0, "class=changed": 5, "class=missing": 0, "kind=Deployment": 5, "kind=Secret": 0,
		"manager=kubectl-scale&severity=high": 4, "manager=kubectl": 0, "label=nobody": 0,
	} {
		got := decode[reconciler.Report](t, ask(t, s.Handler(true), "GET", api.PathDrift+"?"+query))
		if len(got.Episodes) != want || got.Severities[drift.High] != min(want, 4) {
			t.Errorf("%s: %d, sums %v", query, len(got.Episodes), got.Severities)
		}
	}
	for _, query := range []string{"severity=bad", "class=bad"} {
		if res := ask(t, s.Handler(true), "GET", api.PathDrift+"?"+query); res.StatusCode != 400 {
			t.Errorf("%s: %d", query, res.StatusCode)
		}
	}
}

func TestHealthSaysWhatIsWrong(t *testing.T) {
	_, _, s := listing(t)
	s.opts.Ready = func() error { return fmt.Errorf("environment dev has not been compared yet") }
	got := decode[api.Health](t, ask(t, s.Handler(true), "GET", api.PathHealth))
	text := strings.Join(got.Problems, "\n")
	if !strings.Contains(text, "dev has not been compared") || !strings.Contains(text, "target east: watch pods: silent") || got.Memory.HeapBytes == 0 ||
		got.Runs.Running != 2 || got.Streams.Max != maxStreams || got.Environments[reconciler.SyncFailed] != 1 || got.NotificationsWaiting["chat"] != 3 {
		t.Errorf("%+v", got)
	}
	if res := ask(t, s.Handler(true), "GET", api.PathTargets+"/east"); decode[api.Target](t, res).LagSeconds != 4 {
		t.Error("the target is another")
	}
	res := ask(t, s.Handler(true), "GET", api.PathTargets+"/west")
	if p := decode[api.Problem](t, res); res.StatusCode != 404 || !slices.Equal(p.Known, []string{"east"}) {
		t.Errorf("%d %+v", res.StatusCode, p)
	}
}

// countedReads is a server whose lists are kept, and a hub that says what changes.
func countedReads(t *testing.T) (*fakeLists, *events.Hub, http.Handler) {
	t.Helper()
	f, l, _ := listing(t)
	hub := events.New(events.Options{})
	return l, hub, testServer(f, Options{Lists: l, Events: hub}).Handler(true)
}

func TestAnUnchangedListIsMadeOnceAndAChangedOneAnew(t *testing.T) {
	l, hub, h := countedReads(t)
	at := api.PathEnvironments + "/prod/objects"
	first := ask(t, h, "GET", at)
	tag, body := first.Header.Get("ETag"), text(t, first)
	began := time.Now()
	for range 200 {
		if res := ask(t, h, "GET", at); text(t, res) != body || res.Header.Get("ETag") != tag {
			t.Fatal("another answer")
		}
	}
	// One more for each second that the machine may have needed.
	if made := l.made.Load(); tag == "" || made > 2+int64(time.Since(began)/maxAge) {
		t.Errorf("made %d times, tag %q", made, tag)
	}
	for given, want := range map[string]int{tag: 304, "W/" + tag: 304, `"other", ` + tag: 304, "*": 304, `"other"`: 200} {
		res := ask(t, h, "GET", at, header("If-None-Match", given))
		if b := text(t, res); res.StatusCode != want || (b == "") != (want == 304) {
			t.Errorf("%s: %d with %d bytes", given, res.StatusCode, len(b))
		}
	}
	l.objects[0].Sync = reconciler.ObjectFailed
	hub.StatusChanged("prod")
	res := ask(t, h, "GET", at, header("If-None-Match", tag))
	if res.StatusCode != 200 || !strings.Contains(text(t, res), `"failed"`) {
		t.Errorf("what changed before the call is not in its answer: %d", res.StatusCode)
	}
}

func TestTheSameDriftAMomentLaterIsTheSame(t *testing.T) {
	_, _, h := countedReads(t)
	first := ask(t, h, "GET", api.PathDrift)
	if tag := first.Header.Get("ETag"); !strings.HasPrefix(tag, `W/"`) || ask(t, h, "GET", api.PathDrift, header("If-None-Match", tag)).StatusCode != 304 {
		t.Errorf("tag %q", tag)
	}
}

func TestManyReadersOfWhatChangesAllTheTimeShareTheWork(t *testing.T) {
	l, hub, h := countedReads(t)
	at := api.PathEnvironments + "/prod/objects"
	began, readers, calls := time.Now(), 20, 20
	done := make(chan error, readers)
	for range readers {
		go func() {
			for range calls {
				hub.StatusChanged("prod")
				if res := ask(t, h, "GET", at); res.StatusCode != 200 {
					done <- fmt.Errorf("%d", res.StatusCode)
					return
				}
			}
			done <- nil
		}()
	}
	for range readers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if made := l.made.Load(); made >= int64(readers*calls) {
		t.Errorf("each of %d calls made its own answer in %s", made, time.Since(began))
	}
}

func TestKeptAnswersAreBounded(t *testing.T) {
	f, l, _ := listing(t)
	s := testServer(f, Options{Lists: l, Events: events.New(events.Options{})})
	h := s.Handler(true)
	for i := range 3 * maxAnswers {
		res := ask(t, h, "GET", fmt.Sprintf("%s?name=x%d", api.PathEnvironments, i))
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.answers.kept); n > maxAnswers {
		t.Errorf("%d answers are kept", n)
	}
	tag := ask(t, h, "GET", api.PathEnvironments).Header.Get("ETag")
	if s.Rest(); len(s.answers.kept) != 0 {
		t.Errorf("at rest %d answers are kept", len(s.answers.kept))
	}
	if res := ask(t, h, "GET", api.PathEnvironments, header("If-None-Match", tag)); tag == "" || res.StatusCode != http.StatusNotModified {
		t.Errorf("what did not change is sent again after a rest: %d, tag %q", res.StatusCode, tag)
	}
}

func TestATreeIsReadOfWhatIsOurs(t *testing.T) {
	_, _, s := listing(t)
	h := s.Handler(true)
	const path = "/api/v1/environments/prod/objects/tree?object="
	tree := decode[api.ObjectTree](t, ask(t, h, "GET", path+"Deployment.apps/web/api"))
	if tree.Environment != "prod" || tree.Object.Name != "api" || len(tree.Parts) != 1 || tree.Parts[0].Parts[0].Restarts != 7 || !tree.Cut {
		t.Errorf("%+v", tree)
	}
	for target, want := range map[string]int{
		path + "ConfigMap/web/other": 404, path + "ConfigMap/web/away": 502, path: 400, path + "a/b/c/d/e": 400,
		"/api/v1/environments/none/objects/tree?object=ConfigMap/web/a": 404,
	} {
		if res := ask(t, h, "GET", target); res.StatusCode != want || res.Header.Get("Content-Type") != api.ProblemType {
			t.Errorf("%s: %d, want %d", target, res.StatusCode, want)
		}
	}
}
