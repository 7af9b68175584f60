package schema_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-gitops/holdfast/internal/testkit/treetest"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
	"github.com/holdfast-gitops/holdfast/sources/schema"
)

const crd = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  names: {kind: Widget, plural: widgets}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            required: [size, colour]
            properties:
              size: {type: integer, minimum: 1, maximum: 9}
              colour: {type: string, enum: [red, blue], default: red}
              name: {type: string, pattern: "^[a-z]+$", maxLength: 5}
              port: {x-kubernetes-int-or-string: true}
              free: {type: object, x-kubernetes-preserve-unknown-fields: true}
              tags: {type: array, maxItems: 1, items: {type: string}}
              limits: {type: object, additionalProperties: {type: integer}}
              either: {type: object, oneOf: [{required: [a]}, {required: [b]}], properties: {a: {type: string}, b: {type: string}}}
              never: {type: string, not: {enum: [forbidden]}}
              anyOf: {type: object, anyOf: [{required: [x]}, {required: [z]}], properties: {x: {type: string}, z: {type: string}}}
---
`

func check(t *testing.T, text string) string {
	t.Helper()
	tree := treetest.New(map[string]string{"a.yaml": text})
	items, err := manifest.Load(tree, ".", manifest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := schema.New(items...)
	if err != nil {
		t.Fatal(err)
	}
	problems := s.Problems(tree, items)
	if len(problems) == 0 {
		return ""
	}
	return problems.Error()
}

func TestProblems(t *testing.T) {
	widget := crd + "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\n"
	for _, c := range []struct{ name, text, want string }{
		{"right", `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {a: b}}
spec:
  replicas: 2
  selector: {matchLabels: {a: b}}
  strategy: {rollingUpdate: {maxSurge: 25%, maxUnavailable: 1}}
  template:
    metadata: {labels: {a: b}}
    spec:
      containers:
      - name: main
        image: x
        ports: [{containerPort: 80}]
        livenessProbe: {httpGet: {port: http}}
        resources: {limits: {cpu: 1, memory: 1Gi, "nvidia.com/gpu": "1"}}
        env: [{name: A, value: null}]
`, ""},
		{"unknown field", `apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: a}
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: web}
  spec:
    selector: {matchLabels: {a: b}}
    template:
      metadata: {labels: {a: b}}
      spec:
        containers:
        - name: main
          imagee: x
`, "a.yaml:17:11: Deployment/web: spec.template.spec.containers[0].imagee: there is no such field (did you mean image?)"},
		{"wrong types", `apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  hostNetwork: "yes"
  containers:
  - name: main
    args: [1]
    ports:
    - containerPort: "80"
  volumes: {name: x}
`, `a.yaml:5:3: Pod/web: spec.hostNetwork: must be a boolean, and is text (take off the quotes)
a.yaml:8:12: Pod/web: spec.containers[0].args[0]: must be text, and is a whole number (put it in quotes)
a.yaml:10:7: Pod/web: spec.containers[0].ports[0].containerPort: must be a whole number, and is text (take off the quotes)
a.yaml:11:3: Pod/web: spec.volumes: must be a list, and is a mapping`},
		{"missing", `apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  ports:
  - name: http
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {}
`, `a.yaml:6:5: Service/web: spec.ports[0]: the required field port is missing
a.yaml:11:1: Deployment/web: spec: the required field selector is missing
a.yaml:11:1: Deployment/web: spec: the required field template is missing`},
		{"word", `apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePorts, ports: [{port: 99999999999}]}
