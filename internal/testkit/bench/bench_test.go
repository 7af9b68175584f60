package main

import (
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
)

func TestTheMixIsAsPromised(t *testing.T) {
	count, spaces := map[string]int{}, map[string]int{}
	for _, o := range mixed("set", 1000, namespaceCount) {
		count[o.kind]++
		spaces[o.namespace]++
	}
	for kind, want := range map[string]int{"ConfigMap": 500, "Deployment": 200, "Service": 150, "Secret": 100, "ServiceAccount": 50} {
		if count[kind] != want {
			t.Errorf("%d of kind %s, want %d", count[kind], kind, want)
		}
	}
	if len(spaces) != namespaceCount || spaces["set-00"] != 100 {
		t.Errorf("spread over %v", spaces)
	}
}

func TestEveryEditLeavesTheDesiredState(t *testing.T) {
	edits := pick(mixed("set", 200, namespaceCount), 120)
	seen, deeds := map[key]bool{}, map[deed]int{}
	for _, e := range edits {
		if seen[e.key()] {
			t.Errorf("%v is edited twice", e.key())
		}
		seen[e.key()] = true
		deeds[e.deed]++
		live := &unstructured.Unstructured{Object: e.content}
		if e.broken(watch.Event{Type: watch.Modified, Object: live}) {
			t.Errorf("%v as desired counts as broken", e.key())
		}
		if last := e.field()[len(e.field())-1]; e.deed != destroy && e.deed != reorder && !strings.Contains(string(e.patch()), strings.ReplaceAll(last, "/", "~1")+`"`) {
			t.Errorf("%v is edited by %s, which is not the guarded field", e.key(), e.patch())
		}
	}
	if deeds[remove] != 12 || deeds[destroy] != 12 || deeds[rescale] == 0 || deeds[reimage] == 0 || deeds[reorder] == 0 || deeds[relabel] != 12 {
		t.Errorf("deeds: %v", deeds)
	}
}

func TestAnEditEndsOnlyAfterItWasSeen(t *testing.T) {
	tr := newTracker()
	o := mixed("set", 1, namespaceCount)[0]
	a := tr.expect(edit{object: o})
	event := func(value string) watch.Event {
		live := newObject(aConfigMap, "set", o.namespace, o.name, map[string]any{"data": map[string]any{"value": value}})
		return watch.Event{Type: watch.Modified, Object: &unstructured.Unstructured{Object: live.content}}
	}
	tr.see(aConfigMap, event("original")) // somebody else's write, before the edit
	if len(a.healed) != 0 {
		t.Fatal("ended before the edit was seen")
	}
	tr.see(aConfigMap, event(strange))
	tr.see(aConfigMap, event("original"))
	if len(a.healed) != 1 {
		t.Error("did not end when the desired value was back")
	}
}

func TestPercentiles(t *testing.T) {
	var times []time.Duration
	for i := range 120 {
		times = append(times, time.Duration(120-i))
	}
	if got := percentile(times, 0.5); got != 60 {
		t.Errorf("p50 is %d", got)
	}
	if got := percentile(times, 0.99); got != 119 {
		t.Errorf("p99 is %d", got)
	}
	if got := percentile([]int{7}, 0.99); got != 7 {
		t.Errorf("p99 of one is %d", got)
	}
}

func TestResultsAreFiniteAndJudged(t *testing.T) {
	rs := results{
		against("1/slow", 5*time.Millisecond, time.Millisecond, 3),
		against("1/nothing-raw", time.Millisecond, 0, 3),
		within("1/requests", 0, "requests", 0),
	}
	for _, r := range rs {
		if math.IsInf(r.Ratio, 0) || math.IsNaN(r.Ratio) {
			t.Errorf("%s has ratio %v, which JSON cannot hold", r.Name, r.Ratio)
		}
	}
	lines := strings.Split(rs.table(), "\n")
	if !strings.Contains(lines[1], "MISSED") || !strings.Contains(lines[3], "met") {
		t.Errorf("table:\n%s", rs.table())
	}
}

func TestTheHistoryIsAsPromised(t *testing.T) {
	server := gitserver.Start(t)
	origin := server.Repo(t, "bench")
	origin.Git(t, history(200), "fast-import", "--quiet")
	if n := origin.Git(t, "", "rev-list", "--count", "main"); n != strconv.Itoa(gitCommits) {
		t.Errorf("%s commits", n)
	}
	if n := len(strings.Split(origin.Git(t, "", "ls-tree", "-r", "--name-only", "main"), "\n")); n != 200 {
		t.Errorf("%d files", n)
	}
	if n := len(strings.Split(origin.Git(t, "", "diff", "--name-only", "main~1", "main"), "\n")); n != gitTouched {
		t.Errorf("a commit changes %d files", n)
	}
}

func TestParts(t *testing.T) {
	for _, c := range []struct {
		only                     string
		git, cluster, drift, api bool
	}{
		{"", true, true, false, false}, {"git", true, false, false, false}, {"cluster", false, true, false, false},
		{"drift", false, false, true, false}, {"api", false, false, false, true},
	} {
		o, err := parse([]string{"-only=" + c.only})
		if err != nil || o.git != c.git || o.cluster != c.cluster || o.drift != c.drift || o.api != c.api {
			t.Errorf("-only=%s: %+v, %v", c.only, o, err)
		}
	}
	if _, err := parse([]string{"-only=moon"}); err == nil {
		t.Error("an unknown part was accepted")
	}
}
