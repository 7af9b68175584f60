package api

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/codify"
	"github.com/holdfast-gitops/holdfast/sources"
)

// PathAudit takes batches of audit events (audit.k8s.io/v1, EventList).
const PathAudit = "/api/v1/audit"

// AcceptRequest asks for drift to be left as it is for a time.
type AcceptRequest struct {
	Object *sources.ID `json:"object"`
	// Field is the path of one that drifted; empty for all of the object's.
	Field string `json:"field,omitempty"`
	// For is how long, as in "72h"; Until is a time. One of them is set.
	For    string    `json:"for,omitempty"`
	Until  time.Time `json:"until,omitzero"`
	Reason string    `json:"reason"`
	Author string    `json:"author,omitempty"`
}

// RevertRequest asks for an object's drift to be put back now, once.
type RevertRequest struct {
	Object *sources.ID `json:"object"`
	Reason string      `json:"reason,omitempty"`
	Author string      `json:"author,omitempty"`
}

// IgnoreRules answers with the rules to commit into spec.drift.rules.
type IgnoreRules struct {
	Rules []string `json:"rules"`
}

// Revert puts an object's drift back.
func (c *Client) Revert(ctx context.Context, name string, r RevertRequest) (Receipts, error) {
	return post[Receipts](ctx, c, environmentPath(name, "drift/revert"), r)
}

// Accept leaves drift as it is for a time.
func (c *Client) Accept(ctx context.Context, name string, r AcceptRequest) (drift.Decision, error) {
	return post[drift.Decision](ctx, c, environmentPath(name, "drift/accept"), r)
}

// IgnoreRules are the narrowest rules that leave drift alone.
func (c *Client) IgnoreRules(ctx context.Context, name, object, field string) (IgnoreRules, error) {
	return call[IgnoreRules](ctx, c, http.MethodGet, environmentPath(name, "drift/ignore"), aboutDrift(object, field), 0)
}

// Codify is the change of the source by which git says what is live.
func (c *Client) Codify(ctx context.Context, name, object, field string) (codify.Patch, error) {
	return call[codify.Patch](ctx, c, http.MethodPost, environmentPath(name, "drift/codify"), aboutDrift(object, field), planTimeout)
}

// ProposeRequest asks for the change by which git says what is live to be pushed
// as a new branch.
type ProposeRequest struct {
	Object *sources.ID `json:"object"`
	// Field is the path of one that drifted; empty for all of the object's.
	Field string `json:"field,omitempty"`
	// Branch is the name of the new branch.
	Branch string `json:"branch"`
	// Reason is read by others; it goes into the commit's message.
	Reason string `json:"reason"`
	Author string `json:"author,omitempty"`
}

// Proposal is a change that was pushed.
type Proposal struct {
	codify.Patch
	Branch string `json:"branch"`
	// Commit is its id, and Base that of the one before it.
	Commit string `json:"commit"`
	Base   string `json:"base"`
	// Page is that of the commit, PullRequest where to ask for it to be merged;
	// empty where they are not known.
	Page        string `json:"page,omitempty"`
	PullRequest string `json:"pullRequest,omitempty"`
}

// Propose pushes the change by which git says what is live as a new branch.
func (c *Client) Propose(ctx context.Context, name string, r ProposeRequest) (Proposal, error) {
	return post[Proposal](ctx, c, environmentPath(name, "drift/propose"), r)
}

func aboutDrift(object, field string) url.Values {
	query := url.Values{"object": {object}}
	if field != "" {
		query.Set("field", field)
	}
	return query
}
