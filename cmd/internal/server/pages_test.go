package server

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
	"github.com/holdfast-gitops/holdfast/sources"
)

// fullFake has something for every branch of the pages.
func fullFake() *fakeEngine {
	f := newFake("dev", "prod")
	run := reconciler.Run{
		ID: "run-1", Environment: "prod", Result: reconciler.Partial, Started: now.Add(-time.Minute), Finished: now.Add(-time.Minute), Seconds: 0.25,
		Trigger: reconciler.Trigger{Reason: reconciler.ReasonOnCall, Actor: "socket"}, PlanHash: "0123abcd",
		Revision: sources.Revision{ID: "a1b2c3d4e5", Ref: "refs/heads/main", Subject: "<b>bold</b>", Author: "Ann", Time: now.Add(-time.Hour)},
		Counts:   reconciler.Counts{Created: 2, Updated: 1, Failed: 1},
		Errors:   sources.Problems{{File: "web/api.yaml", Line: 3, Object: "Deployment/web/api", Message: "is <i>bad</i>", Hint: "mend it"}},
		Waiting:  []reconciler.Waiting{{Object: sources.ID{Kind: "Namespace", Name: "web"}, Op: reconciler.OpDelete, Why: "protected kind", Gate: reconciler.GateProtected}},
		Changes: []reconciler.ObjectChange{
			{Object: sources.ID{Kind: "ConfigMap", Namespace: "web", Name: "a"}, Op: reconciler.OpUpdate, Origin: sources.Origin{File: "web/a.yaml", Line: 5},
				Fields: []drift.Change{{Path: ".data.colour", Desired: drift.NewValue("new-blue", false), Live: drift.NewValue("old-red", false)}}},
			{Object: sources.ID{Kind: "Secret", Namespace: "web", Name: "s"}, Op: reconciler.OpCorrect, Class: drift.Changed, Error: "forbidden",
				Fields: []drift.Change{{Path: ".data.password", Desired: drift.NewValue("sentinel-a", true), Live: drift.NewValue("sentinel-b", true), Manager: "kubectl"}}},
		},
		MoreChanges: 3,
	}
	hold := sources.ID{Kind: "ConfigMap", Namespace: "web", Name: "held"}
	f.statuses[1] = reconciler.Status{
		Name: "prod", Source: "shop", Target: "default", Path: "prod", Mode: "apply", Drift: "correct", Sync: reconciler.SyncFailed, Objects: 12,
		Labels: map[string]string{"tier": "gold"}, Health: reconciler.HealthFailed, Compared: true,
		Unready: []reconciler.Unready{{Object: hold, Why: "not <u>there</u>", RootCause: "Pod web-1: ImagePullBackOff", Failed: true, Since: now.Add(-time.Minute)}},
		Head:    sources.Revision{ID: "ffff000011", Author: "Bob"}, Applied: run.Revision, LastRun: &run, Running: &reconciler.Run{ID: "run-2", Result: reconciler.Pending},
		Errors: run.Errors, OpenDrifts: 1, Corrections: 3, AsOf: now,
		Gates: []reconciler.Gate{
			{Kind: reconciler.GateHold, ID: "hold-1", Object: &hold, Why: "held by ann: looking", By: "ann", Since: now, Until: now.Add(time.Hour), StopsCorrection: true},
			{Kind: reconciler.GatePin, Why: "rolled back", By: "bob"},
			{Kind: reconciler.GateReturned, Why: "did not get ready"}, {Kind: reconciler.GateRemoval, Why: "left git"},
			{Kind: reconciler.GateBudget, Why: "deletion budget"},
		},
	}
	f.runs["run-1"] = &fakeRun{run: run, done: make(chan struct{})}
	f.episodes = []drift.Episode{drifted("prod", time.Time{}), drifted("dev", now.Add(-time.Hour))}
	f.episodes[0].Severity = drift.Medium
	f.episodes[1].ID = "e2"
	f.episodes = append(f.episodes, drift.Episode{ID: "e3", Environment: "dev", Object: sources.ID{Kind: "ConfigMap", Namespace: "a", Name: "b"}, Class: drift.Missing, State: drift.Open, Cause: drift.UnknownCause,
		Fate: drift.Accepted, Decision: &drift.Decision{Author: "ann", Reason: "on <purpose>", Until: now.Add(time.Hour)},
		Changes: []drift.Change{{Desired: drift.Absent(), Live: drift.Absent(), Manager: drift.Unknown}}})
	f.unsure = map[string]string{"dev": "not compared yet"}
	return f
}

