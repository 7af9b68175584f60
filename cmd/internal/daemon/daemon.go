// Package daemon wires Holdfast together and owns every long-lived goroutine:
// the followers of sources, the watches of targets, the environments' workers,
// the HTTP server, and the reload of the configuration.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/cmd/internal/events"
	"github.com/holdfast-gitops/holdfast/cmd/internal/forge/statuses"
	"github.com/holdfast-gitops/holdfast/cmd/internal/notify"
	"github.com/holdfast-gitops/holdfast/cmd/internal/server"
	"github.com/holdfast-gitops/holdfast/cmd/internal/tracing"
	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/drift/audit"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/reconciler/ledger"
	"github.com/holdfast-gitops/holdfast/sources"
)

// Options are what the daemon is started with.
type Options struct {
	Config config.Config
	// ConfigPath is the file that Config came from; empty when it came from
	// flags. It is watched.
	ConfigPath string
	// Reload reads the configuration again; nil when there is no file.
	Reload  func() (config.Config, error)
	Logger  zerolog.Logger
	Version string
	// WatchSilence is how long a watch of a cluster may say nothing before it counts
	// as stale; zero is the usual time, which servers keep by what they send once a
	// minute.
	WatchSilence time.Duration
	// Signals brings SIGUSR1 (resync all) and SIGHUP (reload, then resync all).
	Signals <-chan os.Signal
	// Ready is called once with the address that the server listens on.
	Ready func(address string)
}

// daemon is a running Holdfast.
type daemon struct {
	opts    Options
	log     zerolog.Logger
	book    *drift.Book
	metrics *metrics
	// events tells who follows what changes.
	events *events.Hub
	ledger *ledger.Ledger
	// notifier tells people what needs them.
	notifier *notify.Notifier
	// reporter tells the hosts of repositories what becomes of commits.
	reporter *statuses.Reporter
	// people are who wrote to objects lately, as audit events say.
	people *audit.Joiner
	// tracer follows runs; nil where that is not asked for.
	tracer *tracing.Tracer
	// earlier are the last runs on record from before the start, by environment.
	earlier map[string]reconciler.Run
	// now is the generation in force; readers may hold an older one for a moment.
	now atomic.Pointer[generation]
	// reloads holds a token when the configuration is to be read again, and
	// resyncToo says that a resync was asked for with it.
	reloads   chan struct{}
	resyncToo atomic.Bool
	// blames are who wrote lines that were asked about.
	blames *blames
	// garbage says how much of it there may be.
	garbage *collector
}

