package reconciler

import "time"

// TargetReport is what a driver says of its target, for those who ask how well it
// can be seen.
type TargetReport struct {
	// Driver is kubernetes or files.
	Driver string `json:"driver"`
	// Address is where it is, without credentials.
	Address string `json:"address"`
	// Holder has the lease, where one is taken; Ours: this daemon may write.
	// LeaseProblem is why the lease cannot be had.
	Holder       string `json:"holder,omitempty"`
	Ours         bool   `json:"ours"`
	LeaseProblem string `json:"leaseProblem,omitempty"`
	// Objects is how many the watches know, or the environments want.
	Objects int           `json:"objects"`
	Watches []TargetWatch `json:"watches"`
	// Requests are those since the configuration was loaded.
	Requests TargetRequests `json:"requests"`
	// Verified is when the background verification last saw everything, and Found
	// how many objects it found to differ though no watch had told.
	Verified time.Time `json:"verified,omitzero"`
	Found    int       `json:"found"`
	// Problems stand in the way of seeing the target.
	Problems []string `json:"problems,omitempty"`
}

// TargetWatch is one watch.
type TargetWatch struct {
	// What is watched, and how: metadata, health, or files.
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Of        string `json:"of"`
	// Heard is when it last said anything, a bookmark included.
	Heard time.Time `json:"heard,omitzero"`
	// Synced: it was listed in full.
	Synced bool `json:"synced"`
	// Problem is why it says nothing, or cannot be believed.
	Problem string `json:"problem,omitempty"`
}

// TargetRequests counts requests.
type TargetRequests struct {
	// Total by verb: get, watch, create, update, patch, delete. A list is a get.
	Total map[string]int64 `json:"total"`
	// Failed had no answer, Refused one of 400 or more, Throttled one of them that
	// asked for patience.
	Failed    int64 `json:"failed"`
	Refused   int64 `json:"refused"`
	Throttled int64 `json:"throttled"`
	// InFlight are under way, watches aside, and Limit bounds those that compare and
	// write.
	InFlight int64 `json:"inFlight"`
	Limit    int   `json:"limit,omitempty"`
}

// Reporter is a driver that says how its target stands.
type Reporter interface {
	Report() TargetReport
}
