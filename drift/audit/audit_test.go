package audit_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/audit"
	"github.com/holdfast-gitops/holdfast/sources"
)

var at = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// line is one event as a server sends it.
func line(user, verb, manager string, when time.Time, more string) string {
	return fmt.Sprintf(`{"level":"Metadata","stage":"ResponseComplete","requestURI":"/apis/apps/v1/namespaces/shop/deployments/web?fieldManager=%s",
		"verb":%q,"user":{"username":%q,"groups":["secret-group"]},"userAgent":"kubectl/v1.37","objectRef":{"resource":"deployments","namespace":"shop","name":"web","apiGroup":"apps"},
		"responseStatus":{"code":200},"stageTimestamp":%q%s}`, manager, verb, user, when.Format(time.RFC3339Nano), more)
}

func batch(lines ...string) string {
	return `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[` + strings.Join(lines, ",") + `]}`
}

func joiner(t *testing.T, lines ...string) *audit.Joiner {
	t.Helper()
	events, err := audit.Decode(strings.NewReader(batch(lines...)))
	if err != nil {
		t.Fatal(err)
	}
	j := audit.NewJoiner()
	j.Add(events, at)
	return j
}

func edited(manager string, stamp time.Time) drift.Episode {
	return drift.Episode{
		Object: sources.ID{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: "web"}, Class: drift.Changed, FirstSeen: at,
		Changes: []drift.Change{{Path: ".spec.replicas", Manager: manager, Time: stamp}},
	}
}

func TestAPersonIsNamedByObjectTimeAndManager(t *testing.T) {
	deleted := edited(drift.Unknown, time.Time{})
	deleted.Class = drift.Missing
	for name, tt := range map[string]struct {
		events  []string
		episode drift.Episode
		want    string
	}{
		"an edit":                     {[]string{line("ann", "patch", "kubectl-edit", at, "")}, edited("kubectl-edit", at.Truncate(time.Second)), "ann"},
		"impersonated":                {[]string{line("ann", "patch", "kubectl-edit", at, `,"impersonatedUser":{"username":"root","groups":["g"]}`)}, edited("kubectl-edit", at), "ann as root"},
		"a delete":                    {[]string{line("bob", "delete", "", at.Add(-time.Second), "")}, deleted, "bob"},
		"a removed field":             {[]string{line("bob", "update", "kubectl-edit", at.Add(-time.Second), "")}, edited(drift.Unknown, time.Time{}), "bob"},
		"the other manager":           {[]string{line("ann", "patch", "kubectl-scale", at, ""), line("bob", "patch", "kubectl-edit", at, "")}, edited("kubectl-scale", at), "ann"},
		"two could have been it":      {[]string{line("ann", "patch", "kubectl-edit", at, ""), line("bob", "patch", "kubectl-edit", at, "")}, edited("kubectl-edit", at), ""},
		"long before":                 {[]string{line("ann", "patch", "kubectl-edit", at.Add(-10*time.Minute), "")}, edited("kubectl-edit", at), ""},
		"afterwards":                  {[]string{line("ann", "patch", "kubectl-edit", at.Add(time.Minute), "")}, edited(drift.Unknown, time.Time{}), ""},
		"an edit is no delete":        {[]string{line("ann", "patch", "kubectl-edit", at, "")}, deleted, ""},
		"our own":                     {[]string{strings.Replace(line("system:holdfast", "patch", "kubectl-edit", at, ""), "kubectl/v1.37", "holdfast/1.0", 1)}, edited("kubectl-edit", at), ""},
		"refused":                     {[]string{strings.Replace(line("ann", "patch", "kubectl-edit", at, ""), "200", "403", 1)}, edited("kubectl-edit", at), ""},
		"a dry run":                   {[]string{strings.Replace(line("ann", "patch", "kubectl-edit", at, ""), "?", "?dryRun=All&", 1)}, edited("kubectl-edit", at), ""},
		"another kind, the same name": {[]string{strings.Replace(line("ann", "patch", "kubectl-edit", at, ""), `"deployments","namespace"`, `"statefulsets","namespace"`, 1)}, edited("kubectl-edit", at), ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, ok := joiner(t, tt.events...).Who(tt.episode)
			if p.String() != tt.want || ok != (tt.want != "") {
				t.Errorf("named %q, %v; want %q", p, ok, tt.want)
			}
		})
	}
}

func TestOtherBodiesAreRefused(t *testing.T) {
	many := strings.Repeat(`{"a":1},`, audit.MaxBatch)
	for _, body := range []string{"", "[]", "{}", `{"apiVersion":"audit.k8s.io/v1"}`, `{"apiVersion":"v1","items":[]}`, batch(line("a", "patch", "", at, ""))[:200], batch(many + `{"a":1}`)} {
		if events, err := audit.Decode(strings.NewReader(body)); err == nil {
			t.Errorf("%.60s gave %d events", body, len(events))
		}
	}
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	j := audit.NewJoiner()
	events := make([]audit.Event, 30_000)
	for i := range events {
		events[i] = audit.Event{Group: "apps", Resource: "deployments", Namespace: "shop", Name: fmt.Sprint("x", i), User: "ann", Verb: "patch", Manager: "m", At: at}
	}
	j.Add(events, at)
	old, young := edited("m", at), edited("m", at)
	old.Object.Name, young.Object.Name = "x0", "x29999"
	if _, ok := j.Who(old); ok {
		t.Error("the oldest of too many events is still there")
	}
	if _, ok := j.Who(young); !ok {
		t.Error("the newest event is not there")
	}
	j.Add(nil, at.Add(time.Hour))
	if _, ok := j.Who(young); ok {
		t.Error("an event is kept for an hour")
	}
}
