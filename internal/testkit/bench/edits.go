package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"

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
// a field, one in ten is deleted, the others get another value.
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
		_, err = client.Patch(ctx, e.name, types.MergePatchType, e.patch(), metav1.PatchOptions{FieldManager: "kubectl-edit"})
	}
	if err != nil {
		return fmt.Errorf("edit %s %s/%s: %w", e.kind, e.namespace, e.name, err)
	}
	return nil
}

func (e edit) patch() []byte {
	var value any = strange
	if e.kind == aSecret.kind {
		value = []byte(strange)
	}
	if e.deed == remove {
		value = nil
	}
	for i := len(e.guarded) - 1; i >= 0; i-- {
		value = map[string]any{e.guarded[i]: value}
	}
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // it is maps and text
	}
	return text
}

// asDesired tells whether the guarded field is as git has it.
func (o object) asDesired(live *unstructured.Unstructured) bool {
	want, _, _ := unstructured.NestedFieldNoCopy(o.content, o.guarded...)
	got, _, _ := unstructured.NestedFieldNoCopy(live.Object, o.guarded...)
	return reflect.DeepEqual(want, got)
}

// broken tells whether an event shows the deed.
func (e edit) broken(event watch.Event) bool {
	if event.Type == watch.Deleted {
		return true
	}
	live, ok := event.Object.(*unstructured.Unstructured)
	return ok && !e.asDesired(live)
}
