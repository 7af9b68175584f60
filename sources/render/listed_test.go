package render_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	fluxkustomize "github.com/fluxcd/pkg/kustomize"
	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/holdfast-gitops/holdfast/internal/testkit/treetest"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
	"github.com/holdfast-gitops/holdfast/sources/render"
)

// bodies is what is compared of items: all but where they come from.
func bodies(items []sources.Item) []string {
	manifest.SortItems(items)
	out := make([]string, len(items))
	for i, item := range items {
		out[i] = fmt.Sprintf("%s %s sensitive=%v %s", item.ID, item.Version, item.Sensitive, item.Body)
	}
	return out
}

// TestListedEqualsKustomize renders trees of kustomizations that only list
// resources both ways, and wants equal items whenever the way without kustomize
// says that it can stand in for it.
func TestListedEqualsKustomize(t *testing.T) {
	rounds := 30
	switch {
	case os.Getenv("HOLDFAST_LONG") != "":
		rounds = 400
	case testing.Short():
		rounds = 6
	}
	r := newRenderer(render.Options{})
	alike := 0
	for seed := range uint64(rounds) {
		files := randomTree(rand.New(rand.NewPCG(seed, 1)))
		tree := treetest.New(files)
		listed, same, err := r.LoadListed(t.Context(), tree, ".")
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !same {
			continue
		}
		alike++
		built, _, err := r.Build(t.Context(), tree, ".", "kustomization.yaml")
		if err != nil {
			t.Fatalf("seed %d: %v\n%v", seed, err, files)
		}
		if diff := cmp.Diff(bodies(built), bodies(listed)); diff != "" {
			t.Errorf("seed %d: -kustomize +listed:\n%s", seed, diff)
		}
	}
	if alike < rounds/2 {
		t.Errorf("only %d of %d trees were loaded without kustomize", alike, rounds)
	}
}

// TestLightEqualsKustomize does the same for kustomizations that also change
// images and replicas.
func TestLightEqualsKustomize(t *testing.T) {
	rounds := 20
	switch {
	case os.Getenv("HOLDFAST_LONG") != "":
		rounds = 200
	case testing.Short():
		rounds = 4
	}
	r := newRenderer(render.Options{})
	alike := 0
	for seed := range uint64(rounds) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		files := randomTree(rnd)
		var names []string
		for _, text := range files {
			for _, m := range deploymentName.FindAllStringSubmatch(text, -1) {
				names = append(names, m[1])
			}
		}
		slices.Sort(names)
		changes := "images:\n- {name: a, newTag: \"2\"}\n- {name: registry.example.com/x, newName: other.example.com/y, digest: \"sha256:" + strings.Repeat("a", 64) + "\"}\n- {name: z, newName: zz}\n"
		if len(names) > 0 {
			changes += "replicas:\n- {name: " + names[rnd.IntN(len(names))] + ", count: 7}\n"
		}
		files["kustomization.yaml"] += changes
		tree := treetest.New(files)
		light, same, err := r.LoadListed(t.Context(), tree, ".")
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !same {
			continue
		}
		alike++
		built, _, err := r.Build(t.Context(), tree, ".", "kustomization.yaml")
		if err != nil {
			t.Fatalf("seed %d: %v\n%v", seed, err, files)
		}
		if diff := cmp.Diff(bodies(built), bodies(light)); diff != "" {
			t.Errorf("seed %d: -kustomize +light:\n%s", seed, diff)
		}
	}
	if alike < rounds/2 {
		t.Errorf("only %d of %d trees were loaded that way", alike, rounds)
	}
}

var deploymentName = regexp.MustCompile(`kind: Deployment\nmetadata: {name: (\w+)`)

// TestListedLeavesToKustomize has the objects that kustomize changes, refuses or
// drops even when it is only to list them.
func TestListedLeavesToKustomize(t *testing.T) {
	account := "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: sa, namespace: web}\n---\n"
	service := "apiVersion: v1\nkind: Service\nmetadata: {name: svc, namespace: web}\n---\n"
	for name, file := range map[string]string{
		"subject without namespace": account + "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: b, namespace: web}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}\nsubjects: [{kind: ServiceAccount, name: sa}]\n",
		"webhook without namespace": service + "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {name: w}\nwebhooks: [{name: a.b.c, clientConfig: {service: {name: svc}}}]\n",
		"local config":              "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, annotations: {config.kubernetes.io/local-config: 'true'}}\n---\n" + named("b"),
		"broken local config":       "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {b: }, annotations: {config.kubernetes.io/local-config: 'true'}}\n---\n" + named("b"),
		"hash":                      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, annotations: {kustomize.config.k8s.io/needs-hash: 'true'}}\n",
		"empty entry":               "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nlist: [a, ~]\n",
		"default namespace twice":   named("a") + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: default}\n",
	} {
		t.Run(name, func(t *testing.T) {
			tree := treetest.New(map[string]string{"kustomization.yaml": "resources: [a.yaml]\n", "a.yaml": file})
			if items, same, err := newRenderer(render.Options{}).LoadListed(t.Context(), tree, "."); same || err != nil {
				t.Errorf("loaded %v, error %v", items, err)
			}
		})
	}
}