// tokenHeader sends the token of the tests.
func tokenHeader(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }

func fromForm(values string) func(*http.Request) {
	return body("application/x-www-form-urlencoded", values)
}

func TestPagesShowWhatIsKnown(t *testing.T) {
	l := recorded(t)
	f := fullFake()
	l.RunEnded(f.runs["run-1"].run)
	l.RunEnded(pastRun("run-0", "prod", time.Hour))
	l.DriftChanged(f.episodes[1])
	l.Record(ledger.Action{At: now, Actor: "ann", Verb: "hold", Environment: "prod", Subject: "all of it", Reason: "<em>why</em>"})
	flushed(t, l)
	h := testServer(f, Options{Version: "v1.2.3", Ledger: l, Sources: fakeSources{}, Lists: listsOf(f), Ready: func() error { return errors.New("still starting") }}).Handler(true)
	for target, parts := range map[string][]string{
		"/": {
			"<title>1 of 2 environments needs attention · Holdfast", `content="10"`, `href="/environments/prod"`, `href="/api/v1/environments"`,
			"main@a1b2c3d", "ffff000", "2 created, 1 updated, 1 failed", "deletion budget", "web/api.yaml:3", "ends", "oldest", "v1.2.3",
			`action="/do/resync"`,
		},
		"/environments/prod": {
			"<title>prod failed · Holdfast</title>", "run-2", "0123abcd", "Namespace/web", "protected kind", "Pod web-1: ImagePullBackOff", "hint", "mend it",
			"End hold", "Release", "Retry", "Let its objects go", "Approve plan 0123abcd", ".spec.replicas", "kubectl-scale", "tier=gold", "Head is ahead", "all of it",
		},
		"/environments/prod/history": {"run-1", "run-0", "all of it", "Who asked for what"},
		"/environments/dev":          {"Nothing can be said of it now", "not compared yet"},
		"/drift":                     {".spec.replicas", "kubectl-scale", "nothing can be said, not compared yet", "accepted", drift.Masked, "the whole object", "web/api.yaml", "1 open", `action="/do/revert"`},
		"/drift?state=all&since=7d":  {`href="/drift/e2"`, "corrected"},
		"/drift?environment=prod":    {`href="/drift/e1"`, `href="/api/v1/environments/prod/drift?expand=true&amp;group=cause&amp;open=true"`},
		"/drift?severity=low":        {"Severity at least", `/drift/e1`, `href="/api/v1/drift?expand=true&amp;group=cause&amp;open=true&amp;severity=low"`},
		"/drift?severity=critical":   {"No open drift that is at least critical", "less severe is left out"},
		"/drift/e1":                  {"reverts now", "web/api.yaml:7", "Revert now", "Accept", "Codify", "2 times", drift.Masked, "manual"},
		"/drift/e3":                  {"accepted until", "on &lt;purpose&gt;"},
		"/runs/run-1":                {"on-call, socket", "250 ms", "Namespace/web", "Approve plan", "new-blue", "old-red", "and 3 more objects", drift.Masked, "forbidden", "web/a.yaml:5"},
		"/runs/run-0":                {"ConfigMap/web/a"},
		"/history":                   {"run-1", "run-0"},
		"/history?result=applied":    {"run-0", `aria-current="true"`},
		"/history?kind=actions":      {"&lt;em&gt;why&lt;/em&gt;", "hold"},
		"/history?kind=drift":        {"By manager", "noisiest", "/drift/e2"},
		"/sources":                   {"https://git.example.com/shop.git", "does not descend", "Let it through", "failures in a row", "prod"},
		"/targets":                   {"default", "12", "https://cluster.example.com", "not all is seen", "forbidden", "holdfast-1", "&lt;lease&gt;", "2 watches", "42"},
		"/health":                    {"Ledger", "not ready", "still starting", "waiting for a turn", "chat: 3", "Process", "40"},
		"/environments/prod/objects": {"web/held", "waits", "held by ann", "no &lt;i&gt;pods", `href="/drift/e1"`, `href="/runs/run-1"`, "kustomize", "Deployment.apps"},
		"/environments/prod/objects/tree?object=Deployment/web/api": {
			"Pod/web/api-1", "7 restarts", "CrashLoopBackOff: &lt;b&gt;", "node-a", "There is more than is listed", "&lt;u&gt;replicasets", `href="/drift/e1"`, `href="/runs/run-1"`,
			`href="/api/v1/environments/prod/objects/tree?object=Deployment%2Fweb%2Fapi"`,
		},
		"/environments/prod/objects?by=layer":                  {"web/a.yaml (kustomize)"},
		"/environments/prod/objects?sync=drifted&by=namespace": {"Deployment/web/api"},
	} {
		res := ask(t, h, "GET", target)
		page := text(t, res)
		if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("%s: %d %v\n%s", target, res.StatusCode, res.Header, page)
			continue
		}
		for _, part := range parts {
			if !strings.Contains(page, part) && !strings.Contains(strings.Join(strings.Fields(page), " "), part) {
				t.Errorf("%s does not show %q", target, part)
			}
		}
		for _, bad := range []string{"ZgotmplZ", "<no value>", "<b>bold", "<script>alert", "<img", "<u>", "<i>bad", "<em>", "sentinel", "onerror=alert(1)>", " style=", "<style"} {
			if strings.Contains(page, bad) {
				t.Errorf("%s shows %q", target, bad)
			}
		}
		if policy := res.Header.Get("Content-Security-Policy"); strings.Contains(policy, "unsafe") || !strings.Contains(policy, "script-src 'self';") {
			t.Errorf("%s: policy %q", target, policy)
		}
		if target != "/targets" && !strings.Contains(res.Header.Get("Link"), `rel="alternate"`) {
			t.Errorf("%s has no twin", target)
		}
	}
}

