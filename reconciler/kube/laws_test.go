package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// foreign is what others add to an object of a kind, and what is to be told of that.
type foreign struct {
	Kind   string         `json:"kind"`
	Patch  map[string]any `json:"patch"`
	Status map[string]any `json:"status"`
	Scale  map[string]any `json:"scale"`
	Extra  []string       `json:"extra"`
	// how the patch is sent; a strategic one where nothing is said.
	how types.PatchType
}

// law is one object that the laws of detection are held against.
type law struct {
	*world
	// all are what is applied, one the object among them, which is looked at.
	all, one []sources.Item
	id       sources.ID
	api      objectAPI
	foreign  foreign
	found    *found
	// written counts the daemon's writes that were no dry runs.
	written atomic.Int64
	// changed counts the changes that the server took.
	changed int
}

// lawKinds are the manifests of all kinds, one for each.
func lawKinds(t *testing.T) (docs [][]byte) {
	t.Helper()
	for _, name := range []string{"kinds.yaml", "kinds-more.yaml"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, bytes.Split(text, []byte("\n---\n"))...)
	}
	return docs
}

// The laws of detection, for the built-in kinds: applied is clean; what others add is
// none of ours, and told where that is asked for; each field that git sets, changed by
// another hand, is found and put back, and it alone, or the list or map that the server
// keeps together around it, is named, with who did it; afterwards all is clean. What the
// server does not let anybody change, or changes back by itself, is passed over.
func TestLawsOfDetectionForBuiltInKinds(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("testdata", "foreign.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var additions []foreign
	if err := yaml.UnmarshalStrict(text, &additions); err != nil {
		t.Fatal(err)
	}
	fill := filler(t)
	for _, doc := range lawKinds(t) {
		var head struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(doc, &head); err != nil {
			t.Fatal(err)
		}
		t.Run(head.Kind+"."+strings.ReplaceAll(head.APIVersion, "/", "."), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			items := w.parse(fill(string(doc), w.namespace))
			f := foreign{}
			if i := slices.IndexFunc(additions, func(f foreign) bool { return f.Kind == head.Kind }); i >= 0 {
				body := fill(string(asJSON(additions[i])), w.namespace)
				if err := json.Unmarshal([]byte(body), &f); err != nil {
					t.Fatal(err)
				}
			}
			f.how = types.StrategicMergePatchType
			if head.Kind == "CustomResourceDefinition" || head.Kind == "APIService" {
				f.how = types.MergePatchType
			}
			w.lawsOf(items, items, f)
		})
	}
}

func (w *world) lawsOf(all, one []sources.Item, f foreign) {
	w.t.Helper()
	l := &law{world: w, all: all, one: one, id: one[0].ID, foreign: f}
	if got := w.run(all, asked); got.errors() != "" || got.kinds() != fmt.Sprintf("create %d", len(all)) {
		w.t.Fatalf("%s; %s", got.kinds(), got.errors())
	}
	w.t.Cleanup(func() {
		for _, item := range all {
			if item.ID.Namespace == "" {
				w.delete(item.ID)
			}
		}
	})
	r, err := w.target.cluster.Mapper.Resource(kubelive.GroupKind(l.id))
	if err != nil {
		w.t.Fatal(err)
	}
	l.api = w.target.cluster.API(r, l.id)
	count := func(r *http.Request) error {
		if r.Method != http.MethodGet && r.URL.Query().Get("dryRun") == "" && !strings.Contains(r.URL.Path, "/leases/") {
			l.written.Add(1)
		}
		return nil
	}
	for _, verify := range []bool{false, true} {
		l.clean(fmt.Sprintf("straight after the apply, verify %v", verify), verify)
	}
	ours := placesOf(l.live(), w.target.owner(w.name).Manager)
	w.allow.Store(&count)
	l.found = w.survey()
	l.add()
	paths := map[string]bool{}
	for _, p := range ours {
		paths[p.path] = true
	}
	for i, p := range l.sample(paths) {
		l.holds(p, i == 0)
	}
	if l.changed == 0 {
		w.t.Error("none of its fields could be changed")
	}
	l.fieldsCleared()
	l.theirsStay()
}

// asked asks to be told what others add.
func asked(s *reconciler.Scope) { s.ExtraFields = true }

func (l *law) live() *unstructured.Unstructured {
	l.t.Helper()
	u, err := l.api.Get(context.Background(), l.id.Name, metav1.GetOptions{})
	if err != nil {
		l.t.Fatal(err)
	}
	return u
}

// partly is a look at the one object.
func partly(s *reconciler.Scope) { s.Partial = true }

func (l *law) clean(when string, verify bool) {
	l.t.Helper()
	got := l.run(l.all, asked, func(s *reconciler.Scope) { s.Verify = verify })
	if got.kinds() != fmt.Sprintf("unchanged %d", len(l.all)) {
		l.t.Errorf("%s: %s; %s; %+v", when, got.kinds(), got.errors(), got.plan.Operations)
	}
}