// fragments are objects with what the two ways could read differently. NAME is
// replaced.
var fragments = []string{
	"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME}\ndata: {a: yes, b: no, c: on, d: 0644, e: 0o644, f: 1_000, g: 1:30, h: ~, i: 1e3, j: .5, k: 0x1F, l: 2020-01-02, m: y, n: '1', o: \"x\\n\"}\n",
	"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: NAME\n  annotations: {}\n  labels:\n  creationTimestamp: null\ndata:\n  text: |\n    a\n\n    b # no comment\n  folded: >-\n    a\n    b\n  plain: a\n    b\n",
	"# comment\n\napiVersion: v1\nkind: Secret\nmetadata: {name: NAME, namespace: web}\nstringData: {a: b, c: \"<&>\"}\ndata: {a: eA==}\n",
	"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: NAME, namespace: web, annotations: {a: \"1\", b: 'true'}, finalizers: [x]}\nspec:\n  replicas: 9007199254740993\n  template: {metadata: {creationTimestamp: null}, spec: {serviceAccountName: sa, containers: [{name: c, image: 'a:1', env: [{name: A, value: \"\"}], resources: {limits: {cpu: 0.5, memory: 1Gi}}}], volumes: [{name: v, configMap: {name: missing}}]}}\nstatus: {}\n",
	"apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: NAME}\nspec: {schedule: '@daily', jobTemplate: {spec: {template: {spec: {initContainers: [{name: i, image: 'registry.example.com/x@sha256:00'}], containers: [{name: c, image: a}]}}}}}\n",
	"apiVersion: example.com/v1\nkind: Runner\nmetadata: {name: NAME}\nspec: {replicas: 1, containers: [{image: 'registry.example.com/x:1'}], other: {containers: [{image: 'a:7'}], image: 'a:1'}}\n",
	"apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: NAME, namespace: web}\nimagePullSecrets: [{name: missing}]\n",
	"apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: NAME, namespace: web}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}\nsubjects:\n- {kind: ServiceAccount, name: NAME, namespace: web}\n- {kind: User, name: someone, apiGroup: rbac.authorization.k8s.io}\n",
	"apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: NAME}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: r}\nsubjects:\n- {kind: ServiceAccount, name: elsewhere, namespace: other}\n",
	"apiVersion: v1\nkind: Service\nmetadata: {name: NAME, namespace: default}\nspec: {ports: [{port: 80}], selector: {a: b}}\n",
	"apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {name: NAME}\nwebhooks: [{name: a.b.c, clientConfig: {service: {name: NAME, namespace: default, path: /x}}}]\n",
	"apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: NAME, namespace: default}\nspec: {defaultBackend: {service: {name: NAME, port: {number: 80}}}}\n",
	"apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {name: NAME, namespace: web}\nspec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: NAME}, maxReplicas: 3}\n",
	"apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: NAME}\nspec: &s {a: {b: [1, 2.50, -3, {c: null}]}, empty: {}, none: []}\nagain: *s\n",
	"apiVersion: example.com/v1\nkind: Merged\nmetadata: {name: NAME}\nbase: &b {x: 1, z: 2}\nmore:\n  <<: *b\n  z: 3\n",
	"apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: NAME-1}\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: NAME-2}\n  data: {n: yes}\n",
	"{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"NAME\"}, \"data\": {\"x\": \"\\u00e9\\t\"}}\n",
	"apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: NAME.example.com}\nspec: {group: example.com, names: {kind: NAME}, scope: Cluster, versions: [{name: v1, schema: {openAPIV3Schema: {properties: {x: {default: null, minimum: 0.1, maximum: 1e6}}}}}]}\n",
	"apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: NAME, namespace: web}\nspec: {resources: {requests: {storage: 1e9}}, volumeName: NAME}\n",
}

