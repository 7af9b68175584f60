package kube

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// found is what a target's surveys have told so far, as the engine keeps it.
type found struct {
	mu       sync.Mutex
	foreign  map[sources.ID]reconciler.Foreign
	complete int
}

func (w *world) survey() *found {
	f := &found{foreign: map[sources.ID]reconciler.Foreign{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.target.Survey(ctx, func(s reconciler.Survey) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if s.Complete {
				f.complete++
				clear(f.foreign)
			}
			for _, one := range s.Found {
				if len(one.Changes) == 0 {
					delete(f.foreign, one.Object)
				} else {
					f.foreign[one.Object] = one
				}
			}
		})
	}()
	w.t.Cleanup(func() { cancel(); <-done })
	return f
}

// again asks for a look through everything, and waits for it.
func (w *world) again(f *found) {
	w.t.Helper()
	s := w.target.surveys
	s.mu.Lock()
	q := s.questions[w.name]
	q.due = time.Now()
	s.questions[w.name] = q
	s.mu.Unlock()
	f.mu.Lock()
	before := f.complete
	f.mu.Unlock()
	s.signal()
	w.eventually("all was looked through", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.complete > before
	})
}

func (f *found) get(id sources.ID) (reconciler.Foreign, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	one, ok := f.foreign[id]
	return one, ok
}

func (f *found) names() (out []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, one := range f.foreign {
		out = append(out, string(one.Class)+" "+id.Kind+"/"+id.Name)
	}
	slices.Sort(out)
	return out
}

func (w *world) create(kind, name string, body map[string]any) {
	w.t.Helper()
	u := &unstructured.Unstructured{Object: body}
	u.SetAPIVersion("v1")
	u.SetKind(kind)
	u.SetName(name)
	resource := cms
	if kind == "Secret" {
		resource.Resource = "secrets"
	}
	if _, err := w.objects.Resource(resource).Namespace(w.namespace).Create(context.Background(), u, metav1.CreateOptions{FieldManager: "kubectl-create"}); err != nil {
		w.t.Fatal(err)
	}
}

// What others add to our objects is told where that is asked for, at once, with
// who and what, and never put back; it ends when it is gone.
func TestFieldsOfOthersAreToldWhereAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	asked := func(s *reconciler.Scope) { s.ExtraFields = true }
	items := w.items(shop + "\n---\n" + `{apiVersion: v1, kind: Secret, metadata: {name: door, namespace: NS}, data: {a: YQ==}}`)
	w.run(items, asked)
	f := w.survey()
	w.again(f)
	if names := f.names(); len(names) != 0 {
		t.Fatalf("straight after the apply: %v", names)
	}
	settings := sources.ID{Kind: "ConfigMap", Namespace: w.namespace, Name: "settings"}
	w.patch(cms, "settings", "flag-controller", mergePatch, `{"data":{"extra":"1"},"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"planted-last","holdfast.dev/hold-until":"2001-01-01T00:00:00Z"}}}`)
	secrets := cms
	secrets.Resource = "secrets"
	w.patch(secrets, "door", "flag-controller", mergePatch, `{"stringData":{"b":"planted-value"}}`)
	w.patch(deploys, "web", "kubectl-edit", types.StrategicMergePatchType, `{"spec":{"template":{"spec":{"containers":[{"name":"sidecar","image":"example.com/sidecar:1"}]}}}}`)
	w.eventually("the additions are told", func() bool { return len(f.names()) == 3 })
	one, _ := f.get(settings)
	var paths []string
	for _, c := range one.Changes {
		paths = append(paths, c.Path)
		if c.Manager != "flag-controller" || c.Time.IsZero() || c.Desired.Present() {
			t.Errorf("%+v", c)
		}
		if strings.Contains(c.Live.String(), "planted") {
			t.Errorf("%s shows a secret", c.Path)
		}
	}
	if strings.Join(paths, " ") != `.data.extra .metadata.annotations["kubectl.kubernetes.io/last-applied-configuration"]` || one.Changes[0].Live.String() != `"1"` {
		t.Errorf("of the ConfigMap: %v, %s", paths, one.Changes[0].Live)
	}
	door, _ := f.get(sources.ID{Kind: "Secret", Namespace: w.namespace, Name: "door"})
	if len(door.Changes) != 1 || door.Changes[0].Path != ".data.b" || door.Changes[0].Live.String() != drift.Masked {
		t.Errorf("of the Secret: %+v", door.Changes)
	}
	web, _ := f.get(sources.ID{Group: "apps", Kind: "Deployment", Namespace: w.namespace, Name: "web"})
	if len(web.Changes) != 1 || web.Changes[0].Path != ".spec.template.spec.containers[name=sidecar]" || web.Class != drift.ExtraField {
		t.Errorf("of the Deployment: %+v", web.Changes)
	}
	if got := w.run(items, asked); strings.Contains(got.kinds(), ",") || !strings.HasPrefix(got.kinds(), "unchanged ") || got.errors() != "" {
		t.Errorf("a run afterwards: %s; %s", got.kinds(), got.errors())
	}
	if w.get(cms, "settings").Object["data"].(map[string]any)["extra"] != "1" {
		t.Error("the addition was taken away")
	}
	w.patch(cms, "settings", "flag-controller", mergePatch, `{"data":{"extra":null},"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":null}}}`)
	w.eventually("what is gone is told no more", func() bool { _, is := f.get(settings); return !is })
	w.again(f)
	if names := f.names(); len(names) != 2 {
		t.Errorf("a look through everything finds %v", names)
	}
	before := f.complete
	w.run(items) // nobody asks any more
	w.eventually("it ends where nobody asks", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.complete > before && len(f.foreign) == 0
	})
}

