package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/holdfast-gitops/holdfast/reconciler"
)

// Client calls a daemon over its socket. It speaks plain HTTP rather than
// through the daemon's own client, as a stranger's program would.
type Client struct{ http *http.Client }

func newClient(socket string) *Client {
	var dialer net.Dialer
	return &Client{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
	}}}
}

// Ready is nil when every environment has been compared.
func (c *Client) Ready(ctx context.Context) error {
	return c.call(ctx, http.MethodGet, "/readyz", nil)
}

// Environments is what is known of all environments.
func (c *Client) Environments(ctx context.Context) ([]reconciler.Status, error) {
	var out struct {
		Environments []reconciler.Status `json:"environments"`
	}
	err := c.call(ctx, http.MethodGet, "/api/v1/environments", &out)
	return out.Environments, err
}

// Environment is what is known of one environment.
func (c *Client) Environment(ctx context.Context, name string) (reconciler.Status, error) {
	var out reconciler.Status
	err := c.call(ctx, http.MethodGet, "/api/v1/environments/"+url.PathEscape(name), &out)
	return out, err
}

// Drift is everything that drifted.
func (c *Client) Drift(ctx context.Context) (reconciler.Report, error) {
	var out reconciler.Report
	err := c.call(ctx, http.MethodGet, "/api/v1/drift", &out)
	return out, err
}

// Resync asks for runs of all environments and waits for their end.
func (c *Client) Resync(ctx context.Context, wait time.Duration) ([]reconciler.Run, error) {
	var out struct {
		Runs []reconciler.Run `json:"runs"`
	}
	err := c.call(ctx, http.MethodPost, "/api/v1/resync?wait="+wait.String(), &out)
	return out.Runs, err
}

// maxAnswer bounds an answer.
const maxAnswer = 64 << 20

func (c *Client) call(ctx context.Context, method, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, nil)
	if err != nil {
		return fmt.Errorf("call the daemon: %w", err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("call the daemon: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	switch {
	case err != nil:
		return fmt.Errorf("read the daemon's answer: %w", err)
	case res.StatusCode >= 300:
		return fmt.Errorf("the daemon says: %w", problem(body, res.Status))
	case into == nil:
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	return nil
}

// problem is the detail of an error answer, or its status where there is none.
func problem(body []byte, status string) error {
	var p struct {
		Detail string `json:"detail"`
	}
	if json.Unmarshal(body, &p) != nil || p.Detail == "" {
		return errors.New(status)
	}
	return errors.New(p.Detail)
}
