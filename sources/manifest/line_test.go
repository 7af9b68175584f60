package manifest_test

import (
	"testing"

	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

const positions = `# of the shop
kind: ConfigMap
data:
  a: one
  "b.c": |
    two
---
kind: Deployment
spec:
  replicas:
    3
  template:
    containers:
    - image: x:1
      name: side
    - name: web
      image: x:2
      ports:
      - containerPort: 80
        name: http
      args: [-v, -x]
---
kind: List
items:
- kind: ConfigMap
  data: {a: three}
- kind: ConfigMap
  data:
    a: four
`

func TestLineOf(t *testing.T) {
	for _, c := range []struct {
		begins int
		steps  []string
		want   int
	}{
		{2, []string{"data", "a"}, 4},
		{2, []string{"data", "b.c"}, 5},
		{2, []string{"data", "gone"}, 0},
		{2, nil, 2},
		{8, []string{"spec", "replicas"}, 11},
		{8, []string{"spec", "template", "containers", "name=side", "image"}, 14},
		{8, []string{"spec", "template", "containers", "name=web", "image"}, 17},
		{8, []string{"spec", "template", "containers", "name=web", "ports", "containerPort=80,protocol=TCP", "name"}, 20},
		{8, []string{"spec", "template", "containers", "name=web", "args", "=-x"}, 21},
		{8, []string{"spec", "template", "containers", "name=none", "image"}, 0},
		{25, []string{"data", "a"}, 26},
		{27, []string{"data", "a"}, 29},
	} {
		if got := manifest.LineOf([]byte(positions), c.begins, c.steps); got != c.want {
			t.Errorf("%v of what begins on line %d: line %d, want %d", c.steps, c.begins, got, c.want)
		}
	}
	for _, broken := range []string{"", "---\n", "a: {{ x }}\n- b", "[1, 2]", "&a [*a]"} {
		if got := manifest.LineOf([]byte(broken), 1, []string{"a", "b"}); got != 0 {
			t.Errorf("%q: line %d", broken, got)
		}
	}
}
