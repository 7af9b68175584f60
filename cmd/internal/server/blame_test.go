package server

import (
	"context"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/drift"
)

// oneWriter knows one who wrote all lines, and counts how often it was asked.
type oneWriter struct{ asked int }

func (o *oneWriter) Blame(_ context.Context, episodes []drift.Episode) []drift.Episode {
	o.asked++
	out := slices.Clone(episodes)
	for i := range out {
		out[i].Changes = slices.Clone(out[i].Changes)
		for j := range out[i].Changes {
			out[i].Changes[j].Line = &drift.Line{Number: 7, Commit: strings.Repeat("ab", 20), Author: "Ada", Time: now, Subject: "Scale"}
		}
	}
	return out
}

// Who wrote a line is looked up where one drift is asked for, and for a report
// where that is asked for, and nowhere else.
func TestWhoWroteALineIsLookedUpOnlyWhenAskedFor(t *testing.T) {
	f, l, _ := listing(t)
	f.episodes = []drift.Episode{drifted("prod", time.Time{})}
	writer := &oneWriter{}
	h := testServer(f, Options{Lists: l, Blamer: writer}).Handler(true)
	body := func(path string) string {
		res := ask(t, h, "GET", path)
		text, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("%s: %d, %v", path, res.StatusCode, err)
		}
		return string(text)
	}
	if got := body("/api/v1/drift"); strings.Contains(got, `"line":{"number"`) || writer.asked != 0 {
		t.Errorf("a report that did not ask has %s", got)
	}
	var report drift.Report
	if err := json.Unmarshal([]byte(body("/api/v1/drift?blame")), &report); err != nil {
		t.Fatal(err)
	}
	if got := report.Episodes[0].Changes[0].Line; got == nil || got.Author != "Ada" || got.Number != 7 || writer.asked != 1 {
		t.Errorf("the report has %+v", got)
	}
	body("/api/v1/drift?blame&page=" + report.Episodes[0].ID)
	if writer.asked != 1 {
		t.Error("an empty page was looked up")
	}
	if res := ask(t, h, "GET", "/api/v1/drift?blame=perhaps"); res.StatusCode != 400 {
		t.Errorf("blame=perhaps: %d", res.StatusCode)
	}
	detail := decode[api.DriftDetail](t, ask(t, h, "GET", "/api/v1/drift/e1"))
	if len(detail.Episode.Changes) > 0 && detail.Episode.Changes[0].Line == nil || writer.asked != 2 {
		t.Errorf("one drift has %+v, asked %d times", detail.Episode, writer.asked)
	}
	if page := body("/drift/e1"); !strings.Contains(page, "<dt>line 7</dt>") || !strings.Contains(page, "by <b>Ada</b>") || !strings.Contains(page, "abababa</code>") {
		t.Errorf("the page does not say who wrote the line:\n%s", page)
	}
}
