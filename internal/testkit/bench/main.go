// Command bench measures Holdfast against what the API server and git allow at
// best, in one run on one machine, so that the ratio means something wherever it
// runs. Run it by `make bench`.
//
// The limits are measured with plain clients: server-side apply by client-go, 20
// at a time; a corrector that knows nothing but one watch and one apply; one
// listing of a repository's refs; one incremental fetch. Holdfast runs as a
// process of its own, as it does in earnest. Following a repository is measured
// against the git program. With -only api, runs are measured against themselves
// while many read the API and follow its events.
package main

import (
	"cmp"
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
	// environments and quiet are how many environments the objects of the part
	// drift are in, and how long nothing is to change there.
	environments int
	quiet        time.Duration
	// fleetPart limits that part to one of its own.
	fleetPart string
	// pairs is how often the API is left alone and read, in turn, in the part api, and
	// pace how often each reader asks.
	pairs int
	pace  time.Duration
	// git, cluster, drift and api are the parts.
	git, cluster, drift, api bool
	quick                    bool
}

func parse(args []string) (options, error) {
	o := options{repeats: 11, rest: 70 * time.Second}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	sizes := flags.String("objects", "", "comma-separated `numbers` of objects to measure with (1000,5000; with -only drift 10000)")
	flags.IntVar(&o.edits, "edits", 0, "`number` of foreign edits (120; with -only drift 500)")
	flags.IntVar(&o.environments, "environments", 20, "`number` of environments, with -only drift")
	flags.DurationVar(&o.quiet, "idle", time.Minute, "how `long` nothing is to change, with -only drift")
	flags.IntVar(&o.pairs, "pairs", 5, "`number` of runs alone and of runs while the API is read, with -only api")
	flags.DurationVar(&o.pace, "pace", time.Second, "how `often` each reader asks, with -only api")
	flags.BoolVar(&o.quick, "quick", false, "200 objects and a short rest: to see that it works, not to compare")
	only := flags.String("only", "", "`part` to measure: git, cluster, or those that are measured only if they are named: api; drift, in many environments; storm, memory or idle, which are parts of that")
	flags.StringVar(&o.out, "out", "bench.json", "`file` for the results")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch *only {
	case "":
		o.git, o.cluster = true, true
	case "git":
		o.git = true
	case "cluster":
		o.cluster = true
	case "drift":
		o.drift = true
	case "storm", "memory", "idle":
		o.drift, o.fleetPart = true, *only
	case "api":
		o.api = true
	default:
		return o, fmt.Errorf("-only: %q is none of git, cluster, drift, storm, memory, idle and api", *only)
	}
	*sizes = cmp.Or(*sizes, map[bool]string{false: "1000,5000", true: "10000"}[o.drift])
	o.edits = cmp.Or(o.edits, map[bool]int{false: 120, true: 500}[o.drift])
	if o.quick {
		*sizes, o.rest, o.pairs = "200", 10*time.Second, 1
		o.edits, o.environments, o.quiet = min(o.edits, 40), min(o.environments, 4), min(o.quiet, 5*time.Second)
	}
	if o.pairs < 1 || o.pace <= 0 {
		return o, errors.New("-pairs and -pace: have to be more than 0")
	}
	if o.environments < 2 {
		return o, errors.New("-environments: there have to be two or more")
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
		got, err := measureSize(ctx, programs, n, o, (*bench).all)
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
	if o.drift {
		got, err := measureFleet(ctx, o)
		if err != nil {
			return fmt.Errorf("drift: %w", err)
		}
		all = append(all, got...)
	}
	if o.api {
		got, err := measureAPI(ctx, o)
		if err != nil {
			return fmt.Errorf("api: %w", err)
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
