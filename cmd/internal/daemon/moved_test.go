package daemon

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/holdfast-gitops/holdfast/sources"
)

// redirected is a source whose server redirects.
type redirected struct{ to string }

func (redirected) Fetch(context.Context) (*sources.Snapshot, error) { return nil, context.Canceled }

func (redirected) Last() (*sources.Snapshot, error) { return nil, context.Canceled }

func (r *redirected) Moved() string { return r.to }

func TestMoveIsSaidOnce(t *testing.T) {
	var log bytes.Buffer
	src := &redirected{}
	f := &follower{source: src, log: zerolog.New(&log)}
	for _, to := range []string{"", "https://new/x", "https://new/x", "https://newer/x", ""} {
		src.to = to
		f.noteMove()
		if got := f.status().MovedTo; got != to {
			t.Errorf("the status says %q, want %q", got, to)
		}
	}
	if n := strings.Count(log.String(), "has moved"); n != 2 || !strings.Contains(log.String(), "https://newer/x") {
		t.Errorf("logged %d moves:\n%s", n, log.String())
	}
}