// Run runs Holdfast until ctx ends, then stops it in good order. It fails if the
// data directory is in use, an address cannot be bound, or the configuration
// cannot be brought to life.
func Run(ctx context.Context, o Options) error {
	lock, err := LockDir(o.Config.DataDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	garbage := newCollector()
	garbage.allow(garbageAtWork)
	sweepMirrors(o.Config, o.Logger)
	d := &daemon{opts: o, log: o.Logger, book: drift.NewBook(), people: audit.NewJoiner(), reloads: make(chan struct{}, 1), blames: newBlames(), garbage: garbage}
	stop := d.keepRecord(ctx)
	defer stop()
	d.metrics = newMetrics(d.Environments, d.ledger.Stats)
	d.metrics.queueNow = func() (int, time.Duration) { return d.now.Load().engine.Queue() }
	d.metrics.registry.MustRegister(sourceMetrics{d.Sources})
	d.metrics.registry.MustRegister(driftMetrics{
		report: func() drift.Report { return d.Drift(reconciler.Filter{OpenOnly: true}) }, targets: d.verifying, now: time.Now,
	})
	if err := d.openNotifier(); err != nil {
		return err
	}
	d.openReporter()
	d.events = events.New(events.Options{Environments: d.Environments, Environment: d.Environment, Sources: d.Sources})
	d.metrics.registry.MustRegister(targetMetrics{d.Targets, d.events})
	stopTracing, err := d.trace(ctx)
	if err != nil {
		return err
	}
	defer stopTracing()
	first, err := build(o.Config, o, d.book, d.metrics, d.observer(), d.traces(), o.Logger)
	if err != nil {
		return err
	}
	d.now.Store(first)
	tcp, err := net.Listen("tcp", o.Config.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	socket, err := server.ListenSocket(o.Config.DataDir)
	if err != nil {
		tcp.Close()
		return err
	}
	return d.run(ctx, tcp, socket)
}

func (d *daemon) run(ctx context.Context, tcp, socket net.Listener) error {
	options := server.Options{
		Engine: d, Decider: d, Planner: d, Drifts: d, Audit: d, AuditTokenFile: d.opts.Config.Audit.TokenFile, Sources: d, Ledger: d.ledger, Ready: d.ready, Metrics: d.metrics.handler(), Logger: d.log,
		Version: d.opts.Version, Webhooks: d.webhooks(), Notifications: d, Events: d.events, Lists: d, Blamer: d, Links: d, Started: time.Now(),
	}
	if err := d.admit(&options); err != nil {
		return errors.Join(err, tcp.Close(), socket.Close())
	}
	srv := server.New(options)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return srv.Serve(ctx, tcp, socket) })
	group.Go(func() error { return d.generations(ctx) })
	group.Go(func() error { return d.signals(ctx) })
	group.Go(func() error { return trim(ctx, d.garbage, d.metrics.work, func() { srv.Rest(); d.rest() }) })
	group.Go(func() error { return d.notifier.Run(ctx) })
	group.Go(func() error { return d.reporter.Run(ctx) })
	group.Go(func() error { return d.events.Run(ctx) })
	if path := d.opts.Config.ResyncFile; path != "" {
		group.Go(func() error {
			return watchResyncFile(ctx, path, backstop, func() { d.resyncAll("resync file") })
		})
	}
	if d.opts.ConfigPath != "" {
		group.Go(func() error { return d.watchConfig(ctx) })
	}
	d.log.Info().Str("address", tcp.Addr().String()).Str("socket", socket.Addr().String()).
		Str("version", d.opts.Version).Msg("started")
	if d.opts.Ready != nil {
		d.opts.Ready(tcp.Addr().String())
	}
	err := group.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	d.log.Info().Msg("stopped")
	return err
}

// generations runs the generation in force until ctx ends or a reload brings
// another, whose environments all run at once by themselves.
func (d *daemon) generations(ctx context.Context) error {
	for {
		next, err := d.runUntilReload(ctx)
		if err != nil || next == nil {
			return err
		}
		d.now.Store(next)
		d.events.Reloaded()
		d.log.Info().Msg("configuration reloaded")
	}
}

// runUntilReload returns the next generation, after the one in force stopped.
func (d *daemon) runUntilReload(ctx context.Context) (*generation, error) {
	runCtx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- d.now.Load().run(runCtx) }()
	for {
		select {
		case err := <-ended:
			return nil, err
		case <-d.reloads:
			next := d.prepare(d.resyncToo.Swap(false))
			if next == nil {
				continue
			}
			stop()
			return next, <-ended
		}
	}
}

