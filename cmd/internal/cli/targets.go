package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
)

func (a *app) targetsCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "targets [TARGET]", Short: "Show how the targets stand",
		Long: `Show how the targets stand: who may write, how well they are seen, and what is
asked of them.

Ends with 1 when a target cannot be seen as it should be, or no daemon answers.
` + connectHelp + exitHelp,
		Example: "  holdfast targets\n  holdfast targets default\n  holdfast targets -o json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			client, err := a.connect()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				t, err := client.Target(c.Context(), args[0])
				if err != nil {
					return failed(err)
				}
				return a.printed(t, func(w io.Writer) { a.targetDetail(w, t) }, targetsCode(t))
			}
			all, err := client.Targets(c.Context())
			if err != nil {
				return failed(err)
			}
			return a.printed(all, func(w io.Writer) { a.targetsTable(w, all.Targets) }, targetsCode(all.Targets...))
		},
	}
	a.addFormat(c)
	a.addConnect(c)
	return c
}

// printed prints a value, and ends with a code.
func (a *app) printed(v any, asTable func(io.Writer), code int) error {
	if err := a.print(v, asTable); err != nil {
		return failed(err)
	}
	return exit(code)
}

func targetsCode(all ...api.Target) int {
	for _, t := range all {
		if len(t.Problems) > 0 || t.LeaseProblem != "" {
			return exitError
		}
	}
	return exitClean
}

func targetWord(t api.Target) string {
	switch {
	case t.LeaseProblem != "" || len(t.Problems) > 0:
		return "failing"
	case !t.Ours:
		return "standby"
	}
	return "ok"
}

func (a *app) targetsTable(w io.Writer, all []api.Target) {
	rows := make([][]string, len(all))
	for i, t := range all {
		rows[i] = []string{
			t.Name, targetWord(t), t.Driver, strconv.Itoa(t.Environments), strconv.Itoa(t.Objects), strconv.Itoa(len(t.Watches)),
			lag(t.LagSeconds), strconv.FormatInt(sumOf(t.Requests.Total), 10), cell(t.Address, 60),
		}
	}
	printTable(w, []string{"target", "state", "driver", "environments", "objects", "watches", "heard", "requests", "address"}, rows)
	for _, t := range all {
		if len(t.Problems) > 0 || t.LeaseProblem != "" {
			fmt.Fprintf(w, "\n%s:\n", t.Name)
			printTargetTroubles(w, t)
		}
	}
}

func lag(seconds float64) string {
	return time.Duration(seconds*float64(time.Second)).Round(time.Second).String() + " ago"
}

func sumOf(counts map[string]int64) int64 {
	sum := int64(0)
	for _, n := range counts {
		sum += n
	}
	return sum
}

func printTargetTroubles(w io.Writer, t api.Target) {
	if t.LeaseProblem != "" {
		fmt.Fprintf(w, "  error: %s\n", printable(t.LeaseProblem))
	}
	for _, p := range t.Problems {
		fmt.Fprintf(w, "  error: %s\n", printable(p))
	}
}

func (a *app) targetDetail(w io.Writer, t api.Target) {
	var requests []string
	for _, verb := range slices.Sorted(maps.Keys(t.Requests.Total)) {
		requests = append(requests, fmt.Sprintf("%d %s", t.Requests.Total[verb], verb))
	}
	rows := [][]string{
		{"target", t.Name}, {"state", targetWord(t)}, {"driver", t.Driver}, {"address", cell(t.Address, 200)},
		{"namespace", orDash(t.Namespace)}, {"lease", leaseLine(t)}, {"environments", strconv.Itoa(t.Environments)}, {"objects", strconv.Itoa(t.Objects)},
		{"requests", orDash(strings.Join(requests, ", "))},
		{"", fmt.Sprintf("%d in flight, %d refused, %d throttled, %d without an answer", t.Requests.InFlight, t.Requests.Refused, t.Requests.Throttled, t.Requests.Failed)},
		{"verified", fmt.Sprintf("%s, %d found that no watch told of", a.ago(t.Verified), t.Found)},
	}
	for _, r := range rows {
		fmt.Fprintf(w, "%-12s %s\n", r[0], r[1])
	}
	printTargetTroubles(w, t)
	fmt.Fprintln(w)
	watches := make([][]string, len(t.Watches))
	for i, watch := range t.Watches {
		watches[i] = []string{cell(watch.Kind, 80), orDash(watch.Namespace), watch.Of, a.ago(watch.Heard), cell(watch.Problem, 100)}
	}
	printTable(w, []string{"watch", "namespace", "of", "heard", "problem"}, watches)
}

func leaseLine(t api.Target) string {
	switch {
	case t.Holder == "" && t.Ours:
		return "none is needed"
	case t.Ours:
		return "ours: " + cell(t.Holder, 100)
	case t.Holder == "":
		return "not ours"
	}
	return "held by " + cell(t.Holder, 100)
}
