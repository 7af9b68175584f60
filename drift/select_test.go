package drift

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
)

func TestAReportIsSelectedByWhatItShows(t *testing.T) {
	deployment := sources.ID{Group: "apps", Kind: "Deployment", Namespace: "web", Name: "api"}
	r := Report{
		Episodes: []Episode{
			{ID: "critical", Environment: "prod", Class: Changed, Severity: Critical, Object: sources.ID{Kind: "Role"}, Changes: []Change{{Manager: "script"}}},
			{ID: "high", Environment: "prod", Class: Missing, Severity: High, Object: deployment, Changes: []Change{{Manager: Unknown}}, Person: &Person{User: "bob"}},
			{ID: "low", Environment: "dev", Class: Changed, Severity: Low, Object: deployment, Changes: []Change{{Manager: "other"}, {Manager: "script"}}},
		},
		Behind:    []Behind{{Environment: "prod", Object: deployment, Class: StaleRevision}},
		Detectors: []Detector{{Environment: "prod"}, {Environment: "dev"}},
		Unsure:    map[string]string{"dev": "silent"},
	}
	for name, tt := range map[string]struct {
		s    Selection
		want string
		// behind, and environments of which the report speaks.
		behind, seen int
	}{
		"all":           {Selection{}, "critical high low", 1, 2},
		"at least high": {Selection{AtLeast: High}, "critical high", 0, 2},
		"at least low":  {Selection{AtLeast: Low}, "critical high low", 1, 2},
		"manager":       {Selection{Manager: "script"}, "critical low", 0, 2},
		"person":        {Selection{Manager: "bob"}, "high", 0, 2},
		"kind":          {Selection{Kind: "Deployment"}, "high low", 1, 2},
		"group kind":    {Selection{Kind: "Deployment.apps"}, "high low", 1, 2},
		"no such kind":  {Selection{Kind: "Deploy"}, "", 0, 2},
		"class":         {Selection{Class: Missing}, "high", 0, 2},
		"behind alone":  {Selection{Class: StaleRevision}, "", 1, 2},
		"environment":   {Selection{Environments: func(name string) bool { return name == "dev" }}, "low", 0, 1},
		"all together":  {Selection{AtLeast: Medium, Manager: "script", Class: Changed}, "critical", 0, 2},
	} {
		got := r.Select(tt.s)
		ids, sum := []string{}, 0
		for _, e := range got.Episodes {
			ids = append(ids, e.ID)
		}
		for _, n := range got.Severities {
			sum += n
		}
		if strings.Join(ids, " ") != tt.want || len(got.Behind) != tt.behind || len(got.Detectors) != tt.seen || sum != len(ids) {
			t.Errorf("%s: %v, %d behind, %d detectors, sums %v", name, ids, len(got.Behind), len(got.Detectors), got.Severities)
		}
		if got.Unsure["dev"] == "" {
			t.Errorf("%s: what cannot be seen reads as clean", name)
		}
	}
	if len(r.Episodes) != 3 || len(r.Behind) != 1 {
		t.Error("the report itself was changed")
	}
}

func TestCausesAreToldByWhoWrote(t *testing.T) {
	for managers, want := range map[string]Cause{
		"kubectl-edit":              Manual,
		"kubectl-client-side-apply": Manual,
		"k9s":                       Manual,
		"Mozilla":                   Manual,
		"argocd-controller":         Controller,
		"kube-controller-manager":   Controller,
		"unknown":                   UnknownCause,
		"":                          UnknownCause,
		"my-operator kubectl-edit":  Manual,
		"unknown my-operator":       Controller,
	} {
		if got := CauseOf(strings.Fields(managers)); got != want {
			t.Errorf("%q: %s, want %s", managers, got, want)
		}
	}
}

func TestWhatStaysAfterAnApplyIsBecauseOfAdmission(t *testing.T) {
	b := NewBook()
	id := sources.ID{Kind: "ConfigMap", Namespace: "web", Name: "a"}
	b.See(Sighting{Environment: "prod", Object: id, Cause: UnknownCause, Class: Changed})
	e, ok := b.End("prod", id, Persists, time.Unix(1, 0))
	if !ok || e.Cause != Admission || e.Fate != Rewritten || !e.Ended.IsZero() || !strings.Contains(e.Next, "admission") {
		t.Errorf("%v: %+v", ok, e)
	}
}
