package kubelive

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

var owner = NewOwner("prod", "holdfast-system")

// deployment is as a server returns it after our apply, with a field of another
// manager.
const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
  uid: u1
  resourceVersion: "10"
  generation: 1
  labels: {app: web, holdfast.dev/environment: prod, applyset.kubernetes.io/part-of: ID}
  managedFields:
  - manager: MANAGER
    operation: Apply
    apiVersion: apps/v1
    fieldsV1:
      f:metadata: {f:labels: {f:app: {}, "f:holdfast.dev/environment": {}, "f:applyset.kubernetes.io/part-of": {}}}
      f:spec:
        f:replicas: {}
        f:template:
          f:spec:
            f:containers:
              'k:{"name":"web"}': {.: {}, f:name: {}, f:image: {}, f:command: {}}
              'k:{"name":"log"}': {.: {}, f:name: {}, f:image: {}}
  - manager: kubectl-edit
    operation: Update
    apiVersion: apps/v1
    time: "2026-01-02T03:04:05Z"
    fieldsV1:
      f:spec: {f:paused: {}}
spec:
  replicas: 2
  paused: true
  template:
    spec:
      containers:
      - {name: web, image: "web:1", command: [run, fast], imagePullPolicy: Always}
      - {name: log, image: "log:1"}
`

func object(t *testing.T, replace ...string) *unstructured.Unstructured {
	t.Helper()
	text := strings.NewReplacer("MANAGER", owner.Manager, "ID}", owner.ID+"}").Replace(deployment)
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			t.Fatalf("the object has no %q", replace[i])
		}
		text = strings.Replace(text, replace[i], replace[i+1], 1)
	}
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(raw); err != nil {
		t.Fatal(err)
	}
	return u
}

func TestCompareNamesTheFieldThatDiffers(t *testing.T) {
	for _, c := range []struct {
		name    string
		replace []string
		want    string
	}{
		{"nothing", nil, ""},
		{"a field of another manager", []string{"paused: true", "paused: false"}, ""},
		{"a defaulted field", []string{"imagePullPolicy: Always", "imagePullPolicy: Never"}, ""},
		{"a number", []string{"replicas: 2", "replicas: 9"}, ".spec.replicas: 2 -> 9 by unknown"},
		{"a field in a keyed list", []string{"web:1", "web:2"}, `.spec.template.spec.containers[name=web].image: "web:1" -> "web:2" by unknown`},
		{"an atomic list", []string{"[run, fast]", "[run]"}, `.spec.template.spec.containers[name=web].command: ["run","fast"] -> ["run"] by unknown`},
		{"an element that is gone", []string{"      - {name: log, image: \"log:1\"}\n", ""}, `.spec.template.spec.containers[name=log]: {"image":"log:1","name":"log"} -> (absent) by unknown`},
		{"the only owned field of a map", []string{"  replicas: 2\n", ""}, ".spec.replicas: 2 -> (absent) by unknown"},
		{"a label with dots", []string{"holdfast.dev/environment: prod", "holdfast.dev/environment: dev"}, `.metadata.labels["holdfast.dev/environment"]: "prod" -> "dev" by unknown`},
		{"the order of a keyed list", []string{
			"{name: web, image: \"web:1\", command: [run, fast], imagePullPolicy: Always}\n      - {name: log, image: \"log:1\"}",
			"{name: log, image: \"log:1\"}\n      - {name: web, image: \"web:1\", command: [run, fast], imagePullPolicy: Always}",
		}, `.spec.template.spec.containers: ["name=web","name=log"] -> ["name=log","name=web"] by unknown`},
		{"who did it", []string{"f:spec: {f:paused: {}}", "f:spec: {f:paused: {}, f:replicas: {}}", "replicas: 2", "replicas: 5"}, ".spec.replicas: 2 -> 5 by kubectl-edit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			changes, _ := Compare(object(t, c.replace...), object(t), owner, false)
			var lines []string
			for _, ch := range changes {
				lines = append(lines, ch.Path+": "+ch.Desired.String()+" -> "+ch.Live.String()+" by "+ch.Manager)
			}
			if got := strings.Join(lines, "\n"); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			clean := BaselineOf(object(t), owner).Matches(object(t, c.replace...), owner)
			if clean != (c.want == "") {
				t.Errorf("matches the baseline: %v", clean)
			}
		})
	}
}

func TestCompareNoticesLostOwnership(t *testing.T) {
	changes, notOwned := Compare(object(t, "        f:replicas: {}\n", ""), object(t), owner, false)
	if len(changes) != 0 || !notOwned {
		t.Errorf("changes %v, not owned %v; want none, true", changes, notOwned)
	}
}

func TestCompareMasksSensitiveValues(t *testing.T) {
	changes, _ := Compare(object(t, "replicas: 2", "replicas: 9"), object(t), owner, true)
	if len(changes) != 1 || changes[0].Live.String() != "(sensitive)" || changes[0].Desired.String() != "(sensitive)" {
		t.Errorf("got %+v; want masked values", changes)
	}
}

func TestRecordProvesOwnership(t *testing.T) {
	if !ProvenOurs(object(t), owner) {
		t.Error("an applied object is not proven ours")
	}
	if ProvenOurs(object(t, owner.Manager+"\n", "kubectl\n"), owner) {
		t.Error("a copy of an applied object is proven ours")
	}
	controlled := object(t, "  generation: 1\n", "  generation: 1\n  ownerReferences: [{apiVersion: v1, kind: Service, name: x, uid: y, controller: true}]\n")
	if ProvenOurs(controlled, owner) {
		t.Error("an object that a controller made is proven ours")
	}
}

func TestParseFieldsRejectsGarbage(t *testing.T) {
	if _, err := parseFields([]byte("{")); err == nil {
		t.Error("want an error")
	}
}