// pageLists has what the pages list beside the engine's.
type pageLists struct {
	*fakeLists
	engine *fakeEngine
}

func listsOf(f *fakeEngine) pageLists {
	hold := sources.ID{Kind: "ConfigMap", Namespace: "web", Name: "held"}
	return pageLists{engine: f, fakeLists: &fakeLists{
		targets: []api.Target{{Name: "default", Environments: 2, LagSeconds: 3, TargetReport: reconciler.TargetReport{
			Driver: "kubernetes", Address: "https://cluster.example.com", Ours: true, Objects: 12, Holder: "holdfast-1", LeaseProblem: "the <lease> is away",
			Watches:  []reconciler.TargetWatch{{Kind: "Deployment.apps", Of: "metadata", Heard: now, Synced: true}, {Kind: "Secret", Of: "metadata", Problem: "forbidden"}},
			Requests: reconciler.TargetRequests{Total: map[string]int64{"get": 40, "patch": 2}}, Problems: []string{"<b>dim</b>"},
		}}},
		objects: []reconciler.Object{
			{Object: hold, Sync: reconciler.ObjectWaits, Why: "held by ann", Health: reconciler.HealthUnknown, Origin: sources.Origin{File: "web/a.yaml", Line: 2, Layer: "kustomize"}},
			{Object: sources.ID{Group: "apps", Kind: "Deployment", Namespace: "web", Name: "api"}, Sync: reconciler.ObjectDrifted, Drift: "e1", Health: reconciler.HealthFailed, Unready: "no <i>pods</i>", Run: "run-1", LastApplied: now},
			{Object: sources.ID{Kind: "Namespace", Name: "web"}, Sync: reconciler.ObjectSynced, Health: reconciler.HealthReady},
		},
	}}
}

func (l pageLists) Episode(id string) (drift.Episode, bool) {
	for _, e := range l.engine.episodes {
		if e.ID == id {
			return e, true
		}
	}
	return drift.Episode{}, false
}

func (l pageLists) Decided(context.Context) reconciler.Decided {
	var out reconciler.Decided
	for _, e := range l.engine.episodes {
		if e.Decision != nil {
			d := *e.Decision
			d.Object = e.Object
			out.Decisions = append(out.Decisions, reconciler.EnvironmentDecision{Environment: e.Environment, Decision: d})
		}
	}
	return out
}

// fakeSources has one source in trouble.
type fakeSources struct{}

func (fakeSources) Allow(context.Context, string, api.AllowRequest) (api.Source, error) {
	return api.Source{}, nil
}