// prepare loads the configuration. It returns nil when nothing is to be
// replaced: because it is bad, which is said, or because it is the same.
func (d *daemon) prepare(resync bool) *generation {
	cfg, err := d.opts.Config, error(nil)
	if d.opts.Reload != nil {
		cfg, err = d.opts.Reload()
	}
	if err != nil {
		d.log.Error().Err(err).Msg("new configuration is bad; the old one stays")
		return nil
	}
	old := d.now.Load().config
	if reflect.DeepEqual(cfg, old) {
		if resync {
			d.resyncAll("SIGHUP")
		}
		return nil
	}
	if cfg.Listen != old.Listen || cfg.DataDir != old.DataDir || cfg.Ledger != old.Ledger || !reflect.DeepEqual(cfg.Server, old.Server) {
		d.log.Warn().Msg("listen, dataDir, ledger and server take effect at the next start")
		cfg.Listen, cfg.DataDir, cfg.Ledger, cfg.Server = old.Listen, old.DataDir, old.Ledger, old.Server
	}
	if cfg.ResyncFile != old.ResyncFile || cfg.Tracing != old.Tracing || !reflect.DeepEqual(cfg.Notifications, old.Notifications) {
		d.log.Warn().Msg("notifications, resyncFile and tracing take effect at the next start")
		cfg.ResyncFile, cfg.Tracing, cfg.Notifications = old.ResyncFile, old.Tracing, old.Notifications
	}
	next, err := build(cfg, d.opts, d.book, d.metrics, d.observer(), d.traces(), d.log)
	if err != nil {
		d.log.Error().Err(err).Msg("new configuration cannot be used; the old one stays")
		return nil
	}
	return next
}

// signals serves SIGUSR1 and SIGHUP.
func (d *daemon) signals(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-d.opts.Signals:
			switch s {
			case syscall.SIGUSR1:
				d.resyncAll("SIGUSR1")
			case syscall.SIGHUP:
				d.requestReload(true)
			}
		}
	}
}

func (d *daemon) requestReload(resync bool) {
	if resync {
		d.resyncToo.Store(true)
	}
	select {
	case d.reloads <- struct{}{}:
	default: // one is waiting already, and reads the newest file
	}
}

func (d *daemon) resyncAll(actor string) {
	runs, err := d.Resync(nil, reconciler.Trigger{Reason: reconciler.ReasonOnCall, Actor: actor})
	if err != nil {
		d.log.Error().Err(err).Msg("resync")
		return
	}
	for _, r := range runs {
		a := ledger.Action{At: time.Now(), Actor: actor, Verb: "resync", Environment: r.Environment, Outcome: r.ID}
		d.ledger.Record(a)
		d.events.Acted(a)
		d.log.Info().Str("environment", r.Environment).Str("run", r.ID).Str("actor", actor).Msg("resync asked for")
	}
}

// ready says whether every source was looked at and every environment has had a
// run since the start.
func (d *daemon) ready() error {
	all := d.Environments()
	if len(all) == 0 {
		for name, problems := range d.SourceProblems() {
			return fmt.Errorf("source %s: %w", name, problems)
		}
		return errors.New("no environment is known yet")
	}
	for _, s := range all {
		if s.LastRun == nil && s.Sync == reconciler.SyncPending {
			return fmt.Errorf("environment %s has not been compared yet", s.Name)
		}
	}
	return nil
}

// The methods below are the server's view of the engine in force.

// Environments implements server.Engine.
func (d *daemon) Environments() []reconciler.Status {
	all := d.now.Load().engine.Environments()
	for i := range all {
		d.addEarlier(&all[i])
	}
	return all
}

// SourceProblems implements server.Engine.
func (d *daemon) SourceProblems() map[string]sources.Problems {
	return d.now.Load().engine.SourceProblems()
}

// Environment implements server.Engine.
func (d *daemon) Environment(name string) (reconciler.Status, bool) {
	s, ok := d.now.Load().engine.Environment(name)
	d.addEarlier(&s)
	return s, ok
}

// Drift implements server.Engine.
func (d *daemon) Drift(f reconciler.Filter) reconciler.Report { return d.now.Load().engine.Drift(f) }

// Resync implements server.Engine.
func (d *daemon) Resync(names []string, t reconciler.Trigger) ([]reconciler.Run, error) {
	return d.now.Load().engine.Resync(names, t)
}

// Wait implements server.Engine.
func (d *daemon) Wait(ctx context.Context, id string) (reconciler.Run, error) {
	return d.now.Load().engine.Wait(ctx, id)
}

// LastResync implements server.Engine.
func (d *daemon) LastResync() []reconciler.Run { return d.now.Load().engine.LastResync() }

// debounce is how long the configuration file must be quiet before it is read.
const debounce = 100 * time.Millisecond