// A field of git's that somebody changed has drifted; it is no addition of theirs,
// whether it is put back or stays, and whatever of its element's key git leaves out.
func TestWhatDriftedIsNoAddition(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	asked := func(s *reconciler.Scope) { s.ExtraFields, s.ReadOnly = true, true }
	items := w.items(shop)
	w.run(items)
	w.run(items, asked)
	f := w.survey()
	w.again(f)
	services := cms
	services.Resource = "services"
	w.patch(services, "web", "hand", types.StrategicMergePatchType, `{"spec":{"ports":[{"port":80,"targetPort":9090}]}}`)
	w.patch(cms, "settings", "hand", mergePatch, `{"data":{"color":"red","theirs":"1"}}`)
	w.patch(deploys, "web", "hand", types.StrategicMergePatchType, `{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"example.com/web:9","tty":true}]}}}}`)
	const want = "extra-field ConfigMap/settings, extra-field Deployment/web"
	w.eventually("what was added is told", func() bool { return strings.Join(f.names(), ", ") == want })
	w.again(f)
	if names := strings.Join(f.names(), ", "); names != want {
		t.Errorf("a look through everything tells of %s", names)
	}
	for id, want := range map[sources.ID]string{
		{Kind: "ConfigMap", Namespace: w.namespace, Name: "settings"}:            ".data.theirs",
		{Group: "apps", Kind: "Deployment", Namespace: w.namespace, Name: "web"}: ".spec.template.spec.containers[name=web].tty",
	} {
		one, _ := f.get(id)
		if len(one.Changes) != 1 || one.Changes[0].Path != want {
			t.Errorf("of %s: %+v, want %s", id, one.Changes, want)
		}
	}
}

// Objects that belong to nobody are told where that is asked for; those that
// belong to somebody are not, and a copy is said to be one.
func TestObjectsOfNobodyAreToldWhereAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop + "\n---\n" + `{apiVersion: v1, kind: Secret, metadata: {name: door, namespace: NS}, data: {a: YQ==}}`)
	asked := func(s *reconciler.Scope) { s.Unmanaged = true }
	w.run(items, asked)
	f := w.survey()
	w.again(f)
	if names := f.names(); len(names) != 0 {
		t.Fatalf("what every namespace has: %v", names)
	}
	w.create("ConfigMap", "stray", map[string]any{"data": map[string]any{"a": "b"}})
	w.create("Secret", "sh.helm.release.v1.web.v1", map[string]any{})
	w.create("Secret", "forgotten", map[string]any{"stringData": map[string]any{"a": "planted"}})
	owner := w.get(cms, "settings")
	w.create("ConfigMap", "made-by-a-controller", map[string]any{"metadata": map[string]any{"ownerReferences": []any{map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "name": "settings", "uid": string(owner.GetUID()), "controller": true,
	}}}})
	w.create("ConfigMap", "of-another", map[string]any{"metadata": map[string]any{"labels": map[string]any{"holdfast.dev/environment": "another"}}})
	w.create("ConfigMap", "copy", map[string]any{"metadata": map[string]any{"labels": map[string]any{
		"holdfast.dev/environment": w.name, "applyset.kubernetes.io/part-of": owner.GetLabels()["applyset.kubernetes.io/part-of"],
	}}})
	w.again(f)
	if got := strings.Join(f.names(), ", "); got != "unmanaged ConfigMap/copy, unmanaged ConfigMap/stray, unmanaged Secret/forgotten" {
		t.Errorf("found: %s", got)
	}
	stray, _ := f.get(sources.ID{Kind: "ConfigMap", Namespace: w.namespace, Name: "stray"})
	if len(stray.Changes) != 1 || stray.Changes[0].Manager != "kubectl-create" || stray.Changes[0].Time.IsZero() {
		t.Errorf("who made it: %+v", stray.Changes)
	}
	if copied, _ := f.get(sources.ID{Kind: "ConfigMap", Namespace: w.namespace, Name: "copy"}); !strings.Contains(copied.Note, "like a copy") {
		t.Errorf("of the copy it is said: %q", copied.Note)
	}
	w.run(items, asked)
	for _, name := range []string{"stray", "copy"} {
		if !w.exists(cms, name) {
			t.Errorf("%s was deleted", name)
		}
	}
	if err := w.objects.Resource(cms).Namespace(w.namespace).Delete(context.Background(), "stray", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.again(f)
	if _, is := f.get(sources.ID{Kind: "ConfigMap", Namespace: w.namespace, Name: "stray"}); is {
		t.Error("what was deleted is still told")
	}
}

// Where nobody asks, a survey sends nothing.
func TestASurveyThatNobodyAsksForSendsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	items := w.items(shop)
	w.run(items)
	f := w.survey()
	before := w.sent.Load()
	w.run(items)
	w.target.surveys.signal()
	if len(w.target.surveys.questions) != 0 || w.sent.Load() != before || len(f.names()) != 0 {
		t.Errorf("%d requests, %d questions", w.sent.Load()-before, len(w.target.surveys.questions))
	}
}
