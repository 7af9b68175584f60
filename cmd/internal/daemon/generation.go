package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/cmd/internal/forge/statuses"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/internal/redact"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/environment"
	"github.com/holdfast-gitops/holdfast/sources/gitrepo"
	"github.com/holdfast-gitops/holdfast/sources/localdir"
	"github.com/holdfast-gitops/holdfast/sources/render"
)

// generation is everything that one configuration brings to life. A reload
// builds the next one whole, stops this one, then starts that one, so that two
// never write at once.
type generation struct {
	config    config.Config
	engine    *reconciler.Engine
	targets   map[string]*target
	followers map[string]*follower
	// tellers are where to tell what becomes of a source's commits.
	tellers map[string]statuses.Target
}

// build does all that can fail, and starts nothing.
func build(cfg config.Config, from Options, book *drift.Book, m *metrics, o reconciler.Observer, tracer reconciler.Tracer, log zerolog.Logger) (*generation, error) {
	g := &generation{config: cfg, targets: map[string]*target{}, followers: map[string]*follower{}, tellers: map[string]statuses.Target{}}
	drivers := map[string]reconciler.Driver{}
	var problems []error
	for _, c := range cfg.Targets {
		t, err := openTarget(c, cfg, from, log)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		g.targets[c.Name], drivers[c.Name] = t, t.driver
	}
	secrets := new(redact.Redactor)
	g.engine = reconciler.New(reconciler.Options{
		Scrub:   secrets.Scrub,
		Drivers: drivers, Refresh: g.refresh, At: g.at, Reach: g.reachOf, Observer: o, Tracer: tracer, Log: log, Book: book, Version: from.Version,
	})
	renderer, err := newRenderer(cfg, secrets)
	if err != nil {
		problems = append(problems, err)
	}
	for _, c := range cfg.Sources {
		src, err := openSource(c, cfg.DataDir)
		if err != nil {
			problems = append(problems, fmt.Errorf("source %s: %w", c.Name, err))
			continue
		}
		if t, ok, err := openTeller(c); err != nil {
			problems = append(problems, err)
		} else if ok {
			g.tellers[c.Name] = t
		}
		f := g.follower(c, src, renderer, m, log)
		if w, ok := o.(interface{ SourceChanged(string) }); ok {
			f.told = func() { w.SourceChanged(c.Name) }
		}
		if l, ok := o.(mover); ok {
			f.noteMoved = l.Moved
		}
		g.followers[c.Name] = f
	}
	return g, errors.Join(problems...)
}

func openSource(c config.Source, dataDir string) (source, error) {
	if c.Dir != "" {
		return localdir.Open(dirOptions(c))
	}
	if c.OCI() {
		return openArtifact(c, dataDir)
	}
	o := c.Git()
	// Of these credentials alone: what a server gives depends on who asks.
	o.Dir = filepath.Join(mirrorDir(dataDir), o.Identity())
	return gitrepo.Open(following(c, o))
}

func (g *generation) follower(c config.Source, src source, renderer *render.Renderer, m *metrics, log zerolog.Logger) *follower {
	f := &follower{
		name: c.Name, source: src, interval: c.Interval, engine: g.engine, metrics: m,
		log: log.With().Str("source", c.Name).Logger(), work: make(chan struct{}, 1),
		changed: make(chan struct{}, 1), now: time.Now, elsewhere: newElsewhere(c.Name, g.lender(c.Name)),
		moved:  func() { g.moved(c.Name) },
		config: c, guard: newGuard(g.config.DataDir, c, src),
	}
	f.find = func(tree sources.Tree) (*environment.Repository, error) {
		if c.Implicit != nil {
			return &environment.Repository{Specs: []environment.Spec{*c.Implicit}}, nil
		}
		return environment.Read(tree, c.Environments)
	}
	f.assignment = func(l *lease, spec environment.Spec) reconciler.Assignment {
		a := reconciler.Assignment{
			Spec: spec, Source: c.Name, Revision: l.snap.Revision,
			Reach: g.reach(c, spec.Target),
		}
		if t := g.targets[spec.Target]; t != nil {
			a.Identity, a.Problem = identityOf(c, spec, t.namespace)
		}
		a.Render = func(ctx context.Context) ([]sources.Item, error) { return f.render(ctx, l, spec) }
		return a
	}
	f.render = func(ctx context.Context, l *lease, spec environment.Spec) ([]sources.Item, error) {
		return g.render(ctx, renderer, c, l, spec)
	}
	return f
}

