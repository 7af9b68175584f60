package server

import (
	"testing"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
)

func TestDriftIsGroupedByCause(t *testing.T) {
	f := newFake("prod")
	for _, name := range []string{"a", "b", "c"} {
		f.episodes = append(f.episodes, drift.Episode{
			ID: name, Environment: "prod", Object: sources.ID{Kind: "ConfigMap", Name: name}, State: drift.Open, Severity: drift.High,
			Changes: []drift.Change{{Path: ".data.x", Live: drift.NewValue(1, false), Manager: "script"}},
		})
	}
	h := testServer(f, Options{}).Handler(true)
	for target, want := range map[string]int{"?group=cause": 0, "?group=cause&expand": 3} {
		r := decode[drift.Report](t, ask(t, h, "GET", "/api/v1/drift"+target))
		if len(r.Groups) != 1 || r.Groups[0].Objects != 3 || len(r.Groups[0].Episodes) != 3 || len(r.Episodes) != want || r.Severities[drift.High] != 3 {
			t.Errorf("%s: %+v", target, r)
		}
	}
	if res := ask(t, h, "GET", "/api/v1/drift?group=colour"); res.StatusCode != 400 {
		t.Errorf("an unknown group: %d", res.StatusCode)
	}
}
