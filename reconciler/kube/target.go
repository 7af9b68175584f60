package kube

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling"
	"github.com/fluxcd/pkg/ssa"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-gitops/holdfast/drift/kubelive"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
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
	// NoHoldAnnotation: the parents' hold annotation does not count.
	NoHoldAnnotation bool
	// NoEvents: objects that were put back get no Event.
	NoEvents bool
	// Silence is how long a watch may say nothing before it counts as stale; zero is
	// the usual time.
	Silence time.Duration
	// Holder names this daemon among those that want the target's lease, as in
	// "host-1f2e3d". Without one no lease is needed to write.
	Holder string
	// Verification is the pace at which everything is read in the background.
	Verification Verification
	// Failed is told what went wrong where nobody waits for an answer.
	Failed func(error)
}

// Target is one cluster. Make it with Open; it works while Watch runs.
type Target struct {
	opts    Options
	cluster *kubelive.Cluster
	ssa     *ssa.ResourceManager
	// slots bounds the requests in flight.
	slots *slots
	// states is what people decided about the environments.
	states states

	mu      sync.Mutex
	parents map[string]*parent
	// settled holds, by environment, the last comparison that found nothing.
	settled map[string]settled
	// kinds are what each environment depends on.
	kinds   map[string]map[schema.GroupKind]bool
	changed func(reconciler.Hint)
	// identities are who writes, by environment; clients are by identity.
	identities map[string]string
	clients    map[string]dynamic.Interface
	// yields are the fields that were left to other managers, by object.
	yields map[sources.ID][]string
	// conflicts are the rules that each environment had last.
	conflicts map[string]environment.Conflicts

	// verified is when a verification last saw everything, doubted what they found.
	verified time.Time
	doubted  int
	pacer    pacer
	// told are the problems that were told already, by what they are about.
	told map[string]string

	// requests counts those that are sent.
	requests *requests
	config   *rest.Config
	lease    *lease
	objects  *kubelive.ObjectWatches
	scalers  *scalers
	health   *health
	// announcer leaves events on objects that were put back, and surveys finds what
	// others add.
	announcer *announcer
	surveys   *surveys
	// reactions are changes of definitions and admission.
	reactions *reactions
	// trees are what belongs to objects that somebody looks at.
	trees trees
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
	sent := newRequests()
	config.Wrap(sent.wrap)
	config.UserAgent = "holdfast/" + o.Version
	t := &Target{
		opts: o, slots: newSlots(o.Concurrency), config: config, requests: sent,
		states:  states{objects: map[string]*unstructured.Unstructured{}},
		parents: map[string]*parent{}, settled: map[string]settled{}, kinds: map[string]map[schema.GroupKind]bool{},
		identities: map[string]string{}, clients: map[string]dynamic.Interface{}, yields: map[sources.ID][]string{},
		told: map[string]string{}, conflicts: map[string]environment.Conflicts{}, health: newHealth(), announcer: newAnnouncer(), surveys: newSurveys(), reactions: newReactions(),
	}
	cluster, err := kubelive.Open(kubelive.Options{
		Config: config, Namespaces: o.Namespaces, Changed: t.hint, Failed: o.Failed, Silence: o.Silence,
		Baselines: kubelive.BaselineFile{Path: o.Baselines},
	})
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", o.Name, err)
	}
	t.cluster = cluster
	cluster.Index.TellAdditions(t.surveys.hint)
	t.objects = cluster.NewObjectWatches()
	t.scalers = newScalers(cluster.Index.Touch)
	if o.Holder != "" {
		t.lease = &lease{
			objects: cluster.Objects, namespace: o.StateNamespace, name: leaseName(o.Installation), holder: o.Holder,
			length: leaseLength, renew: leaseRenew, margin: leaseMargin,
		}
		if o.CreateState {
			t.lease.prepare = t.createState
		}
	}
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
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { _ = t.objects.Run(ctx) }) // it ends with ctx, and without an error
	all.Go(func() { t.keepRecords(ctx) })
	all.Go(func() { t.diagnose(ctx) })
	all.Go(func() { t.announce(ctx) })
	all.Go(func() { t.keepVerifying(ctx) })
	all.Go(func() { t.react(ctx) })
	return t.cluster.Run(ctx)
}

// tellOnce tells of a problem where nobody waits for an answer, once for each
// thing that it is about until that is well again.
func (t *Target) tellOnce(about string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	t.mu.Lock()
	fresh := text != "" && t.told[about] != text
	t.told[about] = text
	t.mu.Unlock()
	if fresh && t.opts.Failed != nil {
		t.opts.Failed(fmt.Errorf("%s: %w", about, err))
	}
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

// Serves tells the cluster's version and the API versions and kinds it serves.
func (t *Target) Serves() (version string, apis []string, err error) {
	return t.cluster.Mapper.Serves()
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
