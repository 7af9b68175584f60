package report_test

import (
	"encoding/csv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/report"
	"github.com/holdfast-gitops/holdfast/sources"
)

var now = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

const evil = `<script>alert(1)</script> | **x** [l](http://evil)`

func sample() drift.Report {
	git := drift.NewValue(3, false)
	return drift.Report{
		At: now,
		Episodes: []drift.Episode{
			{
				ID: "e1", Environment: "prod", Object: sources.ID{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: "web"},
				Class: drift.Changed, State: drift.Open, Severity: drift.High, FirstSeen: now.Add(-time.Hour), LastSeen: now, Occurrences: 2,
				Origin: sources.Origin{File: "prod/web.yaml", Line: 3}, Commit: "abc", Author: "Ann", Next: "stays: " + evil,
				Person: &drift.Person{User: "bob"}, Cause: drift.Manual,
				Changes: []drift.Change{
					{Path: ".spec.replicas", Git: &git, Desired: drift.NewValue(3, false), Live: drift.NewValue(9, false), Manager: "kubectl-scale", Severity: drift.High},
					{Path: ".data.password", Desired: drift.NewValue("sentinel", true), Live: drift.NewValue("sentinel", true), Manager: "=HYPERLINK(1)"},
				},
			},
			{
				ID: "e2", Environment: "dev", Object: sources.ID{Kind: "ConfigMap", Namespace: "shop", Name: "a"}, Class: drift.Changed,
				State: drift.Open, Severity: drift.Low, Fate: drift.Accepted, FirstSeen: now, LastSeen: now,
				Decision: &drift.Decision{Author: "ann", Reason: "@known", Until: now.Add(time.Hour)},
				Changes:  []drift.Change{{Path: ".data.x", Desired: drift.NewValue("a", false), Live: drift.NewValue(evil, false), Manager: "x"}},
			},
		},
		Detectors: []drift.Detector{{Environment: "test", Sight: drift.Stale, AsOf: now.Add(-time.Hour), Why: "silent"}, {Environment: "prod", Sight: drift.Fresh}},
	}
}

