// Command demo shows Holdfast at work: a real control plane, a sample repository
// made of examples/shop, and the daemon, all on the loopback.
//
// It prints what to try and stays until it is interrupted; with --tour it plays
// that story by itself and fails if any step does. Run it by `make demo` and
// `make demo-tour`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	unattended := flags.Bool("tour", false, "play the story unattended, and fail if a step does")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if *unattended {
		return tour(ctx)
	}
	return show(ctx)
}

// show stays until it is interrupted.
func show(ctx context.Context) (err error) {
	s, err := open(ctx, options{dir: ".demo/live", listen: "127.0.0.1:8080", interval: 2 * time.Second})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.start(ctx); err != nil {
		return err
	}
	fmt.Print(s.story())
	select {
	case <-ctx.Done():
		fmt.Println("\nstopping")
		return nil
	case <-s.cluster.Done():
		return errors.New("the sandbox ended by itself; its log is in " + s.path("sandbox"))
	}
}
