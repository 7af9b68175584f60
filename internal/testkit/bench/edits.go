package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

// deed is what a stranger does to an object.
type deed int

const (
	change  deed = iota
	remove       // a field
	destroy      // the object
	rescale      // a Deployment
	reimage      // its container
	relabel      // the object
	reorder      // a list
)

// edit is one deed.
type edit struct {
	object
	deed deed
}

// strange is the value that a stranger sets.
const strange = "changed"

// pick chooses objects to edit, of all kinds in their proportions, each once: a
// daemon may rightly slow down where one object is fought over. One in ten loses
// a field, one in ten is deleted, one gets another label, the others another value;
// of the Deployments among these, some are scaled, get another image, or their
// variables in another order.
func pick(objects []object, n int) []edit {
	random := rand.New(rand.NewPCG(1, 2)) // the same in every run
	out := make([]edit, 0, n)
	for _, i := range random.Perm(len(objects))[:n] {
		e := edit{object: objects[i]}
		switch len(out) % 10 {
		case 3:
			e.deed = remove
		case 7:
			e.deed = destroy
		case 9:
			e.deed = relabel
		default:
			if e.kind == aDeployment.kind {
				e.deed = []deed{rescale, reimage, reorder}[len(out)%3]
			}
		}
		out = append(out, e)
	}
	return out
}

// carryOut does the deed, under the name of a tool that people use.
func (e edit) carryOut(ctx context.Context, c dynamic.Interface) error {
	client := c.Resource(e.GroupVersionResource).Namespace(e.namespace)
	var err error
	if e.deed == destroy {
		err = client.Delete(ctx, e.name, metav1.DeleteOptions{})
	} else {
		_, err = client.Patch(ctx, e.name, types.JSONPatchType, e.patch(), metav1.PatchOptions{FieldManager: "kubectl-edit"})
	}
	if err != nil {
		return fmt.Errorf("edit %s %s/%s: %w", e.kind, e.namespace, e.name, err)
	}
	return nil
}

// field is what is edited; a number is a place in a list.
func (e edit) field() []string {
	switch e.deed {
	case rescale:
		return []string{"spec", "replicas"}
	case reimage:
		return []string{"spec", "template", "spec", "containers", "0", "image"}
	case reorder:
		return []string{"spec", "template", "spec", "containers", "0", "env", "0", "name"}
	case relabel:
		return []string{"metadata", "labels", "tier"}
	}
	return e.guarded
}

func (e edit) patch() []byte {
	if e.deed == reorder {
		return []byte(`[{"op": "move", "from": "/spec/template/spec/containers/0/env/0", "path": "/spec/template/spec/containers/0/env/1"}]`)
	}
	op := map[string]any{"op": "replace", "value": strange}
	switch {
	case e.deed == remove:
		op = map[string]any{"op": "remove"}
	case e.deed == rescale:
		op["value"] = 1
	case e.kind == aSecret.kind && e.deed == change:
		op["value"] = []byte(strange)
	}
	path := ""
	for _, step := range e.field() {
		path += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(step)
	}
	op["path"] = path
	text, err := json.Marshal([]any{op})
	if err != nil {
		panic(err) // it is maps and text
	}
	return text
}

// asDesired tells whether the edited field is as git has it.
func (e edit) asDesired(live *unstructured.Unstructured) bool {
	return fmt.Sprint(valueAt(e.content, e.field())) == fmt.Sprint(valueAt(live.Object, e.field()))
}

// valueAt is nil where there is none.
func valueAt(content any, path []string) any {
	for _, step := range path {
		switch c := content.(type) {
		case map[string]any:
			content = c[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(c) {
				return nil
			}
			content = c[i]
		default:
			return nil
		}
	}
	return content
}

// broken tells whether an event shows the deed.
func (e edit) broken(event watch.Event) bool {
	if event.Type == watch.Deleted {
		return true
	}
	live, ok := event.Object.(*unstructured.Unstructured)
	return ok && !e.asDesired(live)
}