func (fakeSources) Sources() []api.Source {
	return []api.Source{{
		Name: "shop", Kind: api.KindGit, Push: "holdfast/*", URL: "https://git.example.com/shop.git", Ref: "main", Interval: "30s", Failures: 3,
		Revision: sources.Revision{ID: "a1b2c3d4e5", Ref: "refs/heads/main", Subject: "<b>bold</b>"}, LastError: "gone", LastErrorAt: now,
		Commits: []sources.Revision{{ID: "a1b2c3d4e5", Subject: "<b>bold</b>"}},
		Held:    &api.HeldRevision{From: sources.Revision{ID: "a1b2c3d4e5"}, To: sources.Revision{ID: "bbbb"}, Ancestry: "diverges", Since: now, Command: "holdfast allow shop bbbb"},
	}}
}

func TestPagesOfNothing(t *testing.T) {
	h := testServer(newFake(), Options{}).Handler(false)
	for target, part := range map[string]string{
		"/": "No environment yet", "/drift": "No open drift", "/history": "keeps no ledger", "/sources": "No source", "/targets": "No target", "/health": "Holdfast itself",
	} {
		res := ask(t, h, "GET", target)
		if page := text(t, res); res.StatusCode != 200 || !strings.Contains(page, part) {
			t.Errorf("%s: %d, does not say %q", target, res.StatusCode, part)
		}
	}
	for _, target := range []string{"/environments/none", "/environments/none/plan", "/drift/none", "/runs/none", "/drift?environment=none", "/environments/none/objects/tree?object=ConfigMap/a"} {
		res := ask(t, h, "GET", target)
		if page := text(t, res); res.StatusCode != 404 || !strings.Contains(page, "To the environments") {
			t.Errorf("%s: %d", target, res.StatusCode)
		}
	}
}

func TestOverviewFilters(t *testing.T) {
	f := fullFake()
	h := testServer(f, Options{}).Handler(false)
	for query, want := range map[string]string{
		"": "prod dev", "?q=PROD": "prod", "?q=prod+gold": "prod", "?q=ann": "prod", "?q=nothing": "",
		"?state=failed": "prod", "?state=clean": "dev", "?state=attention": "prod", "?state=held": "prod",
		"?label=tier": "prod", "?label=tier%3Dgold": "prod", "?label=tier%3Dtin": "",
		"?group=source": "dev prod", "?group=label:tier": "prod dev", "?group=target&state=failed": "prod",
	} {
		page := text(t, ask(t, h, "GET", "/"+query))
		var got []string
		for _, part := range strings.Split(page, `<tr id="env-`)[1:] {
			name, _, _ := strings.Cut(part, `"`)
			got = append(got, name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s shows %v, want %s", query, got, want)
		}
	}
}

func TestOverviewOfManyEnvironmentsStaysSmall(t *testing.T) {
	f := newFake()
	for i := range 500 {
		f.statuses = append(f.statuses, reconciler.Status{
			Name: fmt.Sprintf("env-%03d", i), Source: "shop", Target: "default", Sync: reconciler.SyncClean, Health: reconciler.HealthReady, Mode: "apply", Compared: true,
			Applied: sources.Revision{ID: "a1b2c3d4e5", Subject: "a change", Author: "Ann", Time: now},
		})
	}
	for range 2000 {
		f.episodes = append(f.episodes, drifted("env-007", time.Time{}))
	}
	page := text(t, ask(t, testServer(f, Options{}).Handler(false), "GET", "/"))
	if n := strings.Count(page, `<tr id="env-`); n != 500 {
		t.Errorf("%d rows", n)
	}
	if perRow := len(page) / 500; perRow > 1600 {
		t.Errorf("%d bytes a row", perRow)
	}
}

func TestPagesAreSentCompressed(t *testing.T) {
	h := testServer(fullFake(), Options{}).Handler(false)
	plain := text(t, ask(t, h, "GET", "/drift"))
	res := ask(t, h, "GET", "/drift", header("Accept-Encoding", "gzip"))
	unpacked, err := gzip.NewReader(res.Body)
	if err != nil || res.Header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("%v, %v", res.Header, err)
	}
	if got, err := io.ReadAll(unpacked); err != nil || string(got) != plain {
		t.Errorf("%d bytes, and plain %d: %v", len(got), len(plain), err)
	}
}

