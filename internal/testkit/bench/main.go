// Command bench measures Holdfast against what the API server and git allow at
// best, in one run on one machine, so that the ratio means something wherever it
// runs. Run it by `make bench`.
//
// The limits are measured with plain clients: server-side apply by client-go, 20
// at a time; a corrector that knows nothing but one watch and one apply; one
// listing of a repository's refs; one incremental fetch. Holdfast runs as a
// process of its own, as it does in earnest. Following a repository is measured
// against the git program.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-gitops/holdfast/internal/testkit/demo/rig"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are what is measured, and how thoroughly.
type options struct {
	sizes []int
	// edits is how many foreign edits are made, repeats how often the rest is.
	edits, repeats int
	// rest is how long the daemon is left alone before its memory is read.
	rest time.Duration
	out  string
	// git and cluster are the parts.
	git, cluster bool
	quick        bool
}

func parse(args []string) (options, error) {
	o := options{edits: 120, repeats: 11, rest: time.Minute}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	sizes := flags.String("objects", "1000,5000", "comma-separated `numbers` of objects to measure with")
	flags.BoolVar(&o.quick, "quick", false, "200 objects and a short rest: to see that it works, not to compare")
	only := flags.String("only", "", "`part` to measure: git or cluster")
	flags.StringVar(&o.out, "out", "bench.json", "`file` for the results")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.git, o.cluster = *only != "cluster", *only != "git"
	if *only != "" && o.git && o.cluster {
		return o, fmt.Errorf("-only: %q is neither git nor cluster", *only)
	}
	if o.quick {
		*sizes, o.rest = "200", 10*time.Second
	}
	for text := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 200 {
			return o, fmt.Errorf("-objects: %q is not a number of at least 200", text)
		}
		o.sizes = append(o.sizes, n)
	}
	return o, nil
}

// measureCluster measures each size on a cluster of its own.
func measureCluster(ctx context.Context, o options) (all results, err error) {
	programs, err := rig.Build(ctx, os.Stdout)
	if err != nil {
		return nil, err
	}
	for _, n := range o.sizes {
		got, err := measure(ctx, programs, n, o)
		if err != nil {
			return nil, fmt.Errorf("%d objects: %w", n, err)
		}
		all = append(all, got...)
	}
	return all, nil
}

func run(ctx context.Context, args []string) error {
	if len(args) == 3 && args[0] == fetchVerb {
		return fetchOnce(ctx, args[1], args[2])
	}
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	var all results
	if o.git {
		if all, err = measureGit(ctx, o); err != nil {
			return fmt.Errorf("git: %w", err)
		}
	}
	if o.cluster {
		got, err := measureCluster(ctx, o)
		if err != nil {
			return err
		}
		all = append(all, got...)
	}
	fmt.Print("\n" + all.table())
	if err := all.write(o.out); err != nil {
		return err
	}
	fmt.Println("\nwritten to " + o.out)
	return nil
}
