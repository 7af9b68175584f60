package api

import (
	"context"
	"time"
)

// PathNotifyTest sends a test to receivers of notifications.
const PathNotifyTest = "/api/v1/notifications/test"

// NotifyTest asks for a test.
type NotifyTest struct {
	// Receiver is the one to test; empty is all.
	Receiver string `json:"receiver,omitempty"`
}

// NotifyOutcomes answers a test.
type NotifyOutcomes struct {
	Outcomes []NotifyOutcome `json:"outcomes"`
}

// NotifyOutcome is how the test of one receiver went.
type NotifyOutcome struct {
	Receiver string `json:"receiver"`
	Kind     string `json:"kind"`
	// Error is why the receiver did not take the message; empty where it did.
	Error string `json:"error,omitempty"`
}

// NotifyTestTimeout bounds a test of all receivers.
const NotifyTestTimeout = time.Minute

// TestNotifications sends a test to a receiver, or to all.
func (c *Client) TestNotifications(ctx context.Context, receiver string) (NotifyOutcomes, error) {
	return post[NotifyOutcomes](ctx, c, PathNotifyTest, NotifyTest{Receiver: receiver})
}
