package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// PathHolds is where holds are asked for; single ones are below it.
const PathHolds = "/api/v1/holds"

// HoldRequest asks for a hold.
type HoldRequest struct {
	// Environments to hold; none is everything.
	Environments []string `json:"environments,omitempty"`
	// Object limits the hold to one object of the one environment.
	Object *sources.ID `json:"object,omitempty"`
	// For is how long, as in "2h"; Until is a time. One of them is set.
	For   string    `json:"for,omitempty"`
	Until time.Time `json:"until,omitzero"`
	// Reason is read by others.
	Reason string `json:"reason"`
	// Author is who asks, as the caller says.
	Author string `json:"author,omitempty"`
}

// HoldChange ends a hold, or with For or Until moves its end.
type HoldChange struct {
	For    string    `json:"for,omitempty"`
	Until  time.Time `json:"until,omitzero"`
	Author string    `json:"author,omitempty"`
}

// Holds answers with holds.
type Holds struct {
	Holds []reconciler.Hold `json:"holds"`
}

// RollbackRequest asks for an older revision.
type RollbackRequest struct {
	// To is a revision, or the beginning of one that was applied before.
	To     string    `json:"to,omitempty"`
	For    string    `json:"for,omitempty"`
	Until  time.Time `json:"until,omitzero"`
	Reason string    `json:"reason,omitempty"`
	Author string    `json:"author,omitempty"`
}

// Rollback answers with the plan that was pinned, and the run that brings it
// about.
type Rollback struct {
	Run  reconciler.Run  `json:"run"`
	Plan reconciler.Plan `json:"plan"`
}

// ActorRequest says who asks for something that needs no more.
type ActorRequest struct {
	Author string `json:"author,omitempty"`
}

// End is the end that a For or an Until asks for; zero if neither is set.
func End(now time.Time, span string, until time.Time) (time.Time, error) {
	if span == "" {
		return until, nil
	}
	if !until.IsZero() {
		return time.Time{}, fmt.Errorf("say for how long, or until when, not both")
	}
	d, err := time.ParseDuration(span)
	if err != nil || d <= 0 {
		return time.Time{}, fmt.Errorf("%q is no duration such as 90m or 2h", span)
	}
	return now.Add(d), nil
}

// Hold asks for a hold.
func (c *Client) Hold(ctx context.Context, r HoldRequest) (Holds, error) {
	return post[Holds](ctx, c, PathHolds, r)
}

// EndHold ends a hold.
func (c *Client) EndHold(ctx context.Context, id string, r HoldChange) (Holds, error) {
	return post[Holds](ctx, c, PathHolds+"/"+url.PathEscape(id)+"/end", r)
}

// ExtendHold moves the end of a hold.
func (c *Client) ExtendHold(ctx context.Context, id string, r HoldChange) (Holds, error) {
	return post[Holds](ctx, c, PathHolds+"/"+url.PathEscape(id)+"/extend", r)
}

// Rollback pins an environment to an older revision.
func (c *Client) Rollback(ctx context.Context, name string, r RollbackRequest) (Rollback, error) {
	return post[Rollback](ctx, c, environmentPath(name, "rollback"), r)
}

// Release ends a rollback.
func (c *Client) Release(ctx context.Context, name string, r ActorRequest) (Receipts, error) {
	return post[Receipts](ctx, c, environmentPath(name, "release"), r)
}

// Retry tries a revision again that was left.
func (c *Client) Retry(ctx context.Context, name string, r ActorRequest) (Receipts, error) {
	return post[Receipts](ctx, c, environmentPath(name, "retry"), r)
}

// ConfirmRemoval lets the objects of an environment go that left git.
func (c *Client) ConfirmRemoval(ctx context.Context, name string, r ActorRequest) (Receipts, error) {
	return post[Receipts](ctx, c, environmentPath(name, "delete"), r)
}

// Plan is what a run of an environment would do, at head or at a revision.
func (c *Client) Plan(ctx context.Context, name, revision string) (reconciler.Plan, error) {
	query := url.Values{}
	if revision != "" {
		query.Set("revision", revision)
	}
	return call[reconciler.Plan](ctx, c, http.MethodGet, environmentPath(name, "plan"), query, planTimeout)
}

// PlanFiles is what a run would do with the files of a tar archive in the place
// of the source's.
func (c *Client) PlanFiles(ctx context.Context, name string, archive io.Reader) (reconciler.Plan, error) {
	return exchange[reconciler.Plan](ctx, c, http.MethodPost, environmentPath(name, "plan"), nil, payload{"application/x-tar", archive}, planTimeout)
}

// planTimeout is how much longer than others a call may take that renders and
// compares.
const planTimeout = 2 * time.Minute

func environmentPath(name, verb string) string {
	return PathEnvironments + "/" + url.PathEscape(name) + "/" + verb
}
