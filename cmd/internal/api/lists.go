package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// The paths of lists.
const (
	PathTargets   = "/api/v1/targets"
	PathPlans     = "/api/v1/plans"
	PathDecisions = "/api/v1/decisions"
	PathHealth    = "/api/v1/health"
)

// MaxPage bounds how many things one page lists.
const MaxPage = 1000

// Page is where a list goes on.
type Page struct {
	// Limit bounds the page; zero has a default.
	Limit int
	// Page is the next of the page before.
	Page string
}

func (p Page) values() url.Values {
	v := url.Values{}
	if p.Limit > 0 {
		v.Set("limit", strconv.Itoa(p.Limit))
	}
	set(v, "page", p.Page)
	return v
}

// Objects answers with objects of an environment.
type Objects struct {
	Environment string              `json:"environment"`
	Objects     []reconciler.Object `json:"objects"`
	// Total is how many match, and Counts how many of them stand how.
	Total  int                           `json:"total"`
	Counts map[reconciler.ObjectSync]int `json:"counts"`
	// Next, when not empty, is what page is to be for the next page.
	Next string `json:"next,omitempty"`
}

// ObjectsQuery chooses objects. A zero field does not limit.
type ObjectsQuery struct {
	// Kind is Deployment, or with its group Role.rbac.authorization.k8s.io.
	Kind, Namespace string
	// Name is a part of the name.
	Name string
	// Sync and Health are words of reconciler.
	Sync, Health string
	Page
}

// Objects are the objects of an environment.
func (c *Client) Objects(ctx context.Context, environment string, q ObjectsQuery) (Objects, error) {
	v := q.values()
	for name, value := range map[string]string{"kind": q.Kind, "namespace": q.Namespace, "name": q.Name, "sync": q.Sync, "health": q.Health} {
		set(v, name, value)
	}
	return call[Objects](ctx, c, http.MethodGet, environmentPath(environment, "objects"), v, 0)
}

// ObjectTree answers with an object and what belongs to it.
type ObjectTree struct {
	Environment string `json:"environment"`
	reconciler.Tree
}

// ObjectTree reads an object of an environment with what belongs to it.
func (c *Client) ObjectTree(ctx context.Context, environment, object string) (ObjectTree, error) {
	return call[ObjectTree](ctx, c, http.MethodGet, environmentPath(environment, "objects/tree"), url.Values{"object": {object}}, 0)
}

// Target is how a target stands.
type Target struct {
	Name string `json:"name"`
	// Namespace is where objects go that name none.
	Namespace string `json:"namespace,omitempty"`
	// Environments counts those that are applied to it.
	Environments int `json:"environments"`
	// LagSeconds is for how long the quietest watch has said nothing; servers send a
	// bookmark about once a minute.
	LagSeconds float64 `json:"lagSeconds"`
	reconciler.TargetReport
}

// Targets answers how all targets stand.
type Targets struct {
	Targets []Target `json:"targets"`
}

// Targets is how all targets stand.
func (c *Client) Targets(ctx context.Context) (Targets, error) {
	return call[Targets](ctx, c, http.MethodGet, PathTargets, nil, 0)
}

// Target is how one target stands.
func (c *Client) Target(ctx context.Context, name string) (Target, error) {
	return call[Target](ctx, c, http.MethodGet, PathTargets+"/"+url.PathEscape(name), nil, 0)
}

// HeldPlan is what of an environment's plan is not carried out.
type HeldPlan struct {
	Environment string           `json:"environment"`
	Revision    sources.Revision `json:"revision,omitzero"`
	// Hash approves what waits for an approval, as long as the plan is this one.
	Hash string `json:"hash,omitempty"`
	// Run found it out.
	Run   string            `json:"run,omitempty"`
	Gates []reconciler.Gate `json:"gates"`
	// Operations wait; in mode plan they are what a run would do, which
	// GET environments/{name}/plan says in full.
	Operations []reconciler.Waiting `json:"operations"`
	// Pending counts changes that a plan-only environment would make.
	Pending int `json:"pending,omitempty"`
}

// Plans answers with what is held.
type Plans struct {
	Plans []HeldPlan `json:"plans"`
	Next  string     `json:"next,omitempty"`
}

// Plans is what is held, by environment.
func (c *Client) Plans(ctx context.Context, p Page) (Plans, error) {
	return call[Plans](ctx, c, http.MethodGet, PathPlans, p.values(), 0)
}