// randomTree is a tree of list-only kustomizations over random objects.
func randomTree(rnd *rand.Rand) map[string]string {
	files := map[string]string{}
	serial := 0
	var folder func(dir string, depth int)
	folder = func(dir string, depth int) {
		var resources []string
		for range 1 + rnd.IntN(3) {
			serial++
			name := fmt.Sprintf("f%d.yaml", serial)
			var docs []string
			for range 1 + rnd.IntN(4) {
				serial++
				docs = append(docs, strings.ReplaceAll(fragments[rnd.IntN(len(fragments))], "NAME", fmt.Sprintf("n%d", serial)))
			}
			files[dir+name] = strings.Join(docs, []string{"---\n", "--- # next\n", "\n---\n---\n"}[rnd.IntN(3)])
			resources = append(resources, name)
		}
		for i := range rnd.IntN(3) {
			if depth < 2 {
				sub := fmt.Sprintf("sub%d", i)
				folder(dir+sub+"/", depth+1)
				resources = append(resources, []string{sub, "./" + sub + "/"}[rnd.IntN(2)])
			}
		}
		rnd.Shuffle(len(resources), func(i, j int) { resources[i], resources[j] = resources[j], resources[i] })
		header := []string{"", "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"}[rnd.IntN(2)]
		files[dir+"kustomization.yaml"] = header + "resources:\n- " + strings.Join(resources, "\n- ") + "\n"
	}
	folder("", 0)
	return files
}