func TestPagesBoundWhatTheyList(t *testing.T) {
	f := newFake("dev")
	for i := range 300 {
		long := drifted("dev", time.Time{})
		long.ID = fmt.Sprint("e", i)
		long.Changes[0].Live = drift.NewValue(strings.Repeat("x", 3000), false)
		long.Changes[1].Path = fmt.Sprint(".spec.field", i%150) // 150 causes
		f.episodes = append(f.episodes, long)
	}
	h := testServer(f, Options{}).Handler(false)
	page := text(t, ask(t, h, "GET", "/drift"))
	if got := strings.Count(page, `<details class="cause`); got != 100 {
		t.Errorf("%d causes", got)
	}
	if !strings.Contains(page, "and 50 more causes") || strings.Contains(page, strings.Repeat("x", 700)) {
		t.Error("the page shows too much")
	}
	if page := text(t, ask(t, h, "GET", "/environments/dev")); !strings.Contains(page, "and 250 more") {
		t.Error("the page of the environment is not bounded")
	}
}

func TestAssetsAreOurOwn(t *testing.T) {
	h := testServer(newFake(), Options{}).Handler(false)
	page := text(t, ask(t, h, "GET", "/"))
	for name, media := range map[string]string{
		"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8", "htmx.min.js": "text/javascript; charset=utf-8",
		"uplot.min.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml",
	} {
		_, rest, ok := strings.Cut(page, `"/assets/`+name+"?v=")
		id, _, _ := strings.Cut(rest, `"`)
		if !ok {
			t.Errorf("the page does not load %s", name)
			continue
		}
		res := ask(t, h, "GET", "/assets/"+name+"?v="+id)
		if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != media || !strings.Contains(res.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d %v", name, res.StatusCode, res.Header)
		}
	}
	for _, target := range []string{"/assets/none", "/assets/../dashboard.go", "/assets/"} {
		if res := ask(t, h, "GET", target); res.StatusCode == http.StatusOK {
			t.Errorf("%s: %d", target, res.StatusCode)
		}
	}
}

func TestFormsAreCallsOfTheAPI(t *testing.T) {
	f := fullFake()
	h := testServer(f, Options{TokenFile: writeToken(t, token)}).Handler(false)
	res := ask(t, h, "POST", "/do/resync", tokenHeader, fromForm("environment=prod&verify=true&back=/environments/prod"))
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/environments/prod" {
		t.Fatalf("%d %v", res.StatusCode, res.Header)
	}
	if len(f.asked) != 1 || f.asked[0][0] != "prod" || !f.trig[0].Verify || f.trig[0].Actor != "token" {
		t.Errorf("asked for %v, %+v", f.asked, f.trig)
	}
	// What came of it is said once, and cannot be put into a link.
	said := res.Cookies()[0]
	page := text(t, ask(t, h, "GET", "/environments/prod", func(r *http.Request) { r.AddCookie(said) }))
	if !strings.Contains(page, "A run was asked for.") || !strings.Contains(page, `href="/runs/run-prod"`) {
		t.Error("the page does not say what came of it")
	}
	for _, back := range []string{"//evil.example.com/", "https://evil.example.com/", `/\evil.example.com`, "/%09/evil.example.com", "evil", ""} {
		res = ask(t, h, "POST", "/do/resync", tokenHeader, fromForm("environment=none&back="+back))
		if res.Header.Get("Location") != "/" {
			t.Errorf("a form with %q leads to %q", back, res.Header.Get("Location"))
		}
	}
	said = res.Cookies()[0]
	if page := text(t, ask(t, h, "GET", "/", func(r *http.Request) { r.AddCookie(said) })); !strings.Contains(page, `role="alert"`) || !strings.Contains(page, "There is no environment") {
		t.Error("the page does not say what went wrong")
	}
}