func write(t *testing.T, format string, expand bool) string {
	t.Helper()
	var b strings.Builder
	if err := report.Write(&b, format, sample(), expand); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestNoFormatTakesWhatItShowsForMarkup(t *testing.T) {
	for _, format := range []string{"markdown", "html"} {
		for _, expand := range []bool{false, true} {
			got := write(t, format, expand)
			for _, bad := range []string{"<script", "](http", "sentinel"} {
				if strings.Contains(got, bad) && (format == "markdown" || bad != "](http") {
					t.Errorf("%s holds %s:\n%s", format, bad, got)
				}
			}
			for _, part := range []string{"replicas", "bob", "test is stale", "2026-11-20 11"} {
				if plain := strings.ReplaceAll(got, `\`, ""); !strings.Contains(plain, part) {
					t.Errorf("%s lacks %q:\n%s", format, part, got)
				}
			}
		}
	}
	if got := write(t, "html", false); strings.Contains(got, "src=") || strings.Contains(got, "href=") || !strings.Contains(got, "<details>") {
		t.Errorf("the page is not whole in itself, or folds nothing:\n%s", got)
	}
	if err := report.Write(&strings.Builder{}, "pdf", sample(), false); err == nil {
		t.Error("there is no format pdf")
	}
}

func TestCSVHasARowForEachFieldAndNoFormula(t *testing.T) {
	got := write(t, "csv", false)
	all, err := csv.NewReader(strings.NewReader(got)).ReadAll()
	if err != nil || len(all) != 4 {
		t.Fatalf("%d rows, %v:\n%s", len(all), err, got)
	}
	for _, row := range all[1:] {
		for i, cell := range row {
			if strings.HasPrefix(cell, "=") || strings.HasPrefix(cell, "@") || strings.Contains(cell, "sentinel") {
				t.Errorf("%s is %s", all[0][i], cell)
			}
		}
	}
	cell := map[string]string{}
	for i, name := range all[0] {
		cell[name] = all[1][i]
	}
	for name, want := range map[string]string{
		"id": "e1", "object": "Deployment/shop/web", "field": ".spec.replicas", "git": "3", "live": "9", "person": "bob", "file": "prod/web.yaml",
		"line": "3", "age seconds": "3600", "severity": "high", "occurrences": "2", "cause": "manual",
	} {
		if cell[name] != want {
			t.Errorf("%s is %q, want %q", name, cell[name], want)
		}
	}
}

func TestCountsAreByTheWorstFirst(t *testing.T) {
	if got := report.Counts(sample().Summed()); got != "open: 1 high, 1 accepted or fought over" {
		t.Errorf("got %q", got)
	}
	if got := report.Counts(drift.Report{}); got != "no open drift" {
		t.Errorf("got %q", got)
	}
}

// Whatever a report says of a drift is in every format that shows single ones.
func TestEveryFormatCarriesAllThatIsKnown(t *testing.T) {
	git := drift.NewValue("in-git", false)
	r := drift.Report{
		At: now,
		Episodes: []drift.Episode{{
			ID: "e7", Environment: "prod", Target: "east", Object: sources.ID{Kind: "ConfigMap", Namespace: "shop", Name: "a"}, Class: drift.Changed, Cause: drift.Manual,
			Changes: []drift.Change{{
				Path: ".data.x", Git: &git, Desired: drift.NewValue("as-applied", false), Live: drift.NewValue("as-live", false), Manager: "kubectl-edit",
				Operation: "Update", Subresource: "scale", Time: now.Add(-2 * time.Hour), Severity: drift.High, SeverityRule: "own rule",
				Line: &drift.Line{Number: 33, Commit: "fedcba", Author: "Wanda", Time: now.Add(-4 * time.Hour), Subject: "Scale"},
			}, {Path: ".data.y", Desired: drift.NewValue("sentinel", true), Live: drift.NewValue("sentinel", true), Manager: drift.Unknown}},
			Origin: sources.Origin{File: "prod/a.yaml", Line: 31}, Commit: "abcdef", Author: "Ann", Severity: drift.High, SeverityRule: "own rule",
			Person: &drift.Person{User: "bob"}, State: drift.Open, FirstSeen: now.Add(-time.Hour), LastSeen: now.Add(-time.Minute), Occurrences: 42,
			Next: "stays for now", Decision: &drift.Decision{Author: "carla", Reason: "known since May", Until: now.Add(time.Hour)},
		}},
		Behind:    []drift.Behind{{Environment: "prod", Object: sources.ID{Kind: "Secret", Name: "late"}, Class: drift.StaleRevision, Cause: drift.Interrupted, Next: "is retried"}},
		Detectors: []drift.Detector{{Environment: "prod", Sight: drift.Fresh, AsOf: now.Add(-3 * time.Minute)}},
	}
	for _, format := range report.Formats {
		var b strings.Builder
		if err := report.Write(&b, format, r, true); err != nil {
			t.Fatal(err)
		}
		got := strings.ReplaceAll(b.String(), `\`, "")
		for _, part := range []string{
			"e7", "prod", "east", "ConfigMap/shop/a", "changed", ".data.x", "in-git", "as-applied", "as-live", "kubectl-edit", "Update", "scale", "10:00:00", "high", "own rule",
			"prod/a.yaml", "31", "abcdef", "Ann", "bob", "manual", "open", "11:00:00", "11:59:00", "42", "stays for now", "carla", "known since May", "13:00:00",
			"33", "fedcba", "Wanda", "08:00:00", "fresh", "11:57:00", "Secret/late", "interrupted-run", "is retried", drift.Masked,
		} {
			if !strings.Contains(got, part) {
				t.Errorf("%s lacks %q:\n%s", format, part, got)
			}
		}
		if !strings.Contains(got, "1h0m0s") && !strings.Contains(got, "3600") {
			t.Errorf("%s lacks the age", format)
		}
		if strings.Contains(got, "sentinel") {
			t.Errorf("%s shows a secret", format)
		}
	}
}
