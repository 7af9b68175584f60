package kube

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling"
	"github.com/fluxcd/pkg/ssa"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// Options describe one target.
type Options struct {
	// Name is the target's name in the daemon's configuration.
	Name   string
	Config *rest.Config
	// StateNamespace is where the environments' parent objects live. It is made
	// if it is missing and CreateState is set.
	StateNamespace string
	CreateState    bool
	// Namespaces limits what is watched and looked for; nil is the whole cluster.
	Namespaces []string
	// Installation names the daemon that owns the environments here.
	Installation string
	// Version goes into the parents' tooling annotation.
	Version string
	// Concurrency bounds the requests in flight; default 20.
	Concurrency int
	// RequestTimeout bounds one request; default 30 s.
	RequestTimeout time.Duration
	// Baselines is the file that keeps baselines over restarts; empty: none does.
	Baselines string
	// Key keys the digests of sensitive items.
	Key []byte
	// Failed is told what went wrong where nobody waits for an answer.
	Failed func(error)
}

// Target is one cluster. Make it with Open; it works while Watch runs.
type Target struct {
	opts    Options
	cluster *kubelive.Cluster
	ssa     *ssa.ResourceManager
	// slots bounds the requests in flight.
	slots chan struct{}

	mu      sync.Mutex
	parents map[string]*parent
	// settled holds, by environment, the last comparison that found nothing.
	settled map[string]settled
	// kinds are what each environment depends on.
	kinds   map[string]map[schema.GroupKind]bool
	changed func(reconciler.Hint)
}

// FieldManager is the manager of what belongs to no environment: parents.
const FieldManager = "holdfast"

// Open makes the clients of a target. It sends nothing.
func Open(o Options) (*Target, error) {
	o.Concurrency = cmp.Or(o.Concurrency, 20)
	o.RequestTimeout = cmp.Or(o.RequestTimeout, 30*time.Second)
	config := rest.CopyConfig(o.Config)
	// Our own slots bound the load; a second limiter would only add delay.
	config.QPS = -1
	config.UserAgent = "holdfast/" + o.Version
	t := &Target{opts: o, slots: make(chan struct{}, o.Concurrency), parents: map[string]*parent{}, settled: map[string]settled{}, kinds: map[string]map[schema.GroupKind]bool{}}
	cluster, err := kubelive.Open(kubelive.Options{
		Config: config, Namespaces: o.Namespaces, Changed: t.hint, Failed: o.Failed,
		Baselines: kubelive.BaselineFile{Path: o.Baselines},
	})
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", o.Name, err)
	}
	t.cluster = cluster
	uncached, err := client.New(config, client.Options{Mapper: cluster.Mapper.RESTMapper()})
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", o.Name, err)
	}
	poller := polling.NewStatusPoller(uncached, cluster.Mapper.RESTMapper(), polling.Options{})
	t.ssa = ssa.NewResourceManager(uncached, poller, ssa.Owner{Field: FieldManager, Group: "holdfast.dev"})
	return t, nil
}

// hint passes on what the index noticed.
func (t *Target) hint(h kubelive.Hint) {
	t.mu.Lock()
	changed := t.changed
	t.mu.Unlock()
	if changed != nil {
		changed(reconciler.Hint{Environment: h.Environment, Object: h.Object, Seen: time.Now()})
	}
}

// Watch implements reconciler.Driver.
func (t *Target) Watch(ctx context.Context, changed func(reconciler.Hint)) error {
	t.mu.Lock()
	t.changed = changed
	t.mu.Unlock()
	return t.cluster.Run(ctx)
}

// Health implements reconciler.Driver: it looks at the watches of the kinds that
// the environment has, so that nobody suffers from another's.
func (t *Target) Health(environment string) (time.Time, []string) {
	t.mu.Lock()
	used := t.kinds[environment]
	t.mu.Unlock()
	asOf, broken := t.cluster.Watcher.AsOf(func(gk schema.GroupKind) bool { return used[gk] })
	var problems []string
	for _, err := range broken {
		problems = append(problems, err.Error())
	}
	return asOf, problems
}

// Namespaced says where a kind lives, for rendering; known is false when the
// cluster does not serve it.
func (t *Target) Namespaced(group, kind string) (namespaced, known bool) {
	return t.cluster.Mapper.Namespaced(group, kind)
}

// Objects is how many live objects the target's index holds.
func (t *Target) Objects() int { return t.cluster.Index.Len() }

func (t *Target) owner(environment string) kubelive.Owner {
	return kubelive.NewOwner(environment, t.opts.StateNamespace)
}

// each calls do for every element, at most the target's concurrency at once
// across all environments, and returns when all are done or ctx has ended.
func each[E any](ctx context.Context, t *Target, list []E, do func(context.Context, E)) {
	var all sync.WaitGroup
	defer all.Wait()
	for _, element := range list {
		select {
		case t.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		all.Go(func() {
			defer func() { <-t.slots }()
			ctx, cancel := context.WithTimeout(ctx, t.opts.RequestTimeout)
			defer cancel()
			do(ctx, element)
		})
	}
}
