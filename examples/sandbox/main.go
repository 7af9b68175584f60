// Command sandbox is a real Kubernetes control plane in one process: etcd, the
// API server, the controllers that make objects live, and a stand-in for the
// kubelets that "runs" pods without running anything. It exists for Holdfast's
// demo and tests, and must not be used for anything else: it listens on
// loopback only, keeps no backups and never waits for the disk.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"k8s.io/component-base/version"
)

func main() {
	// When the parent has died, a word on standard error must not cut the
	// orderly end short.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := mainErr(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sandbox:", err)
		os.Exit(1)
	}
}

func mainErr(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil || o == nil {
		return err
	}
	if o.exitOnStdinClose {
		ctx = untilStdinCloses(ctx, os.Stdin)
	}
	return run(ctx, *o, func(host string) {
		fmt.Printf("sandbox ready: %s kubeconfig %s\n", host, o.kubeconfig)
	})
}

// parse reads the command line. It returns nil options when the answer was all
// that was wanted: help or the version.
func parse(args []string) (*options, error) {
	var o options
	var showVersion bool
	fs := flag.NewFlagSet("sandbox", flag.ContinueOnError)
	fs.SetOutput(os.Stderr)
	fs.StringVar(&o.dir, "dir", "", "`directory` that holds the sandbox: database, certificates, logs (created when absent)")
	fs.BoolVar(&o.ephemeral, "ephemeral", false, "use a temporary directory instead of --dir and remove it at the end")
	fs.StringVar(&o.kubeconfig, "kubeconfig-out", "", "`file` the kubeconfig is written to (default: kubeconfig in --dir)")
	fs.IntVar(&o.port, "port", 0, "loopback port (default: the one used before in --dir, else a free one)")
	fs.Func("fail-image", "`substring` of image names that cannot be pulled; may be repeated. Images that contain does-not-exist or carry the tag broken always fail", func(s string) error {
		if s == "" {
			return fmt.Errorf("must not be empty: it would match every image")
		}
		o.failImages = append(o.failImages, s)
		return nil
	})
	fs.BoolVar(&o.exitOnStdinClose, "exit-on-stdin-close", false, "stop when standard input is closed, so that a sandbox never outlives the process that started it")
	fs.BoolVar(&showVersion, "version", false, "print the Kubernetes version and exit")
	if err := fs.Parse(args); err != nil {
		if err == flag.ErrHelp {
			return nil, nil
		}
		return nil, err
	}
	if showVersion {
		fmt.Println(version.Get().GitVersion)
		return nil, nil
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: see sandbox --help", strings.Join(fs.Args(), " "))
	}
	return &o, o.complete()
}

// untilStdinCloses cancels the context when standard input ends. The kernel
// closes a pipe whose writer dies in whatever way, which makes it the one signal
// of a parent's end that cannot be missed.
func untilStdinCloses(ctx context.Context, stdin io.Reader) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		// An error ends the parent's side just as EOF does.
		_, _ = io.Copy(io.Discard, stdin)
	}()
	return ctx
}
