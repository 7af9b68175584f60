package server

import (
	"reflect"
	"strings"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/codify"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
)

// operation is a call of the API, as the document describes it.
type operation struct {
	method, path, summary string
	query                 []string
	body, answer          reflect.Type
	// media is that of an answer that is no JSON, bodyMedia that of such a body.
	media, bodyMedia string
	// later: 202 is an answer, too; tagged: so is 304.
	later, tagged bool
}

// id is the operation's name, made of method and path.
func (o operation) id() string {
	words := strings.FieldsFunc(strings.TrimPrefix(o.path, "/api/v1/"), func(r rune) bool { return strings.ContainsRune("/-{}.", r) })
	out := strings.ToLower(o.method)
	for _, w := range words {
		out += strings.ToUpper(w[:1]) + w[1:]
	}
	return out
}

// queries say what parameters mean.
var queries = map[string]string{
	"after":       "id of the event or answer seen last; the header Last-Event-ID comes first",
	"blame":       "also look up who wrote the lines that desired values come from",
	"buckets":     "into how many equal parts the time is cut, up to 500",
	"approve":     "hash of the plan whose held operations are to be carried out",
	"before":      "another word for page",
	"health":      "how it works, in one word",
	"label":       "a label of the spec, as in team or team=shop; may be there several times",
	"name":        "a part of the name; of environments also a pattern, as in prod-*",
	"namespace":   "namespace of objects",
	"page":        "next of the page before",
	"severity":    "how bad drift is at least",
	"class":       "in which way it differs: changed, missing, not-owned, extra-field, unmanaged or stale-revision",
	"source":      "name of a source",
	"sync":        "how it stands, in one word",
	"target":      "name of a target",
	"environment": "name of an environment; a resync takes several",
	"expand":      "also list the episodes of a grouped report",
	"field":       "path of a field",
	"group":       "how to group",
	"kind":        "kind of objects, as in Deployment or Deployment.apps",
	"limit":       "how many records",
	"manager":     "field manager; of a drift report also a person",
	"object":      "an object, as in Deployment/shop/web",
	"open":        "only what is open",
	"reason":      "why, for others to read; of runs what made them happen: on-call, webhook, drift, poll or timer",
	"result":      "how runs ended, in one word",
	"revision":    "a revision; default is the head",
	"since":       "a duration that goes back from now",
	"type":        "a type of events, or what types begin with, as in run; may be there several times",
	"through":     "id of a hold that is passed; may be there several times",
	"until":       "applied or ready",
	"verify":      "dry-run every object",
	"wait":        "how long to wait for the end, up to 10m",
}

func of[T any]() reflect.Type { return reflect.TypeFor[T]() }

var (
	resyncQuery  = []string{"wait", "verify", "approve", "through", "reason", "until"}
	recordsQuery = []string{"environment", "since", "page", "before", "limit"}
	pagedQuery   = []string{"page", "limit"}
)

const inEnvironment = api.PathEnvironments + "/{name}"