`, `a.yaml:4:8: Service/web: spec.type: must be one of ClusterIP, ExternalName, LoadBalancer, NodePort
a.yaml:4:34: Service/web: spec.ports[0].port: is too large for a number of 32 bits`},
		{"no such kind", "apiVersion: apps/v1\nkind: Deploymnet\nmetadata: {name: a}\n",
			"a.yaml:2:1: Deploymnet/a: kind: Kubernetes 1.37 has no kind Deploymnet in apps/v1 (did you mean Deployment?)"},
		{"a version in the making", "apiVersion: apps/v1beta1\nkind: Deployment\nmetadata: {name: a}\n", ""},
		{"unknown custom kind", "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: a}\nspec: {a: b}\n", ""},
		{"secret values are not told", "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ntype: 7\nstringDat: {password: hunter2}\n",
			"a.yaml:4:1: Secret/a: type: must be text, and is a whole number (put it in quotes)\na.yaml:5:1: Secret/a: stringDat: there is no such field (did you mean stringData?)"},
		{"custom, right", widget + "spec: {size: 3, port: http, free: {a: 1}, limits: {x: 1}, either: {a: x}, anyOf: {x: a}}\n", ""},
		{"custom, wrong", widget + `spec:
  size: 12
  colour: green
  name: TooLong
  port: [1]
  free: {any: {thing: 1}}
  tags: [a, 2]
  limits: {x: abc}
  either: {a: x, b: z}
  never: forbidden
  anyOf: {}
  extra: 1
`, `a.yaml:36:3: Widget.example.com/w: spec.size: must not be more than 9
a.yaml:37:3: Widget.example.com/w: spec.colour: must be one of red, blue
a.yaml:38:3: Widget.example.com/w: spec.name: must have at most 5 characters
a.yaml:38:3: Widget.example.com/w: spec.name: does not match ^[a-z]+$
a.yaml:39:3: Widget.example.com/w: spec.port: must be a whole number or text, and is a list
a.yaml:41:3: Widget.example.com/w: spec.tags: must have at most 1 entries
a.yaml:41:13: Widget.example.com/w: spec.tags[1]: must be text, and is a whole number (put it in quotes)
a.yaml:42:12: Widget.example.com/w: spec.limits.x: must be a whole number, and is text (take off the quotes)
a.yaml:43:3: Widget.example.com/w: spec.either: must fit exactly one of the alternatives that its schema allows
a.yaml:44:3: Widget.example.com/w: spec.never: is what its schema rules out
a.yaml:45:3: Widget.example.com/w: spec.anyOf: fits none of the alternatives that its schema allows
a.yaml:46:3: Widget.example.com/w: spec.extra: there is no such field`},
		{"custom, missing", widget + "spec: {}\nmetadatas: {}\n", `a.yaml:35:1: Widget.example.com/w: spec: the required field size is missing
a.yaml:36:1: Widget.example.com/w: metadatas: there is no such field`},
		{"definition itself", strings.Replace(crd, "scope: Namespaced", "scpe: Namespaced", 1), `a.yaml:4:1: CustomResourceDefinition.apiextensions.k8s.io/widgets.example.com: spec: the required field scope is missing
a.yaml:7:3: CustomResourceDefinition.apiextensions.k8s.io/widgets.example.com: spec.scpe: there is no such field (did you mean scope?)`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := check(t, c.text)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if strings.Contains(got, "hunter2") {
				t.Error("a secret is told")
			}
		})
	}
}

// TestHostileSchemaIsBounded checks against alternatives of alternatives.
func TestHostileSchemaIsBounded(t *testing.T) {
	nested := "{type: object, required: [x]}"
	for range 14 {
		nested = "{anyOf: [" + nested + "," + nested + "]}"
	}
	text := strings.Replace(crd, "type: object\n        required: [spec]", "type: object\n        anyOf: ["+nested+","+nested+"]\n        required: [spec]", 1)
	check(t, text+"apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 1}\n")
}

func FuzzCheck(f *testing.F) {
	f.Add(crd + "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 1}\n")
	f.Add("apiVersion: v1\nkind: Pod\nmetadata: {name: w}\nspec: {containers: [{name: a, args: {}}]}\n")
	f.Fuzz(func(t *testing.T, text string) {
		items, _ := manifest.Parse("a.yaml", []byte(text), manifest.Options{})
		s, err := schema.New(items...)
		if err != nil {
			t.Fatal(err)
		}
		s.Problems(treetest.New(map[string]string{"a.yaml": text}), items)
	})
}

func BenchmarkCheck(b *testing.B) {
	items, problems := manifest.Parse("a.yaml", []byte("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: main, image: x}]}}}\n"), manifest.Options{})
	if len(problems) > 0 {
		b.Fatal(problems)
	}
	s, err := schema.New(items...)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if len(s.Check(items[0])) > 0 {
			b.Fatal("has faults")
		}
	}
}
