package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// namespaceCount is over how many namespaces the objects of one environment are
// spread.
const namespaceCount = 10

// objectKind is a kind of object.
type objectKind struct {
	schema.GroupVersionResource
	kind string
	// guarded is a field of it that git sets, for a stranger to change.
	guarded []string
}

var (
	aNamespace      = objectKind{core("namespaces"), "Namespace", nil}
	aConfigMap      = objectKind{core("configmaps"), "ConfigMap", []string{"data", "value"}}
	aService        = objectKind{core("services"), "Service", []string{"metadata", "labels", "tier"}}
	aSecret         = objectKind{core("secrets"), "Secret", []string{"data", "token"}}
	aServiceAccount = objectKind{core("serviceaccounts"), "ServiceAccount", []string{"metadata", "annotations", "example.com/team"}}
	aDeployment     = objectKind{schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}, "Deployment", []string{"metadata", "labels", "tier"}}

	objectKinds = []objectKind{aConfigMap, aDeployment, aService, aSecret, aServiceAccount}
)

func core(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: resource}
}

// key finds an object among all.
type key struct{ resource, namespace, name string }

// object is one thing to apply.
type object struct {
	objectKind
	namespace, name string
	content         map[string]any
}

func (o object) key() key { return key{o.Resource, o.namespace, o.name} }

// body is the object as it is sent.
func (o object) body() []byte {
	text, err := json.Marshal(o.content)
	if err != nil {
		panic(err) // it holds nothing but maps and text
	}
	return text
}

// file is the object's path and text in the repository.
func (o object) file() (path, text string) {
	y, err := yaml.JSONToYAML(o.body())
	if err != nil {
		panic(err) // what was just encoded is JSON
	}
	return fmt.Sprintf("objects/%s/%s-%s.yaml", o.namespace, strings.ToLower(o.kind), o.name), string(y)
}

// mark is the label of everything here, so that watches see nothing else.
const mark = "example.com/bench"

// namespaces are the namespaces of a set of objects.
func namespaces(set string, spaces int) []object {
	var out []object
	for i := range spaces {
		out = append(out, newObject(aNamespace, set, "", namespace(set, i), map[string]any{}))
	}
	return out
}

func namespace(set string, i int) string { return fmt.Sprintf("%s-%02d", set, i) }

// mixed are n objects: of every 20, ten are ConfigMaps, four Deployments, three
// Services, two Secrets and one a ServiceAccount. They are spread evenly over as
// many namespaces.
func mixed(set string, n, spaces int) []object {
	out := make([]object, n)
	for i := range n {
		ns, name := namespace(set, i/20%spaces), fmt.Sprintf("app-%05d", i)
		switch k := i % 20; {
		case k < 10:
			out[i] = newObject(aConfigMap, set, ns, name, map[string]any{"data": map[string]any{
				"value": "original", "url": "https://example.com/" + name, "level": "info", "ttl": "30m",
				"settings": strings.Repeat("key = value\n", 20),
			}})
		case k < 14:
			out[i] = newObject(aDeployment, set, ns, name, deploymentBody(name))
		case k < 17:
			// Headless and without a selector, for the same reason as below.
			out[i] = newObject(aService, set, ns, name, map[string]any{"spec": map[string]any{
				"clusterIP": "None",
				"ports":     []any{map[string]any{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}},
			}})
		case k < 19:
			out[i] = newObject(aSecret, set, ns, name, map[string]any{"type": "Opaque", "data": map[string]any{"token": "bm90LWEtc2VjcmV0"}})
		default:
			out[i] = newObject(aServiceAccount, set, ns, name, map[string]any{"automountServiceAccountToken": false})
		}
	}
	return out
}

// deploymentBody is paused and runs nothing: it is the apply that is measured, not
// the controllers that would make replica sets and pods of it.
func deploymentBody(app string) map[string]any {
	labels := map[string]any{"app": app}
	return map[string]any{"spec": map[string]any{
		"replicas": 0,
		"paused":   true,
		"selector": map[string]any{"matchLabels": labels},
		"template": map[string]any{
			"metadata": map[string]any{"labels": labels},
			"spec": map[string]any{"containers": []any{map[string]any{
				"name": "app", "image": "registry.example.com/app:1.0.0",
				"ports":     []any{map[string]any{"name": "http", "containerPort": 8080, "protocol": "TCP"}},
				"env":       []any{map[string]any{"name": "LEVEL", "value": "info"}, map[string]any{"name": "ZONE", "value": "a"}},
				"resources": map[string]any{"requests": map[string]any{"cpu": "50m", "memory": "64Mi"}},
			}}},
		},
	}}
}

// proceed lets Deployments get ready, with no replicas: nothing is left to be
// waited for.
func proceed(objects []object) {
	for _, o := range objects {
		if spec, ok := o.content["spec"].(map[string]any); ok {
			delete(spec, "paused")
		}
	}
}

func newObject(s objectKind, set, namespace, name string, content map[string]any) object {
	meta := map[string]any{
		"name": name, "labels": map[string]any{mark: set, "tier": "backend"},
		"annotations": map[string]any{"example.com/team": "bench"},
	}
	if namespace != "" {
		meta["namespace"] = namespace
	}
	content["apiVersion"], content["kind"], content["metadata"] = s.GroupVersion().String(), s.kind, meta
	return object{objectKind: s, namespace: namespace, name: name, content: content}
}

// spec is the environment.
const spec = `apiVersion: holdfast.dev/v1alpha1
kind: Environment
metadata:
  name: bench
spec:
  path: objects
`

// repository is the files of a repository that holds the objects: one environment
// of them all, or where each is true one for each namespace.
func repository(set string, objects []object, spaces int, each bool) map[string]string {
	files := map[string]string{}
	if !each {
		files["environments/bench.yaml"] = spec
	}
	for _, o := range namespaces(set, spaces) {
		folder := "namespaces"
		if each {
			folder = o.name
			files["environments/"+o.name+".yaml"] = strings.NewReplacer("name: bench", "name: "+o.name, "path: objects", "path: objects/"+o.name).Replace(spec)
		}
		_, text := o.file()
		files["objects/"+folder+"/"+o.name+".yaml"] = text
	}
	for _, o := range objects {
		path, text := o.file()
		files[path] = text
	}
	return files
}