func TestFormsOfStrangersAreRefused(t *testing.T) {
	f := fullFake()
	h := testServer(f, Options{TokenFile: writeToken(t, token)}).Handler(false)
	for name, edit := range map[string]func(*http.Request){
		"no token":       func(*http.Request) {},
		"another site's": func(r *http.Request) { tokenHeader(r); r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"another origin": func(r *http.Request) { tokenHeader(r); r.Header.Set("Origin", "https://evil.example.com") },
		"another host":   func(r *http.Request) { tokenHeader(r); r.Host = "evil.example.com" },
	} {
		res := ask(t, h, "POST", "/do/resync", fromForm("environment=prod"), edit)
		if res.StatusCode < 400 || len(f.asked) != 0 {
			t.Errorf("%s: %d, asked for %v", name, res.StatusCode, f.asked)
		}
	}
}

func TestChartsCountWhatIsOnRecord(t *testing.T) {
	l := recorded(t)
	l.RunEnded(pastRun("run-0", "prod", time.Hour))
	failed := pastRun("run-1", "prod", 30*time.Hour)
	failed.Result = reconciler.Failed
	l.RunEnded(failed)
	l.RunEnded(pastRun("run-2", "dev", time.Hour))
	e := drifted("prod", now.Add(-3*time.Hour))
	l.DriftEnded(e)
	flushed(t, l)
	h := testServer(fullFake(), Options{Ledger: l}).Handler(true)
	got := decode[struct {
		Times                           []int64
		Drifts, Corrected, Runs, Failed []int
		Resolve                         []*float64
	}](t, ask(t, h, "GET", "/series?environment=prod"))
	sum := func(list []int) (n int) {
		for _, v := range list {
			n += v
		}
		return n
	}
	if sum(got.Runs) != 1 || sum(got.Failed) != 1 || sum(got.Drifts) != 1 || sum(got.Corrected) != 1 {
		t.Errorf("the sums: %+v", got)
	}
	n := len(got.Times)
	if n != len(got.Resolve) || got.Times[n-1] != now.Unix() || got.Runs[n-1] != 1 {
		t.Errorf("the parts: %+v", got)
	}
	if r := got.Resolve[n-1]; r == nil || *r != 3600 {
		t.Errorf("time to correct: %v", got.Resolve)
	}
}

func TestButtonsAreForThoseWhoMay(t *testing.T) {
	f := fullFake()
	reader := testServer(f, Options{TokenFile: writeToken(t, token)}).Handler(false)
	for _, target := range []string{"/", "/environments/prod", "/drift", "/drift/e1", "/runs/run-1"} {
		if page := text(t, ask(t, reader, "GET", target)); strings.Contains(page, "<form method=\"post\"") {
			t.Errorf("%s has forms for somebody who may change nothing", target)
		}
	}
}

// TestAPatchMayBeProposed: to whom may, where the source takes branches, and what
// is refused loses nothing.
func TestAPatchMayBeProposed(t *testing.T) {
	f := fullFake()
	l := recorded(t)
	h := testServer(f, Options{TokenFile: writeToken(t, token), Drifts: obliging{}, Sources: fakeSources{}, Lists: listsOf(f), Ledger: l}).Handler(false)
	page := text(t, ask(t, h, "POST", "/drift/e1/codify", tokenHeader, fromForm("field=.spec.replicas")))
	for _, want := range []string{`action="/drift/e1/propose"`, `value="holdfast/prod-api-e1"`, `name="field" value=".spec.replicas"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the patch does not say %q", want)
		}
	}
	page = text(t, ask(t, h, "POST", "/drift/e1/propose", tokenHeader, fromForm("branch=holdfast/x&reason=&field=.spec.replicas")))
	if !strings.Contains(page, "A reason of 1 to") || !strings.Contains(page, `value="holdfast/x"`) || strings.Contains(page, `id="pushed"`) {
		t.Error("a proposal without a reason is not asked for again")
	}
	page = text(t, ask(t, h, "POST", "/drift/e1/propose", tokenHeader, fromForm("branch=holdfast/x&reason=it+is+so&field=.spec.replicas")))
	if !strings.Contains(page, `id="pushed"`) || !strings.Contains(page, "<code>holdfast/x</code>") {
		t.Error("the page does not say what was pushed")
	}
	flushed(t, l)
	if got := decode[ledger.Actions](t, ask(t, h, "GET", "/api/v1/actions")); len(got.Actions) != 1 || got.Actions[0].Verb != "codify" || got.Actions[0].Actor != "token" {
		t.Errorf("on record: %+v", got.Actions)
	}
	for name, target := range map[string]string{"codify": "/drift/e1/codify", "propose": "/drift/e1/propose"} {
		if res := ask(t, h, "POST", target, fromForm("branch=holdfast/x&reason=y")); res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s by a stranger: %d", name, res.StatusCode)
		}
	}
}
