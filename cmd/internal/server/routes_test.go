package server

import (
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// reach is about what a route changes.
type reach int

const (
	// nothing: it reads.
	nothing reach = iota
	// one environment, or those that are named.
	some
	// what belongs to no environment.
	whole
)

// rights are what each call needs of who makes it. A call that is new has to be
// added here.
var rights = map[string]struct {
	role  Role
	about reach
}{
	"GET " + api.PathOpenAPI:                 {RoleRead, nothing},
	"GET " + api.PathEnvironments:            {RoleRead, nothing},
	"GET " + inEnvironment:                   {RoleRead, nothing},
	"GET " + inEnvironment + "/drift":        {RoleRead, nothing},
	"GET " + inEnvironment + "/objects":      {RoleRead, nothing},
	"GET " + inEnvironment + "/objects/tree": {RoleRead, nothing},
	"GET " + inEnvironment + "/plan":         {RoleRead, nothing},
	"GET " + inEnvironment + "/drift/ignore": {RoleRead, nothing},
	"GET " + api.PathDrift:                   {RoleRead, nothing},
	"GET " + api.PathDrift + "/{id}":         {RoleRead, nothing},
	"GET " + api.PathLastResync:              {RoleRead, nothing},
	"GET " + api.PathRuns:                    {RoleRead, nothing},
	"GET " + api.PathRuns + "/{id}":          {RoleRead, nothing},
	"GET " + api.PathDriftHistory:            {RoleRead, nothing},
	"GET " + api.PathDelivery:                {RoleRead, nothing},
	"GET " + api.PathSeries:                  {RoleRead, nothing},
	"GET " + api.PathActions:                 {RoleRead, nothing},
	"GET " + api.PathLedger:                  {RoleRead, nothing},
	"GET " + api.PathTargets:                 {RoleRead, nothing},
	"GET " + api.PathTargets + "/{name}":     {RoleRead, nothing},
	"GET " + api.PathPlans:                   {RoleRead, nothing},
	"GET " + api.PathHolds:                   {RoleRead, nothing},
	"GET " + api.PathDecisions:               {RoleRead, nothing},
	"GET " + api.PathHealth:                  {RoleRead, nothing},
	"GET " + api.PathSources:                 {RoleRead, nothing},
	"GET " + api.PathSources + "/{name}":     {RoleRead, nothing},
	"GET " + api.PathEvents:                  {RoleRead, nothing},

	"POST " + inEnvironment + "/resync":        {RoleOperate, some},
	"POST " + api.PathResync:                   {RoleOperate, some},
	"POST " + api.PathHolds:                    {RoleOperate, some},
	"POST " + api.PathHolds + "/{id}/end":      {RoleOperate, some},
	"POST " + api.PathHolds + "/{id}/extend":   {RoleOperate, some},
	"POST " + inEnvironment + "/rollback":      {RoleOperate, some},
	"POST " + inEnvironment + "/release":       {RoleOperate, some},
	"POST " + inEnvironment + "/retry":         {RoleOperate, some},
	"POST " + inEnvironment + "/delete":        {RoleOperate, some},
	"POST " + inEnvironment + "/plan":          {RoleOperate, some},
	"POST " + inEnvironment + "/drift/revert":  {RoleOperate, some},
	"POST " + inEnvironment + "/drift/accept":  {RoleOperate, some},
	"POST " + inEnvironment + "/drift/propose": {RoleOperate, some},
	"POST " + inEnvironment + "/drift/codify":  {RoleOperate, some},

	"POST " + api.PathSources + "/{name}/allow": {RoleOperate, whole},
	"POST " + api.PathNotifyTest:                {RoleOperate, whole},
	"POST " + api.PathLedgerCheck:               {RoleAdminister, whole},
	"POST " + api.PathLedgerBackup:              {RoleAdminister, whole},
}

// callers are one of each sort. The token shop is for shop-*.
var callers = []struct {
	name, token string
	role        Role
	scoped      bool
}{
	{name: "nobody"},
	{name: "guesser", token: "guess-0123456789"},
	{name: "reader", token: readerToken, role: RoleRead},
	{name: "shop", token: shopToken, role: RoleOperate, scoped: true},
	{name: "anna", token: annaToken, role: RoleOperate},
	{name: "root", token: rootToken, role: RoleAdminister},
	{name: "account of the cluster", token: "x.shop.y", role: RoleOperate, scoped: true},
}

// TestEveryRouteForEveryCaller makes every call of the API as everybody, about an
// environment that the scoped ones may change and about one that they may not.
func TestEveryRouteForEveryCaller(t *testing.T) {
	f := newFake("shop-a", "prod")
	f.statuses[0].Gates, f.statuses[1].Gates = []reconciler.Gate{{ID: "h-shop-a"}}, []reconciler.Gate{{ID: "h-prod"}}
	cluster := &fakeCluster{rights: []string{"shop get shop-a", "shop operate shop-a"}}
	serve := func(readsNeedToken bool) http.Handler {
		return testServer(f, Options{
			Decider: obliging{}, Planner: obliging{}, Drifts: obliging{}, Sources: obliging{}, Notifications: obliging{}, Lists: &fakeLists{},
			Ledger: recorded(t), Tokens: staff(t), Cluster: cluster, ReadsNeedToken: readsNeedToken, ChangesPerMinute: 100_000,
		}).Handler(false)
	}
	free, guarded := serve(false), serve(true)
	seen := map[string]bool{}
	for _, o := range operations {
		key := o.method + " " + o.path
		need, known := rights[key]
		if !known {
			t.Errorf("%s: nobody says who may", key)
			continue
		}
		seen[key] = true
		if o.path == api.PathEvents {
			continue // it never ends; TestEventsNeedATokenLikeOtherReads has it
		}
		for _, environment := range []string{"shop-a", "prod"} {
			target := strings.NewReplacer("{name}", environment, "{id}", "h-"+environment).Replace(o.path)
			sent := strings.ReplaceAll(changingBodies[o.path], `"dev"`, `"`+environment+`"`)
			if strings.HasSuffix(o.path, "codify") || strings.HasSuffix(o.path, "ignore") || strings.HasSuffix(o.path, "tree") {
				target += "?object=ConfigMap/a"
			}
			for _, who := range callers {
				want := 200 // whatever the handler says
				switch {
				case who.role == RoleNone:
					want = 401
				case who.role < need.role, who.scoped && need.about == whole, who.scoped && need.about == some && environment == "prod":
					want = 403
				}
				for i, h := range []http.Handler{free, guarded} {
					want := want
					if i == 0 && o.method == "GET" {
						want = 200
					}
					edits := []func(*http.Request){body("application/json", sent)}
					if who.token != "" {
						edits = append(edits, bearer(who.token))
					}
					res := ask(t, h, o.method, target, edits...)
					got := res.StatusCode
					if o.method == "GET" && i == 1 && who.scoped && environment == "prod" {
						hides(t, who.name, o.path, target, res)
					}
					if refused := got == 401 || got == 403; refused != (want != 200) || refused && got != want {
						t.Errorf("%s %s as %s: %d, want %d", o.method, target, who.name, got, want)
					}
				}
			}
		}
	}
	for key := range rights {
		if !seen[key] {
			t.Errorf("%s is no call any more", key)
		}
	}
}

// hides fails the test if an answer tells somebody of prod who may not know of it.
// What sources and targets there are is not of one environment.
func hides(t *testing.T, who, path, target string, res *http.Response) {
	t.Helper()
	global := path == api.PathOpenAPI || strings.HasPrefix(path, api.PathSources) || strings.HasPrefix(path, api.PathTargets)
	switch about := target != path; {
	case global:
	case about && res.StatusCode != http.StatusNotFound:
		t.Errorf("GET %s as %s: %d, want 404", target, who, res.StatusCode)
	case !about && strings.Contains(text(t, res), `prod`):
		t.Errorf("GET %s tells %s of prod", target, who)
	}
}

// TestEveryPageForWhoIsNotKnown: what is no call of the API.
func TestEveryPageForWhoIsNotKnown(t *testing.T) {
	h := testServer(newFake("prod"), Options{Tokens: staff(t), ReadsNeedToken: true, Metrics: http.NotFoundHandler(), ChangesPerMinute: 1000}).Handler(false)
	for _, tt := range []struct {
		method, path  string
		want, program int
	}{
		{"GET", "/", 303, 401},
		{"GET", "/environments/prod", 303, 401},
		{"GET", "/environments/prod/objects", 303, 401},
		{"GET", "/environments/prod/objects/tree", 303, 401},
		{"GET", "/environments/prod/plan", 303, 401},
		{"GET", "/environments/prod/history", 303, 401},
		{"GET", "/drift", 303, 401},
		{"GET", "/drift/d-1", 303, 401},
		{"GET", "/runs/run-prod", 303, 401},
		{"GET", "/history", 303, 401},
		{"GET", "/sources", 303, 401},
		{"GET", "/targets", 303, 401},
		{"GET", "/health", 303, 401},
		{"GET", "/series", 303, 401},
		{"GET", "/metrics", 303, 401},
		{"GET", "/no/such/page", 303, 401},
		{"POST", "/do/resync", 401, 401},
		{"POST", "/drift/d-1/codify", 401, 401},
		{"POST", "/drift/d-1/propose", 401, 401},
		{"GET", "/login", 200, 200},
		{"GET", "/healthz", 200, 200},
		{"GET", "/readyz", 200, 200},
	} {
		if got := ask(t, h, tt.method, tt.path, header("Accept", "text/html")).StatusCode; got != tt.want {
			t.Errorf("%s %s by a browser: %d, want %d", tt.method, tt.path, got, tt.want)
		}
		if got := ask(t, h, tt.method, tt.path).StatusCode; got != tt.program {
			t.Errorf("%s %s by a program: %d, want %d", tt.method, tt.path, got, tt.program)
		}
	}
}

func TestEventsNeedATokenLikeOtherReads(t *testing.T) {
	_, s := twoWorlds(t)
	s.opts.ReadsNeedToken, s.opts.Tokens = true, staff(t)
	if got := ask(t, s.Handler(false), "GET", api.PathEvents).StatusCode; got != 401 {
		t.Errorf("%d", got)
	}
}
