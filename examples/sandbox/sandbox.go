package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/klog/v2"
)

// startTimeout bounds the way to readiness. It takes about four seconds on an
// idle machine; the rest is for machines that compile at the same time.
const startTimeout = 3 * time.Minute

// stopTimeout bounds each component's end. What is left then is cut off, which
// is safe: nothing acknowledged is held in memory only.
const stopTimeout = 5 * time.Second

// options is the parsed command line.
type options struct {
	dir              string
	ephemeral        bool
	kubeconfig       string
	port             int
	failImages       []string
	exitOnStdinClose bool
}

// complete fills in defaults and makes paths absolute, because they are written
// into files that are read from other directories.
func (o *options) complete() error {
	if o.port < 0 || o.port > 65535 {
		return fmt.Errorf("--port %d is no port: it must be between 1 and 65535, or 0 for any", o.port)
	}
	switch {
	case o.dir == "" && !o.ephemeral:
		return errors.New("--dir is required: the directory that holds the sandbox; or --ephemeral for a temporary one")
	case o.dir != "" && o.ephemeral:
		return errors.New("--dir and --ephemeral exclude each other: an ephemeral sandbox has a temporary directory of its own")
	case o.ephemeral:
		dir, err := os.MkdirTemp("", "holdfast-sandbox-")
		if err != nil {
			return fmt.Errorf("make a temporary directory: %w", err)
		}
		o.dir = dir
	}
	if o.kubeconfig == "" {
		o.kubeconfig = filepath.Join(o.dir, "kubeconfig")
	}
	for _, p := range []*string{&o.dir, &o.kubeconfig} {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return fmt.Errorf("find the absolute path of %s: %w", *p, err)
		}
		*p = abs
	}
	return nil
}

// run brings the control plane up, calls ready with its address, and blocks
// until ctx ends or a component fails. It returns nil after an orderly stop.
func run(ctx context.Context, o options, ready func(host string)) (err error) {
	d, err := openDir(o.dir, o.ephemeral)
	if err != nil {
		return err
	}
	defer d.close()

	ids, err := loadPKI(d.path("pki"))
	if err != nil {
		return err
	}
	ln, err := d.listen(o.port)
	if err != nil {
		return err
	}
	host := "https://" + ln.Addr().String()

	store, err := startEtcd(ctx, d)
	if err != nil {
		_ = ln.Close()
		return cleanIfStopped(ctx, err)
	}
	defer store.close()

	// The API server goes first and etcd after it, the reverse of the start:
	// deferred calls run last in, first out.
	api, err := startAPIServer(apiServerOptions{listener: ln, etcd: store.endpoint, pki: ids})
	if err != nil {
		_ = ln.Close()
		return err
	}
	defer api.stop()

	err = untilFailure(ctx, store.failed, api.failed, func(ctx context.Context) error {
		return serve(ctx, o, host, ids, ready)
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w\nthe components' own words are in %s and %s", err, d.path(logFile), d.path(etcdLogFile))
	}
	return nil
}

// serve does all that needs a reachable API server, in the order in which one
// depends on the other, and blocks until ctx ends.
func serve(ctx context.Context, o options, host string, ids *pki, ready func(string)) error {
	startCtx, cancel := context.WithTimeoutCause(ctx, startTimeout,
		fmt.Errorf("not ready after %s", startTimeout))
	defer cancel()

	admin, err := newClients(host, ids, identityAdmin)
	if err != nil {
		return err
	}
	if err := waitReadyz(startCtx, admin); err != nil {
		return err
	}
	controllers, err := startControllers(ctx, host, ids)
	if err != nil {
		return err
	}
	defer controllers.stop()
	cluster, err := startCluster(ctx, host, ids, controllers.informers, imagePolicy(o.failImages))
	if err != nil {
		return err
	}
	defer cluster.stop()
	controllers.startInformers()
	if err := registerNode(startCtx, cluster.kubelet.client); err != nil {
		return err
	}
	if err := waitDefaults(startCtx, admin); err != nil {
		return err
	}
	if err := writeKubeconfig(o.kubeconfig, host, ids); err != nil {
		return err
	}
	ready(host)
	<-ctx.Done()
	return ctx.Err()
}

// untilFailure runs f and cancels it when a component under it fails; the
// component's error then counts, since f's is only its echo.
func untilFailure(ctx context.Context, etcd, api <-chan error, f func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	var cause error
	select {
	case err := <-done:
		return err
	case err := <-etcd:
		cause = fmt.Errorf("etcd stopped: %w", err)
	case err := <-api:
		cause = fmt.Errorf("the API server stopped: %w", err)
	}
	cancel()
	select {
	case <-done:
	case <-time.After(stopTimeout):
	}
	return cause
}

// cleanIfStopped drops an error that only says that we were told to stop.
func cleanIfStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// awaitStop waits for a component's end, but not for ever.
func awaitStop(name string, done <-chan struct{}) {
	select {
	case <-done:
	case <-time.After(stopTimeout):
		klog.InfoS("Component did not stop in time and is cut off", "component", name, "timeout", stopTimeout)
	}
}

// port is the TCP port of a listener.
func port(ln net.Listener) int {
	return ln.Addr().(*net.TCPAddr).Port
}