func (g *generation) render(ctx context.Context, renderer *render.Renderer, c config.Source, l *lease, spec environment.Spec) ([]sources.Item, error) {
	if !l.acquire() {
		return nil, reconciler.ErrSuperseded
	}
	defer l.release()
	req, err := g.request(c, spec)
	if err != nil {
		return nil, err
	}
	req.Tree = l.snap.Tree
	out, err := renderer.Render(ctx, req)
	return out.Items, err
}

// reachOf is what the source of a name was granted in a target.
func (g *generation) reachOf(source, target string) reconciler.Reach {
	f := g.followers[source]
	if f == nil {
		return reconciler.Reach{}
	}
	return g.reach(f.config, target)
}

// reach adds up what a source was granted in a target.
func (g *generation) reach(c config.Source, targetName string) reconciler.Reach {
	var out reconciler.Reach
	t := g.targets[targetName]
	for _, grant := range c.Grants {
		if t == nil || grant.Target != targetName {
			continue
		}
		r := reachIn(grant, t.contextNamespace)
		out.Cluster = out.Cluster || r.Cluster
		out.Namespaces = append(out.Namespaces, r.Namespaces...)
	}
	return out
}

func reachIn(g config.Grant, contextNamespace string) reconciler.Reach {
	r := reconciler.Reach{Namespaces: g.Namespaces, Cluster: g.Cluster}
	if g.ContextNamespace {
		r.Namespaces = append([]string{contextNamespace}, r.Namespaces...)
	}
	return r
}

// refresh implements the engine's wish to ask a source now.
func (g *generation) refresh(ctx context.Context, name string) error {
	f := g.followers[name]
	if f == nil {
		return fmt.Errorf("no source %q in the configuration", name)
	}
	for _, used := range f.elsewhere.using() {
		if other := g.followers[used]; other != nil && other != f {
			// How that went is told at the environments that need it.
			_ = other.refresh(ctx)
		}
	}
	defer g.moved(name)
	return f.refresh(ctx)
}

// moved makes the followers look that take files from a source.
func (g *generation) moved(name string) {
	for _, f := range g.followers {
		if f.name != name && slices.Contains(f.elsewhere.using(), name) {
			f.signal()
		}
	}
}

// lender gives followers whose files a source's environments may take.
func (g *generation) lender(borrower string) func(string) (*follower, error) {
	return func(name string) (*follower, error) {
		f := g.followers[name]
		if f == nil {
			return nil, sources.Problem{
				Message: fmt.Sprintf("there is no source %q in the daemon's configuration", name),
				Hint:    "there are: " + strings.Join(slices.Sorted(maps.Keys(g.followers)), ", "),
			}
		}
		if name != borrower && !f.config.SharesWith(borrower) {
			return nil, sources.Problem{
				Message: fmt.Sprintf("source %q is not shared with source %q", name, borrower),
				Hint:    "write sharedWith: [" + borrower + "] at it in the daemon's configuration",
			}
		}
		return f, nil
	}
}

// awaitAll waits for all, but not for ever.
func awaitAll(ctx context.Context, all *sync.WaitGroup, limit time.Duration) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		all.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	case <-time.After(limit):
	}
}

// run blocks until ctx ends and all that it started has stopped.
func (g *generation) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	var led sync.WaitGroup
	for name, t := range g.targets {
		led.Add(1)
		g.serve(ctx, group, name, t.driver, sync.OnceFunc(led.Done))
	}
	group.Go(func() error {
		awaitAll(ctx, &led, leadWait)
		return g.engine.Run(ctx)
	})
	for _, f := range g.followers {
		group.Go(func() error { return f.run(ctx) })
	}
	return group.Wait()
}