// operations are all calls of the API.
var operations = []operation{
	{method: "GET", path: api.PathOpenAPI, summary: "This document", answer: of[map[string]any]()},
	{method: "GET", tagged: true, path: api.PathEnvironments, summary: "How all environments stand", query: append([]string{"source", "target", "sync", "health", "label", "name"}, pagedQuery...), answer: of[api.Environments]()},
	{method: "GET", tagged: true, path: inEnvironment, summary: "How one environment stands", answer: of[reconciler.Status]()},
	{method: "GET", tagged: true, path: inEnvironment + "/drift", summary: "What drifted in an environment", query: append([]string{"open", "since", "severity", "class", "manager", "kind", "label", "group", "expand", "blame"}, pagedQuery...), answer: of[reconciler.Report]()},
	{method: "GET", tagged: true, path: api.PathDrift, summary: "What drifted", query: append([]string{"open", "since", "severity", "class", "manager", "kind", "label", "group", "expand", "blame"}, pagedQuery...), answer: of[reconciler.Report]()},
	{method: "POST", path: inEnvironment + "/resync", summary: "Fetch and reconcile one environment", query: resyncQuery, body: of[api.ResyncRequest](), answer: of[api.Receipts](), later: true},
	{method: "POST", path: api.PathResync, summary: "Fetch and reconcile several environments, or all", query: append([]string{"environment"}, resyncQuery...), body: of[api.ResyncRequest](), answer: of[api.Receipts](), later: true},
	{method: "GET", path: api.PathLastResync, summary: "Receipts of the newest resync", answer: of[api.Receipts]()},
	{method: "GET", path: api.PathRuns, summary: "Runs on record, newest first", query: append([]string{"object", "result", "reason"}, recordsQuery...), answer: of[ledger.Runs]()},
	{method: "GET", path: api.PathRuns + "/{id}", summary: "One run", query: []string{"wait"}, answer: of[reconciler.Run]()},
	{method: "GET", path: api.PathDriftHistory, summary: "Drift on record, added up and listed", query: append([]string{"severity", "class", "manager", "kind", "label", "object", "group"}, recordsQuery...), answer: of[api.DriftHistory]()},
	{method: "GET", path: api.PathSeries, summary: "Runs and drift over time, in equal parts", query: []string{"environment", "since", "buckets"}, answer: of[ledger.Series]()},
	{method: "GET", path: api.PathDelivery, summary: "How changes get into environments, measured", query: []string{"environment", "since"}, answer: of[ledger.Delivery]()},
	{method: "GET", path: api.PathActions, summary: "What people asked for", query: recordsQuery, answer: of[ledger.Actions]()},
	{method: "GET", path: api.PathLedger, summary: "How the ledger is", answer: of[ledger.Stats]()},
	{method: "POST", path: api.PathLedgerCheck, summary: "Look for damage in the ledger", answer: of[ledger.Report]()},
	{method: "POST", path: api.PathLedgerBackup, summary: "A copy of the ledger", media: api.LedgerType},
	{method: "GET", tagged: true, path: inEnvironment + "/objects", summary: "The objects of an environment, and how each stands", query: append([]string{"kind", "namespace", "name", "sync", "health"}, pagedQuery...), answer: of[api.Objects]()},
	{method: "GET", path: inEnvironment + "/objects/tree", summary: "One object, and what its target made of it, read now", query: []string{"object"}, answer: of[api.ObjectTree]()},
	{method: "GET", tagged: true, path: api.PathTargets, summary: "How all targets stand", answer: of[api.Targets]()},
	{method: "GET", path: api.PathTargets + "/{name}", summary: "How one target stands", answer: of[api.Target]()},
	{method: "GET", tagged: true, path: api.PathPlans, summary: "What is held, by environment", query: append([]string{"environment"}, pagedQuery...), answer: of[api.Plans]()},
	{method: "GET", tagged: true, path: api.PathHolds, summary: "Holds that count", query: append([]string{"environment"}, pagedQuery...), answer: of[api.HoldList]()},
	{method: "GET", tagged: true, path: api.PathDecisions, summary: "Decisions about drift that count", query: append([]string{"environment"}, pagedQuery...), answer: of[api.DecisionList]()},
	{method: "GET", path: api.PathDrift + "/{id}", summary: "One drift, with the history of its object", answer: of[api.DriftDetail]()},
	{method: "GET", path: api.PathHealth, summary: "How well Holdfast itself is", answer: of[api.Health]()},
	{method: "POST", path: api.PathHolds, summary: "Hold environments, an object, or everything", body: of[api.HoldRequest](), answer: of[api.Holds]()},
	{method: "POST", path: api.PathHolds + "/{id}/end", summary: "End a hold", body: of[api.HoldChange](), answer: of[api.Holds]()},
	{method: "POST", path: api.PathHolds + "/{id}/extend", summary: "Move the end of a hold", body: of[api.HoldChange](), answer: of[api.Holds]()},
	{method: "POST", path: inEnvironment + "/rollback", summary: "Pin an environment to an older revision", body: of[api.RollbackRequest](), answer: of[api.Rollback]()},
	{method: "POST", path: inEnvironment + "/release", summary: "End a rollback", body: of[api.ActorRequest](), answer: of[api.Receipts]()},
	{method: "POST", path: inEnvironment + "/retry", summary: "Try a revision again that was left", body: of[api.ActorRequest](), answer: of[api.Receipts]()},
	{method: "POST", path: inEnvironment + "/delete", summary: "Let the objects go of an environment that left git", body: of[api.ActorRequest](), answer: of[api.Receipts]()},
	{method: "GET", path: inEnvironment + "/plan", summary: "What a run would do", query: []string{"revision"}, answer: of[reconciler.Plan]()},
	{method: "POST", path: inEnvironment + "/plan", summary: "What a run would do with other files", bodyMedia: "application/x-tar", answer: of[reconciler.Plan]()},
	{method: "POST", path: inEnvironment + "/drift/revert", summary: "Put an object's drift back once", body: of[api.RevertRequest](), answer: of[api.Receipts]()},
	{method: "POST", path: inEnvironment + "/drift/accept", summary: "Leave drift as it is for a time", body: of[api.AcceptRequest](), answer: of[drift.Decision]()},
	{method: "GET", path: inEnvironment + "/drift/ignore", summary: "The narrowest rules that leave drift alone", query: []string{"object", "field"}, answer: of[api.IgnoreRules]()},
	{method: "POST", path: inEnvironment + "/drift/codify", summary: "The change by which git says what is live", query: []string{"object", "field"}, answer: of[codify.Patch]()},
	{method: "POST", path: inEnvironment + "/drift/propose", summary: "Push that change as a new branch", body: of[api.ProposeRequest](), answer: of[api.Proposal]()},
	{method: "GET", tagged: true, path: api.PathSources, summary: "How all sources stand", answer: of[api.Sources]()},
	{method: "GET", path: api.PathSources + "/{name}", summary: "How one source stands", answer: of[api.Source]()},
	{method: "POST", path: api.PathSources + "/{name}/allow", summary: "Let a held revision through", body: of[api.AllowRequest](), answer: of[api.Source]()},
	{method: "GET", path: api.PathEvents, summary: "What changes, as server-sent events; the data of each is an Event", query: []string{"environment", "type", "after"}, answer: of[api.Event](), media: "text/event-stream"},
	{method: "POST", path: api.PathNotifyTest, summary: "Send a test to receivers of notifications", body: of[api.NotifyTest](), answer: of[api.NotifyOutcomes]()},
}