// HoldList answers with the holds that count.
type HoldList struct {
	Holds []reconciler.EnvironmentHold `json:"holds"`
	// Unread says of which environments or targets that could not be read.
	Unread map[string]string `json:"unread,omitempty"`
	Next   string            `json:"next,omitempty"`
}

// Holds are the holds that count, the earliest end first.
func (c *Client) Holds(ctx context.Context, p Page) (HoldList, error) {
	return call[HoldList](ctx, c, http.MethodGet, PathHolds, p.values(), 0)
}

// DecisionList answers with the decisions about drift that count.
type DecisionList struct {
	Decisions []reconciler.EnvironmentDecision `json:"decisions"`
	Unread    map[string]string                `json:"unread,omitempty"`
	Next      string                           `json:"next,omitempty"`
}

// Decisions are the decisions about drift that count, the earliest end first.
func (c *Client) Decisions(ctx context.Context, p Page) (DecisionList, error) {
	return call[DecisionList](ctx, c, http.MethodGet, PathDecisions, p.values(), 0)
}

// DriftDetail is one drift with what is known of its object.
type DriftDetail struct {
	Episode drift.Episode `json:"episode"`
	// History is earlier drift of the object in its environment, newest first, and
	// Decisions are those that count for it.
	History   []drift.Episode  `json:"history"`
	Decisions []drift.Decision `json:"decisions"`
	// Runs are the newest that changed the object, without what they changed.
	Runs []reconciler.Run `json:"runs"`
	// Next, when not empty, is where GET drift/history goes on.
	Next string `json:"next,omitempty"`
}

// DriftOf is one drift by its id.
func (c *Client) DriftOf(ctx context.Context, id string) (DriftDetail, error) {
	return call[DriftDetail](ctx, c, http.MethodGet, PathDrift+"/"+url.PathEscape(id), nil, 0)
}

// Health is how well Holdfast itself is.
type Health struct {
	At      time.Time `json:"at"`
	Version string    `json:"version"`
	// Started is when the daemon was, and Loaded when the configuration in force.
	Started time.Time `json:"started"`
	// Ready is empty, or says why the daemon is not.
	Ready string `json:"ready,omitempty"`
	// Problems are what is wrong now, worst first; none is well.
	Problems []string     `json:"problems"`
	Runs     RunsHealth   `json:"runs"`
	Memory   MemoryHealth `json:"memory"`
	// Streams are those of events.
	Streams StreamsHealth  `json:"streams"`
	Ledger  *LedgerHealth  `json:"ledger,omitempty"`
	Targets []TargetHealth `json:"targets"`
	// Environments counts them by how they stand.
	Environments map[reconciler.Sync]int `json:"environments"`
	// Sources counts them, and FailingSources those that cannot be read.
	Sources        int `json:"sources"`
	FailingSources int `json:"failingSources"`
	// NotificationsWaiting is what receivers have not taken yet, by receiver.
	NotificationsWaiting map[string]int `json:"notificationsWaiting,omitempty"`
}

// RunsHealth is how busy the workers are.
type RunsHealth struct {
	// Running have their turn, Waiting wait for one, the oldest for OldestSeconds.
	Running       int     `json:"running"`
	Waiting       int     `json:"waiting"`
	OldestSeconds float64 `json:"oldestSeconds"`
}

// MemoryHealth is what the process has.
type MemoryHealth struct {
	// HeapBytes are in use, SystemBytes are taken from the system.
	HeapBytes   uint64 `json:"heapBytes"`
	SystemBytes uint64 `json:"systemBytes"`
	Goroutines  int    `json:"goroutines"`
}

// StreamsHealth is how many follow events.
type StreamsHealth struct {
	Open int `json:"open"`
	Max  int `json:"max"`
	// Dropped counts those that were too slow, since the start.
	Dropped uint64 `json:"dropped"`
}

// LedgerHealth is how well things are recorded.
type LedgerHealth struct {
	Bytes   int64  `json:"bytes"`
	Queued  int    `json:"queued"`
	Errors  int64  `json:"errors"`
	Lost    int64  `json:"lost"`
	Problem string `json:"problem,omitempty"`
}

// TargetHealth is how well a target is seen.
type TargetHealth struct {
	Name       string   `json:"name"`
	LagSeconds float64  `json:"lagSeconds"`
	Watches    int      `json:"watches"`
	InFlight   int64    `json:"inFlight"`
	Problems   []string `json:"problems,omitempty"`
}

// Health is how well the daemon itself is.
func (c *Client) Health(ctx context.Context) (Health, error) {
	return call[Health](ctx, c, http.MethodGet, PathHealth, nil, 0)
}
