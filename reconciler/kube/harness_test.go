package kube

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/holdfast-gitops/holdfast/internal/testkit/kube"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

// world is one environment in one namespace of a real cluster, driven by hand.
type world struct {
	t         *testing.T
	config    *rest.Config
	namespace string
	name      string
	dir       string
	// objects is the client of a foreign hand.
	objects dynamic.Interface

	target *Target
	stop   func()
	// sent counts the daemon's requests but watches.
	sent atomic.Int64
	// allow, when set, may refuse a request of the daemon.
	allow atomic.Pointer[func(*http.Request) error]
	hints chan reconciler.Hint
	// good is what was last applied, by object, as a worker knows it.
	good sync.Map
	// verification is the target's, from the next start on.
	verification Verification
	// failures are what the target told where nobody waits for an answer.
	mu       sync.Mutex
	failures []string
}

var worlds atomic.Int64

func newWorld(t *testing.T) *world { return newWorldOn(t, kube.Config(t)) }

func newWorldOn(t *testing.T, config *rest.Config) *world {
	t.Helper()
	w := &world{
		t: t, config: config, namespace: kube.NamespaceIn(t, config), dir: t.TempDir(),
		name: fmt.Sprintf("env-%d-%d", time.Now().UnixNano()%1e9, worlds.Add(1)), hints: make(chan reconciler.Hint, 10000),
	}
	var err error
	if w.objects, err = dynamic.NewForConfig(w.config); err != nil {
		t.Fatal(err)
	}
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// start opens a target as a fresh process would.
func (w *world) start() {
	w.t.Helper()
	config := rest.CopyConfig(w.config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if allow := w.allow.Load(); allow != nil {
				if err := (*allow)(r); err != nil {
					return nil, err
				}
			}
			if r.URL.Query().Get("watch") == "" {
				w.sent.Add(1)
			}
			return next.RoundTrip(r)
		})
	})
	target, err := Open(Options{
		Name: "test", Config: config, StateNamespace: w.namespace, Namespaces: nil, Installation: "test",
		Version: "test", Baselines: filepath.Join(w.dir, "baselines"), Key: make([]byte, 32),
		Failed: w.failed, Verification: w.verification,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done, name := make(chan struct{}), w.name // which a test may change
	go func() {
		defer close(done)
		_ = target.Watch(ctx, func(h reconciler.Hint) {
			if h.Environment == name {
				w.hints <- h
			}
		})
	}()
	w.target = target
	w.stop = sync.OnceFunc(func() { cancel(); <-done })
}

func (w *world) failed(err error) {
	w.t.Log(err)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, err.Error())
}

func (w *world) restart() {
	w.good.Clear()
	w.t.Helper()
	w.stop()
	w.start()
}

// items parses manifests; NS stands for the world's namespace.
func (w *world) items(text string) []sources.Item {
	w.t.Helper()
	return w.parse(strings.ReplaceAll(text, "NS", w.namespace))
}

func (w *world) parse(text string) []sources.Item {
	w.t.Helper()
	items, problems := manifest.Parse("test.yaml", []byte(text), manifest.Options{})
	if len(problems) > 0 {
		w.t.Fatal(problems)
	}
	return items
}

// outcome is what a run did, by object.
type outcome struct {
	plan reconciler.Plan
	done map[string]reconciler.Outcome
	// order is the outcomes as they came.
	order []reconciler.Outcome
	err   error
}

func (w *world) run(items []sources.Item, change ...func(*reconciler.Scope)) outcome {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := w.try(ctx, items, change...)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *world) try(ctx context.Context, items []sources.Item, change ...func(*reconciler.Scope)) (outcome, error) {
	scope := reconciler.Scope{Environment: w.name}
	for _, c := range change {
		c(&scope)
	}
	ops, err := w.target.Compare(ctx, items, scope)
	if err != nil {
		return outcome{}, err
	}
	mode := environment.DriftCorrect
	if scope.ReadOnly {
		mode = environment.DriftReport
	}
	out := outcome{done: map[string]reconciler.Outcome{}}
	out.plan = reconciler.NewPlan(reconciler.Expand(ops, items), reconciler.Policy{
		Environment: w.name, Mode: environment.ModeApply, Drift: environment.Drift{Mode: mode}, Prune: true,
		Reach: reconciler.Reach{Namespaces: []string{"*"}, Cluster: true}, Wanted: len(items) + 1000,
	})
	for i := range out.plan.Operations {
		op := &out.plan.Operations[i]
		if before, known := w.good.Load(op.Object); known && before.(*sources.Item).Digest != op.Item.Digest {
			op.Before = before.(*sources.Item)
		}
	}
	if len(out.plan.Active()) > 0 {
		out.err = w.target.Apply(ctx, out.plan, func(o reconciler.Outcome) {
			out.done[o.Operation.Object.String()] = o
			out.order = append(out.order, o)
			if item := o.Operation.Item; o.Err == nil && o.Deferred == "" {
				w.good.Store(o.Operation.Object, &item)
			}
		})
	}
	return out, out.err
}