// sample are the places that are changed: all of what git sets, or some of it.
func (l *law) sample(ours map[string]bool) []place {
	all := placesOf(l.live(), l.target.owner(l.name).Manager)
	all = slices.DeleteFunc(all, func(p place) bool {
		// What is changed by its key is, to the server, another element beside ours,
		// and stays as an addition of theirs.
		return !ours[p.path] || p.key && l.id.Kind != "Service"
	})
	if os.Getenv("HOLDFAST_LONG") != "" || len(all) <= 3 {
		return all
	}
	meta := slices.IndexFunc(all, func(p place) bool { return strings.HasPrefix(p.path, ".metadata.") && !p.list })
	some := []place{all[max(meta, 0)], all[len(all)/3], all[len(all)-1]}
	if i := slices.IndexFunc(all, func(p place) bool { return p.list }); i >= 0 {
		some = append(some, all[i])
	}
	var once []place
	for _, p := range some {
		if !slices.ContainsFunc(once, func(o place) bool { return o.pointer == p.pointer && o.list == p.list }) {
			once = append(once, p)
		}
	}
	return once
}

// holds changes a place in every way: to another value, and away; the first one also
// back, and with forged managedFields.
func (l *law) holds(p place, first bool) {
	l.t.Helper()
	before := l.live()
	p, ok := p.in(placesOf(before, l.target.owner(l.name).Manager))
	if !ok {
		l.t.Errorf("%s, %s: is not what it was", p.path, p.pointer)
		return
	}
	if after := l.byHand(before, p, others(p.value)); after != nil {
		l.changed++
		if first {
			l.andBack(p, before)
			after = l.byHand(l.live(), p, others(p.value))
		}
		l.reported(p, before, after)
		l.corrected(p, before, after)
		if first {
			l.forged(p)
		}
	}
	if os.Getenv("HOLDFAST_LONG") == "" && !first || p.list {
		return
	}
	before = l.live()
	// What a hand left beside it may have moved it.
	if p, ok = p.in(placesOf(before, l.target.owner(l.name).Manager)); !ok {
		l.t.Errorf("%s, %s: is not what it was before it is taken away", p.path, p.pointer)
		return
	}
	if after := l.byHand(before, p, nil); after != nil {
		l.reported(p, before, after)
		l.corrected(p, before, after)
	}
}

// byHand changes a place as somebody else to one of some values, or takes it away where
// there are none. It is nil when the server does not take that, or keeps the value.
func (l *law) byHand(before *unstructured.Unstructured, p place, values []any) *unstructured.Unstructured {
	l.t.Helper()
	steps := make([]jsonPatch, 0, len(values))
	for _, v := range values {
		steps = append(steps, jsonPatch{Op: "replace", Path: p.pointer, Value: v})
	}
	if values == nil {
		steps = append(steps, jsonPatch{Op: "remove", Path: p.pointer})
	}
	was, _ := valueAt(before.Object, p.at)
	for _, step := range steps {
		after, err := l.api.Patch(context.Background(), l.id.Name, types.JSONPatchType, asJSON([]jsonPatch{step}), metav1.PatchOptions{FieldManager: "hand"})
		if err != nil {
			continue
		}
		if is, _ := valueAt(after.Object, p.at); string(asJSON(is)) != string(asJSON(was)) {
			return after
		}
	}
	return nil
}

func (w *world) delete(id sources.ID) {
	r, err := w.target.cluster.Mapper.Resource(kubelive.GroupKind(id))
	if err == nil {
		_ = w.target.cluster.API(r, id).Delete(context.Background(), id.Name, metav1.DeleteOptions{})
	}
}

// expect holds what is reported to what was changed, and nothing else.
func (l *law) expect(how string, p place, before, after *unstructured.Unstructured, class drift.Class, changes []drift.Change) {
	l.t.Helper()
	list, _, _ := strings.Cut(p.path, "[")
	refused := p.element() && how == "report" && len(changes) == 1 && changes[0].Path == list
	if class != drift.Changed || len(changes) != 1 || changes[0].Path != p.path && !refused {
		l.t.Errorf("%s %s: class %q, changes %+v; want %s", how, p.pointer, class, changes, p.path)
		return
	}
	c, is := changes[0], drift.Absent()
	if v, ok := valueAt(after.Object, p.at); ok {
		is = drift.NewValue(v, false)
	}
	was, _ := valueAt(before.Object, p.at)
	manager := "hand"
	switch {
	case p.element() || p.list && strings.HasPrefix(c.Live.String(), `["`) && c.Manager == drift.Unknown:
		return // what is at its place now is another element; an order is told by keys
	case !is.Present():
		manager = drift.Unknown
	}
	if c.Manager != manager {
		l.t.Errorf("%s %s: %s is said to be by %s, not %s", how, p.pointer, c.Path, c.Manager, manager)
	}
	secret := l.id.Kind == "Secret" && !strings.HasPrefix(p.path, ".metadata.labels") && p.path != ".type"
	want := drift.NewValue(was, secret).String() + " <- " + is.String()
	if secret {
		want = drift.Masked + " <- " + map[bool]string{true: drift.Masked, false: is.String()}[is.Present()]
	}
	if said := c.Desired.String() + " <- " + c.Live.String(); said != want {
		l.t.Errorf("%s %s: said %s, want %s", how, p.pointer, said, want)
	}
}
