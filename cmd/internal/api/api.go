// Package api is what the daemon and its callers say to each other over HTTP:
// the envelopes around the values of drift and reconciler, and a client.
//
// Server and CLI share it, so that the JSON of one is the struct of the other.
package api

import (
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// The paths of the API.
const (
	PathEnvironments = "/api/v1/environments"
	PathDrift        = "/api/v1/drift"
	PathResync       = "/api/v1/resync"
	PathRuns         = "/api/v1/runs"
	PathLastResync   = "/api/v1/runs/last-resync"
)

// MaxWait bounds how long one call may wait for runs to end.
const MaxWait = 10 * time.Minute

// ProblemType is the media type of Problem.
const ProblemType = "application/problem+json"

// Environments answers what is known of all environments.
type Environments struct {
	Environments []reconciler.Status `json:"environments"`
	// Total is how many match, and Next, when not empty, what page is to be for the
	// next page.
	Total int    `json:"total"`
	Next  string `json:"next,omitempty"`
	// Sources holds what is wrong with sources, by name; a source that could
	// never be read has no environment that would show it.
	Sources map[string]sources.Problems `json:"sources,omitempty"`
	// Ledger is why nothing can be recorded now; reconciling goes on.
	Ledger string `json:"ledger,omitempty"`
}

// Receipts answers a resync: one run for each environment. Runs that have not
// ended have the result pending.
type Receipts struct {
	Runs []reconciler.Run `json:"runs"`
}

// ResyncRequest may be the body of a resync; the query parameters of the same
// names do as well.
type ResyncRequest struct {
	// Environments to resync; none means all.
	Environments []string `json:"environments,omitempty"`
	// Verify distrusts the index and dry-runs every object.
	Verify bool `json:"verify,omitempty"`
	// Approve is the hash of a plan whose held deletions are to be carried out;
	// it approves nothing if the plan has become another.
	Approve string `json:"approve,omitempty"`
	// Through are ids of holds that the runs pass, which needs a Reason.
	Through []string `json:"through,omitempty"`
	Reason  string   `json:"reason,omitempty"`
	// Until says what to wait for: applied, which is the default, or ready.
	Until string `json:"until,omitempty"`
	// Wait is how long to wait for the runs to end, as in "60s". Default: not.
	Wait string `json:"wait,omitempty"`
}

// Problem is an error as RFC 9457 has it.
type Problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Hint says what to do about it.
	Hint string `json:"hint,omitempty"`
	// Problems are what is wrong with what was asked about, where there may be
	// several things.
	Problems sources.Problems `json:"problems,omitempty"`
	// Known are the names there are, when one was not found.
	Known []string `json:"known,omitempty"`
	// RequestID finds the call in the daemon's log.
	RequestID string `json:"requestId,omitempty"`
}

// Error is the detail, or what stands for it.
func (p Problem) Error() string {
	if p.Detail != "" {
		return p.Detail
	}
	return strings.ToLower(p.Title)
}

// Advice is the hint.
func (p Problem) Advice() string { return p.Hint }