// correct waits for a hint about an object and answers it as a worker would.
func (w *world) correct(items []sources.Item, name string) reconciler.Outcome {
	w.t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case h := <-w.hints:
			i := slices.IndexFunc(items, func(i sources.Item) bool { return i.ID == h.Object })
			if i < 0 || items[i].ID.Name != name {
				continue
			}
			out := w.run(items[i:i+1], func(s *reconciler.Scope) { s.Partial = true })
			if o, ok := out.done[items[i].ID.String()]; ok && !o.Noop {
				return o
			}
		case <-timeout:
			w.t.Fatalf("no hint about %s led to a correction", name)
		}
	}
}

// kinds counts the operations of a plan by kind.
func (o outcome) kinds() string {
	count := map[reconciler.OpKind]int{}
	for _, op := range o.plan.Operations {
		count[op.Kind]++
	}
	var parts []string
	for k, n := range count {
		parts = append(parts, fmt.Sprintf("%s %d", k, n))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// errors are all errors, of comparing and of applying.
func (o outcome) errors() string {
	var all []string
	for _, op := range o.plan.Operations {
		if op.Err != nil {
			all = append(all, op.Err.Error())
		}
	}
	for _, d := range o.done {
		if d.Err != nil {
			all = append(all, d.Err.Error())
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// The resources that tests touch by foreign hand.
var (
	cms     = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	deploys = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
)

func (w *world) get(r schema.GroupVersionResource, name string) *unstructured.Unstructured {
	w.t.Helper()
	u, err := w.objects.Resource(r).Namespace(w.namespace).Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return u
}

func (w *world) exists(r schema.GroupVersionResource, name string) bool {
	_, err := w.objects.Resource(r).Namespace(w.namespace).Get(context.Background(), name, metav1.GetOptions{})
	return err == nil
}

// patch changes an object by foreign hand, as manager.
func (w *world) patch(r schema.GroupVersionResource, name, manager string, kind types.PatchType, body string) {
	w.t.Helper()
	_, err := w.objects.Resource(r).Namespace(w.namespace).Patch(context.Background(), name, kind, []byte(body), patchAs(manager, kind))
	if err != nil {
		w.t.Fatal(err)
	}
}

func patchAs(manager string, kind types.PatchType) metav1.PatchOptions {
	o := metav1.PatchOptions{FieldManager: manager}
	if kind == types.ApplyPatchType {
		force := true
		o.Force = &force
	}
	return o
}

// guard makes a fault that counts safe for requests in parallel.
func guard(f func(*http.Request) error) func(*http.Request) error {
	var mu sync.Mutex
	return func(r *http.Request) error {
		mu.Lock()
		defer mu.Unlock()
		return f(r)
	}
}

const mergePatch = types.MergePatchType

// value is a text in an object; empty if there is none.
func (w *world) value(r schema.GroupVersionResource, name string, path ...string) string {
	w.t.Helper()
	s, _, _ := unstructured.NestedString(w.get(r, name).Object, path...)
	return s
}

// after is a deadline in seconds.
func (w *world) after(seconds int) <-chan time.Time {
	return time.After(time.Duration(seconds) * time.Second)
}

var deleteNow = metav1.DeleteOptions{}

func nestedInt(u *unstructured.Unstructured, path ...string) (int64, bool, error) {
	return unstructured.NestedInt64(u.Object, path...)
}

func schemaOf(resource string) schema.GroupResource { return schema.GroupResource{Resource: resource} }

// eventually waits until something is so.
func (w *world) eventually(what string, is func() bool) {
	w.t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline:
			w.t.Fatalf("not in time: %s", what)
		case <-tick.C:
		}
	}
}