// TestKustomizeFetchesWhenItMay is the control of TestNothingIsFetched: outside
// of the child, the same kustomize does connect.
func TestKustomizeFetchesWhenItMay(t *testing.T) {
	address, connections := countingListener(t)
	fs := filesys.MakeFsInMemory()
	if err := fs.WriteFile("/env/kustomization.yaml", []byte("resources: [http://"+address+"/x.yaml]\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := fluxkustomize.Build(fs, "/env"); err == nil || connections.Load() == 0 {
		t.Errorf("error %v after %d connections", err, connections.Load())
	}
}

// mixed is a tree of objects of several kinds, a hundred to a file.
func mixed(objects int, kustomization bool) *treetest.Tree {
	files := map[string]string{}
	var list bytes.Buffer
	list.WriteString("resources:\n")
	for start := 0; start < objects; start += 100 {
		var b bytes.Buffer
		for i := start; i < min(start+100, objects); i++ {
			if i%4 == 0 {
				fmt.Fprintf(&b, "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: app-%d\n  namespace: web\n  labels:\n    app: app-%d\nspec:\n  replicas: 2\n  selector:\n    matchLabels:\n      app: app-%d\n  template:\n    metadata:\n      labels:\n        app: app-%d\n    spec:\n      containers:\n      - name: main\n        image: registry.example.com/app:%d\n        ports:\n        - containerPort: 8080\n        env:\n        - name: A\n          value: \"1\"\n        resources:\n          requests:\n            cpu: 100m\n            memory: 128Mi\n---\n", i, i, i, i, i)
				continue
			}
			fmt.Fprintf(&b, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: config-%d\n  namespace: web\ndata:\n  key: value-%d\n  other: |\n    some\n    text\n---\n", i, i)
		}
		name := fmt.Sprintf("f%05d.yaml", start)
		files["env/"+name] = b.String()
		fmt.Fprintf(&list, "- %s\n", name)
	}
	if kustomization {
		files["env/kustomization.yaml"] = list.String()
	}
	return treetest.New(files)
}

func BenchmarkRender(b *testing.B) {
	for _, objects := range []int{1000, 5000, 20000} {
		for _, kind := range []string{"plain", "listed"} {
			tree := mixed(objects, kind == "listed")
			req := render.Request{Tree: tree, Path: "env", DefaultNamespace: "web"}
			b.Run(fmt.Sprintf("%s/%d/cold", kind, objects), func(b *testing.B) {
				for b.Loop() {
					benchRender(b, newRenderer(render.Options{}), req)
				}
			})
			b.Run(fmt.Sprintf("%s/%d/one-file-changed", kind, objects), func(b *testing.B) {
				r := newRenderer(render.Options{})
				benchRender(b, r, req)
				for i := 0; b.Loop(); i++ {
					next := req
					next.Tree = tree.With("env/f00000.yaml", named(fmt.Sprintf("x%d", i)))
					benchRender(b, r, next)
				}
			})
			b.Run(fmt.Sprintf("%s/%d/unchanged", kind, objects), func(b *testing.B) {
				r := newRenderer(render.Options{})
				benchRender(b, r, req)
				for b.Loop() {
					benchRender(b, r, req)
				}
			})
		}
	}
}

func BenchmarkKustomize(b *testing.B) {
	for _, objects := range []int{100, 1000} {
		b.Run(fmt.Sprint(objects), func(b *testing.B) {
			tree := mixed(objects, true)
			r := newRenderer(render.Options{})
			for b.Loop() {
				if _, _, err := r.Build(b.Context(), tree, "env", "env/kustomization.yaml"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func benchRender(b *testing.B, r *render.Renderer, req render.Request) {
	if _, err := r.Render(b.Context(), req); err != nil {
		b.Fatal(err)
	}
}

// TestPatchesEqualKustomize gives the same patches to a spec over plain files and
// to a kustomization over them.
func TestPatchesEqualKustomize(t *testing.T) {
	const objects = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {tier: front}}
spec: {template: {spec: {containers: [{name: a, image: 'a:1', env: [{name: A, value: '1'}]}, {name: b, image: 'b:1'}], tolerations: [{key: x}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, labels: {tier: back}, annotations: {note: keep}}
spec: {template: {spec: {containers: [{name: a, image: 'a:1'}]}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config, namespace: other}
data: {a: '1', b: '2'}
---
apiVersion: example.com/v1
kind: Thing
metadata: {name: web}
spec: {list: [1, 2], map: {a: 1}}
`
	for name, patches := range map[string][]environment.Patch{
		"merge by name":        {{Patch: "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {template: {spec: {containers: [{name: b, image: 'b:2'}, {name: c, image: 'c:1'}]}}}}"}},
		"merge custom list":    {{Patch: "{apiVersion: example.com/v1, kind: Thing, metadata: {name: web}, spec: {list: [3], map: {b: 2}}}"}},
		"null removes":         {{Patch: "{apiVersion: v1, kind: ConfigMap, metadata: {name: config, namespace: other}, data: {a: null}}"}},
		"delete":               {{Patch: "{apiVersion: apps/v1, kind: Deployment, metadata: {name: api}, $patch: delete}"}},
		"replace":              {{Patch: "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {template: {spec: {containers: [{$patch: replace}, {name: z, image: z}]}}}}"}},
		"target by kind":       {{Target: &environment.PatchTarget{Kind: "Deployment"}, Patch: "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {paused: true}}"}},
		"target by pattern":    {{Target: &environment.PatchTarget{Name: "w.*"}, Patch: `[{"op": "add", "path": "/metadata/annotations", "value": {"a": "b"}}]`}},
		"annotations replaced": {{Target: &environment.PatchTarget{Kind: "Deployment"}, Patch: "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x, annotations: {$patch: replace, new: one}}}"}},
		"annotations removed":  {{Target: &environment.PatchTarget{Name: "api"}, Patch: "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x, annotations: null}}"}},
		"target by label":      {{Target: &environment.PatchTarget{LabelSelector: "tier=back"}, Patch: `[{"op": "add", "path": "/spec/paused", "value": true}]`}},
		"target by note":       {{Target: &environment.PatchTarget{AnnotationSelector: "note"}, Patch: `[{"op": "remove", "path": "/metadata/annotations/note"}]`}},
		"target by space":      {{Target: &environment.PatchTarget{Namespace: "other"}, Patch: `[{"op": "add", "path": "/data/c", "value": "3"}]`}},
		"target by group":      {{Target: &environment.PatchTarget{Group: "apps", Version: "v1"}, Patch: `[{"op": "add", "path": "/spec/paused", "value": false}]`}},
		"target of nothing":    {{Target: &environment.PatchTarget{Kind: "Pod"}, Patch: `[{"op": "remove", "path": "/spec"}]`}},
		"one after another":    {{Target: &environment.PatchTarget{Kind: "ConfigMap"}, Patch: `[{"op": "test", "path": "/data/a", "value": "1"}, {"op": "replace", "path": "/data/a", "value": "x"}]`}, {Target: &environment.PatchTarget{Kind: "ConfigMap"}, Patch: `[{"op": "move", "from": "/data/a", "path": "/data/z"}]`}},
		"a new name":           {{Target: &environment.PatchTarget{Kind: "Thing"}, Patch: `[{"op": "replace", "path": "/metadata/name", "value": "renamed"}]`, Options: &environment.PatchOptions{AllowNameChange: true}}},
		"several documents":    {{Patch: "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {paused: true}}\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: config, namespace: other}, data: {c: '3'}}\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, err := json.Marshal(map[string]any{"resources": []string{"a.yaml"}, "patches": patches})
			if err != nil {
				t.Fatal(err)
			}
			r := newRenderer(render.Options{})
			tree := treetest.New(map[string]string{"plain/a.yaml": objects, "k/kustomization.yaml": string(k), "k/a.yaml": objects})
			built, _, err := r.Build(t.Context(), tree, "k", "k/kustomization.yaml")
			if err != nil {
				t.Fatal(err)
			}
			patched := mustRender(t, r, render.Request{Tree: tree, Path: "plain", Patches: patches})
			if diff := cmp.Diff(bodies(built), bodies(patched.Items)); diff != "" {
				t.Errorf("-kustomize +spec:\n%s", diff)
			}
			for _, i := range patched.Items {
				if i.Origin.Line == 0 {
					t.Errorf("%s has lost its line", i.ID)
				}
			}
		})
	}
}
