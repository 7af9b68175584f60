package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/cmd/internal/daemon"
	"github.com/holdfast-gitops/holdfast/sources"
)

// runFlags are what `run` is told.
type runFlags struct {
	file     string
	implicit config.ImplicitOptions
	grant    string
	over     config.Overrides
	// given are the names of the flags that were said.
	given map[string]bool
}

// onlyImplicit are the flags of the form without a file.
var onlyImplicit = []string{"repo", "ref", "path", "grant", "interval"}

func (a *app) runCommand() *cobra.Command {
	f := &runFlags{}
	c := &cobra.Command{
		Use: "run (--config FILE | --repo URL)", Short: "Follow repositories and keep clusters as they say",
		Long: `Follow repositories and keep clusters as they say: apply what changes, put back
what drifts.

With --config it does so for the sources and targets of a file. Without a file,
--repo, --ref and --path name one folder of plain manifests or a kustomization.
It may then touch the namespace of the kubeconfig's context, or with --grant
cluster everything.

SIGUSR1 resyncs every environment, and so does touching the file of
--resync-file. SIGHUP reads the file again and then resyncs.
SIGINT and SIGTERM stop in good order, a second one at once.
` + exitHelp,
		Example: `  holdfast run --repo https://example.org/shop.git --ref main --path deploy
  holdfast run --repo . --path deploy --grant cluster
  holdfast run --config /etc/holdfast/holdfast.yaml`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f.given = map[string]bool{}
			c.Flags().Visit(func(flag *pflag.Flag) { f.given[flag.Name] = true })
			return a.run(c.Context(), f)
		},
	}
	f.register(c.Flags())
	return c
}

func (f *runFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.file, "config", "", "the daemon's file")
	flags.StringVar(&f.implicit.Repo, "repo", "", "url of a git repository, or a local directory")
	flags.StringVar(&f.implicit.Ref, "ref", "", "branch, tag or commit (default: the repository's default branch)")
	flags.StringVar(&f.implicit.Path, "path", ".", "folder to apply")
	flags.StringVar(&f.grant, "grant", string(config.GrantNamespace), "what may be touched: namespace or cluster")
	flags.DurationVar(&f.implicit.Interval, "interval", config.DefaultInterval, "how often the source is looked at")
	flags.StringVar(&f.over.Kubeconfig, "kubeconfig", "", "kubeconfig (default: in-cluster, else KUBECONFIG or ~/.kube/config)")
	flags.StringVar(&f.over.Context, "context", "", "context of the kubeconfig")
	flags.StringVar(&f.over.Listen, "listen", "", "address for HTTP (default "+config.DefaultListen+")")
	flags.BoolVar(&f.over.AllowNonLoopback, "allow-non-loopback", false, "allow --listen on an address that other machines reach")
	flags.StringVar(&f.over.TokenFile, "token-file", "", "file of the token that callers over TCP need to change something")
	flags.StringVar(&f.over.DataDir, "data-dir", "", "data directory (default "+config.DefaultDataDir()+")")
	flags.StringVar(&f.over.ResyncFile, "resync-file", "", "resync every environment when this file is touched")
	flags.StringVar(&f.over.LogLevel, "log-level", "", "trace, debug, info, warn or error (default info)")
	flags.StringVar(&f.over.LogFormat, "log-format", "", "auto, json or console (default auto)")
}

// load reads the configuration; a reload does it again.
func (f *runFlags) load() (config.Config, error) {
	var c config.Config
	var err error
	if f.file != "" {
		c, err = config.Load(f.file)
	} else {
		f.implicit.Grant = config.GrantScope(f.grant)
		c, err = config.Implicit(f.implicit)
	}
	if err != nil {
		return config.Config{}, err
	}
	return c.With(f.over)
}

// check says whether the two forms are mixed up.
func (f *runFlags) check() error {
	if f.file == "" && f.implicit.Repo == "" {
		return usage{"there is nothing to follow", "say --config FILE, or --repo URL and --path DIR"}
	}
	if f.file == "" {
		return nil
	}
	for _, name := range onlyImplicit {
		if f.given[name] {
			return usage{"--" + name + " is for running without a file", "write it into the file, or leave --config out"}
		}
	}
	return nil
}

func (a *app) run(ctx context.Context, f *runFlags) error {
	if err := f.check(); err != nil {
		return invalid(err)
	}
	c, err := f.load()
	if err != nil {
		var problems sources.Problems
		var problem sources.Problem
		if errors.As(err, &problems) || errors.As(err, &problem) {
			return invalid(err)
		}
		return failed(err)
	}
	log := newLogger(a.stderr, c.Log, a.colors(a.stderr))
	adoptLibraries(log)
	o := daemon.Options{Config: c, ConfigPath: f.file, Logger: log, Version: build().Version}
	if f.file != "" {
		o.Reload = f.load
	}
	return a.serve(ctx, o, log)
}

// stopAfter bounds a stop in good order, as a second signal would.
const stopAfter = 30 * time.Second

// serve runs the daemon until it ends, or until somebody insists.
func (a *app) serve(ctx context.Context, o daemon.Options, log zerolog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// A signal that comes before anybody listens ends the process by default, or
	// is lost: listen first, with room for one of each kind.
	stops, others := make(chan os.Signal, 2), make(chan os.Signal, 2)
	signal.Notify(stops, os.Interrupt, unix.SIGTERM)
	signal.Notify(others, unix.SIGUSR1, unix.SIGHUP)
	defer signal.Stop(stops)
	defer signal.Stop(others)
	o.Signals = others
	ended := make(chan error, 1)
	go func() { ended <- a.daemon(ctx, o) }()
	select {
	case err := <-ended:
		return endOf(err)
	case s := <-stops:
		log.Info().Str("signal", s.String()).Msg("stopping")
		cancel()
	}
	select {
	case err := <-ended:
		return endOf(err)
	case s := <-stops:
		return failed(errors.New("stopped at once by a second signal: " + s.String()))
	case <-time.After(stopAfter):
		return failed(errors.New("stopped at once: the end in good order took longer than " + stopAfter.String()))
	}
}

func endOf(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return nil
	}
	return failed(err)
}
