package drift_test

import (
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/drift"
)

func TestDiffNamesTheFieldsThatDiffer(t *testing.T) {
	before := `{"metadata":{"labels":{"a.b/c":"1"}},"spec":{"replicas":1,"list":[1,2],"containers":[{"name":"web","image":"web:1"},{"name":"old","image":"x"}]}}`
	after := `{"metadata":{"labels":{"a.b/c":"2"}},"spec":{"replicas":2,"list":[1],"containers":[{"name":"web","image":"web:2"}],"paused":true}}`
	changes, more := drift.Diff([]byte(before), []byte(after), false, 100)
	var got []string
	for _, c := range changes {
		got = append(got, c.Path+" "+c.Live.String()+" -> "+c.Desired.String())
	}
	want := `.metadata.labels["a.b/c"] "1" -> "2"
.spec.containers[name=old] {"image":"x","name":"old"} -> (absent)
.spec.containers[name=web].image "web:1" -> "web:2"
.spec.list [1,2] -> [1]
.spec.paused (absent) -> true
.spec.replicas 1 -> 2`
	if s := strings.Join(got, "\n"); s != want || more {
		t.Errorf("got\n%s\nmore %v, want\n%s", s, more, want)
	}
}

func TestDiffIsBoundedAndMasks(t *testing.T) {
	changes, more := drift.Diff([]byte(`{"data":{"a":"planted","b":"planted"}}`), []byte(`{"data":{}}`), true, 1)
	if len(changes) != 1 || !more {
		t.Fatalf("%d changes, more %v; want 1 and more", len(changes), more)
	}
	if s := changes[0].Live.String(); strings.Contains(s, "planted") {
		t.Errorf("shows %s", s)
	}
}
