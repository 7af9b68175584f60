package server

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// fullFake has something for every branch of the pages.
func fullFake() *fakeEngine {
	f := newFake("dev", "prod")
	run := reconciler.Run{
		ID: "run-1", Environment: "prod", Result: reconciler.Partial, Started: now.Add(-time.Minute), Finished: now.Add(-time.Minute), Seconds: 0.25,
		Trigger: reconciler.Trigger{Reason: reconciler.ReasonOnCall, Actor: "socket"}, PlanHash: "0123abcd",
		Revision: sources.Revision{ID: "a1b2c3d4e5", Ref: "refs/heads/main", Subject: "<b>bold</b>"},
		Counts:   reconciler.Counts{Created: 2, Failed: 1},
		Errors:   sources.Problems{{File: "web/api.yaml", Line: 3, Object: "Deployment/web/api", Message: "is <i>bad</i>", Hint: "mend it"}},
		Waiting:  []reconciler.Waiting{{Object: sources.ID{Kind: "Namespace", Name: "web"}, Op: reconciler.OpDelete, Why: "protected kind"}},
	}
	f.statuses[1] = reconciler.Status{
		Name: "prod", Source: "shop", Target: "default", Path: "prod", Mode: "apply", Drift: "correct", Sync: reconciler.SyncFailed, Objects: 12,
		Head: sources.Revision{ID: "ffff000011"}, Applied: run.Revision, LastRun: &run, Running: &reconciler.Run{ID: "run-2", Result: reconciler.Pending},
		Errors: run.Errors, Gates: []reconciler.Gate{{Kind: reconciler.GateBudget, Why: "deletion budget"}}, OpenDrifts: 1, Corrections: 3, AsOf: now,
	}
	f.episodes = []drift.Episode{drifted("prod", time.Time{}), drifted("dev", now.Add(-time.Hour))}
	f.episodes = append(f.episodes, drift.Episode{Environment: "dev", Object: sources.ID{Kind: "ConfigMap", Namespace: "a", Name: "b"}, Class: drift.Missing, State: drift.Open, Changes: []drift.Change{{Desired: drift.Absent(), Live: drift.Absent(), Manager: drift.Unknown}}})
	f.unsure = map[string]string{"dev": "not compared yet"}
	return f
}

func TestPagesShowWhatIsKnown(t *testing.T) {
	h := testServer(fullFake(), Options{Version: "v1.2.3"}).Handler(false)
	for target, parts := range map[string][]string{
		"/": {
			"<title>1 failed · holdfast</title>", `http-equiv="refresh" content="5"`, `href="/environments/prod"`,
			"main@a1b2c3d", "ffff000", "partial 1m ago", "2 created, 1 failed", "held: deletion budget", "web/api.yaml:3", "hint: mend it",
			".spec.replicas", "kubectl-scale", "seen 4h0m ago, 2 times", "next: reverts now", "dev: nothing can be said, not compared yet", "v1.2.3",
			drift.Masked, "the whole object",
		},
		"/environments/prod": {"<title>prod: failed · holdfast</title>", "run-1", "run-2", "on-call, socket", "0.250 s", "Namespace/web", "protected kind", "mode"},
	} {
		res := ask(t, h, "GET", target)
		page := text(t, res)
		if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Fatalf("%s: %d %v", target, res.StatusCode, res.Header)
		}
		for _, part := range parts {
			if !strings.Contains(page, part) {
				t.Errorf("%s does not show %q", target, part)
			}
		}
		if strings.Contains(page, "ZgotmplZ") {
			t.Errorf("%s has a value that the template refused", target)
		}
	}
}

func TestPagesShowNoMarkupAndNoSecrets(t *testing.T) {
	h := testServer(fullFake(), Options{}).Handler(false)
	for _, target := range []string{"/", "/environments/prod", "/api/v1/drift"} {
		page := text(t, ask(t, h, "GET", target))
		for _, bad := range []string{"<script", "<img", "<b>", "<i>", "sentinel"} {
			if strings.Contains(page, bad) && (bad == "sentinel" || strings.HasPrefix(page, "<!doctype")) {
				t.Errorf("%s shows %q", target, bad)
			}
		}
	}
}

func TestPageOfNothing(t *testing.T) {
	page := text(t, ask(t, testServer(newFake(), Options{}).Handler(false), "GET", "/"))
	for _, part := range []string{"no environments yet", "no drift was seen"} {
		if !strings.Contains(page, part) {
			t.Errorf("page does not say %q", part)
		}
	}
}

func TestPageBoundsWhatItLists(t *testing.T) {
	f := newFake("dev")
	long := drifted("dev", time.Time{})
	long.Changes[0].Live = drift.NewValue(strings.Repeat("x", 3000), false)
	for range 60 {
		f.episodes = append(f.episodes, long)
	}
	page := text(t, ask(t, testServer(f, Options{}).Handler(false), "GET", "/"))
	if got := strings.Count(page, `class="episode`); got != shownEpisodes {
		t.Errorf("%d episodes", got)
	}
	if !strings.Contains(page, "and 10 more") || strings.Contains(page, strings.Repeat("x", maxShown+1)) {
		t.Error("the page shows too much")
	}
}

func TestStylesheetIsOurOwn(t *testing.T) {
	res := ask(t, testServer(newFake(), Options{}).Handler(false), "GET", "/assets/page.css")
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/css; charset=utf-8" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
}

func TestOverviewShowsSourcesInTrouble(t *testing.T) {
	f := newFake("dev")
	f.sources = map[string]sources.Problems{"away": {{Message: "repository not found", Hint: "mend the <URL>"}}}
	page := text(t, ask(t, testServer(f, Options{}).Handler(true), "GET", "/"))
	if !strings.Contains(page, "Source away") || !strings.Contains(page, "mend the &lt;URL&gt;") {
		t.Errorf("the page lacks the source's problem:\n%s", page)
	}
}
