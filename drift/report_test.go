package drift

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
)

func TestAtReadsWhatPathsName(t *testing.T) {
	body := []byte(`{"metadata":{"labels":{"a.b/c":"1"}},"spec":{"containers":[{"name":"old"},{"name":"web","image":"web:1","ports":[{"containerPort":80,"protocol":"TCP"}]}]}}`)
	for path, want := range map[string]string{
		`.metadata.labels["a.b/c"]`:                                                `"1"`,
		`.spec.containers[name=web].image`:                                         `"web:1"`,
		`.spec.containers[name=web].ports[containerPort=80,protocol=TCP].protocol`: `"TCP"`,
		`.spec.containers[name=gone].image`:                                        `(absent)`,
		`.spec.replicas`:                                                           `(absent)`,
	} {
		if got := At(body, path, false).String(); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	if got := At(body, ".spec", true).String(); got != Masked {
		t.Errorf("of a secret: %s", got)
	}
}

// storm is what one manager did to many objects of several environments.
func storm(n int) Report {
	var r Report
	start := time.Unix(1000, 0)
	for i := range n {
		r.Episodes = append(r.Episodes, Episode{
			ID: fmt.Sprint(i), Environment: fmt.Sprintf("env-%d", i%3), Object: sources.ID{Kind: "ConfigMap", Namespace: "web", Name: fmt.Sprint(i)},
			Class: Changed, State: Corrected, FirstSeen: start, LastSeen: start.Add(time.Second), Ended: start.Add(time.Second), Occurrences: 1, Severity: Low,
			Changes: []Change{{Path: ".data.mode", Desired: NewValue(i, false), Live: NewValue("maintenance", false), Manager: "script"}},
		})
	}
	return r
}

func TestOneCauseIsOneGroup(t *testing.T) {
	r := storm(300)
	r.Episodes = append(r.Episodes, Episode{
		ID: "other", Environment: "env-0", Object: sources.ID{Kind: "ConfigMap", Name: "x"}, Class: Changed, State: Open, Severity: High,
		Changes: []Change{{Path: ".data.mode", Live: NewValue("maintenance", false), Manager: "somebody-else"}},
	}, Episode{
		ID: "quiet", Environment: "env-0", Object: sources.ID{Kind: "ConfigMap", Name: "y"}, Class: Changed, State: Open, Severity: Critical, Fate: Accepted,
		Changes: []Change{{Path: ".data.mode", Live: NewValue("b", false), Manager: "script"}},
	})
	r = r.ByCause().Summed()
	if len(r.Groups) != 3 || len(r.Groups[0].Episodes) != 1 || r.Groups[0].Episodes[0] != "other" || !r.Groups[1].Quiet() {
		t.Fatalf("%d groups: %+v", len(r.Groups), r.Groups)
	}
	g := r.Groups[2]
	if g.Objects != 300 || len(g.Environments) != 3 || len(g.Episodes) != 300 || g.Occurrences != 300 || g.By[0] != "script" {
		t.Errorf("the storm is %d objects in %v, by %v", g.Objects, g.Environments, g.By)
	}
	if r.Quiet != 1 || r.Severities[High] != 1 || r.Severities[Critical] != 0 {
		t.Errorf("counts: %v, %d quiet", r.Severities, r.Quiet)
	}
	if again := storm(300).ByCause(); again.Groups[0].ID != g.ID {
		t.Error("the id of a group is another every time")
	}
}

func TestAnEpisodeIsAsBadAsItsWorstChange(t *testing.T) {
	b := NewBook()
	e, _ := b.See(Sighting{Environment: "prod", Object: sources.ID{Kind: "A", Name: "a"}, Changes: []Change{
		{Path: ".a", Severity: Low, SeverityRule: "x"}, {Path: ".b", Severity: Critical, SeverityRule: "y"}, {Path: ".c", Severity: High, SeverityRule: "z"},
	}})
	if e.Severity != Critical || e.SeverityRule != "y" {
		t.Errorf("%s by %q", e.Severity, e.SeverityRule)
	}
	if got, news := b.Name(e.ID, Person{User: "ann", As: "root"}); !news || got.Person.String() != "ann as root" {
		t.Errorf("named %+v, %v", got.Person, news)
	}
	if _, news := b.Name(e.ID, Person{User: "ann", As: "root"}); news {
		t.Error("the same name is news twice")
	}
	if _, news := b.Name("none", Person{User: "ann"}); news {
		t.Error("an episode that is not there was named")
	}
}

// What others added is beside an object's drift, and is counted by itself.
func TestForeignEpisodesAreNoDrift(t *testing.T) {
	b := NewBook()
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	id := sources.ID{Kind: "ConfigMap", Namespace: "shop", Name: "a"}
	seen := func(class Class, path string) Sighting {
		return Sighting{Environment: "prod", Object: id, Class: class, Changes: []Change{{Path: path, Live: NewValue("x", false)}}, Seen: now, At: now}
	}
	added, drifted := seen(ExtraField, ".data.b"), seen(Changed, ".data.a")
	if b.Touch(added) {
		t.Error("what was never seen is known")
	}
	b.See(added)
	b.See(drifted)
	if !b.Touch(added) || b.Touch(seen(ExtraField, ".data.c")) {
		t.Error("what is as before is news, or what is not is none")
	}
	r := Report{Episodes: b.List(func(*Episode) bool { return true })}.Summed()
	if len(r.Episodes) != 2 || r.Foreign != 1 || r.Severities[Medium] != 1 || b.OpenCount("prod") != 1 {
		t.Errorf("%d episodes, %d of others, %v, %d open", len(r.Episodes), r.Foreign, r.Severities, b.OpenCount("prod"))
	}
	none := func(sources.ID) bool { return false }
	if ended := b.EndAll("prod", Gone, now, none); len(ended) != 1 || ended[0].Class != Changed {
		t.Errorf("ended with the drift: %+v", ended)
	}
	if ended := b.EndForeign("prod", now, none); len(ended) != 1 || ended[0].Class != ExtraField || ended[0].State != Gone {
		t.Errorf("ended of others: %+v", ended)
	}
}
