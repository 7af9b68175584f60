package kube

import (
	"context"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift"
)

// custom is a definition, with its schema, and an object of it.
const custom = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.NS.example.com}
spec:
  group: NS.example.com
  names: {kind: Thing, plural: things}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
    schema:
      openAPIV3Schema: SCHEMA
---
apiVersion: NS.example.com/v1
kind: Thing
metadata: {name: law, namespace: NS, labels: {a: b}, annotations: {note: here}}
spec: SPEC
`

// The laws of detection for objects of definitions: with a schema of every kind of list
// and map, without one, and with objects inside them.
func TestLawsOfDetectionForCustomObjects(t *testing.T) {
	t.Parallel()
	const status = `status: {type: object, x-kubernetes-preserve-unknown-fields: true}`
	for name, c := range map[string]struct {
		schema, spec string
		patch        map[string]any
		extra        []string
	}{
		"structural": {
			`
        type: object
        properties:
          ` + status + `
          spec:
            type: object
            properties:
              replicas: {type: integer}
              mode: {type: string, default: fast}
              port: {x-kubernetes-int-or-string: true}
              size: {x-kubernetes-int-or-string: true, pattern: "^[0-9]+(m|Gi|Mi)?$"}
              share: {type: number}
              open: {type: boolean, nullable: true}
              unset: {type: integer}
              tags: {type: array, x-kubernetes-list-type: set, items: {type: string}}
              steps: {type: array, items: {type: object, properties: {run: {type: string}, times: {type: integer, default: 1}}}}
              selector: {type: object, x-kubernetes-map-type: atomic, additionalProperties: {type: string}}
              options: {type: object, additionalProperties: {type: string}}
              ports:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name, protocol]
                items:
                  type: object
                  required: [name]
                  properties: {name: {type: string}, protocol: {type: string, default: TCP}, port: {x-kubernetes-int-or-string: true}, note: {type: string}}`,
			`{replicas: 1, port: 80, size: 1024Mi, share: 0.5, open: true, tags: [one, two], steps: [{run: a}, {run: b, times: 2}],
  selector: {app: law, tier: web}, options: {x: "1", y: "2"}, ports: [{name: web, port: http}, {name: dns, protocol: UDP, port: 53}]}`,
			map[string]any{
				"unset": 3, "mode": "slow", "tags": []any{"theirs"}, "options": map[string]any{"theirs": "1"},
				"ports": []any{map[string]any{"name": "theirs", "protocol": "TCP", "port": 9}, map[string]any{"name": "web", "protocol": "TCP", "note": "x"}},
			},
			[]string{".spec.unset", ".spec.mode", `.spec.tags[="theirs"]`, ".spec.options.theirs", ".spec.ports[name=theirs,protocol=TCP]", ".spec.ports[name=web,protocol=TCP].note"},
		},
		"without a schema": {
			`{type: object, x-kubernetes-preserve-unknown-fields: true}`,
			`{size: 1024Mi, port: 80, share: 1.5, deep: {er: {value: x, on: true}}, empty: {}, list: [1, two, {three: 3}], "dotted.key/x": y}`,
			map[string]any{"theirs": map[string]any{"deep": 1}, "deep": map[string]any{"more": "x"}, "empty": map[string]any{"filled": "x"}},
			[]string{".spec.theirs.deep", ".spec.deep.more", ".spec.empty.filled"},
		},
		"with objects inside": {
			`
        type: object
        properties:
          ` + status + `
          spec:
            type: object
            properties:
              template: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true}
              all: {type: array, items: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true}}`,
			`{template: {apiVersion: v1, kind: ConfigMap, metadata: {name: inner, labels: {a: b}}, data: {k: v}, list: [a, b]},
  all: [{apiVersion: v1, kind: Secret, metadata: {name: one}, type: Opaque}]}`,
			map[string]any{"template": map[string]any{"metadata": map[string]any{"labels": map[string]any{"theirs": "1"}}, "data": map[string]any{"theirs": "1"}}},
			[]string{".spec.template.metadata.labels.theirs", ".spec.template.data.theirs"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			items := w.items(strings.NewReplacer("SCHEMA", c.schema, "SPEC", c.spec).Replace(custom))
			w.lawsOf(items, items[1:], foreign{
				Patch: map[string]any{"spec": c.patch}, Extra: c.extra, how: types.ApplyPatchType,
				Status: map[string]any{"phase": "x"},
			})
		})
	}
}

// imager sets the image of containers, whatever anybody applies.
const imager = `
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: image-NS}
spec:
  failurePolicy: Fail
  reinvocationPolicy: IfNeeded
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NS}}
    resourceRules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}]
  mutations:
  - patchType: JSONPatch
    jsonPatch: {expression: "[JSONPatch{op: 'replace', path: '/spec/template/spec/containers/0/image', value: 'painted:1'}]"}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: image-NS}
spec: {policyName: image-NS}
`

// Of a field that admission rewrites, that field alone is named: not what the server
// spells in another way, fills with defaults, or what others put into an empty map.
func TestOnlyTheFieldThatAdmissionRewritesIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: NS}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      securityContext: {}
      tolerations: [{key: none, operator: Exists}]
      containers: [{name: web, image: "web:1", ports: [{containerPort: 80}], resources: {limits: {cpu: 1000m, memory: 1024Mi}}}]
      volumes: [{name: tmp, emptyDir: {}}, {name: all, projected: {sources: [{downwardAPI: {items: [{path: a, fieldRef: {fieldPath: metadata.name}}]}}]}}]
`)
	w.run(items)
	for i, text := range strings.Split(imager, "---") {
		r := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: []string{"mutatingadmissionpolicies", "mutatingadmissionpolicybindings"}[i]}
		w.make(r, "", text)
		t.Cleanup(func() { _ = w.objects.Resource(r).Delete(context.Background(), "image-"+w.namespace, deleteNow) })
	}
	w.patch(deploys, "web", "somebody", types.StrategicMergePatchType, `{"spec":{"template":{"spec":{"volumes":[{"name":"tmp","emptyDir":{"medium":"Memory"}}]}}}}`)
	n := 0
	w.eventually("the policy is in force", func() bool {
		n++
		w.patch(deploys, "web", "somebody", mergePatch, `{"metadata":{"annotations":{"try":"`+strings.Repeat("x", n)+`"}}}`)
		return strings.Contains(string(asJSON(w.get(deploys, "web").Object)), "painted:1")
	})
	got := w.correct(items, "web")
	if got.Err != nil || !got.Persists || got.Class != drift.Changed || len(got.Changes) != 1 {
		t.Fatalf("persists %v, class %q, error %v, changes %+v", got.Persists, got.Class, got.Err, got.Changes)
	}
	w.expectChange(got.Changes, ".spec.template.spec.containers[name=web].image", `"web:1" <- "painted:1"`, drift.Unknown)
}
